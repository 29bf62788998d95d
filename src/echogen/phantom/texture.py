"""Texture of a given frame beyond its drawn structure, carried along by the tissue from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

#: Gaussian widths in pixels: of what a displacement is averaged over; of what counts as structure rather than speckle, in tissue
#: and in blood, whose speckle is not to be taken along.
MOTION_PX, COARSE_PX, BLOOD_PX = 3.0, 1.5, 6.0
#: Grey levels (of 1) by which tissue may differ from what was drawn and still be the same tissue.
OFF_PLACE = 0.15
#: A pixel lies at the side of the sector where less than this share of what is around it does.
FADING = 0.99
#: A displacement below this many pixels is that of blood, which has none.
_STILL_PX = 0.3
#: Number of corrections of the way back to the given frame.
_CORRECTIONS = 4


def blurred(planes: Tensor, sigma_px: float) -> Tensor:
    """(..., H, W) through a Gaussian; what lies beyond the border is 0."""

    def bell(size: int) -> Tensor:
        index = torch.arange(size, device=planes.device, dtype=planes.dtype)
        distance = (index[:, None] - index[None]).abs() / sigma_px
        # Far tails would be denormal numbers, with which a processor computes many times as slowly.
        weights = torch.exp(-0.5 * distance.square()) * (distance < 5.0)
        return weights / (sigma_px * (2.0 * torch.pi) ** 0.5)

    height, width = planes.shape[-2:]
    # Two plain products: batches of small ones are slow on a processor.
    along = (planes.reshape(-1, width) @ bell(width)).view(-1, height, width).transpose(1, 2)
    return (along.reshape(-1, height) @ bell(height)).view(-1, width, height).transpose(1, 2).reshape(planes.shape)


def smooth_motion(displacement_px: Tensor) -> Tensor:
    """A drawn displacement (frames, 2, H, W) averaged over neighbouring tissue; blood follows its wall."""
    tissue = (displacement_px.abs().amax(1, keepdim=True) > _STILL_PX).to(displacement_px.dtype) + 1e-3
    return blurred(displacement_px * tissue, MOTION_PX) / blurred(tissue, MOTION_PX).clamp_min(1e-6)


def mean_over(region: Tensor, picture: Tensor, sigma_px: float) -> Tensor:
    """The mean of a picture (..., H, W) over a region (..., H, W; 0..1), so that nothing beside it leaks in; 0 far from it."""
    both = blurred(torch.stack([picture * region, region]), sigma_px)
    return both[0] / (both[1] + 1e-3)


def coarse_part(lacking: Tensor, tissue: Tensor, inside: Tensor, tissue_px: float = COARSE_PX) -> Tensor:
    """Return the part of a picture (H, W) that is no speckle; tissue: (H, W) 0..1; inside: (H, W) bool, its sector.

    tissue_px: width of the Gaussian in tissue.
    """
    blood = 1.0 - tissue
    means = mean_over(tissue * inside, lacking, tissue_px), mean_over(blood * inside, lacking, BLOOD_PX)
    return tissue * means[0] + blood * means[1]


@dataclass(frozen=True)
class Texture:
    """Texture of a frame beyond its structure, and the place of its tissue at end-diastole.

    coarse, fine: grey levels (H, W), of structure and of speckle; tissue: (H, W) 0..1; moved: (2, H, W) in pixels, smooth.
    """

    coarse: Tensor
    fine: Tensor
    tissue: Tensor
    moved: Tensor

    @classmethod
    def of(
        cls,
        frame: Tensor,
        structure: Tensor,
        displacement_px: Tensor,
        tissue: Tensor,
        inside: Tensor,
        speckle: Tensor | None = None,
    ) -> Self:
        """Take the texture of a frame (H, W) of known structure (H, W), displacement (2, H, W), tissue (H, W) and sector (bool).

        speckle (H, W): such as will be added; where it makes a picture brighter on the whole, the frame has that already.
        """
        lacking = frame - structure
        coarse = coarse_part(lacking, tissue, inside)
        if speckle is not None:
            coarse = coarse - coarse_part(speckle, tissue, inside, BLOOD_PX)
        # Where so much is lacking, something that moves on its own, such as a leaflet, was drawn elsewhere; but at its sides a
        # drawn sector only fades.
        side = blurred(inside.to(tissue), MOTION_PX) < FADING
        tissue = tissue * torch.where(side, 1.0, torch.exp(-(coarse / OFF_PLACE).square()))
        return cls(coarse, lacking - coarse, tissue, smooth_motion(displacement_px[None])[0])

    def at(self, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """coarse, fine and tissue, (frames, H, W) each, where a smooth displacement (frames, 2, H, W) in pixels carries them."""
        height, width = moved.shape[-2:]
        row, col = torch.meshgrid(
            torch.arange(height, device=moved.device), torch.arange(width, device=moved.device), indexing="ij"
        )
        half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=moved.device)
        # In the given frame the same tissue lies where place + displacement there = where it was at end-diastole.
        then = torch.stack([col, row])[None] + moved

        def read(planes: Tensor, place: Tensor, mode: str = "bilinear") -> Tensor:
            grid = place.permute(0, 2, 3, 1) / half - 1.0
            stacked = planes[None].expand(len(place), -1, -1, -1)
            return F.grid_sample(stacked, grid, mode=mode, padding_mode="border", align_corners=True)

        place = then - self.moved
        for _ in range(_CORRECTIONS):
            place = then - read(self.moved, place)
        carried = read(torch.stack([self.coarse, self.fine, self.tissue]), place, "bicubic")
        return carried[:, 0], carried[:, 1], carried[:, 2].clamp(0.0, 1.0)
