"""Samples in the canonical picture of their sector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from echogen.arrays import ByteArray, Mask
from echogen.cine.sector import CANONICAL_SIZE, CanonicalView, canonical_view
from echogen.datasets.shards import Sample
from echogen.records import UNLABELLED


def in_canonical_picture(sample: Sample) -> Sample:
    """Sample with its cine and masks in the canonical picture, as training sees them; one without a cine stays as it is.

    The pixel size grows along. Raises `InputError` for a cine that shows no sector.
    """
    cine = sample.cine
    if cine is None or cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        return sample
    view = canonical_view(cine.frames)
    scale = None if cine.mm_per_pixel is None else cine.mm_per_pixel * view.factor
    shown = replace(cine, frames=view.frames(cine.frames), mm_per_pixel=scale)
    return replace(sample, cine=shown, masks=None if sample.masks is None else canonical_masks(view, sample.masks))


def canonical_masks(view: CanonicalView, masks: ByteArray) -> ByteArray:
    """Masks (frames, height, width) in a canonical picture; frames that nobody outlined stay without labels."""
    shown = view.masks(masks)
    shown[~outlined_frames(masks)] = UNLABELLED
    return shown


def outlined_frames(masks: ByteArray) -> Mask:
    """(frames,) True for the frames of masks (frames, height, width) that somebody outlined."""
    outlined: Mask = np.asarray(masks[:, 0, 0] != UNLABELLED)
    return outlined
