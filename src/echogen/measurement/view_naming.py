"""View that an echo video seems to show, and the quality of its pictures, as far as the outlines tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from echogen.arrays import ByteArray, Floats
from echogen.cine.sector import canonical_view
from echogen.errors import InputError
from echogen.measurement.apical import share_brighter
from echogen.measurement.segmentation import segment, without_islands
from echogen.measurement.shipped import load_segmenter
from echogen.measurement.view_check import doppler_in_file, other_view, ring
from echogen.records import STRUCTURES, Cine

#: Names of what can be told apart. Views that are not apical (parasternal, subcostal and others) are not told from each other,
#: nor is an apical three- or five-chamber view from the two that are named.
UNSURE, OTHER, DOPPLER_VIEW, NO_ECHO = "A4C or A2C", "no apical view", "colour or tissue Doppler", "no echo"
NAMES = ("A4C", "A2C", UNSURE, OTHER, DOPPLER_VIEW, NO_ECHO)
#: Area of the right chambers over that of the left ventricle from which a view counts as A4C, and up to which as A2C: in
#: simulated A4C views it is at least 0.7, in A2C views 0.
_SHOWN, _NOT_SHOWN = 0.3, 0.1
#: Limits at which pictures are fair instead of good, and poor instead of fair, in the order of `_signs`.
_GOOD, _POOR = np.array([0.9, 0.75, 0.7]), np.array([0.75, 0.6, 0.5])
#: Sentence about each of these signs.
_SENTENCES = (
    "the outlines of the picture and of its mirror image differ",
    "the wall is hardly brighter than the cavity",
    "much of the wall cannot be seen",
)
_FRAMES = 9
_SMOOTHING = 1.5


@dataclass(frozen=True)
class Seen:
    """View and quality of an echo video, as they seem.

    view: One of `NAMES`.
    quality: "good", "fair" or "poor" for measuring; None where nothing is outlined.
    reasons: Phrases that say why the quality is not good.
    """

    view: str
    quality: str | None = None
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: view, quality and reasons."""
        return asdict(self) | {"reasons": list(self.reasons)}


def seen_in(frames: ByteArray) -> Seen:
    """The view and the quality of an apical view, which has passed `other_view`.

    frames: uint8 (T, 128, 128) in the canonical geometry; at most nine of them are looked at, by the shipped reader.
    """
    chosen = _some(frames)
    reader = load_segmenter("reader")
    masks = without_islands(segment(chosen, reader))
    mirrored = without_islands(segment(np.ascontiguousarray(chosen[..., ::-1]), reader))[..., ::-1]
    right = np.isin(masks, (STRUCTURES["rv"], STRUCTURES["ra"])).sum(axis=(1, 2))
    share = float(np.median(right / np.maximum((masks == STRUCTURES["lv"]).sum(axis=(1, 2)), 1)))
    view = "A4C" if share >= _SHOWN else "A2C" if share <= _NOT_SHOWN else UNSURE
    signs = _signs(chosen, masks, mirrored)
    quality = "poor" if (signs < _POOR).any() else "fair" if (signs < _GOOD).any() else "good"
    return Seen(view, quality, tuple(text for text, low in zip(_SENTENCES, signs < _GOOD, strict=True) if low))


def _some(frames: ByteArray) -> ByteArray:
    """At most nine frames, spread over all."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))]


def _signs(frames: ByteArray, masks: ByteArray, mirrored: ByteArray) -> Floats:
    """Three signs of good pictures, each up to 1.

    Dice overlap of the ventricle with that of the mirrored pictures; share of pairs in which the wall's pixel is brighter than
    the cavity's; share of the ventricle's rim that is wall.
    """
    lv, other, wall = masks == STRUCTURES["lv"], mirrored == STRUCTURES["lv"], masks == STRUCTURES["myocardium"]
    smooth = np.stack([ndimage.gaussian_filter(frame.astype(np.float32), _SMOOTHING) for frame in frames])
    return np.array(
        [
            2.0 * (lv & other).sum() / max(1, int(lv.sum() + other.sum())),
            share_brighter(smooth[wall], smooth[lv]),
            np.median([ring(*pair) for pair in zip(lv, wall, strict=True)]),
        ]
    )


def seen_in_file(cine: Cine, path: Path | None = None, fps: float | None = None) -> Seen:
    """The view and quality of any echo video.

    cine: The video. path, fps: Its file, whose colours show Doppler; None for a video in memory.
    """
    try:
        frames = canonical_view(cine.frames).frames(_some(cine.frames))
    except InputError:
        return Seen(NO_ECHO)
    if path is not None and doppler_in_file(path, fps):
        return Seen(DOPPLER_VIEW)
    return Seen(OTHER) if other_view(frames) else seen_in(frames)
