"""Settles the wall of a drawn ventricle where the heart's clock expects it: a small, smooth shift of the picture.

Codes keep the place of the wall to a pixel or two, which is several points of ejection fraction. The decoder says which cells are
cavity; where their length and width differ from those expected, the cavity is stretched along and across its long axis from its
apex, and what lies around it follows less and less (`move_wall`). Codes leave a wall's edge blurred, too, the more so in a hazy
picture, and then it seems to move less than it does: where the cavity ends, it is drawn anew (`sharpen_wall`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from echogen.arrays import Floats
from echogen.ecg_window.features import LEAST_AREA_PX2, LENGTH_PER_SPREAD, READ_AREA
from echogen.phantom.texture import blurred

#: Of an ellipse cut at 1.42 semi-axes from its apex: from the centroid to the apex over its length; its width (area over length)
#: over its semi-axis across.
APEX_SHARE, WIDTH_PER_AXIS, LENGTH_PER_AXIS = 0.557, 1.680, 1.42
#: How far what lies around the cavity follows: across its axis in pixels, and along it in lengths, for what lies below and aside.
BESIDE_PX, BELOW, ASIDE = 12.0, 0.6, 0.6
#: The most that a cavity is stretched or shrunk.
LEAST, MOST = 0.7, 1.4
#: An edge: Gaussian widths in pixels of the smoothing of where the cavity ends, and of what counts as beside it; the shares from
#: which a pixel is wall or blood for sure; the least of either nearby that tells its grey level.
OUTLINE_PX, NEAR_PX, SURE_WALL, SURE_BLOOD, LEAST_NEAR = 1.0, 2.0, 0.2, 0.8, 0.02
#: How far from the cavity an edge is drawn from: five widths of both Gaussians, and a pixel.
REACH_PX = 16
#: The covered share at which a picture of the phantom is half blood, half wall, and how steep it is there per share, as fitted to
#: 24 of its hearts. On a logarithmic scale a bright wall outshines the blood beside it, so that it seems to begin in the cavity.
HALF, STEEP = 0.61, 18.0
#: What is brighter than the wall by this grey level (of 1), such as a leaflet, stays as it is; per grey level, how suddenly.
LEAFLET, LEAFLET_STEEP = 0.05, 60.0
#: Frames in which the cavity is at least this share of its widest show its size at end-diastole.
WIDE = 0.93


@dataclass(frozen=True)
class Cavities:
    """The cavity in each frame, in pixels: centre (frames, 2) as (x, y), axis (frames, 2) from apex to base, length, width."""

    centre: Floats
    axis: Floats
    length: Floats
    width: Floats


def find_cavities(cells: Floats, cell_px: float) -> Cavities | None:
    """The cavities that the covered shares (0..1) of square cells (frames, rows, columns) show; None where one is too small."""
    area = cells.sum((1, 2))
    if (area * cell_px**2 < LEAST_AREA_PX2).any():
        return None
    y, x = (np.indices(cells.shape[1:]) + 0.5) * cell_px - 0.5
    share = cells / area[:, None, None]
    centre = np.stack([(share * x).sum((1, 2)), (share * y).sum((1, 2))], axis=-1)
    dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    xx, yy, xy = ((share * product).sum((1, 2)) for product in (dx * dx, dy * dy, dx * dy))
    spread, axes = np.linalg.eigh(np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2))
    axis = axes[:, :, 1]
    axis = axis * np.where(axis[:, 1:] < 0, -1.0, 1.0)
    length = LENGTH_PER_SPREAD * np.sqrt(spread[:, 1])
    return Cavities(centre, axis, length, area * cell_px**2 / (READ_AREA * length))


def cavity_scale(found: Cavities, length: Floats, width: Floats, *, given: bool = False) -> tuple[float, float]:
    """By how much found lengths and widths (frames,) differ from those expected, as factors.

    given: the first frame was given, so that it is what counts; otherwise the frames around end-diastole.
    """
    wide = np.arange(len(width)) < 1 if given else width >= WIDE * width.max()
    return float(np.median(found.length[wide] / length[wide])), float(np.median(found.width[wide] / width[wide]))


def move_wall(
    picture: Tensor, moved: Tensor, cells: Floats, found: Cavities, length: Floats, width: Floats
) -> tuple[Tensor, Tensor, Tensor]:
    """The picture (frames, H, W) and the displacement of its tissue (frames, 2, H, W) with cavities of this length and width.

    Third, how much of each pixel is cavity (frames, H, W). cells: the shares that `found` was found in, as they are drawn.
    length, width: (frames,). All in pixels.
    """
    height, across = picture.shape[1:]
    device = picture.device

    def column(values: Floats | NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)[:, None, None]

    row, col = torch.meshgrid(torch.arange(height, device=device), torch.arange(across, device=device), indexing="ij")
    ux, uy = column(found.axis[:, 0]), column(found.axis[:, 1])
    dx, dy = col - column(found.centre[:, 0]), row - column(found.centre[:, 1])
    old_length, old_axis = column(found.length), column(found.width / WIDTH_PER_AXIS)
    longer, wider = (column(np.clip(new / old, LEAST, MOST)) for new, old in ((length, found.length), (width, found.width)))
    new_length = longer * old_length
    along = dx * ux + dy * uy + APEX_SHARE * old_length
    beside = dx * uy - dy * ux
    below = ((along - new_length) / (BELOW * old_length)).clamp_min(0.0)
    fading = torch.exp(-below.square())
    # Where along the axis what is shown here was drawn.
    source = torch.where(along < new_length, along / longer, along + (old_length - new_length) * fading)
    source = torch.where(along < 0, along, source)
    # The half-width there, before and after.
    semi = old_length / LENGTH_PER_AXIS
    place = (source.clamp_min(0.0).minimum(old_length) / semi - 1.0).clamp(-1.0, 1.0)
    half = old_axis * (1.0 - place.square()).sqrt()
    change = (wider - 1.0) * half * fading
    distance = (beside.abs() - half - change) / BESIDE_PX
    inside = beside * half / (half + change).clamp_min(1e-3)
    outside = beside - beside.sign() * change * torch.exp(-distance.clamp_min(0.0).square())
    across_source = torch.where(distance < 0, inside, outside)
    aside = (beside.abs() - old_axis).clamp_min(0.0) / (ASIDE * old_length)
    step_along, step_across = (source - along) * torch.exp(-aside.square()), across_source - beside
    shift_x = step_along * ux + step_across * uy
    shift_y = step_along * uy - step_across * ux
    grid = torch.stack([(col + shift_x) * 2 / (across - 1) - 1, (row + shift_y) * 2 / (height - 1) - 1], dim=-1)
    shares = torch.as_tensor(cells, dtype=picture.dtype, device=device)
    cavity = F.interpolate(shares[:, None], picture.shape[1:], mode="bilinear")
    both = torch.cat([picture[:, None], moved, cavity], dim=1)
    both = F.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=True)
    tissue = (both[:, 1:3].abs().sum(1, keepdim=True) > 1e-3).float()
    return both[:, 0], both[:, 1:3] + torch.stack([shift_x, shift_y], dim=1) * tissue, both[:, 3]


def sharpen_wall(picture: Tensor, cavity: Tensor) -> Tensor:
    """The picture (frames, H, W) of grey levels 0..1 with a crisp edge where its cavity ends in a brighter wall.

    cavity (frames, H, W): the covered share of each pixel, 0..1.
    """
    if not cavity.any():
        return picture
    rows, cols = (_extent(cavity.amax((0, axis)), cavity.shape[axis]) for axis in (2, 1))
    part, share = picture[:, rows, cols], blurred(cavity[:, rows, cols], OUTLINE_PX)
    blood, wall = (share > SURE_BLOOD).to(part), (share < SURE_WALL).to(part)
    of_blood, near_blood, of_wall, near_wall = blurred(torch.stack([part * blood, blood, part * wall, wall]), NEAR_PX)
    told = (near_blood > LEAST_NEAR) & (near_wall > LEAST_NEAR)
    inner, outer = of_blood / (near_blood + 1e-3), of_wall / (near_wall + 1e-3)
    crisp = outer + (inner - outer) * torch.sigmoid(STEEP * (share - HALF))
    leaflet = torch.sigmoid(LEAFLET_STEEP * (part - outer - LEAFLET))
    weight = 4.0 * share * (1.0 - share) * (1.0 - leaflet)
    whole = picture.clone()
    whole[:, rows, cols] = torch.where(told & (outer > inner), part + weight * (crisp - part), part)
    return whole


def _extent(shown: Tensor, size: int) -> slice:
    """Where something is shown along one side (size,) of the picture, and as far around it as `sharpen_wall` looks."""
    places = torch.nonzero(shown)[:, 0]
    return slice(max(int(places[0]) - REACH_PX, 0), min(int(places[-1]) + REACH_PX + 1, size))
