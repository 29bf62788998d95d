"""Correction of the wall of a drawn ventricle: it is moved to the expected outline and its edge drawn crisp.

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
from torch import Tensor

from echogen.arrays import Floats
from echogen.ecg_window.outline import LEAST_AREA_PX2, LENGTH_PER_SPREAD, READ_AREA
from echogen.phantom.texture import blurred

#: Length of an ellipse cut at its base over its semi-axis; the ventricle of the phantom is cut at 1.42 semi-axes from its apex.
LENGTH_PER_AXIS = 1.42
#: Distance from the centroid of that cut ellipse to its apex, over its length.
APEX_SHARE = 0.557
#: Width (area over length) of that cut ellipse over its semi-axis across.
WIDTH_PER_AXIS = 1.680
#: Distance in pixels across the axis over which tissue beside the cavity follows less and less: about a wall's thickness.
BESIDE_PX = 12.0
#: Distance, in lengths of the cavity, over which what lies below the base follows less and less.
BELOW = 0.6
#: Distance, in lengths of the cavity, over which what lies aside of the cavity follows less and less along the axis.
ASIDE = 0.6
#: Smallest factor by which a cavity is shrunk; cells that ask for more are wrong.
LEAST = 0.7
#: Largest factor by which a cavity is stretched; cells that ask for more are wrong.
MOST = 1.4
#: Gaussian width in pixels by which the end of the cavity is smoothed, as the phantom's edge is.
OUTLINE_PX = 1.0
#: Gaussian width in pixels of the neighbourhood that tells the grey level of blood and wall beside an edge.
NEAR_PX = 2.0
#: Share of cavity below which a pixel is wall for sure.
SURE_WALL = 0.2
#: Share of cavity above which a pixel is blood for sure.
SURE_BLOOD = 0.8
#: Least share of a neighbourhood that must be sure blood, or sure wall, to tell its grey level.
LEAST_NEAR = 0.02
#: Distance in pixels from the cavity up to which an edge is drawn: five widths of both Gaussians, and a pixel.
REACH_PX = 16
#: Share of cavity at which a picture of the phantom is half blood, half wall, fitted to 24 of its hearts. On a logarithmic scale
#: a bright wall outshines the blood beside it, so that it seems to begin in the cavity.
HALF = 0.61
#: Steepness of the edge there, per share of cavity, of the same fit.
STEEP = 18.0
#: Grey level (of 1) by which something must be brighter than the wall to stay as it is, such as a leaflet.
LEAFLET = 0.05
#: Steepness of that decision, per grey level.
LEAFLET_STEEP = 60.0
#: Share of the widest cavity above which a frame shows the size at end-diastole.
WIDE = 0.93


@dataclass(frozen=True)
class Cavities:
    """The cavity in each frame of a video.

    centre: (frames, 2) centroid as (x, y), in pixels.
    axis: (frames, 2) unit vector from apex to base as (x, y).
    length: (frames,) length along the axis, in pixels.
    width: (frames,) area over length, in pixels.
    """

    centre: Floats
    axis: Floats
    length: Floats
    width: Floats


def find_cavities(cells: Floats, cell_px: float) -> Cavities | None:
    """Find the cavity in every frame from the covered shares (0..1) of square cells (frames, rows, columns).

    cell_px: side of a cell in pixels. None where a frame shows less than `LEAST_AREA_PX2`.
    """
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


def cavity_share(cells: Floats, picture: Tensor) -> Tensor:
    """(frames, height, width) share of each pixel of a picture that is cavity, from shares of cells (frames, rows, columns)."""
    shares = torch.as_tensor(cells, dtype=picture.dtype, device=picture.device)
    return F.interpolate(shares[:, None], picture.shape[1:], mode="bilinear")[:, 0]


def cavity_scale(found: Cavities, length: Floats, width: Floats, *, given: bool = False) -> tuple[float, float]:
    """Factors from expected to found lengths and widths (frames,).

    given: only the first frame counts, since it was given; otherwise the frames around end-diastole do.
    """
    wide = np.arange(len(width)) < 1 if given else width >= WIDE * width.max()
    return float(np.median(found.length[wide] / length[wide])), float(np.median(found.width[wide] / width[wide]))


def move_wall(
    picture: Tensor, displacement: Tensor, cavity: Tensor, found: Cavities, length: Floats, width: Floats
) -> tuple[Tensor, Tensor, Tensor]:
    """Stretch the cavities that were found to a length and width (frames,) in pixels.

    picture: (frames, height, width) grey levels. displacement: (frames, 2, height, width) movement of its tissue, in pixels.
    cavity: (frames, height, width) share of each pixel that is cavity. Returns the three as they are afterwards.
    """
    height, across = picture.shape[1:]
    device = picture.device

    def column(values: Floats) -> Tensor:
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
    # Place along the axis from which each pixel is taken.
    source = torch.where(along < new_length, along / longer, along + (old_length - new_length) * fading)
    source = torch.where(along < 0, along, source)
    # Half-width of the cavity at that place, before and after.
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
    planes = torch.cat([picture[:, None], displacement, cavity[:, None]], dim=1)
    planes = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=True)
    tissue = (planes[:, 1:3].abs().sum(1, keepdim=True) > 1e-3).float()
    return planes[:, 0], planes[:, 1:3] + torch.stack([shift_x, shift_y], dim=1) * tissue, planes[:, 3]


def sharpen_wall(picture: Tensor, cavity: Tensor) -> Tensor:
    """Draw a crisp edge in a picture (frames, height, width) of grey levels 0..1 where its cavity ends in a brighter wall.

    cavity: (frames, height, width) share of each pixel that is cavity, 0..1.
    """
    if not cavity.any():
        return picture
    rows, cols = (_extent(cavity.amax((0, axis)), cavity.shape[axis]) for axis in (2, 1))
    part, share = picture[:, rows, cols], blurred(cavity[:, rows, cols], OUTLINE_PX)
    blood, wall = (share > SURE_BLOOD).to(part), (share < SURE_WALL).to(part)
    of_blood, near_blood, of_wall, near_wall = blurred(torch.stack([part * blood, blood, part * wall, wall]), NEAR_PX)
    known = (near_blood > LEAST_NEAR) & (near_wall > LEAST_NEAR)
    inner, outer = of_blood / (near_blood + 1e-3), of_wall / (near_wall + 1e-3)
    crisp = outer + (inner - outer) * torch.sigmoid(STEEP * (share - HALF))
    leaflet = torch.sigmoid(LEAFLET_STEEP * (part - outer - LEAFLET))
    weight = 4.0 * share * (1.0 - share) * (1.0 - leaflet)
    whole = picture.clone()
    whole[:, rows, cols] = torch.where(known & (outer > inner), part + weight * (crisp - part), part)
    return whole


def _extent(present: Tensor, size: int) -> slice:
    """Range of one side (size,) of a picture that shows something, with `REACH_PX` around it."""
    places = torch.nonzero(present)[:, 0]
    return slice(max(int(places[0]) - REACH_PX, 0), min(int(places[-1]) + REACH_PX + 1, size))
