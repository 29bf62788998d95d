"""Echo studies without what tells whose heart they show: the sector alone, its ECG on the same clock, and a header made anew.

Nothing of a source file's header is copied: an object is written from the pixels of the sector, the frame times, the pixel size,
the view, and the maker's name where it is a known one. This is the Basic Application Level Confidentiality Profile of DICOM
PS3.15, annex E, with its option Clean Pixel Data and, where dates are kept, Retain Longitudinal Temporal Information with
Modified Dates.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from echogen.cine.burned_in import SectorPicture, sector_picture, text_boxes
from echogen.cine.colour import ColourCine, read_colour
from echogen.cine.dicom_opening import read_dataset
from echogen.cine.dicom_writing import Removal, Subject, dicom_study
from echogen.cine.drawn_line import find_lines
from echogen.cine.reading import file_kind, read_cine
from echogen.cine.writing import ecg_path, write, write_coloured
from echogen.datasets.drawn_ecg import find_drawn_ecg
from echogen.datasets.video_folder import read_beside, read_waveform
from echogen.files import whole_file
from echogen.measurement.view_check import doppler
from echogen.records import Cine, Ecg

#: Formats of cleaned videos; the first two keep the sector's pixels as they are.
FORMATS = ("dcm", "npz", "mp4", "avi")
#: Codes of the profile and its options (DICOM PS3.16, context group 7050).
_PROFILE = (("113100", "Basic Application Confidentiality Profile"), ("113101", "Clean Pixel Data Option"))
_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
#: Names of makers, as they begin in headers, which tell nothing of a patient.
MAKERS = (
    "GE", "Philips", "Siemens", "Canon", "Toshiba", "Hitachi", "Aloka", "Fujifilm", "Samsung", "Medison", "Mindray", "Esaote",
    "Acuson", "ATL", "Agilent", "Hewlett-Packard", "Sonosite", "Butterfly", "Clarius", "Lumify", "Vivid", "Ultrasonix", "TomTec",
)  # fmt: skip
#: Name of the lead that was drawn into a picture; which one it is is not known.
DRAWN_LEAD = "ECG"
#: Most days by which the dates of a patient are moved, always into the past.
_MOST_DAYS = 3650
#: Largest difference of the channels of a grey pixel, and share of the sector's pixels that may have more: packing and marks.
_GREY_CHANNELS, _COLOURED_SHARE = 12, 0.002


@dataclass(frozen=True)
class Plan:
    """Choices for a whole cleaning.

    secret: Key from which pseudonyms, UIDs and moved dates follow; whoever has it and a patient's number can link both.
    format: One of `FORMATS`.
    keep_dates: Keep the times between the studies of a patient, all moved by the same number of days; else there are no dates.
    fps: Frames per second instead of those that files state.
    """

    secret: bytes
    format: str = FORMATS[0]
    keep_dates: bool = False
    fps: float | None = None

    def token(self, *parts: str) -> str:
        """Hexadecimal text that follows from the secret and these texts."""
        return hmac.new(self.secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Cleaned:
    """Content of a cleaned file and what was done, in values that tell nothing of the patient.

    patient: Pseudonym.
    picture: Picture of the sector.
    cine: The same in grey, with times and pixel size.
    coloured: True if the sector is stored in colour, as with Doppler.
    ecg: ECG on the clock of the video; None without one.
    ecg_from: "waveform", "file beside" or "picture, without a scale"; None without an ECG.
    doppler: True for colour or tissue Doppler.
    maker: Maker of the machine, where it is a known one.
    began: Date and time of the first frame as they may be told; None where dates are not kept or not known.
    removed: Numbers of attributes of the source, and of private ones among them.
    look: Reasons for which somebody should look at the pictures.
    """

    patient: str
    picture: SectorPicture
    cine: Cine
    coloured: bool
    ecg: Ecg | None
    ecg_from: str | None
    doppler: bool
    maker: str | None
    began: datetime | None
    study: str
    removed: tuple[int, int]
    look: tuple[str, ...]


def clean(path: Path, plan: Plan, patient: str) -> Cleaned:
    """Read a file and keep what may be shared of it.

    patient: Name of the patient where the file does not say it, such as its folder.
    Raises `InputError` for a file that cannot be read, or shows no sector, as an M-mode or a Doppler spectrum does.
    """
    colour = stored = read_colour(path, fps=plan.fps)
    cine = read_cine(path, fps=plan.fps)
    if cine.frames.shape[1:] != colour.frames.shape[1:3]:  # pixels that are not square were made so
        colour = replace(colour, frames=np.repeat(cine.frames[..., None], 3, axis=-1))
    picture = sector_picture(colour.frames)
    spread = picture.frames.max(axis=-1).astype(int) - picture.frames.min(axis=-1)
    coloured = float((spread > _GREY_CHANNELS)[:, picture.inside].mean()) > _COLOURED_SHARE
    rows = slice(picture.top, picture.top + picture.frames.shape[1])
    columns = slice(picture.left, picture.left + picture.frames.shape[2])
    shown = picture.frames.any(axis=-1)
    grey = np.where(shown, cine.frames[:, rows, columns], 0).astype(np.uint8)
    ecg, source, over = _ecg_of(path, stored, cine, picture)
    header = _header(path)
    name = str(header.get("PatientID") or header.get("PatientName") or patient)
    patient_token = plan.token("patient", name)
    study_id = str(header.get("StudyInstanceUID") or f"{name} {patient}")
    return Cleaned(
        patient=f"P{patient_token[:10]}",
        picture=picture,
        cine=Cine(grey, cine.times_s, cine.mm_per_pixel, cine.view),
        coloured=coloured,
        ecg=ecg,
        ecg_from=source,
        doppler=doppler(stored.frames) is not None,
        maker=_maker(str(header.get("Manufacturer") or "")),
        began=_moved_date(header, plan, patient_token) if plan.keep_dates else None,
        study=plan.token("study", study_id),
        removed=_counts(header),
        look=(*_again(picture), *(("the drawn ECG lies over the sector, where it stays",) if over else ())),
    )


def save(cleaned: Cleaned, path: Path, plan: Plan) -> list[Path]:
    """Write a cleaned file, and its ECG beside it; return the files."""
    cine, ecg = cleaned.cine, cleaned.ecg
    colours = cleaned.picture.frames if cleaned.coloured else None
    if plan.format == "dcm":
        codes = (*_PROFILE, _DATES) if plan.keep_dates else _PROFILE
        subject = Subject(
            name=cleaned.patient,
            identifier=cleaned.patient,
            comments="",
            description="Echocardiogram",
            ecg_description="ECG",
            derivation="Cut to the sector, identity removed",
            maker=cleaned.maker or "unknown",
            model="",
            study=cleaned.study,
            removed=Removal(codes, "MODIFIED" if plan.keep_dates and cleaned.began else "REMOVED"),
        )
        if cleaned.began is not None:
            subject = replace(subject, began=cleaned.began)
        image, waveform = dicom_study(cine, ecg, subject=subject, colours=colours)
        with whole_file(path) as unfinished:
            image.save_as(unfinished, enforce_file_format=True)
        if waveform is None:
            return [path]
        with whole_file(ecg_path(path)) as unfinished:
            waveform.save_as(unfinished, enforce_file_format=True)
        return [path, ecg_path(path)]
    if plan.format == "mp4" and colours is not None:
        height, width = (size + size % 2 for size in colours.shape[1:3])
        padded = np.zeros((len(colours), height, width, 3), np.uint8)
        padded[:, : colours.shape[1], : colours.shape[2]] = colours
        write_coloured(padded, cine, (width, height), path)
    else:
        write(cine, path)
    if ecg is None:
        return [path]
    with whole_file(path.with_suffix(".csv")) as unfinished:
        unfinished.write_text(_table(ecg, cine), encoding="utf-8")
    return [path, path.with_suffix(".csv")]


def _ecg_of(path: Path, colour: ColourCine, cine: Cine, picture: SectorPicture) -> tuple[Ecg | None, str | None, bool]:
    """ECG of the file on the clock of its video, where it comes from, and True if one is drawn over the sector."""
    scale = colour.frames.shape[1] / cine.frames.shape[1]
    bottom = scale * (picture.top + int(np.flatnonzero(picture.inside.any(axis=1)).max()))
    over = any(line.top < bottom and line.bottom > scale * picture.top for line in find_lines(colour.frames))
    for found, source in ((read_waveform(path), "waveform"), (read_beside(path), "file beside")):
        if found is not None:
            return replace(found, start_s=found.start_s + float(cine.times_s[0])), source, over
    if len(cine.times_s) > 1:
        drawn = find_drawn_ecg(colour)
        if drawn.accepted and drawn.ecg is not None:
            return replace(drawn.ecg, lead_names=(DRAWN_LEAD,)), "picture, without a scale", over
    return None, None, over


def _again(picture: SectorPicture) -> tuple[str, ...]:
    """Reasons to look at a picture of which the letters were removed: what still looks like some, or cannot be judged."""
    if len(picture.frames) == 1:
        return ("letters over a still cannot be told from the echo",)
    still = picture.frames.max(axis=-1).min(axis=0).astype(np.float64)
    beside = ~picture.inside
    return ("something like letters is left beside the sector",) if text_boxes(still, beside) else ()


def _header(path: Path) -> Any:
    """Header of a DICOM file; empty for a file of another kind."""
    return read_dataset(path, stop_before_pixels=True) if file_kind(path) == "dicom" else {}


def _counts(header: Any) -> tuple[int, int]:
    if isinstance(header, dict):
        return (0, 0)
    elements = list(header.iterall())
    return len(elements), sum(element.tag.is_private for element in elements)


def _maker(stated: str) -> str | None:
    """Name among `MAKERS` with which the maker's name in a header begins; None for another, which may be free text."""
    return next((maker for maker in MAKERS if stated.strip().lower().startswith(maker.lower())), None)


def _moved_date(header: Any, plan: Plan, patient_token: str) -> datetime | None:
    """Date and time of the acquisition, moved into the past by a number of days that belongs to the patient."""
    day = str(header.get("AcquisitionDate") or header.get("ContentDate") or header.get("StudyDate") or "")
    moment = str(header.get("AcquisitionTime") or header.get("ContentTime") or header.get("StudyTime") or "000000")
    try:
        found = datetime.strptime(day[:8] + moment[:6].ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return found - timedelta(days=1 + int(plan.token("days", patient_token), 16) % _MOST_DAYS)


def _table(ecg: Ecg, cine: Cine) -> str:
    """CSV table of an ECG from the first frame on, with empty cells where there is none."""
    first, last = float(cine.times_s[0]), float(cine.times_s[-1])
    frame_s = (last - first) / max(1, len(cine.times_s) - 1)
    times = np.arange(0.0, last - first + frame_s, 1.0 / ecg.rate_hz)
    known = ecg.start_s + np.arange(ecg.signal_mv.shape[1]) / ecg.rate_hz - first
    columns = [np.interp(times, known, lead, left=np.nan, right=np.nan) for lead in ecg.signal_mv]
    lines = ["time (s)," + ",".join(name if name == DRAWN_LEAD else f"{name} (mV)" for name in ecg.lead_names)]
    for time, *values in zip(times, *columns, strict=True):
        lines.append(f"{time:.6f}," + ",".join("" if np.isnan(value) else f"{value:.5f}" for value in values))
    return "\n".join(lines) + "\n"


def without_names(text: str, names: Sequence[str]) -> str:
    """A sentence without paths and names of source files, in whose place stands "the file"."""
    for name in sorted(filter(None, set(names)), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", text)
    return text
