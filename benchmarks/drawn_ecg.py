"""Accuracy of an ECG read from the picture in which it is drawn: python benchmarks/drawn_ecg.py -> docs/drawn_ecg.md."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine.colour import ColourCine, read_colour
from echogen.cine.drawn_sweep import DrawnSignal
from echogen.cine.writing import write
from echogen.datasets.drawn_ecg import LEAD, DrawnEcg, find_drawn_ecg, judge_signal
from echogen.records import Cine, Ecg
from echogen.testing.drawn_traces import ECG_RATE_HZ, Recorded, draw, record
from echogen.testing.machine_styles import NOT_AN_ECG, STYLES

FIRST_SEED = 70_000
SECONDS = 2.5
#: A beat counts as found within this time, and beats this near to an end of the video do not count.
SAME_BEAT_S, END_S = 0.1, 0.06
#: Frames per second at which real cines without times are shown.
SHOWN_FPS = 25.0
#: Real cines with a drawn ECG: manner, and heart rate in beats per minute that the picture prints, else the file states, else
#: that was measured by hand on the picture's pixels; None where the frame rate is not known.
REAL: dict[str, tuple[str, float | None]] = {
    "echocv3_Image-43_A4C.dcm": ("standing, one pixel thin, a bar runs along", 54.0),
    "fodicom_DIRW0007_A4C.dcm": ("standing, a line runs along", 61.0),
    "echonetdocs_Example1_A4C.mp4": ("sweeps in, cut off by the picture's edge", 61.0),
    "godicom_I_000001_PLAX.dcm": ("standing, a bar runs along", 117.0),
    "raventan_plax_test2.mp4": ("filmed from a screen, standing over the sector's edge, a small mark runs along", 77.0),
    "m2echoseg_hcm594_A4C.npz": ("grey, one pixel thin, scrolls over the sector's edge under a standing bar", None),
}
OWN = "video written by echogen, H.264"

Floats = NDArray[np.float64]


@dataclass
class Tally:
    """What came of the clips of one style."""

    verdicts: Counter[str] = field(default_factory=Counter)
    errors_ms: list[float] = field(default_factory=list)
    true: int = 0
    found: int = 0
    extra: int = 0
    wrong: int = 0

    def add(self, verdict: str, r_s: Floats | None, truth_s: Floats, end_s: float, frame_s: float, real: bool) -> None:
        """Count one clip; r_s: the R peaks read, truth_s: those that were drawn."""
        self.verdicts[verdict] += 1
        if verdict == "rejected" or r_s is None:
            return
        if not real:
            self.wrong += 1
            return
        inside = truth_s[(truth_s > END_S) & (truth_s < end_s - END_S)]
        read = r_s[(r_s > END_S) & (r_s < end_s - END_S)]
        errors = np.array([r_s[np.abs(r_s - beat).argmin()] - beat for beat in inside]) if len(r_s) else np.empty(0)
        near = errors[np.abs(errors) <= SAME_BEAT_S]
        extra = sum(bool(np.abs(truth_s - beat).min() > SAME_BEAT_S) for beat in read)
        self.errors_ms += (1000.0 * near).tolist()
        self.true, self.found, self.extra = self.true + len(inside), self.found + len(near), self.extra + extra
        late = len(near) > 0 and float(np.median(np.abs(near))) > frame_s
        self.wrong += late or len(inside) - len(near) + extra > 0.2 * max(len(inside), 1)

    def row(self, name: str) -> list[str]:
        """One line of the table."""
        size = np.abs(self.errors_ms) if self.errors_ms else np.array([np.nan])
        count = sum(self.verdicts.values())
        return [
            name,
            str(count),
            f"{self.verdicts['good']} / {self.verdicts['usable']} / {self.verdicts['rejected']}",
            f"{np.median(size):.1f}",
            f"{np.percentile(size, 90):.1f}",
            f"{np.mean(self.errors_ms):+.1f}" if self.errors_ms else "nan",
            f"{self.found} of {self.true}",
            str(self.extra),
            str(self.wrong),
        ]


def clips(recorded: Recorded, seed: int) -> Iterator[tuple[str, bool, float, ColourCine]]:
    """Every style over one heart: its name, whether it shows an ECG, the frame interval in s, and the cine."""
    for number, style in enumerate(STYLES + NOT_AN_ECG):
        frames = draw(recorded, style, 100 * seed + number)
        times = recorded.times_s[:: style.every]
        yield style.name, style in STYLES, float(times[1]), ColourCine(frames, times)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.mp4"
        lead = Ecg(recorded.lead_mv[None], ECG_RATE_HZ, ("II",), recorded.start_s)
        write(Cine(recorded.frames, recorded.times_s), path, ecg=lead)
        yield OWN, True, float(recorded.times_s[1]), read_colour(path)


def of_the_recording(recorded: Recorded) -> DrawnEcg:
    """The same detection on the ECG itself, which no picture has been between."""
    times = recorded.start_s + np.arange(len(recorded.lead_mv)) / ECG_RATE_HZ
    part = (times > -2.0) & (times < SECONDS + 1.0)
    return judge_signal(DrawnSignal(times[part], recorded.lead_mv[part], LEAD, ECG_RATE_HZ, 1.0, 1.0), recorded.times_s)


def read_real(path: Path) -> ColourCine:
    """A real cine in colour; arrays and files without times at `SHOWN_FPS`."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            frames = stored["frames"]
        frames = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
        return ColourCine(frames, np.arange(len(frames)) / SHOWN_FPS)
    return read_colour(path, fps=SHOWN_FPS if path.name.endswith((".nii.gz", ".gif")) else None)


def judge_real(folder: Path) -> str:
    """The section on real cines: a row for each that shows an ECG or prints a heart rate, and the others in total."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.0f}"

    rows, others, accepted = [], 0, 0
    for path in sorted([*(folder / "cines").iterdir(), *(folder / "echodiffusion_gif").iterdir()]):
        found = find_drawn_ecg(read_real(path))
        if path.name in REAL or found.printed_rate_bpm is not None:
            manner, true = REAL.get(path.name, ("no ECG", None))
            rate = found.heart_rate_bpm if found.accepted else None
            right = "refused" if rate is None else "right" if true and abs(rate / true - 1.0) <= 0.03 else "wrong"
            said = "; ".join(found.reasons) or "-"
            rows.append([path.name, manner, number(true), number(rate), number(found.printed_rate_bpm), right, said])
        else:
            others, accepted = others + 1, accepted + found.accepted
    head = ["file", "drawn", "true rate", "rate of the trace", "printed rate read", "verdict", "reasons"]
    note = (
        "Rates in beats a minute; true is what the picture prints, else what the file states, else what the pixels of the "
        "picture give by hand. Right is within 3 %. "
        f"Of {others} more cines and clips without an ECG, {accepted} were accepted.\n\n"
    )
    return note + table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10, help="hearts, each drawn in every style")
    count = parser.parse_args().clips
    data = os.environ.get("ECHOGEN_TEST_DATA")
    if data is not None:
        write_section(DOCS / "drawn_ecg.md", "Real cines", judge_real(Path(data) / "real"))
    tallies: dict[str, Tally] = defaultdict(Tally)
    upper, lower, pooled = Tally(), Tally(), Tally()
    reading_s, before = 0.0, np.empty(0)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        recorded = record(seed, SECONDS)
        end_s = float(recorded.times_s[-1])
        itself = of_the_recording(recorded)
        upper.add(itself.verdict, itself.r_s, recorded.r_s, end_s, 1 / 32, True)
        if before.size:
            lower.add("good", before, recorded.r_s, end_s, 1 / 32, True)
        before = recorded.r_s
        for name, real, frame_s, cine in clips(recorded, seed):
            started = time.process_time()
            found = find_drawn_ecg(cine)
            reading_s += time.process_time() - started
            tallies[name].add(found.verdict, found.r_s, recorded.r_s, end_s, frame_s, real)
            if real:
                pooled.add(found.verdict, found.r_s, recorded.r_s, end_s, frame_s, real)
        print(seed, pooled.row("all"), sum(tally.wrong for tally in tallies.values()), f"{time.process_time():.0f} s", flush=True)
    negatives = {style.name for style in NOT_AN_ECG}
    header = ["drawn as", "clips", "good / usable / rejected", "R error: median (ms)", "90 % (ms)", "mean (ms)"]
    header += ["beats found", "extra beats", "wrong acceptances"]
    rows = [upper.row("*the recorded lead itself, no picture*")]
    rows += [tally.row(name) for name, tally in tallies.items() if name not in negatives]
    rows += [pooled.row("**all**"), lower.row("*control: the R peaks of another heart*")]
    nothing = [[name, str(sum(t.verdicts.values())), str(t.wrong)] for name, t in tallies.items() if name in negatives]
    clip_ms = 1000 * reading_s / sum(sum(tally.verdicts.values()) for tally in tallies.values())
    note = (
        f"{count} simulated hearts (seeds {FIRST_SEED}..; sinus rhythm, atrial fibrillation, premature and paced beats), "
        f"{SECONDS} s of video at 32 frames a second (one frame lasts 31 ms), each drawn in every style with its own sweep "
        "speed, brightness and place, over pictures of 400 x 300 pixels unless the style says otherwise. Errors are of accepted "
        f"clips, read minus true R peak, of beats within {1000 * SAME_BEAT_S:.0f} ms; beats within {1000 * END_S:.0f} ms of "
        "either end do not count. A wrong acceptance is an accepted clip with a median error above one frame or more than a "
        "fifth of its beats missing or extra, or any accepted clip that shows no ECG. "
        f"Reading took {clip_ms:.0f} ms of CPU a clip (one thread, frames in memory). "
        "Command: `python benchmarks/drawn_ecg.py`.\n\n"
    )
    write_section(DOCS / "drawn_ecg.md", "R peaks read from the picture", note + table(header, rows))
    text = table(["drawn instead", "clips", "wrong acceptances"], nothing)
    write_section(DOCS / "drawn_ecg.md", "What is no ECG, or has no clock", "The same hearts and clips.\n\n" + text)
    print(table(header, rows), text)


if __name__ == "__main__":
    main()
