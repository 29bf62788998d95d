"""Time of 64 frames against another checkout, in turns: python benchmarks/speed_against.py CHECKOUT -> docs/performance.md.

Both make the same video, one after the other, in processes that stay; so a busy machine slows both alike, and ratios count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from common import DOCS
from echogen.benchmark.markdown import table, write_section

#: Frames of a video, 2 s of them.
FRAMES = 64
#: Program of each process: it makes one video for every line that it reads, and answers with its wall and CPU seconds.
WORKER = """
import sys, time, torch, echogen
torch.set_num_threads(int(sys.argv[1]))
ecg = echogen.simulate(seconds=8.0, seed=3).ecg
generator = echogen.Generator.from_pretrained("phantom-128", device="cpu")
make = lambda: generator(ecg, start_s=1.0, seconds=2.0, ef_percent=50.0, seed=1)
make()
print("ready", flush=True)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    frames = len(make().frames)
    print(frames, time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


class Checkout:
    """A process that makes videos with the package of one checkout."""

    def __init__(self, folder: Path, threads: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-W", "ignore", "-c", WORKER, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        self._answer()

    def _answer(self) -> list[str]:
        """Words of the next line that the process writes."""
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if not words:
            sys.exit("A process ended before it answered; its message stands above.")
        return words

    def make(self) -> None:
        """Make one video and keep its wall and CPU seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        frames, wall, cpu = self._answer()
        assert int(frames) == FRAMES
        self.wall_s.append(float(wall))
        self.cpu_s.append(float(cpu))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of the other checkout, the one before")
    parser.add_argument("--pairs", type=int, default=20, help="videos of each")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if not (options.checkout / "src" / "echogen").is_dir():
        sys.exit(f"There is no checkout of echogen in {options.checkout}.")
    describe = ["git", "-C", str(options.checkout), "rev-parse", "--short", "HEAD"]
    before_name = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[0]
    before, now = Checkout(options.checkout, options.threads), Checkout(Path(__file__).parents[1], options.threads)
    for turn in range(options.pairs):
        for each in (before, now) if turn % 2 else (now, before):
            each.make()
    rows = []
    for name, old, new in (("wall", before.wall_s, now.wall_s), ("CPU", before.cpu_s, now.cpu_s)):
        ratios = sorted(b / a for a, b in zip(old, new, strict=True))
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        times = (min(old), min(new), statistics.median(old), statistics.median(new))
        rows.append([name, *(f"{value:.3f}" for value in times), f"{statistics.median(ratios):.3f} ({low:.3f}..{high:.3f})"])
    text = (
        f"{FRAMES} frames of phantom-128 with decoding, {options.pairs} videos of each in turns, {options.threads} threads, load "
        f"before {load:.2f}; the other checkout is at {before_name}. Ratios of pairs: median and middle eight tenths; below 1 is "
        f"faster than before. Command: `python benchmarks/speed_against.py CHECKOUT --pairs {options.pairs}`.\n\n"
        + table(["seconds", "before, best", "now, best", "before, median", "now, median", "ratio"], rows)
    )
    write_section(DOCS / "performance.md", "Against an earlier commit", text)
    print(text)


if __name__ == "__main__":
    main()
