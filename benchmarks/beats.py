"""Whether every beat of an ECG is found: python benchmarks/beats.py -> docs/beats.md."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import numpy as np

from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, draw_recording
from echogen.ecg import choose_lead, find_landmarks
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.records import Ecg

FIRST_SEED, SECONDS, MARGIN_S = 300_000, 8.0, 0.3
#: A beat is found where its QRS onset is within so many seconds.
NEAR_S = 0.06
WAYS = ("one lead, in the light of the others", "the same lead alone", "lead II alone")


def judged(seed: int) -> tuple[str, list[tuple[int, int, int]]]:
    """The rhythm of a heart, and for each way its beats, those missed, and those found where there are none."""
    heart, leads = draw_recording(seed, SECONDS)
    ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
    name = choose_lead(ecg)
    alone = [Ecg(ecg.lead(one)[None], ecg.rate_hz, (one,), ecg.start_s) for one in (name, "II")]
    truth = heart.clock.qrs_onset_s
    inside = truth[(truth > MARGIN_S) & (truth < SECONDS - MARGIN_S)]
    rows = []
    for ecg_window in (ecg, *alone):
        try:
            found = find_landmarks(ecg_window).qrs_onset_s
        except InputError:
            found = np.empty(0)
        well = found[(found > MARGIN_S) & (found < SECONDS - MARGIN_S)]
        missed = sum(not (np.abs(found - at) < NEAR_S).any() for at in inside)
        wrong = sum(not (np.abs(truth - at) < NEAR_S).any() for at in well)
        rows.append((len(inside), missed, wrong))
    return heart.rhythm.name, rows


def main() -> None:
    options = arguments(__doc__ or "", hearts=600, workers=2)
    with ProcessPoolExecutor(options.workers) as pool:
        found = list(pool.map(judged, range(FIRST_SEED, FIRST_SEED + options.hearts), chunksize=8))
    rows = []
    for rhythm in ("all", *sorted({name for name, _ in found})):
        counts = np.array([each for name, each in found if rhythm in ("all", name)])
        for way, part in zip(WAYS, counts.transpose(1, 0, 2), strict=True):
            beats, missed, wrong = part.sum(0)
            whole = int((part[:, 1:] == 0).all(1).sum())
            rows.append([rhythm, way, str(len(part)), str(beats), str(missed), str(wrong), f"{whole} of {len(part)}"])
    text = table(["rhythm", "heard", "hearts", "beats", "missed", "found where none is", "hearts without a fault"], rows)
    note = (
        f"Simulated hearts of wide variety (seeds {FIRST_SEED}..), 12 leads, {SECONDS:g} s; a beat is found where a QRS onset is "
        f"within {1000 * NEAR_S:g} ms of the true one. "
        "The thresholds for missed beats were set on seeds 220,000..221,499; of those kept from before, set on "
        "200,000..200,299, two were set looking at these. "
        "Command: `python benchmarks/beats.py`.\n\n"
    )
    print(text)
    write_section(DOCS / "beats.md", "Beats found in simulated ECGs", note + text)


if __name__ == "__main__":
    main()
