"""Damaged files by the thousand: every reader must read them or refuse them in one sentence, and do nothing else.

python benchmarks/fuzz.py --files 100000               writes docs/fuzz.md: so many ECG files and so many echo files
python benchmarks/fuzz.py --kind echo --files 2000     only those

Files of every format, made here and real ones where $ECHOGEN_TEST_DATA is set, are mutated (bits, bytes, cuts, numbers in
text, pieces of other files) and read in worker processes that have 1 GB of memory and 5 s of processor time for a file.
File k of a kind and seed is always the same; `--kind echo --only k` reads that one here and shows what happens.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_seeds import Files, read

MEMORY_BYTES = 1_000_000_000
PROCESSOR_S = 5
WALL_S = 60
#: The module with `corpus` and `read`, the section of docs/fuzz.md, and what half of the files are read with, by kind.
KINDS: dict[str, tuple[str, str, dict[str, float]]] = {
    "ecg": ("fuzz_seeds", "ECG files", {"rate_hz": 250.0}),
    "echo": ("fuzz_echo_seeds", "Echo files and shards", {"fps": 25.0}),
}
OUTCOMES = ("read", "refused", "other error", "hang", "killed", "wrote")

_NUMBERS = [*b"0 -1 1 65536 2147483648 4294967296 99999999999999999999 1e308 nan inf x".split(), b""]
_WORDS = tuple(
    int(value).to_bytes(size, order, signed=value < 0)
    for size in (1, 2, 4)
    for value in (0, 1, -1, 127, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)))
    for order in ("little", "big")
)
_WRITES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.system"}
_WRITES |= {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.utime"}


def mutate(data: bytes, random: np.random.Generator, other: bytes) -> bytes:
    """The data with one to four faults; `other` lends pieces."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        if not out:
            break
        at = int(random.integers(len(out)))
        length = int(min(2 ** random.uniform(0, 12), len(out) - at))
        kind = int(random.integers(9))
        if kind == 0:
            out[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            out[at : at + length] = random.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 2:
            word = _WORDS[int(random.integers(len(_WORDS)))]
            out[at : at + len(word)] = word
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length] * int(random.integers(1, 20))
        elif kind == 6:
            start = int(random.integers(max(len(other), 1)))
            out[at : at + length] = other[start : start + length]
        else:
            # Headers are short and decide most; numbers are what they are made of.
            part = out[: 1 + int(2 ** random.uniform(4, 14))] if kind == 7 else out
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(part)))
            if numbers:
                found = numbers[int(random.integers(len(numbers)))]
                out[slice(*found.span())] = _NUMBERS[int(random.integers(len(_NUMBERS)))]
    return bytes(out)


def case(seeds: dict[str, Files], seed: int, index: int, stated: dict[str, float]) -> tuple[str, Files, dict[str, float]]:
    """File `index`: the name of what it was made of, its files, and the arguments it is read with: none, or `stated`."""
    random = np.random.default_rng([seed, index])
    names = list(seeds)
    name = names[index % len(names)]
    other = next(iter(seeds[names[int(random.integers(len(names)))]].values()))
    first, *beside = seeds[name]
    files = {first: mutate(seeds[name][first], random, other)} | {one: seeds[name][one] for one in beside}
    return name, files, stated if random.random() < 0.5 else {}


class Audit:
    """Counts what the process does to the world while `on`: files opened for writing, removed, made; programs; connections."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self.seen.append(f"open {arguments[0]!r}")
        elif event in _WRITES or event.startswith("shutil."):
            self.seen.append(event)


def attempt(
    folder: Path,
    files: Files,
    arguments: dict[str, float],
    audit: Audit | None = None,
    read: Callable[..., None] = read,
) -> tuple[str, str]:
    """Read the files in a folder: outcome (see OUTCOMES) and what was said."""
    from echogen import InputError

    for name, content in files.items():
        (folder / name).write_bytes(content)
    if audit:
        audit.seen.clear()
        audit.on = True
    try:
        read(folder / next(iter(files)), **arguments)
        outcome = "read", ""
    except InputError as error:
        outcome = "refused", str(error)
        if "\n" in outcome[1] or not outcome[1].endswith("."):
            outcome = "other error", f"no sentence: {outcome[1]!r}"
    except Exception as error:
        outcome = "other error", f"{type(error).__name__}: {error}"
    finally:
        if audit:
            audit.on = False
    changed = {one.name: one.read_bytes() for one in folder.iterdir()} != files
    if (audit and audit.seen) or changed:
        outcome = "wrote", "; ".join(audit.seen if audit else [])
    for one in folder.iterdir():
        one.unlink()
    return outcome


def address_space() -> int:
    """Bytes of it that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def work(kind: str, seed: int, first: int, last: int) -> None:
    """Read files first..last - 1 within the limits and print an outcome a line; too much time ends the process."""
    import warnings

    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, stated = KINDS[kind]
    made, audit = import_module(module), Audit()
    seeds = made.corpus()
    with tempfile.TemporaryDirectory() as made_here:
        folder = Path(made_here)
        for files in seeds.values():
            attempt(folder, files, {}, read=made.read)  # loads what the readers load
        print(f"{address_space()}\tbefore", flush=True)
        for index in range(first, last):
            name, files, arguments = case(seeds, seed, index, stated)
            print(f"{index}\tstart\t{name}", flush=True)
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
            signal.setitimer(signal.ITIMER_REAL, WALL_S)
            begun = time.process_time()
            outcome, said = attempt(folder, files, arguments, audit, made.read)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(f"{index}\t{outcome}\t{name}\t{time.process_time() - begun:.4f}\t{said[:300]!r}", flush=True)


def results(kind: str, seed: int, first: int, last: int, workers: int) -> Iterator[tuple[int, str, str, float, str]]:
    """(index, outcome, name, seconds, said) of every file; a worker that dies is replaced behind the file it died of.

    Each worker begins with (bytes of address space that it has, "before", "", 0, "").
    """
    import threading
    from queue import Queue

    queue: Queue[tuple[int, str, str, float, str] | None] = Queue()

    def run(begin: int, end: int) -> None:
        while begin < end:
            command = [sys.executable, __file__, "--kind", kind, "--seed", str(seed), "--worker", str(begin), str(end)]
            # Into a file: a pipe that nobody reads would stop a worker that complains much.
            with tempfile.TemporaryFile("w+") as complaints:
                # One arena: the threads of libraries would set aside address space that they never use.
                own = os.environ | {"MALLOC_ARENA_MAX": "1"}
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=own)
                current = None
                assert process.stdout is not None
                for line in process.stdout:
                    index, outcome, *rest = line.rstrip("\n").split("\t")
                    current = (int(index), rest[0]) if outcome == "start" else None
                    if outcome == "before":
                        queue.put((int(index), outcome, "", 0.0, ""))
                    elif outcome != "start":
                        queue.put((int(index), outcome, rest[0], float(rest[1]), rest[2]))
                        begin = int(index) + 1
                code = process.wait()
                complaints.seek(0)
                complaint = complaints.read()[-2000:]
            if current is not None:
                hung = -code in (signal.SIGPROF, signal.SIGALRM)
                queue.put((current[0], "hang" if hung else "killed", current[1], float(PROCESSOR_S), f"exit {code}"))
                begin = current[0] + 1
            elif code:
                raise SystemExit(f"A worker could not start:\n{complaint}")
        queue.put(None)

    cuts = np.linspace(first, last, workers + 1).astype(int).tolist()
    threads = [threading.Thread(target=run, args=cut, daemon=True) for cut in pairwise(cuts)]
    for thread in threads:
        thread.start()
    left = len(threads)
    while left:
        item = queue.get()
        if item is None:
            left -= 1
        else:
            yield item


def _group(name: str) -> str:
    return name.split(",")[0].split("/")[0].split(" (")[0]


def show(kind: str, seed: int, index: int) -> None:
    """Read one file here."""
    module, _, stated = KINDS[kind]
    made = import_module(module)
    name, files, arguments = case(made.corpus(), seed, index, stated)
    print(name, arguments, {one: len(content) for one, content in files.items()})
    with tempfile.TemporaryDirectory() as folder:
        for one, content in files.items():
            (Path(folder) / one).write_bytes(content)
        made.read(Path(folder) / next(iter(files)), **arguments)
    print("read")


def section(kind: str, files: int, seed: int, workers: int) -> str:
    """Read so many files of a kind, and say in a table what came of them."""
    # Only here: workers have no room for what these load.
    from common import table

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    longest: dict[str, float] = defaultdict(float)
    faults: dict[str, tuple[int, str]] = {}
    begun, cpu_s, before, done = time.time(), 0.0, 0, 0
    for index, outcome, name, seconds, said in results(kind, seed, 0, files, workers):
        if outcome == "before":
            before = max(before, index)
            continue
        done, cpu_s = done + 1, cpu_s + seconds
        counts[_group(name)][outcome] += 1
        longest[_group(name)] = max(longest[_group(name)], seconds)
        if outcome not in ("read", "refused"):
            print(index, name, outcome, said, flush=True)
            faults.setdefault(f"{_group(name)}: {outcome}", (index, said))
        if done % 1000 == 0:
            print(f"{done} files, {time.time() - begun:.0f} s, {cpu_s:.0f} CPU s of reading", flush=True)
    header = ["mutated from", "files", *OUTCOMES, "longest, s"]
    rows = [
        [name, str(sum(own.values())), *(str(own[outcome]) for outcome in OUTCOMES), f"{longest[name]:.2f}"]
        for name, own in sorted(counts.items())
    ]
    total = sum(counts.values(), Counter[str]())
    rows.append(["all", str(sum(total.values())), *(str(total[outcome]) for outcome in OUTCOMES), f"{max(longest.values()):.2f}"])
    text = (
        f"`python benchmarks/fuzz.py --kind {kind} --files {files} --seed {seed}`. Workers have {MEMORY_BYTES // 10**9} GB of"
        f" address space, of which Python, libraries and seeds take {before / 1e9:.2f} GB before the first file, and"
        f" {PROCESSOR_S} s of processor time for a file ({1000 * cpu_s / files:.1f} ms on average). Refused: one plain sentence"
        " (`InputError`). Other error: any other exception. Hang: the time was not enough. Killed: the process died. Wrote: a"
        " file was written, made, changed or removed, a program started or a connection opened. Real files take part where"
        " `$ECHOGEN_TEST_DATA` is set.\n\n" + table(header, rows)
    )
    if faults:
        listed = [f"- {what}, first at file {index}: {said}" for what, (index, said) in sorted(faults.items())]
        text += "\n" + "\n".join(listed) + "\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(KINDS), help="both unless stated")
    parser.add_argument("--files", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=int, help="read this one file here")
    parser.add_argument("--dry", action="store_true", help="leave docs/fuzz.md as it is")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.kind, options.seed, *options.worker)
    elif options.only is not None:
        show(options.kind or "ecg", options.seed, options.only)
    else:
        for kind in [options.kind] if options.kind else list(KINDS):
            text = section(kind, options.files, options.seed, options.workers)
            print(text)
            if not options.dry:
                from common import DOCS
                from report import write_section

                write_section(DOCS / "fuzz.md", KINDS[kind][1], text)


if __name__ == "__main__":
    main()
