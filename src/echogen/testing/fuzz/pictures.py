"""Frames that the echo files show, and still or moving pictures of them."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from echogen.arrays import ByteArray
from echogen.records import Cine

FPS = 25.0


@cache
def colour_frames() -> ByteArray:
    """Frames (4, 32, 48, 3) of a moving, tinted texture."""
    rows, columns = np.indices((32, 48))
    grey = [128 + 100 * np.sin((rows + 3 * k) / 5) * np.cos(columns / 7) for k in range(4)]
    return np.stack([np.stack([one, 0.8 * one, 0.6 * one], axis=-1) for one in grey]).astype(np.uint8)


def cine() -> Cine:
    """Grey video of that texture, with its scale in mm and its view."""
    return Cine(colour_frames()[..., 1], np.arange(4) / FPS, 0.4, "A4C")


@cache
def drawn_frames() -> ByteArray:
    """Frames (40, 64, 80, 3) of a fan of texture with an ECG of 75 beats a minute scrolling under it."""
    rows, columns = np.indices((64, 80))
    fan = (np.abs(columns - 40) < 0.7 * rows) & (rows < 45)
    frames = np.zeros((40, 64, 80, 3), np.uint8)
    for frame, time in zip(frames, np.arange(40) / FPS, strict=True):
        frame[:] = ((90 + 60 * np.sin(rows / 5 + 3 * np.sin(6 * time)) * np.cos(columns / 7)) * fan)[..., None]
        phase = (time - np.arange(80)[::-1] / 40) % 0.8 - 0.4
        mv = np.exp(-0.5 * (phase / 0.02) ** 2) - 0.2 * np.exp(-0.5 * ((phase - 0.03) / 0.015) ** 2)
        height = 58 - 13 * (mv + 0.2 * np.exp(-0.5 * ((phase - 0.25) / 0.05) ** 2))
        before = np.concatenate([height[:1], height[:-1]])
        line = (rows >= np.floor(np.minimum(height, before))) & (rows <= np.ceil(np.maximum(height, before)))
        frame[line] = (60, 230, 90)
    return frames


def picture(kind: str, frames: ByteArray, **options: Any) -> bytes:
    """Picture of a format of Pillow's from frames (T, H, W[, 3]); several frames move."""
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(frame) for frame in frames]
    moving: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": 40} if rest else {}
    first.save(stream, kind, **moving, **options)
    return stream.getvalue()
