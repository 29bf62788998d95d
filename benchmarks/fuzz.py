"""Damaged files by the thousand: every reader must read them or refuse them in one sentence, and do nothing else.

python benchmarks/fuzz.py --files 100000               writes docs/fuzz.md: so many ECG files and so many echo files
python benchmarks/fuzz.py --kind echo --files 2000     only those
python benchmarks/fuzz.py --files 500000 --progress fuzz.json --minutes 60     an hour of a million; say it again to go on

Files of every format, made here and real ones where $ECHOGEN_TEST_DATA is set, are mutated (bits, bytes, cuts, numbers in
text, pieces of other files) and read in worker processes that have 1 GB of memory and 5 s of processor time for a file.
File k of a kind and seed is always the same; `--kind echo --only k` reads that one here and shows what happens.
A progress file counts only files that were read by the code as it is now: with other code the count begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
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
from typing import Any

import numpy as np

from echogen.benchmark.markdown import write_section
from echogen.files import whole_file
from echogen.testing.fuzz import KINDS, corpus_module
from echogen.testing.fuzz.attempts import OUTCOMES, Audit, attempt
from echogen.testing.fuzz.damage import damaged

MEMORY_BYTES = 1_000_000_000
PROCESSOR_S = 5
WALL_S = 60
#: Files between two writings of the progress file.
TURN = 4000


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
    made, audit, stated = corpus_module(kind), Audit(), KINDS[kind].stated
    seeds = made.corpus()
    with tempfile.TemporaryDirectory() as made_here:
        folder = Path(made_here)
        for files in seeds.values():
            attempt(folder, files, {}, read=made.read)  # loads what the readers load
        print(f"{address_space()}\tbefore", flush=True)
        for index in range(first, last):
            name, files, arguments = damaged(seeds, seed, index, stated)
            print(f"{index}\tstart\t{name}", flush=True)
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
            signal.setitimer(signal.ITIMER_REAL, WALL_S)
            begun = time.process_time()
            outcome, said = attempt(folder, files, arguments, audit, read=made.read)
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
    made, stated = corpus_module(kind), KINDS[kind].stated
    name, files, arguments = damaged(made.corpus(), seed, index, stated)
    print(name, arguments, {one: len(content) for one, content in files.items()})
    with tempfile.TemporaryDirectory() as folder:
        for one, content in files.items():
            (Path(folder) / one).write_bytes(content)
        made.read(Path(folder) / next(iter(files)), **arguments)
    print("read")


class Count:
    """Outcomes of the files of one kind and seed read so far, kept in a progress file where there is one.

    done: files 0..done - 1 are counted. counts: {group of files: {outcome: files}}. longest: {group: s}. faults: {what: [index,
    said]} of the first of each. cpu_s: seconds of reading. before: bytes of address space before the first file.
    """

    def __init__(self, kind: str, seed: int, kept: Path | None) -> None:
        self.key, self.kept = f"{kind}, seed {seed}, code {code_hash()}", kept
        self.done, self.cpu_s, self.before = 0, 0.0, 0
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.longest: dict[str, float] = defaultdict(float)
        self.faults: dict[str, tuple[int, str]] = {}
        stored = self._stored().get(self.key)
        if stored:
            self.done, self.cpu_s, self.before, self.faults = (stored[name] for name in ("done", "cpu_s", "before", "faults"))
            self.counts.update({group: Counter(own) for group, own in stored["counts"].items()})
            self.longest.update(stored["longest"])

    def _stored(self) -> dict[str, Any]:
        return dict(json.loads(self.kept.read_text())) if self.kept and self.kept.exists() else {}

    def add(self, index: int, outcome: str, name: str, seconds: float, said: str) -> None:
        """Count one file."""
        self.cpu_s += seconds
        self.counts[_group(name)][outcome] += 1
        self.longest[_group(name)] = max(self.longest[_group(name)], seconds)
        if outcome not in ("read", "refused"):
            print(index, name, outcome, said, flush=True)
            self.faults.setdefault(f"{_group(name)}: {outcome}", (index, said))

    def save(self) -> None:
        """Write the progress file, whole or not at all."""
        if self.kept:
            names = ("done", "cpu_s", "before", "faults", "counts", "longest")
            content = self._stored() | {self.key: {name: getattr(self, name) for name in names}}
            with whole_file(self.kept) as unfinished:
                unfinished.write_text(json.dumps(content))


def code_hash() -> str:
    """Short hash of the package's source and of this file: counts of other code are not mixed with counts of this one."""
    import echogen

    found = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(echogen.__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def count_files(kind: str, files: int, seed: int, workers: int, kept: Path | None, minutes: float) -> Count:
    """Read files 0..files - 1 in turns of `TURN`, going on where the progress file ends, until the minutes are over."""
    count, begun = Count(kind, seed, kept), time.monotonic()
    while count.done < files and time.monotonic() - begun < 60 * minutes:
        last = min(count.done + TURN, files)
        for index, outcome, name, seconds, said in results(kind, seed, count.done, last, workers):
            if outcome == "before":
                count.before = max(count.before, index)
            else:
                count.add(index, outcome, name, seconds, said)
        count.done = last
        count.save()
        print(f"{count.done} files, {time.monotonic() - begun:.0f} s, {count.cpu_s:.0f} CPU s of reading", flush=True)
    return count


def section(kind: str, seed: int, count: Count) -> str:
    """Table of what came of the files of a kind."""
    # Only here: workers have no room for what these load.
    from echogen.benchmark.markdown import table

    header = ["mutated from", "files", *OUTCOMES, "longest, s"]
    rows = [
        [name, str(sum(own.values())), *(str(own[outcome]) for outcome in OUTCOMES), f"{count.longest[name]:.2f}"]
        for name, own in sorted(count.counts.items())
    ]
    total = sum(count.counts.values(), Counter[str]())
    longest = max(count.longest.values(), default=0.0)
    rows.append(["all", str(sum(total.values())), *(str(total[outcome]) for outcome in OUTCOMES), f"{longest:.2f}"])
    command = f"python benchmarks/fuzz.py --kind {kind} --files {count.done} --seed {seed}"
    mean_ms = 1000 * count.cpu_s / max(count.done, 1)
    text = (
        f"`{command}`. Workers have {MEMORY_BYTES // 10**9} GB of address space, of which Python, libraries and seeds take"
        f" {count.before / 1e9:.2f} GB before the first file, and {PROCESSOR_S} s of processor time for a file ({mean_ms:.1f} ms"
        " on average). Refused: one plain sentence (`InputError`). Other error: any other exception. Hang: the time was not"
        " enough. Killed: the process died. Wrote: a file was written, made, changed or removed, a program started or a"
        " connection opened. Real files take part where `$ECHOGEN_TEST_DATA` is set. A million files in all, in pieces of an"
        " hour: `python benchmarks/fuzz.py --files 500000 --progress fuzz.json --minutes 60`, said again until it is done.\n\n"
        + table(header, rows)
    )
    if count.faults:
        listed = [f"- {what}, first at file {index}: {said}" for what, (index, said) in sorted(count.faults.items())]
        text += "\n" + "\n".join(listed) + "\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(KINDS), help="both unless stated")
    parser.add_argument("--files", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--progress", type=Path, help="JSON file of the count so far, to go on from")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many, shared by the kinds")
    parser.add_argument("--only", type=int, help="read this one file here")
    parser.add_argument("--dry", action="store_true", help="leave docs/fuzz.md as it is")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.kind, options.seed, *options.worker)
    elif options.only is not None:
        show(options.kind or "ecg", options.seed, options.only)
    else:
        kinds = [options.kind] if options.kind else list(KINDS)
        for kind in kinds:
            minutes = options.minutes / len(kinds)
            count = count_files(kind, options.files, options.seed, options.workers, options.progress, minutes)
            text = section(kind, options.seed, count)
            print(text)
            if not options.dry:
                from common import DOCS

                write_section(DOCS / "fuzz.md", KINDS[kind].title, text)


if __name__ == "__main__":
    main()
