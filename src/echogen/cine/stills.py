"""First frame of an echo file in the canonical picture."""

from __future__ import annotations

from pathlib import Path

from echogen.arrays import ByteArray
from echogen.cine.reading import read_cine, read_image
from echogen.cine.sector import CANONICAL_SIZE, canonical_view
from echogen.errors import InputError

#: Frames per second under which a video without a frame rate is read: only its pixels count here.
_ANY_FPS = 25.0


def canonical_still(path: str | Path) -> ByteArray:
    """Read the first frame of an echo still or video, (128, 128) uint8 in the canonical picture.

    Where that frame alone does not show its sector, as with much text around it, the sector is that of the whole video.
    Raises `InputError` for a file that cannot be read, or shows no sector.
    """
    frame = read_image(path)
    try:
        view = canonical_view(frame[None], CANONICAL_SIZE)
    except InputError as error:
        try:
            view = canonical_view(read_cine(path, fps=_ANY_FPS).frames, CANONICAL_SIZE)
        except InputError:
            raise error from None
    return view.frames(frame)
