"""Requests of a client as the API documents them, and the records that follow from them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from echogen.app.serve.ecg_sources import EndlessEcg
from echogen.app.serve.file_reader import FASTEST_HZ, LONGEST_ECG_S, MOST_LEADS
from echogen.arrays import ByteArray
from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.records import Cine, Conditions, Ecg

#: Rows and columns of a first frame.
FRAME_SIZE = 128
#: Largest seed that every JSON reader keeps exactly.
MOST_SEED = 2**53 - 1
LONGEST_CLIP_S, LATEST_START_S = 30.0, 2 * 3600.0
#: Longest base64 text, that of the largest ECG that is taken.
_MOST_BASE64 = int(4 * MOST_LEADS * FASTEST_HZ * LONGEST_ECG_S * 4 / 3) + 64
FORMATS = {
    "mp4": "video/mp4",
    "gif": "image/gif",
    "avi": "video/x-msvideo",
    "dcm": "application/zip",
    "npz": "application/zip",
    "json": "application/json",
}

FeedName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="What a live ECG is called.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SimulatedEcg(_Strict):
    """An endless ECG of a simulated heart; its shape follows from the seed of what is asked."""

    kind: Literal["simulated"]
    rhythm: Literal["sinus", "af", "pvc", "pause", "paced"] = Field("sinus", description="af: atrial fibrillation.")
    heart_rate_bpm: float = Field(72.0, ge=30, le=220)


class RecordedEcg(_Strict):
    """A recorded ECG, as `POST /api/ecg` answers it."""

    kind: Literal["recorded"]
    rate_hz: float = Field(ge=20, le=FASTEST_HZ)
    lead_names: list[Annotated[str, Field(min_length=1, max_length=16)]] = Field(min_length=1, max_length=MOST_LEADS)
    start_s: float = Field(0.0, ge=0, le=LATEST_START_S)
    signal_mv: str = Field(max_length=_MOST_BASE64, description="Base64 of little-endian float32 in mV, lead after lead.")


class LiveEcg(_Strict):
    """An ECG that somebody feeds now, by `WebSocket /api/feed/NAME`."""

    kind: Literal["live"]
    feed: FeedName


class Question(_Strict):
    """Heart to show, for any ECG. The same seed is the same heart."""

    ef_percent: float | None = Field(None, gt=0, lt=100, description="Ejection fraction; null: drawn.")
    view: Literal["A4C", "A2C"] | None = Field(None, description="null: as the model has it.")
    sex: Literal["m", "f"] | None = None
    seed: int = Field(0, ge=0, le=MOST_SEED)
    first_frame: str | None = Field(
        None,
        max_length=4 * FRAME_SIZE**2,
        description="Base64 of 128 x 128 grey bytes, as `POST /api/first-frame` answers it. The video then begins at an R peak, "
        "the first at or after start_s, since an echo still is usually end-diastolic.",
    )
    start_s: float | None = Field(None, ge=0, le=LATEST_START_S, description="On the clock of the ECG; null: its beginning.")


class StreamRequest(Question):
    """A heart for the WebSocket `/api/beat`."""

    ecg: SimulatedEcg | RecordedEcg | LiveEcg = Field(discriminator="kind")


class ClipRequest(Question):
    """A clip for `POST /api/generate`."""

    ecg: SimulatedEcg | RecordedEcg = Field(discriminator="kind")
    seconds: float = Field(4.0, gt=0, le=LONGEST_CLIP_S)
    format: Literal["mp4", "gif", "avi", "dcm", "npz", "json"] = Field(
        "mp4", description="dcm: a ZIP of the image and the ECG as DICOM; json: what was measured, without a picture."
    )


def encoded(values: np.ndarray) -> str:
    """Base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"The {what} is not base64; send it as the service gave it to you.") from None


def recorded_ecg(asked: RecordedEcg) -> Ecg:
    """The ECG of a request. Raises `InputError` where it is not what it says, or longer than a minute."""
    data, leads = _decoded(asked.signal_mv, "ECG"), len(asked.lead_names)
    if not data or len(data) % (4 * leads):
        raise InputError("The ECG does not hold the same number of samples for each lead; send it as the service gave it to you.")
    signal = np.frombuffer(data, "<f4").reshape(leads, -1)
    if signal.shape[1] > LONGEST_ECG_S * asked.rate_hz + 1:
        raise InputError(f"An ECG of at most {LONGEST_ECG_S:.0f} s is taken; send a part of it.")
    return Ecg(signal, asked.rate_hz, tuple(asked.lead_names), asked.start_s)


def first_frame(asked: Question) -> Cine | None:
    """The first frame of a request as a reference image. Raises `InputError` for another size."""
    if asked.first_frame is None:
        return None
    data = _decoded(asked.first_frame, "first frame")
    if len(data) != FRAME_SIZE**2:
        raise InputError(f"The first frame must have {FRAME_SIZE} x {FRAME_SIZE} grey bytes; send it as the service gave it.")
    picture: ByteArray = np.frombuffer(bytearray(data), np.uint8).reshape(1, FRAME_SIZE, FRAME_SIZE)
    return Cine(picture, np.zeros(1))


def conditions_of(asked: Question) -> Conditions:
    """Return the conditions of a request besides its ECG. Raises `InputError` for a first frame of another size."""
    return Conditions(reference=first_frame(asked), ef_percent=asked.ef_percent, view=asked.view, sex=asked.sex)


def joined_ecg(pieces: Sequence[Ecg]) -> Ecg:
    """Consecutive pieces of an ECG as one."""
    first, signal = pieces[0], np.concatenate([piece.signal_mv for piece in pieces], axis=1)
    return Ecg(signal, first.rate_hz, first.lead_names, first.start_s)


def begin_s(asked: Question, start_s: float, ecg: Ecg | None, fps: float) -> float:
    """Start of a video: start_s, or with a first frame the first R peak from there on, on the grid of frames.

    ecg: what is known from start_s on; without an R peak in its first seconds the video begins at start_s after all.
    """
    if asked.first_frame is None or ecg is None:
        return start_s
    try:
        r_s = find_landmarks(ecg.between(start_s - 3.0, start_s + 4.0)).r_s
    except InputError:
        return start_s
    later = r_s[r_s > start_s - 1.0 / fps]
    return start_s if not len(later) else max(start_s, float(np.ceil(later[0] * fps - 1e-6)) / fps)


def clip_ecg(asked: ClipRequest, generator: Generator) -> tuple[Ecg, float]:
    """The ECG that a clip needs, and where the clip begins. Raises `InputError` where it does not reach."""
    if isinstance(asked.ecg, RecordedEcg):
        ecg = recorded_ecg(asked.ecg)
        return ecg, begin_s(asked, ecg.start_s if asked.start_s is None else asked.start_s, ecg, generator.native_fps)
    start = asked.start_s or 0.0
    until = start + 4.0 + asked.seconds + generator.window_s + generator.ecg_future_s
    endless = EndlessEcg(asked.ecg.rhythm, asked.ecg.heart_rate_bpm, asked.seed, start - generator.ecg_past_s)
    pieces = [next(endless)]
    while pieces[-1].end_s < until:
        pieces.append(next(endless))
    whole = joined_ecg(pieces)
    return whole, begin_s(asked, start, whole, generator.native_fps)
