"""The frames of a still that is carried along: each pixel from its place in the still, its texture as old as its tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from echogen.arrays import ByteArray, Floats, Mask
from echogen.cine.sector import CanonicalView, canonical_view
from echogen.generators.own_pixels.grain import LIMIT, Grain
from echogen.generators.own_pixels.motion import Motion, mirrored, moved
from echogen.records import STRUCTURES

#: Share of its texture that tissue and blood keep for good.
TISSUE_KEEPS, BLOOD_KEEPS = 0.85, 0.3
#: Time in s after the first frame over which the rest turns into other texture.
TURNING_S = 0.05
#: Gaussian width in pixels by which the border between blood and tissue is softened.
BORDER_PX = 1.2
#: Deviations above the blood's usual grey from which something in a cavity moves as tissue does, such as a leaflet.
LEAFLET = 3.0
#: Deviation of a Gaussian variable over the median of its distance from its median.
DEVIATION_PER_MEDIAN = 1.4826
#: Grey level from which a picture is lit, smoothed over so many pixels of the canonical one.
LIT, LIT_PX = 10.0, 0.5
#: Half the widths, in pixels of the canonical picture, of what is too thin to be sector, and of what is dark but part of it.
THIN_PX, CLOSED_PX = 1.5, 6.0
#: Width of the edge of a sector, often dim, in pixels of the canonical picture; it stands still.
RIM_PX = 1.5
#: Chambers that hold blood.
CAVITIES = ("lv", "la", "rv", "ra")
#: Largest gain of fine texture.
MOST_GAIN = 1.2
#: Degree of the spline by which the still is read between its pixels.
SPLINE = 3


@dataclass(frozen=True)
class CarriedStill:
    """A still with all that its later frames are made of.

    still: (height, width) the given frame.
    spline: coefficients of the spline through the given frame, continued beyond its sector.
    rim: (pixels inside) share of the still in each frame: 1 at the edge of the sector, which stays where it is, 0 further inside.
    view: place of its sector. inside: (height, width) True in the lit sector.
    motion: poses of its heart. blood: (1, rows, columns) share of blood in the canonical picture.
    grain: its fine texture.
    """

    still: ByteArray
    spline: NDArray[np.float32]
    rim: Floats
    view: CanonicalView
    inside: Mask
    motion: Motion
    blood: torch.Tensor
    grain: Grain

    @classmethod
    def of(cls, still: ByteArray, masks: ByteArray, seed: int) -> Self:
        """Prepare a still (height, width) with ids of `STRUCTURES` of the same size. Raises `InputError` without a ventricle."""
        view = canonical_view(still)
        inside = lit_sector(still, view)
        ids, small, sector = view.masks(masks), view.frames(still).astype(np.float32), view.masks(inside.astype(np.uint8))
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] / view.factor
        beyond = mirrored(still, depth > RIM_PX)
        spline = ndimage.spline_filter(beyond.astype(np.float32), SPLINE, mode="mirror").astype(np.float32)
        blood = _blood(small, np.isin(ids, [STRUCTURES[name] for name in CAVITIES]))
        own_blood = _to_still(blood, view, still.shape)[0].clip(0.0, 1.0)
        blood = torch.from_numpy(mirrored(blood[0].numpy(), sector.astype(bool)))[None]
        grain = Grain.of(still, own_blood, view, inside, seed)
        rim = np.clip(RIM_PX + 1.0 - depth, 0.0, 1.0)[inside]
        return cls(still, spline, rim, view, inside, Motion.of(ids, sector.astype(bool)), blood, grain)

    def frame(self, contraction: float, time_s: float, age_s: float) -> ByteArray:
        """Draw the frame (height, width) of a contraction. time_s: of the frame; age_s: since the first frame."""
        height, width = self.still.shape
        small = self.motion.shift(contraction)
        shift = _to_still(small, self.view, self.still.shape) * self.view.factor
        rows, columns = np.indices((height, width), dtype=np.float32)
        moving = self.inside
        at = np.stack([rows[moving] + shift[1][moving], columns[moving] + shift[0][moving]])
        carried = ndimage.map_coordinates(self.spline, at, order=SPLINE, prefilter=False, mode="mirror")
        blood = _to_still(moved(self.blood, small), self.view, self.still.shape)[0][moving].clip(0.0, 1.0)
        others = 1.0 - np.exp(-age_s / TURNING_S)
        keeps = 1.0 - others * (1.0 - (TISSUE_KEEPS + (BLOOD_KEEPS - TISSUE_KEEPS) * blood))
        if others > 0:
            coarse, strength = (
                ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in (self.grain.coarse, self.grain.strength)
            )
            own = np.clip(carried - coarse, -LIMIT * strength, LIMIT * strength)
            new = (1.0 - blood) * self.grain.tissue(time_s)[moving] + blood * self.grain.blood(time_s)[moving]
            new /= np.sqrt((1.0 - blood) ** 2 + blood**2)
            carried = carried - (1.0 - keeps) * own + np.sqrt(1.0 - keeps**2) * strength * new
            # What is stretched is blurred; a little gain keeps the frame as crisp as the still.
            fine = carried - coarse
            carried = coarse + fine * np.clip(self.grain.crispness / max(float(fine.std()), 1e-3), 1.0, MOST_GAIN)
        frame = self.still.copy()
        carried += self.rim * (frame[moving] - carried)
        frame[moving] = np.clip(np.round(carried), 0, 255).astype(np.uint8)
        return frame


def lit_sector(still: ByteArray, view: CanonicalView) -> Mask:
    """(height, width) True in the lit part of a still's sector and in what it surrounds; the fan that is found may be wider."""
    fan = view.recorded_masks(view.inside.astype(np.uint8), *still.shape).astype(bool)
    lit = fan & (ndimage.gaussian_filter(still.astype(np.float32), LIT_PX * view.factor) > LIT)
    # Marks beside the sector are thin; what is dark in it is closed from around.
    thin, wide = THIN_PX * view.factor, int(CLOSED_PX * view.factor) + 1
    lit &= _distance(_distance(~lit) > thin) <= thin
    around = np.pad(lit, wide)
    closed = _distance(_distance(around) > CLOSED_PX * view.factor) > CLOSED_PX * view.factor
    filled: Mask = ndimage.binary_fill_holes(closed[wide:-wide, wide:-wide])
    return filled & fan if filled.any() else fan


def _distance(region: Mask) -> Floats:
    """Distance in pixels of each pixel (rows, columns) from a region (True inside); infinite where there is none."""
    if not region.any():
        return np.full(region.shape, np.inf)
    distance: Floats = ndimage.distance_transform_edt(~region)
    return distance


def _to_still(planes: torch.Tensor, view: CanonicalView, shape: tuple[int, ...]) -> Floats:
    """Bring smooth planes (n, rows, columns) of the canonical picture to the still's pixels, (n, height, width)."""
    size = len(view.inside)
    left, top = view.box[:2]
    height, width = shape
    column = ((torch.arange(width) + 0.5 - left) / view.factor - 0.5) * 2 / (size - 1) - 1
    row = ((torch.arange(height) + 0.5 - top) / view.factor - 0.5) * 2 / (size - 1) - 1
    grid = torch.stack([column.expand(height, -1), row[:, None].expand(-1, width)], -1).float()
    values: Floats = F.grid_sample(planes[None], grid[None], mode="bicubic", padding_mode="zeros", align_corners=True)[0].numpy()
    return values


def _blood(small: NDArray[np.float32], cavity: Mask) -> torch.Tensor:
    """(1, rows, columns) share of blood, from the canonical picture and the pixels of cavities."""
    smooth = ndimage.gaussian_filter(small, 1.0)
    grey = smooth[cavity] if cavity.any() else smooth
    usual = float(np.median(grey))
    spread = DEVIATION_PER_MEDIAN * float(np.median(np.abs(grey - usual)))
    bright = np.clip((smooth - usual) / max(LEAFLET * spread, 1.0), 0.0, None)
    share = ndimage.gaussian_filter(cavity.astype(np.float32), BORDER_PX) * np.exp(-(bright**4))
    return torch.from_numpy(share[None].astype(np.float32))
