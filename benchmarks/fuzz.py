"""Damaged ECG files by the thousand: every reader must read them or refuse them in one sentence, and do nothing else.

python benchmarks/fuzz.py --files 100000      writes docs/fuzz.md

Files of every format, made here and real ones where $ECHOGEN_TEST_DATA is set, are mutated (bits, bytes, cuts, numbers in
text, pieces of other files) and read in worker processes that have 1 GB of memory and 5 s of processor time for a file.
File k of a seed is always the same; `--only k` reads that one here and shows what happens.
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
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_seeds import Files, corpus

MEMORY_BYTES = 1_000_000_000
PROCESSOR_S = 5
WALL_S = 60
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


def case(seeds: dict[str, Files], seed: int, index: int) -> tuple[str, Files, dict[str, float]]:
    """File `index`: the name of what it was made of, its files, and the arguments it is read with."""
    random = np.random.default_rng([seed, index])
    names = list(seeds)
    name = names[index % len(names)]
    other = next(iter(seeds[names[int(random.integers(len(names)))]].values()))
    first, *beside = seeds[name]
    files = {first: mutate(seeds[name][first], random, other)} | {one: seeds[name][one] for one in beside}
    return name, files, {"rate_hz": 250.0} if random.random() < 0.5 else {}


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


def attempt(folder: Path, files: Files, arguments: dict[str, float], audit: Audit | None = None) -> tuple[str, str]:
    """Read the files in a folder: outcome (see OUTCOMES) and what was said."""
    from echogen import InputError, read_ecg

    for name, content in files.items():
        (folder / name).write_bytes(content)
    if audit:
        audit.seen.clear()
        audit.on = True
    try:
        read_ecg(folder / next(iter(files)), **arguments)
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
    if (audit and audit.seen) or {one.name for one in folder.iterdir()} != set(files):
        outcome = "wrote", "; ".join(audit.seen if audit else [])
    for one in folder.iterdir():
        one.unlink()
    return outcome


def work(seed: int, first: int, last: int) -> None:
    """Read files first..last - 1 within the limits and print an outcome a line; too much time ends the process."""
    import warnings

    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seeds, audit = corpus(), Audit()
    with tempfile.TemporaryDirectory() as made_here:
        folder = Path(made_here)
        for files in seeds.values():
            attempt(folder, files, {})  # loads what the readers load
        for index in range(first, last):
            name, files, arguments = case(seeds, seed, index)
            print(f"{index}\tstart\t{name}", flush=True)
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
            signal.setitimer(signal.ITIMER_REAL, WALL_S)
            begun = time.process_time()
            outcome, said = attempt(folder, files, arguments, audit)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(f"{index}\t{outcome}\t{name}\t{time.process_time() - begun:.4f}\t{said[:300]!r}", flush=True)


def results(seed: int, first: int, last: int, workers: int) -> Iterator[tuple[int, str, str, float, str]]:
    """(index, outcome, name, seconds, said) of every file; a worker that dies is replaced behind the file it died of."""
    import threading
    from queue import Queue

    queue: Queue[tuple[int, str, str, float, str] | None] = Queue()

    def run(begin: int, end: int) -> None:
        while begin < end:
            command = [sys.executable, __file__, "--seed", str(seed), "--worker", str(begin), str(end)]
            # Into a file: a pipe that nobody reads would stop a worker that complains much.
            with tempfile.TemporaryFile("w+") as complaints:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
                current = None
                assert process.stdout is not None
                for line in process.stdout:
                    index, outcome, name, *rest = line.rstrip("\n").split("\t")
                    current = (int(index), name) if outcome == "start" else None
                    if outcome != "start":
                        queue.put((int(index), outcome, name, float(rest[0]), rest[1]))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=int, help="read this one file here")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.seed, *options.worker)
        return
    if options.only is not None:
        name, files, arguments = case(corpus(), options.seed, options.only)
        print(name, arguments, {one: len(content) for one, content in files.items()})
        from echogen import read_ecg

        with tempfile.TemporaryDirectory() as folder:
            for one, content in files.items():
                (Path(folder) / one).write_bytes(content)
            print(read_ecg(Path(folder) / next(iter(files)), **arguments))
        return
    # Only here: workers have no room for what these load.
    from common import DOCS, table
    from report import write_section

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    longest: dict[str, float] = defaultdict(float)
    faults: dict[str, tuple[int, str]] = {}
    begun = time.time()
    for done, (index, outcome, name, seconds, said) in enumerate(results(options.seed, 0, options.files, options.workers), 1):
        counts[_group(name)][outcome] += 1
        longest[_group(name)] = max(longest[_group(name)], seconds)
        if outcome not in ("read", "refused"):
            print(index, name, outcome, said, flush=True)
            faults.setdefault(f"{_group(name)}: {outcome}", (index, said))
        if done % 1000 == 0:
            print(f"{done} files, {time.time() - begun:.0f} s", flush=True)
    header = ["mutated from", "files", *OUTCOMES, "longest, s"]
    rows = [
        [name, str(sum(own.values())), *(str(own[outcome]) for outcome in OUTCOMES), f"{longest[name]:.2f}"]
        for name, own in sorted(counts.items())
    ]
    total = sum(counts.values(), Counter[str]())
    rows.append(["all", str(sum(total.values())), *(str(total[outcome]) for outcome in OUTCOMES), f"{max(longest.values()):.2f}"])
    text = (
        f"`python benchmarks/fuzz.py --files {options.files} --seed {options.seed}`. Workers have {MEMORY_BYTES // 10**9} GB of"
        f" memory and {PROCESSOR_S} s of processor time for a file. Refused: one plain sentence (`InputError`). Other error: any"
        " other exception. Hang: the time was not enough. Killed: the process died. Wrote: a file was written, made or removed, a"
        " program started or a connection opened. Real files take part where `$ECHOGEN_TEST_DATA` is set.\n\n"
        + table(header, rows)
    )
    if faults:
        listed = [f"- {what}, first at file {index}: {said}" for what, (index, said) in sorted(faults.items())]
        text += "\n" + "\n".join(listed) + "\n"
    write_section(DOCS / "fuzz.md", "ECG files", text)


if __name__ == "__main__":
    main()
