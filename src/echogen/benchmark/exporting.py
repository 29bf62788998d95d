"""Export of the cases for generators of others: view, EF, ECG and first frame of each."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from echogen.benchmark.cases import ECG_BEFORE_S, FPS, SECONDS, Case, recording, truth_cine


def export(listed: Sequence[Case], folder: Path) -> None:
    """Write everything that a generator may be given of the cases.

    Written are cases.csv, ecg/NAME.hea and .dat (WFDB, 12 leads) and first_frame/NAME.png.
    """
    import wfdb

    for part in ("ecg", "first_frame"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case in listed:
        heart, ecg = recording(case)
        wfdb.wrsamp(
            case.name,
            fs=ecg.rate_hz,
            units=["mV"] * len(ecg.lead_names),
            sig_name=list(ecg.lead_names),
            p_signal=ecg.signal_mv.T.astype(np.float64),
            fmt=["16"] * len(ecg.lead_names),
            write_dir=str(folder / "ecg"),
        )
        Image.fromarray(truth_cine(heart, case.seed).frames[0]).save(folder / "first_frame" / f"{case.name}.png")
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "view", "ef_percent", "ecg", "first_frame", "video_starts_in_ecg_at_s", "seconds", "fps"])
        for case in listed:
            given = [f"ecg/{case.name}.hea", f"first_frame/{case.name}.png", ECG_BEFORE_S, SECONDS, FPS]
            rows.writerow([case.name, case.view, case.ef_percent, *given])
