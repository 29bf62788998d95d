"""Pictures between networks and records: a reference frame for a network, and a network's pictures as frames."""

from __future__ import annotations

import torch
from torch import Tensor

from echogen.errors import InputError
from echogen.records import ByteArray, Cine


def as_frames(pictures: Tensor) -> ByteArray:
    """Round pictures (frames, height, width) of grey levels in 0..1 to frames of 0..255 (uint8)."""
    frames: ByteArray = (pictures * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
    return frames


def reference_picture(reference: Cine, height: int, width: int, device: torch.device) -> Tensor:
    """Take the first frame of a reference as a picture (height, width) of grey levels in 0..1.

    Raises `InputError` for a frame of another size.
    """
    image = reference.frames[0]
    if image.shape != (height, width):
        raise InputError(f"The first frame must be {height} x {width} pixels, not {image.shape[0]} x {image.shape[1]}.")
    return torch.from_numpy(image).to(device).float() / 255.0
