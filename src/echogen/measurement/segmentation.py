"""Segmentation of an echo video: the chamber at each pixel."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from echogen.arrays import ByteArray
from echogen.networks.segmenter import Segmenter, with_neighbours
from echogen.records import STRUCTURES

_LV, _BACKGROUND = STRUCTURES["lv"], STRUCTURES["background"]
#: In an order in which what others are judged by comes first.
_CHAMBERS = ("lv", "myocardium", "la", "rv", "ra")
#: Most pixels from the left ventricle to the wall around it and to the atrium behind its valve, and from the left heart to the
#: right chambers.
_GAPS = {"myocardium": 2, "la": 5, "rv": 5, "ra": 5}
_RIGHT, _LEFT = ("rv", "ra"), [STRUCTURES[name] for name in ("lv", "myocardium", "la")]


@torch.inference_mode()
def segment(cine_frames: ByteArray, segmenter: Segmenter, batch: int = 16) -> ByteArray:
    """The chambers in every frame, with the left ventricle in one piece and without holes.

    cine_frames: (T, 128, 128) uint8 in the canonical geometry. batch: frames at a time, which bounds the memory.
    Returns (T, 128, 128) uint8 with the ids of `STRUCTURES`. Runs where the segmenter's weights are.
    """
    weight = next(segmenter.parameters())
    segmenter = segmenter.eval()
    masks = np.empty(cine_frames.shape, dtype=np.uint8)
    for first in range(0, len(cine_frames), batch):
        # One frame more on either side, so that every frame of the batch has its neighbours.
        start, stop = max(first - 1, 0), min(first + batch + 1, len(cine_frames))
        frames = torch.from_numpy(np.ascontiguousarray(cine_frames[start:stop])).to(weight.device)
        triples = with_neighbours(frames.to(weight.dtype) / 255.0)[first - start : first - start + batch]
        logits = segmenter(triples.contiguous(memory_format=torch.channels_last))
        masks[first : first + batch] = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
    for mask in masks:
        _tidy_ventricle(mask)
    return masks


def _tidy_ventricle(mask: NDArray[np.uint8]) -> None:
    """Keep the largest connected part of the left ventricle and fill its holes, in place."""
    ventricle = mask == _LV
    labels, count = ndimage.label(ventricle)
    if count == 0:
        return
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    mask[ventricle & ~largest] = _BACKGROUND
    mask[ndimage.binary_fill_holes(largest)] = _LV


def without_islands(masks: ByteArray) -> ByteArray:
    """The chambers without the islands of them that lie elsewhere in the picture.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`. Returns a copy. Of the wall stay all parts that lie against the left
    ventricle, of the left atrium the largest part behind its valve, or the largest of all where none lies there; of the right
    chambers the largest part beside the left heart, or none. The hole that an island leaves in a chamber is filled.
    """
    masks = masks.copy()
    for mask in masks:
        removed = np.zeros(mask.shape, dtype=bool)
        for name in _CHAMBERS:
            islands = _islands(mask, name)
            mask[islands] = _BACKGROUND
            removed |= islands
        if removed.any():
            for name in _CHAMBERS:
                holes = ndimage.binary_fill_holes(mask == STRUCTURES[name]) & removed & (mask == _BACKGROUND)
                mask[holes] = STRUCTURES[name]
    return masks


def _islands(mask: NDArray[np.uint8], name: str) -> NDArray[np.bool_]:
    """Pixels (H, W) of a chamber's islands in one mask."""
    parts, count = ndimage.label(mask == STRUCTURES[name])
    right = name in _RIGHT
    if count == 0 or (count == 1 and not right):
        return np.zeros(mask.shape, dtype=bool)
    near = np.zeros(0, dtype=np.int64)
    if name in _GAPS:
        neighbour = np.isin(mask, _LEFT) if right else mask == _LV
        near = np.unique(parts[ndimage.binary_dilation(neighbour, iterations=_GAPS[name])])
        near = near[near > 0]
    if right and not len(near):
        return np.asarray(parts > 0)
    if name == "myocardium" and len(near):
        return np.asarray((parts > 0) & ~np.isin(parts, near))
    sizes = np.bincount(parts.ravel())
    candidates = near if len(near) else np.arange(1, count + 1)
    return np.asarray((parts > 0) & (parts != candidates[np.argmax(sizes[candidates])]))
