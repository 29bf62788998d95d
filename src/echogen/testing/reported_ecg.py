"""Right values of each ECG file of the folder `reported`, and a check that the reader finds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from echogen.ecg import EcgInfo, ecg_info, find_landmarks, read_around_gaps
from echogen.ecg.gaps import Gap
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.records import Ecg

RATE_TOLERANCE, LENGTH_TOLERANCE_S, HEART_RATE_TOLERANCE_BPM = 1e-3, 0.06, 2.0
#: Tolerance of a peak-to-peak value in mV.
SWING_TOLERANCE = 0.02
TWELVE = STANDARD_LEADS


@dataclass(frozen=True)
class Expected:
    """Right values of one ECG file.

    options: what it is read with (rate_hz, unit). leads: canonical names in order. swings: peak to peak in mV over the part of
    part_s, by lead. bpm: heart rate there. r_s: R peaks that must be found. refused: words of the sentence, where it must be
    refused. noted: a word that the notes must hold.
    """

    leads: tuple[str, ...] = ()
    rate_hz: float = 500.0
    length_s: float = 10.0
    bpm: float | None = None
    swings: dict[str, float] = field(default_factory=dict)
    options: dict[str, float | str] = field(default_factory=dict)
    r_s: tuple[float, ...] = ()
    part_s: tuple[float, float] | None = None
    refused: tuple[str, ...] = ()
    noted: str = ""

    def in_words(self) -> str:
        """The right values in a few words."""
        options = "".join(f" (--ecg-{key.removesuffix('_hz')} {value:g})" for key, value in self.options.items())
        if self.refused:
            return f"a refusal with {', '.join(self.refused)}{options}"
        text = f"{len(self.leads)} leads, {self.rate_hz:g} Hz, {self.length_s:.3f} s{options}"
        text += f", {self.bpm:g} bpm" if self.bpm else ""
        return text + "".join(f", {lead} {swing:g} mV" for lead, swing in self.swings.items())


def _two(rate: float = 500.0, at_500: bool = False, slow: bool = False, noted: str = "") -> Expected:
    """Leads I and II of one of the two simulated ECGs."""
    bpm, swing = (64.0, 0.693) if slow else (72.5, 1.372)
    return Expected(("I", "II"), rate, 10.0, bpm, {"II": swing}, {"rate_hz": 500.0} if at_500 else {}, noted=noted)


def _one(lead: str, bpm: float, swing: float, rate: float = 500.0, length: float = 10.0, **more: object) -> Expected:
    return Expected((lead,), rate, length, bpm, {lead: swing}, **more)  # type: ignore[arg-type]


_AT_500: dict[str, float | str] = {"rate_hz": 500.0}
_SLOW_TWELVE = {"I": 0.519, "II": 0.693}
_FAST_TWELVE = {"I": 0.269, "II": 1.372}


def _twelve(swings: dict[str, float], bpm: float) -> Expected:
    return Expected(TWELVE, 500.0, 10.0, bpm, swings, _AT_500)


def _passing(leads: tuple[str, ...], rate: float = 500.0, length: float = 20.0, **more: object) -> Expected:
    return Expected(leads, rate, length, 72.0, {}, **more)  # type: ignore[arg-type]


ECG: dict[str, Expected] = {
    "A10_unit_volts_in_brackets.csv": _two(at_500=True),
    "A1_pandas_index_12lead.csv": _twelve(_FAST_TWELVE, 72.5),
    "A1_pandas_index_1lead.csv": _one("ECG", 64.0, 0.693, options=_AT_500),
    "A1_pandas_noindex_12lead.csv": _twelve(_FAST_TWELVE | {"V6": 0.563}, 72.5),
    "A2_names_L0_to_11.csv": _twelve(_SLOW_TWELVE, 64.0),
    "A2_names_Lead_1_to_12.csv": _twelve(_FAST_TWELVE, 72.5),
    "A2_names_lead_0_to_11.csv": _twelve(_FAST_TWELVE, 72.5),
    "A3_heart_rate_comment.csv": _two(),
    "A3_mains_freq_and_fs.mat": _one("ECG", 72.5, 1.372),
    "A3_notch_comment.csv": _two(),
    "A3_only_heart_rate_comment.csv": Expected(refused=("sampling rate", "--ecg-rate")),
    "A3_samples_comment.csv": _two(),
    "A3_sampling_date_comment.csv": _two(slow=True),
    "A3_watch_average_heart_rate.csv": _one("I", 72.5, 0.249, 512.0),
    "A3_watch_duration.csv": _one("I", 64.0, 0.519, 512.0),
    "A4_psg_c3_c4_ecg.edf": Expected(("ECG",), 250.0, 14.0, 72.2),
    "A4_psg_ecg_faster_than_eeg.edf": Expected(("ECG",), 500.0, 14.0, 72.2),
    "A4_real_eeg_montage_no_ecg.edf": Expected(refused=("no ECG channel",)),
    "A5_500_per_frame.hea": _one("II", 64.0, 0.696, length=14.0),
    "A5_eight_per_frame.hea": _one("II", 72.2, 1.372, length=14.0),
    "A5_thirtytwo_per_frame.hea": _one("II", 72.2, 1.372, length=13.952),
    "A6_gap_in_time_column.csv": Expected(("ECG",), 130.0, 14.0, None, {}, {}, (9.16, 9.97, 10.78, 11.64), (8.5, 14.0)),
    "A6_rounded_stamps_no_header.csv": Expected(("ECG1", "ECG2"), 256.0, 10.0, 72.5),
    "A6_time_column_says_256.csv": Expected(("ECG",), 256.0, 10.0, 64.0),
    "A6_time_column_says_256.csv, --ecg-rate 500": Expected(options=_AT_500, refused=("256", "500", "--ecg-rate")),
    "A7_four_groups_of_three_leads.dcm": Expected(TWELVE, 500.0, 10.0, None),
    "A8_acqknowledge.txt": _one("ECG", 72.5, 1.372),
    "A8_labchart.txt": _one("ECG", 64.0, 0.693),
    "A8_opensignals_6_channels.txt": Expected(("ECG",), 1000.0, 8.0, 72.5, noted="10 bits"),
    "A9_neurokit_processed.csv": _one("ECG Raw", 72.5, 1.372, options=_AT_500),
    "C2_gap_in_one_lead.hea": Expected(("I", "II"), 500.0, 14.0, 72.2, part_s=(8.0, 11.0)),
    "C3_decimal_comma_first_row_whole.csv": _two(),
    "C3_decimal_comma_one_column.csv": _one("ECG", 72.5, 1.372, options=_AT_500),
    "C3_decimal_comma_one_column_no_header.txt": _one("ECG", 64.0, 0.693, options=_AT_500),
    "C4_rdsamp_text.txt": Expected(("MLII", "V5"), 500.0, 10.0, 72.5, {"MLII": 1.372}),
    "C4_unit_after_space.csv": _two(slow=True),
    "C4_units_in_brackets.csv": _two(),
    "C5_unit_garbled_mu.edf": _one("II", 72.2, 1.372, 250.0, 14.0, noted="uV"),
    "C8_rate_as_text.mat": _one("ECG", 72.5, 1.372),
    "C8_rate_decimal_comma.csv": _two(slow=True),
    "C8_rate_samples_per_s.csv": _two(),
    "C9_easi_names.hea": Expected(("ES", "AS", "AI"), 500.0, 14.0, 64.0),
    "mixedsignals.hea": Expected(
        ("II", "III", "V"), 249.89, 230.502, None, {"II": 1.64, "III": 2.25, "V": 1.06}, part_s=(20.0, 50.0)
    ),
    "neg_gain.hea": _passing(("I", "II")),
    "gain_uV.hea": _passing(("I", "II")),
    "gain_nV.hea": _passing(("I", "II")),
    "chal1.hea": _passing(TWELVE, length=10.0),
    "crlf.hea": _passing(TWELVE, length=10.0),
    "edf_neg_gain.edf": _passing(("II",)),
    "dcm_baseline.dcm": _passing(TWELVE),
    "dcm_median_first.dcm": _passing(TWELVE, length=10.0),
    "aecg_us.xml": _passing(TWELVE, length=10.0),
    "aecg_origin.xml": _passing(TWELVE, length=10.0),
    "muse_exp.xml": _passing(TWELVE, length=10.0),
    "ishne_total_samples.ecg": _passing(("I", "II"), 200.0),
    "apple_utf16.csv": _passing(("I",), 512.0, 10.0),
    "deccomma_utf16.csv": _passing(("I", "II"), length=10.0, options=_AT_500),
    "rdsamp_csv.csv": _passing(("MLII", "V5"), 256.0),
}


@dataclass(frozen=True)
class Found:
    """Reading of a file: its facts, the ECG around its gaps, and the gaps; or the sentence of its refusal."""

    info: EcgInfo | None = None
    ecg: Ecg | None = None
    gaps: tuple[Gap, ...] = ()
    said: str = ""


def read(folder: Path, name: str) -> Found:
    """Read the file of an entry of `ECG`."""
    expected = ECG[name]
    path = folder / name.split(",")[0]
    part = expected.part_s
    try:
        info = ecg_info(path, **expected.options)  # type: ignore[arg-type]
        seconds = None if part is None else min(part[1], info.duration_s) - part[0]
        ecg, gaps = read_around_gaps(path, start_s=part[0] if part else 0.0, seconds=seconds, **expected.options)  # type: ignore[arg-type]
    except InputError as error:
        return Found(said=str(error))
    return Found(info, ecg, gaps)


def wrong(expected: Expected, found: Found) -> list[str]:
    """Words for what differs from the right values; empty where all agree."""
    if expected.refused or found.info is None or found.ecg is None:
        missing = [word for word in expected.refused if word not in found.said]
        return missing if found.said and expected.refused else ["refused" if found.said else "read, though it should not be"]
    info, ecg = found.info, found.ecg
    differs = []
    if info.lead_names != expected.leads:
        differs.append(f"leads {', '.join(info.lead_names)}")
    if abs(info.rate_hz / expected.rate_hz - 1) > RATE_TOLERANCE:
        differs.append(f"rate {info.rate_hz:g} Hz")
    if abs(info.duration_s - expected.length_s) > LENGTH_TOLERANCE_S:
        differs.append(f"length {info.duration_s:.3f} s")
    for lead, swing in expected.swings.items():
        amount = float(np.ptp(ecg.lead(lead))) if lead in ecg.lead_names else 0.0
        if abs(amount / swing - 1) > SWING_TOLERANCE:
            differs.append(f"{lead} {amount:.3f} mV")
    if expected.bpm is not None or expected.r_s:
        beats = find_landmarks(ecg)
        if expected.bpm is not None and abs(beats.heart_rate_bpm - expected.bpm) > HEART_RATE_TOLERANCE_BPM:
            differs.append(f"{beats.heart_rate_bpm:.1f} bpm")
        if any(np.abs(beats.r_s - r).min() > 0.02 for r in expected.r_s):
            differs.append("R peaks")
    if expected.noted and expected.noted not in " ".join(info.notes):
        differs.append("no note")
    return differs


def in_words(found: Found) -> str:
    """Describe a reading in a few words."""
    if found.info is None:
        return found.said
    info = found.info
    text = f"{len(info.lead_names)} leads ({', '.join(info.lead_names[:3])}{' ...' if len(info.lead_names) > 3 else ''})"
    text += f", {info.rate_hz:g} Hz ({info.rate_source}), {info.duration_s:.3f} s, unit: {info.unit_source}"
    text += f"; {len(found.gaps)} gaps" if found.gaps else ""
    return text + (f". {' '.join(info.notes)}" if info.notes else "")
