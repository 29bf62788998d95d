"""Facts of an ECG or echo file, for `echogen info` and the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from echogen.errors import InputError

#: Seconds of a long ECG that are looked at for its heart rate and quality.
LOOKED_AT_S = 60.0
KEYS: tuple[str, ...] = (
    "format",
    "record",
    "kind",
    "leads",
    "lead_names",
    "rate_hz",
    "duration_s",
    "heart_rate_bpm",
    "quality",
    "quality_reasons",
    "rate_source",
    "unit_source",
    "gaps",
    "notes",
)
KEYS += (
    "frames",
    "height",
    "width",
    "fps",
    "view",
    "mm_per_pixel",
    "warnings",
    "ecg_duration_s",
    "drawn_ecg",
    "seen",
    "identifying",
)
#: Keys of `identifying`. text_beside_the_sector is a guess; attributes are those of a DICOM file.
IDENTIFYING = ("attributes", "private_attributes", "burned_in_annotation", "text_beside_the_sector", "note")
#: Keys of an ECG that a DICOM file with pictures fills from its waveform; its length is `ecg_duration_s`.
_OF_A_WAVEFORM = ("record", "leads", "lead_names", "rate_hz", "heart_rate_bpm", "quality", "quality_reasons")
ECHO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".gif", ".png", ".jpg", ".jpeg", ".webm", ".nii", ".mhd", ".mha", ".webp"}
ECHO_SUFFIXES |= {".tif", ".tiff", ".bmp"}


def describe(file: Path, ecg_rate: float | None = None, ecg_unit: str | None = None, fps: float | None = None) -> dict[str, Any]:
    """Every key of `info --json`; a key of which the file says nothing is None.

    A DICOM file with pictures and a waveform is both, of kind "echo and ecg". Raises `InputError` for a file that is neither ECG
    nor echo, or of which no values can be told without a given rate or unit.
    """
    from echogen.cine.identifying import identifying_attributes
    from echogen.cine.reading import holds_pictures

    facts: dict[str, Any] = dict.fromkeys(KEYS)
    if holds_pictures(file):
        facts |= _describe_echo(file, fps)
        facts |= _describe_waveform(file, facts["warnings"], ecg_rate, ecg_unit)
    else:
        try:
            facts |= _describe_ecg(file, ecg_rate, ecg_unit)
        except InputError:
            if not _called_an_echo(file):
                raise
            facts |= _describe_echo(file, fps)
    attributes = identifying_attributes(file)
    if attributes or facts["identifying"]:
        facts["identifying"] = dict.fromkeys(IDENTIFYING) | (facts["identifying"] or {}) | (attributes or {})
    return facts


def _called_an_echo(file: Path) -> bool:
    return file.suffix.lower() in ECHO_SUFFIXES or file.name.lower().endswith(".nii.gz")


def _describe_ecg(file: Path, rate_hz: float | None, unit: str | None) -> dict[str, Any]:
    from echogen.ecg import ecg_info, find_landmarks, read_around_gaps, signal_quality
    from echogen.ecg.formats import NoValues

    found = ecg_info(file, rate_hz=rate_hz, unit=unit)
    facts: dict[str, Any] = {
        "format": found.format,
        "record": found.record,
        "kind": "ecg",
        "leads": len(found.lead_names),
        "lead_names": list(found.lead_names),
        "rate_hz": found.rate_hz,
        "rate_source": found.rate_source,
        "unit_source": found.unit_source,
        "duration_s": found.duration_s,
        "notes": list(found.notes),
    }
    looked_at = min(found.duration_s, LOOKED_AT_S)
    try:
        ecg, gaps = read_around_gaps(file, rate_hz=rate_hz, unit=unit, start_s=0.0, seconds=looked_at)
    except NoValues as nothing:
        return facts | {"notes": [*found.notes, str(nothing)]}
    facts["gaps"] = [{"leads": list(gap.leads), "start_s": gap.start_s, "end_s": gap.end_s} for gap in gaps]
    quality = signal_quality(ecg)
    facts |= {"quality": quality.verdict, "quality_reasons": list(quality.reasons)}
    try:
        facts["heart_rate_bpm"] = find_landmarks(ecg).heart_rate_bpm
    except InputError:
        facts["heart_rate_bpm"] = None
    return facts


def _describe_waveform(file: Path, warnings: list[str], rate_hz: float | None, unit: str | None) -> dict[str, Any]:
    """Facts of the ECG that a DICOM file holds beside its pictures; empty without one. One that cannot be read is a warning."""
    from echogen.cine.dicom_opening import read_dataset

    try:
        if "WaveformSequence" not in read_dataset(file, stop_before_pixels=True):
            return {}
    except Exception:  # of a file that is no DICOM file
        return {}
    try:
        found = _describe_ecg(file, rate_hz, unit)
    except InputError as unreadable:
        return {"warnings": [*warnings, f"It holds a waveform, too, which cannot be read: {unreadable}"]}
    ecg = {key: found[key] for key in _OF_A_WAVEFORM if key in found}
    more = [*warnings, *(found.get("warnings") or ())]
    return ecg | {"kind": "echo and ecg", "ecg_duration_s": found["duration_s"], "warnings": more}


def _describe_echo(file: Path, fps: float | None) -> dict[str, Any]:
    """Facts of an echo file."""
    from echogen.cine import read_cine, to_sector
    from echogen.cine.identifying import NOTE, text_beside_the_sector
    from echogen.measurement.view_naming import seen_in_file

    cine = read_cine(file, fps=fps)
    still = len(cine.frames) == 1
    warnings = list(cine.notes)
    try:
        to_sector(cine.frames)
    except InputError as no_echo:
        warnings.append(str(no_echo))
    return {
        "format": _echo_format(file),
        "kind": "echo",
        "frames": cine.frames.shape[0],
        "height": cine.frames.shape[1],
        "width": cine.frames.shape[2],
        "fps": None if still else cine.fps,
        "duration_s": None if still else cine.duration_s,
        "view": cine.view,
        "mm_per_pixel": cine.mm_per_pixel,
        "warnings": warnings,
        "seen": None if still else seen_in_file(cine, file, fps).to_json(),
        "drawn_ecg": None if still else _describe_drawn_ecg(file, fps),
        "identifying": {"text_beside_the_sector": text_beside_the_sector(cine.frames), "note": NOTE},
    }


def _describe_drawn_ecg(file: Path, fps: float | None) -> dict[str, Any] | None:
    """Describe the ECG that is drawn into the pictures, with a verdict on it; None where no line is drawn."""
    from echogen.datasets.drawn_ecg import read_drawn_ecg

    try:
        found = read_drawn_ecg(file, fps=fps)
    except InputError:  # too large in colour
        return None
    if not found.line and found.printed_rate_bpm is None:
        return None
    return {
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "heart_rate_bpm": found.heart_rate_bpm if found.accepted else None,
        "printed_rate_bpm": found.printed_rate_bpm,
        "manner": found.manner,
    }


def _echo_format(file: Path) -> str:
    """The name of the container, from its first bytes."""
    from echogen.cine.dicom_opening import is_dicom
    from echogen.cine.mhd import is_mhd
    from echogen.cine.nifti import is_nifti
    from echogen.cine.reading import first_bytes

    head = first_bytes(file)
    marks = {
        b"GIF8": "GIF",
        b"\x89PNG": "PNG",
        b"\xff\xd8": "JPEG",
        b"RIFF": "AVI",
        b"II*": "TIFF",
        b"MM\0*": "TIFF",
        b"PK": "NPZ",
        b"\x1aE\xdf\xa3": "Matroska",
    }
    if is_dicom(head):
        return "DICOM"
    if head[8:12] == b"WEBP":
        return "WebP"
    if is_nifti(head):
        return "NIfTI"
    if is_mhd(head):
        return "MetaImage"
    if head[4:8] == b"ftyp":
        return "MP4"
    return next((name for mark, name in marks.items() if head.startswith(mark)), file.suffix.lstrip(".").upper() or "video")
