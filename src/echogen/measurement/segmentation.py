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
