"""Every ECG and echo file of $ECHOGEN_TEST_DATA: what it was taken for, and whether that agrees with its MANIFEST.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine.reading import read_cine
from echogen.cine.sector import to_sector
from echogen.commands.info import describe
from echogen.datasets.camus import read_image
from echogen.errors import InputError

#: Files without a signal of their own: annotations, and tables of labels.
NO_SIGNAL = {".atr"}
#: What the test data say of these: negative tests, to be refused or told to be no plausible ECG.
NO_ECG = ("test_generator.bdf", "code_15_meta.csv", "index.csv", "negatives_not_echo/")
NOT_PHYSIOLOGICAL = ("liryc_hl7aecg_example.xml",)
#: One text file of raw counts states neither rate nor unit.
STATED = {"ecg_other/biosppy_ecg.txt": (1000.0, "1e-3 mV")}
#: Records whose frames, of which the manifest lists the rate, hold four samples each.
FOUR_PER_FRAME = ("ecg_wfdb/03700181.", "ecg_wfdb/041s")
RATE_TOLERANCE, LENGTH_TOLERANCE_S, HEART_RATE_TOLERANCE_BPM = 1e-3, 0.06, 3.0


def judge(listed: dict[str, Any], facts: dict[str, Any] | None) -> str:
    """One word or a few on how what was read agrees with what the manifest says."""
    name = listed["file"]
    if any(part in name for part in NO_ECG):
        return "refused, as it should be" if facts is None else "**read, though it is none**"
    if facts is None:
        return "**refused**"
    wrong = []
    if facts["kind"] == "echo":
        wrong += ["frames"] if listed.get("frames") not in (None, facts["frames"]) else []
        size = [facts["height"], facts["width"]]
        # NIfTI lists its columns first.
        wrong += ["size"] if listed.get("frame_size") not in (None, size[::-1] if name.endswith(".nii") else size) else []
        wrong += ["fps"] if listed.get("fps") and abs(listed["fps"] - facts["fps"]) > 0.01 else []
        return "agrees" if not wrong else f"**differs: {', '.join(wrong)}**"
    rate, length = listed.get("fs_hz"), listed.get("duration_s")
    rate = 4 * rate if isinstance(rate, int | float) and name.startswith(FOUR_PER_FRAME) else rate
    if isinstance(rate, int | float) and abs(facts["rate_hz"] - rate) > RATE_TOLERANCE * rate:
        wrong.append("rate")
    if length is not None and abs(facts["duration_s"] - length) > LENGTH_TOLERANCE_S:
        wrong.append("duration")
    expected, found = (listed.get("checked") or {}).get("hr_bpm"), facts["heart_rate_bpm"]
    if any(part in name for part in NOT_PHYSIOLOGICAL):
        return "quality warns, as it should" if facts["quality"] != "good" else "**no warning**"
    if expected is not None and (found is None or abs(found - expected) > HEART_RATE_TOLERANCE_BPM):
        wrong.append("heart rate")
    return "agrees" if not wrong else f"**differs: {', '.join(wrong)}**"


def facts_of(path: Path, rate_hz: float | None, unit: str | None) -> dict[str, Any]:
    """What `echogen info` says; an echo must show a sector too, and NIfTI is read as CAMUS stores it."""
    if path.suffix == ".nii":
        frames, mm = read_image(path, labels="_gt" in path.name)
        height, width = frames.shape[1:]
        return {
            "format": "NIfTI (CAMUS)",
            "kind": "echo",
            "frames": len(frames),
            "height": height,
            "width": width,
            "mm_per_pixel": mm,
        }
    facts = describe(path, rate_hz, unit)
    if facts["kind"] == "echo":
        to_sector(read_cine(path).frames)
    return facts


def row(folder: Path, listed: dict[str, Any]) -> list[str]:
    """One file of the manifest as a row of the table."""
    name = listed["file"]
    rate, unit = STATED.get(name, (None, None))
    facts, said = None, ""
    try:
        facts = facts_of(folder / name, rate, unit)
    except InputError as error:
        said = str(error)
    expected = (listed.get("checked") or {}).get("hr_bpm")
    shown = facts or {}
    rate_hz, fps, length, heart_rate = (shown.get(key) for key in ("rate_hz", "fps", "duration_s", "heart_rate_bpm"))
    return [
        f"`{name}`",
        shown.get("format") or said.replace("|", "/"),
        str(shown.get("leads") or "") if shown.get("kind") != "echo" else f"{shown['height']} x {shown['width']}",
        f"{rate_hz:g} Hz" if rate_hz else f"{fps:g} fps" if fps else "",
        f"{length:.2f}" if length else "",
        f"{heart_rate:.1f}" if heart_rate else "",
        f"{expected:g}" if expected is not None else "",
        judge(listed, facts),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=DOCS / "formats.md", help="the page to write the table into")
    arguments = parser.parse_args()
    place = os.environ.get("ECHOGEN_TEST_DATA")
    if not place:
        sys.exit("Set ECHOGEN_TEST_DATA to the folder of test recordings.")
    folder = Path(place)
    listed = [
        one for one in json.loads((folder / "MANIFEST.json").read_text())["files"] if Path(one["file"]).suffix not in NO_SIGNAL
    ]
    rows = [row(folder, one) for one in listed]
    good = sum("**" not in cells[-1] for cells in rows)
    header = [
        "file",
        "taken for",
        "leads or size",
        "rate",
        "length (s)",
        "heart rate found (bpm)",
        "heart rate listed",
        "verdict",
    ]
    text = (
        f"`python benchmarks/formats.py` reads every file of the folder of test recordings; {good} of {len(rows)} agree with\n"
        "what is known of them: rate to 0.1 %, length to 0.06 s, heart rate to 3 bpm over the first minute; size, frames and\n"
        "frame rate of an echo, in which a sector must be found. Rate and unit were given for `biosppy_ecg.txt` alone, which\n"
        "holds raw counts.\n\n" + table(header, rows)
    )
    write_section(arguments.output, "Test recordings", text)
    print(f"{good} of {len(rows)}")


if __name__ == "__main__":
    main()
