"""A heart that beats along its ECG, part after part, with what is measured in it; and how a part travels."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.app.serve.ecg_sources import EndlessEcg, Feed
from echogen.app.serve.requests import LiveEcg, RecordedEcg, StreamRequest, begin_s, conditions_of, joined_ecg, recorded_ecg
from echogen.arrays import ByteArray, Floats
from echogen.ecg import choose_lead, find_landmarks
from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.generators.sampling import LiveTiming, Sampling, Span
from echogen.measurement import find_beats, lv_geometry, segment
from echogen.networks.segmenter import Segmenter
from echogen.physiology import area_length_volume_ml
from echogen.records import STRUCTURES, Cine, Ecg

#: Points of an outline.
OUTLINE_POINTS = 48
#: ECG that is shown beyond the last frame, video that EF and rate are measured over, and ECG that is kept, in s.
AHEAD_S, MEASURED_S, _KEPT_S = 1.0, 8.0, 14.0
SHOWN_HZ = 250.0
_OUTLINE_SMOOTHING = 1.2
_LEAST_AREA = 60
_SEGMENTED = 128


def outlines(masks: ByteArray) -> NDArray[np.float32]:
    """The edge of the left ventricle in each frame, (frames, 48, 2) as column and row in pixels; nan where there is none.

    masks: (frames, height, width) with the ids of `STRUCTURES`. Seen from its middle the cavity has one edge in each direction.
    """
    angles = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
    reach = np.arange(0, 64, 0.5)
    found = np.full((len(masks), OUTLINE_POINTS, 2), np.nan, np.float32)
    for edge, mask in zip(found, masks, strict=True):
        cavity = mask == STRUCTURES["lv"]
        if cavity.sum() < _LEAST_AREA:
            continue
        rows, columns = np.nonzero(cavity)
        row, column = rows.mean(), columns.mean()
        smooth = ndimage.gaussian_filter(cavity.astype(np.float32), _OUTLINE_SMOOTHING)
        along = row + np.sin(angles)[:, None] * reach, column + np.cos(angles)[:, None] * reach
        inside = ndimage.map_coordinates(smooth, along, order=1, mode="constant") > 0.5
        radius = reach[np.where(inside.any(1), inside.shape[1] - 1 - inside[:, ::-1].argmax(1), 0)]
        radius = ndimage.gaussian_filter1d(radius, 0.8, mode="wrap")
        edge[:] = np.stack([column + np.cos(angles) * radius, row + np.sin(angles) * radius], axis=1)
    return found


@dataclass(frozen=True)
class Part:
    """Consecutive frames of a heart and what belongs to their time.

    volume: (frames,) in arbitrary units, or None with `outline` where it is not measured. ecg: of one lead, from where the part
    before ended. r_s: R peaks in its time. ef_percent, heart_rate_bpm: of the last seconds up to here, None where unknown.
    """

    index: int
    seed: int
    cine: Cine
    outline: NDArray[np.float32] | None
    volume: Floats | None
    ecg: Ecg | None
    r_s: Floats
    ef_percent: float | None
    heart_rate_bpm: float | None
    ecg_rate_bpm: float | None

    def to_bytes(self, question: int) -> bytes:
        """One message: the length of its JSON header (4 bytes, little endian), the header, frames, outline and ECG.

        Frames are grey bytes; outline (frames, points, 2) and ECG float32, little endian. The header tells all sizes.
        question: the client's number of what was asked.
        """
        frames = np.ascontiguousarray(self.cine.frames)
        header: dict[str, Any] = {
            "type": "part",
            "question": question,
            "index": self.index,
            "seed": self.seed,
            "frames": len(frames),
            "height": frames.shape[1],
            "width": frames.shape[2],
            "times_s": self.cine.times_s.tolist(),
            "sha256": hashlib.sha256(frames.tobytes()).hexdigest(),
            "outline_points": 0 if self.outline is None else self.outline.shape[1],
            "volume": None if self.volume is None else [round(float(v), 3) for v in self.volume],
            "r_s": self.r_s.tolist(),
            "ef_percent": self.ef_percent,
            "heart_rate_bpm": self.heart_rate_bpm,
            "ecg_rate_bpm": self.ecg_rate_bpm,
            "ecg": None,
        }
        payload = [frames.tobytes()]
        if self.outline is not None:
            payload.append(self.outline.astype("<f4").tobytes())
        if self.ecg is not None:
            lead = self.ecg.signal_mv[0]
            header["ecg"] = {
                "lead": self.ecg.lead_names[0],
                "rate_hz": self.ecg.rate_hz,
                "start_s": self.ecg.start_s,
                "samples": len(lead),
            }
            payload.append(lead.astype("<f4").tobytes())
        text = json.dumps(header).encode()
        return len(text).to_bytes(4, "little") + text + b"".join(payload)


class _EcgAround:
    """The pieces of an ECG on their way to a generator; one lead of the last seconds is kept to be shown.

    made_until_s: how far the video is made. It knows nothing of the heart, which is therefore freed as soon as it is let go.
    """

    def __init__(self, source: Iterator[Ecg], made_until_s: float) -> None:
        self._source, self.made_until_s = source, made_until_s
        self._kept: deque[Ecg] = deque()
        self._lead: str | None = None

    def __iter__(self) -> Iterator[Ecg]:
        return self

    def __next__(self) -> Ecg:
        piece = next(self._source)
        if self._lead is None:
            self._lead = choose_lead(piece)
        self._kept.append(_one_lead(piece, self._lead))
        while len(self._kept) > 1 and self._kept[1].start_s < self.made_until_s - _KEPT_S:
            self._kept.popleft()
        return piece

    def between(self, start_s: float, end_s: float) -> Ecg | None:
        """Part of the ECG kept from this time, if any."""
        pieces = [piece for piece in self._kept if piece.end_s > start_s and piece.start_s < end_s]
        try:
            return joined_ecg(pieces).between(start_s, end_s) if pieces else None
        except InputError:
            return None


class VideoStream:
    """One heart as it was asked for; `next_part` makes what comes next, called from one thread at a time."""

    def __init__(self, asked: StreamRequest, generator: Generator, segmenter: Segmenter | None, feed: Feed | None = None) -> None:
        self.asked, self._generator, self._segmenter = asked, generator, segmenter
        self._live: LiveTiming | None = None
        start = asked.start_s
        source: Iterator[Ecg]
        known: Ecg | None
        if isinstance(asked.ecg, LiveEcg):
            assert feed is not None
            source = feed.listen()
            known = joined_ecg(list(feed.pieces)) if feed.pieces else None
            self._live, self._fed_from_s = generator.live_timing, 0.0 if known is None else known.start_s
            start = max(self._fed_from_s, feed.end_s - self._ecg_needed_s(True))
            # On the grid of frames, so that hearts beside each other show the same moments.
            start = float(np.ceil(start * generator.native_fps - 1e-6)) / generator.native_fps
        elif isinstance(asked.ecg, RecordedEcg):
            known = recorded_ecg(asked.ecg)
            source = iter([known])
            start = known.start_s if start is None else start
        else:
            start = start or 0.0
            simulated = asked.ecg.rhythm, asked.ecg.heart_rate_bpm, asked.seed
            source = EndlessEcg(*simulated, start - generator.ecg_past_s)
            near = EndlessEcg(*simulated, start - generator.ecg_past_s)
            known = joined_ecg([next(near), next(near)]) if asked.first_frame else None
        start = begin_s(asked, start, known, generator.native_fps)
        self.made_until_s = self.start_s = start
        self._shown_until_s = start
        self._index = 0
        self._measured: deque[tuple[Floats, Floats]] = deque()
        self._kept_ecg = _EcgAround(source, start)
        sampling = Sampling(seed=asked.seed, live=self._live is not None)
        self._stream = generator.stream(self._kept_ecg, conditions_of(asked), sampling, Span(start))

    def _ecg_needed_s(self, first: bool) -> float:
        """Length of ECG in s that a part needs from its beginning on."""
        if self._live is None:
            return self._generator.window_s + self._generator.ecg_future_s
        return (self._live.first_s if first else self._live.part_s) + self._live.future_s

    @property
    def needs_s(self) -> float:
        """A live ECG must reach to this time before the next part can be made."""
        needed = self.made_until_s + self._ecg_needed_s(self._index == 0)
        if self._live is not None:
            needed = max(needed, self._fed_from_s + self._live.lead_in_s)
        return needed + 0.05

    def next_part(self) -> Part | None:
        """The next frames, or None after the last. Raises `InputError` where the ECG or what is asked cannot be followed."""
        cine = next(self._stream, None)
        if cine is None:
            return None
        self.made_until_s = self._kept_ecg.made_until_s = float(cine.times_s[-1]) + 1.0 / self._generator.native_fps
        outline, volume, ef, rate = self._measure(cine)
        shown = self._ecg_shown()
        r_s, ecg_rate = self._beats(float(cine.times_s[0]))
        self._index += 1
        return Part(self._index - 1, self.asked.seed, cine, outline, volume, shown, r_s, ef, rate, ecg_rate)

    def _ecg_shown(self) -> Ecg | None:
        part = self._kept_ecg.between(self._shown_until_s, self.made_until_s + AHEAD_S)
        if part is None:
            return None
        self._shown_until_s = part.end_s
        every = max(1, round(part.rate_hz / SHOWN_HZ))
        return Ecg(part.signal_mv[:, ::every], part.rate_hz / every, part.lead_names, part.start_s)

    def _beats(self, start_s: float) -> tuple[Floats, float | None]:
        """R peaks from start_s to the end of what is made, and the rate of the last seconds."""
        around = self._kept_ecg.between(start_s - 5.0, self.made_until_s + AHEAD_S)
        if around is None:
            return np.zeros(0), None
        try:
            r_s = find_landmarks(around).r_s
        except InputError:
            return np.zeros(0), None
        rate = 60.0 / float(np.median(np.diff(r_s))) if len(r_s) > 1 else None
        return r_s[(r_s >= start_s) & (r_s < self.made_until_s)], rate

    def _measure(self, cine: Cine) -> tuple[NDArray[np.float32] | None, Floats | None, float | None, float | None]:
        """Outlines and volumes of these frames, and EF in % and heart rate in bpm of the last seconds."""
        if self._segmenter is None or cine.frames.shape[1:] != (_SEGMENTED, _SEGMENTED):
            return None, None, None, None
        masks = segment(cine.frames, self._segmenter)
        area, length = lv_geometry(masks, 1.0)
        volume = area_length_volume_ml(area, length)
        self._measured.append((cine.times_s, volume))
        while len(self._measured) > 1 and self._measured[1][0][0] < self.made_until_s - MEASURED_S:
            self._measured.popleft()
        times, volumes = (np.concatenate(values) for values in zip(*self._measured, strict=True))
        beats = find_beats(times, volumes) if len(times) > 16 and volumes.min() > 0 else ()
        fractions = [beat.ef_percent for beat in beats if beat.ef_percent is not None]
        es_s = np.array([beat.es_s for beat in beats])
        ef = float(np.median(fractions)) if fractions else None
        return outlines(masks), volume, ef, 60.0 / float(np.median(np.diff(es_s))) if len(es_s) > 1 else None


def _one_lead(ecg: Ecg, name: str) -> Ecg:
    return Ecg(ecg.lead(name)[None], ecg.rate_hz, (name,), ecg.start_s)
