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
_RIGHT = ("rv", "ra")
#: True by structure for those of the left heart.
_IS_LEFT = np.isin(np.arange(256), [STRUCTURES[name] for name in ("lv", "myocardium", "la")])
#: Neighbours of a pixel in its frame.
_CROSS = ndimage.generate_binary_structure(2, 1)


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
    removed = np.zeros(masks.shape, dtype=bool)
    for name in _CHAMBERS:
        islands = _islands(masks, name)
        masks[islands] = _BACKGROUND
        removed |= islands
    for index in np.flatnonzero(removed.any(axis=(1, 2))):
        mask = masks[index]
        for name in _CHAMBERS:
            holes = ndimage.binary_fill_holes(mask == STRUCTURES[name]) & removed[index] & (mask == _BACKGROUND)
            mask[holes] = STRUCTURES[name]
    return masks


def _islands(masks: ByteArray, name: str) -> NDArray[np.bool_]:
    """Pixels (T, H, W) of a chamber's islands; all frames at once, since each call of ndimage costs more than its pixels."""
    within_frame = np.stack([np.zeros((3, 3), bool), _CROSS, np.zeros((3, 3), bool)])
    parts, count = ndimage.label(masks == STRUCTURES[name], structure=within_frame)
    right = name in _RIGHT
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    frame_of = np.zeros(count + 1, dtype=np.int64)
    found = np.nonzero(parts)
    frame_of[parts[found]] = found[0]
    if not count or (not right and len(np.unique(frame_of[1:])) == count):
        return np.zeros(masks.shape, dtype=bool)
    near = np.zeros(count + 1, dtype=bool)
    if name in _GAPS:
        beside = _IS_LEFT[masks] if right else masks == _LV
        near[parts[ndimage.binary_dilation(beside, structure=within_frame, iterations=_GAPS[name])]] = True
        near[0] = False
    has_near = np.zeros(len(masks), dtype=bool)
    has_near[frame_of[near]] = True
    kept = near.copy() if name == "myocardium" else np.zeros(count + 1, dtype=bool)
    largest: dict[int, int] = {}
    for part in range(1, count + 1):
        frame = int(frame_of[part])
        candidate = near[part] or not (right or has_near[frame])
        if candidate and sizes[part] > sizes[largest.get(frame, 0)] * (frame in largest):
            largest[frame] = part
    kept[list(largest.values())] = True
    kept[0] = True
    return np.asarray(~kept[parts])
