"""Text that is burned into the pixels of a cine, and the picture of the sector alone, without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from echogen.arrays import ByteArray, Floats, Mask
from echogen.cine.sector import find_sector

#: Grey levels by which a letter is brighter than what is around it.
_BRIGHTER = 40
_LEAST_GLYPHS_IN_A_LINE = 4
#: Largest change of grey over time of a pixel that shows a letter: packing changes it a little.
_STILL = 24
#: Fewest frames in which something still can be told from something that moves.
_LEAST_FRAMES = 4
#: Largest share of the sector's pixels that may be still and bright: more of them are a picture that stands still.
_MOST_STILL = 0.1
#: Pixels around a letter that go with it, for its soft edge.
_SOFT_EDGE = 2

Box = tuple[slice, slice]


@dataclass(frozen=True)
class SectorPicture:
    """Picture of a sector with nothing around it.

    frames: Frames (T, height, width, 3) uint8, black outside the sector and where letters stood inside.
    top, left: Place of the frames in the recorded picture, in pixels.
    inside: Pixels (height, width) of the sector.
    letters_beside: True if text seems to have stood beside the sector.
    letters_inside: Number of letters that were blackened inside the sector.
    """

    frames: ByteArray
    top: int
    left: int
    inside: Mask
    letters_beside: bool
    letters_inside: int


def text_boxes(picture: Floats, region: Mask) -> list[Box]:
    """Boxes of bright shapes of the size of letters that stand in lines of four or more.

    picture: Grey levels (height, width) of what stands still.
    region: Pixels (height, width) in which letters are looked for.
    """
    height = picture.shape[0]
    # Letters stand out from what is around them; large bright areas do not.
    wide = max(5, height // 16)
    surround = ndimage.grey_opening(picture, size=(wide, wide))
    labels, count = ndimage.label((picture - surround > _BRIGHTER) & region, structure=np.ones((3, 3)))
    tallest = max(12, height // 14)
    glyphs: list[tuple[int, int, int, Box]] = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels, count), start=1):
        tall, across = rows.stop - rows.start, columns.stop - columns.start
        filled = float((labels[rows, columns] == index).mean())
        if 5 <= tall <= tallest and 2 <= across <= 2 * tall and 0.2 < filled < 0.95:
            glyphs.append((rows.stop, tall, columns.start, (rows, columns)))
    found: dict[tuple[int, int], Box] = {}
    for line, size, start, _ in glyphs:
        like = [
            box
            for bottom, tall, left, box in glyphs
            if abs(bottom - line) <= 2 and abs(tall - size) <= 0.4 * size and 0 <= left - start < 12 * size
        ]
        if len(like) >= _LEAST_GLYPHS_IN_A_LINE:
            found |= {(box[0].start, box[1].start): box for box in like}
    return list(found.values())


def sector_picture(frames: ByteArray) -> SectorPicture:
    """Cut a cine to its sector, black around it and where letters stand still inside it.

    frames: (T, H, W, 3) uint8. All other pixels of the sector stay as they are. In a still, or a cine that stands still, letters
    inside the sector cannot be told from the echo, and stay.
    Raises `InputError` for frames that show no sector.
    """
    grey = frames.max(axis=-1)
    height, width = grey.shape[1:]
    sector = find_sector(grey)
    inside = sector.inside(height, width, margin=1.0)
    lowest, highest = grey.min(axis=0), grey.max(axis=0)
    stands = (highest.astype(int) - lowest < _STILL) & (lowest > _BRIGHTER) & inside
    if len(frames) < _LEAST_FRAMES or stands.sum() > _MOST_STILL * inside.sum():
        stands = np.zeros_like(inside)
    # A line of letters may begin beside the sector and end in it.
    boxes = text_boxes(np.where(stands | ~inside, lowest, 0).astype(np.float64), stands | ~inside)
    letters = [box for box in boxes if inside[box].any()]
    near = sector.inside(height, width, margin=max(2.0, 0.02 * sector.radius))
    beside = any(not near[box].all() for box in boxes)
    kept = inside.copy()
    for rows, columns in letters:
        kept[
            max(0, rows.start - _SOFT_EDGE) : rows.stop + _SOFT_EDGE,
            max(0, columns.start - _SOFT_EDGE) : columns.stop + _SOFT_EDGE,
        ] = False
    rows, columns = ndimage.find_objects(inside.astype(int))[0]
    shown = frames[:, rows, columns] * kept[rows, columns, None]
    return SectorPicture(shown, rows.start, columns.start, inside[rows, columns], beside, len(letters))
