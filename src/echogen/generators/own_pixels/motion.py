"""Motion of a heart of which one picture is given: a smooth, invertible flow of the picture, as strong as the volume asks for.

Source of the flow: the outlines of the chambers in the still. The base comes to the apex, which hardly moves; the cavity narrows
towards its middle line; the wall moves with it at its inner side and hardly at its outer one, so that it thickens; atria and
right ventricle give way. All lengths are in pixels of the canonical picture of 128 x 128.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from echogen.arrays import ByteArray, Floats, Mask
from echogen.errors import InputError
from echogen.records import STRUCTURES

#: Relative shortening of the long axis per relative narrowing of the cavity: at an EF of 60 % about 15 and 31 %.
SHORTENING_PER_NARROWING = 0.45
#: Share of the narrowing that the annulus takes part in, and the share of the axis from which on it grows less.
ANNULUS, ANNULUS_FROM = 0.7, 0.65
#: Distance, in thicknesses of the wall, over which the inward motion falls to 1 / e from the inner side of the wall outwards, by
#: a Gaussian: inner layers, often dim, move as one with the edge of the cavity, and the wall thickens at its outer side.
WALL_FADING = 1.2
#: Thinnest and thickest wall in pixels that outlines are believed.
THIN_PX, THICK_PX = 4.0, 11.0
#: Distance in pixels over which what lies beside the heart follows the descent of the base less and less.
BESIDE_PX = 9.0
#: Distance in pixels from the far end of the sector over which motion sets in.
FAR_PX = 9.0
#: Distance in pixels from the transducer over which motion sets in: reverberation of the near field stands still.
NEAR_PX = 14.0
#: Narrowing of the right ventricle towards the septum over that of the left one.
RIGHT = 0.5
#: Least length of the left atrium over that of the ventricle, over which the descent of the base fades below it.
ATRIUM, LONGEST_ATRIUM = 0.45, 0.9
#: Gaussian width in pixels by which the flow is smoothed.
SMOOTH_PX = 1.6
#: Distances in pixels that close gaps between outlined chambers, and that the ventricle may lie from its atrium.
CLOSING_PX, CONTACT_PX = 5, 4.0
#: Fewest contacts of ventricle and atrium that tell the mitral plane.
FEWEST_CONTACTS = 4
#: Smallest area of a ventricle, in pixels squared.
LEAST_AREA_PX2 = 200
#: Contractions (natural logarithm of the narrowing) of which the flow is kept, from the widest to the narrowest cavity.
CONTRACTIONS: Floats = np.linspace(-0.8, 1.0, 37)
_STEP = float(CONTRACTIONS[1] - CONTRACTIONS[0])
_STILL = int(np.argmin(np.abs(CONTRACTIONS)))

NO_VENTRICLE = "No left ventricle is outlined in this still, so its pixels cannot be moved; give an apical view."


@dataclass(frozen=True)
class Axis:
    """Long axis of the left ventricle.

    apex, base: (2,) as (x, y), in pixels; the base is the middle of the mitral plane.
    """

    apex: Floats
    base: Floats

    @classmethod
    def of(cls, masks: ByteArray) -> Self:
        """Find the axis in ids of `STRUCTURES` (rows, columns). Raises `InputError` without a left ventricle."""
        ventricle, atrium = masks == STRUCTURES["lv"], masks == STRUCTURES["la"]
        if ventricle.sum() < LEAST_AREA_PX2:
            raise InputError(NO_VENTRICLE)
        points = np.argwhere(ventricle)[:, ::-1].astype(np.float64)
        contacts = np.zeros((0, 2))
        if atrium.any():
            near = ndimage.distance_transform_edt(~atrium)[ventricle] <= CONTACT_PX
            contacts = points[near]
        if len(contacts) >= FEWEST_CONTACTS:
            base = contacts.mean(0)
        else:
            centre = points.mean(0)
            along = np.linalg.eigh(np.cov((points - centre).T))[1][:, -1]
            along = along if along[1] > 0 else -along
            base = centre + along * ((points - centre) @ along).max()
        distance = np.linalg.norm(points - base, axis=1)
        apex = points[distance >= np.quantile(distance, 0.985)].mean(0)
        return cls(apex, base)

    @property
    def length(self) -> float:
        """Length in pixels."""
        return float(np.linalg.norm(self.base - self.apex))

    def coordinates(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the place of pixels along the axis (0 at the apex, 1 at the base), and across it in pixels."""
        ux, uy = (self.base - self.apex) / self.length
        dx, dy = x - self.apex[0], y - self.apex[1]
        return (dx * ux + dy * uy) / self.length, dx * uy - dy * ux


def flow_of(masks: ByteArray, inside: Mask) -> tuple[Axis, Tensor]:
    """Return the axis, and the velocity (2, rows, columns) as (x, y) in pixels per contraction, of a still's tissue.

    masks: (rows, columns) ids of `STRUCTURES`. inside: (rows, columns) True in the sector.
    """
    axis = Axis.of(masks)
    y, x = (np.asarray(index, dtype=np.float64) for index in np.indices(masks.shape))
    along, across = axis.coordinates(x, y)
    lv, wall = masks == STRUCTURES["lv"], masks == STRUCTURES["myocardium"]
    right = masks == STRUCTURES["rv"]
    thickness = _thickness(lv, wall)
    # The middle line of the cavity, by the place along the axis.
    middle = _middle_line(along[lv], across[lv])
    off = across - middle(along)
    distance, (row, col) = ndimage.distance_transform_edt(~lv, return_indices=True)
    fading = np.exp(-((distance / (WALL_FADING * thickness)) ** 2))
    taking_part = 1.0 - (1.0 - ANNULUS) * _ramp((along - ANNULUS_FROM) / (1.0 - ANNULUS_FROM))
    inward = -(off * taking_part)[row, col] * fading
    if right.sum() > LEAST_AREA_PX2 / 2:
        inward = inward + _right_ventricle(right, lv | wall, across, thickness)
    atrium = along[masks == STRUCTURES["la"]]
    roof = float(np.clip(np.quantile(atrium, 0.97) - 1.0, ATRIUM, LONGEST_ATRIUM)) if atrium.size else ATRIUM
    descent = np.clip(along, 0.0, 1.0) * (1.0 - _ramp((along - 1.0) / roof))
    heart = ndimage.binary_closing(np.pad((masks > 0), CLOSING_PX), iterations=CLOSING_PX)[
        CLOSING_PX:-CLOSING_PX, CLOSING_PX:-CLOSING_PX
    ]
    beside = ndimage.distance_transform_edt(~(heart | lv))
    beside = np.maximum(beside - thickness / 2.0, 0.0) / BESIDE_PX
    upward = -SHORTENING_PER_NARROWING * axis.length * descent * np.exp(-(beside**2))
    ux, uy = (axis.base - axis.apex) / axis.length
    velocity = np.stack([upward * ux + inward * uy, upward * uy - inward * ux])
    return axis, torch.from_numpy(ndimage.gaussian_filter(velocity, (0, SMOOTH_PX, SMOOTH_PX)) * _window(inside)).float()


def _thickness(lv: Mask, wall: Mask) -> float:
    """Thickness of the wall in pixels, from its area along the rim of the cavity that it touches."""
    rim = ndimage.binary_dilation(lv, iterations=2) & ~lv & wall
    return float(np.clip(2.0 * wall.sum() / max(int(rim.sum()), 1), THIN_PX, THICK_PX))


def _middle_line(along: Floats, across: Floats) -> Callable[[Floats], Floats]:
    """Function from the place along the axis to the middle of the cavity across it, smooth and constant beyond its ends."""
    edges = np.linspace(0.0, 1.0, 13)
    places = (edges[:-1] + edges[1:]) / 2
    index = np.clip(np.digitize(along, edges) - 1, 0, len(places) - 1)
    count = np.bincount(index, minlength=len(places))
    known = count > 0
    mean = np.bincount(index, weights=across, minlength=len(places))[known] / count[known]
    smooth = ndimage.gaussian_filter1d(mean, 1.5, mode="nearest")
    return lambda at: np.asarray(np.interp(at, places[known], smooth))


def _right_ventricle(right: Mask, left: Mask, across: Floats, thickness: float) -> Floats:
    """Speed across the axis by which the free wall of the right ventricle comes to the septum."""
    to_septum, (row, col) = ndimage.distance_transform_edt(~left, return_indices=True)
    towards = np.sign(across[row, col] - across)
    distance, (row, col) = ndimage.distance_transform_edt(~right, return_indices=True)
    speed = RIGHT * to_septum * towards
    return np.where(left, 0.0, speed[row, col] * np.exp(-distance / thickness))


def _ramp(value: Floats) -> Floats:
    """0 up to 0, 1 from 1 on, smooth between."""
    share = np.clip(value, 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _window(inside: Mask) -> Floats:
    """(rows, columns) share of motion: 0 at the transducer and at the far end of the sector; its sides let tissue in and out."""
    rows = np.nonzero(inside.any(1))[0]
    columns = np.nonzero(inside[rows[0]])[0]
    y, x = np.indices(inside.shape)
    depth = np.hypot(y - rows[0], x - columns.mean())
    return _ramp(depth / NEAR_PX) * _ramp((depth[inside].max() - depth) / FAR_PX)


@dataclass(frozen=True)
class Motion:
    """Poses of a still's heart over its contraction.

    shifts: (contractions, 2, rows, columns) from each pixel of a posed picture to its place in the still, in pixels.
    volumes: (contractions,) volume of the cavity over that in the still, falling.
    """

    shifts: Tensor
    volumes: Floats

    @classmethod
    def of(cls, masks: ByteArray, inside: Mask) -> Self:
        """Make the poses from ids of `STRUCTURES` (rows, columns) and the sector (True inside)."""
        axis, velocity = flow_of(masks, inside)
        step = _small_flow(-_STEP * velocity), _small_flow(_STEP * velocity)
        shifts = torch.zeros(len(CONTRACTIONS), *velocity.shape)
        for direction, small in ((1, step[0]), (-1, step[1])):
            end = len(CONTRACTIONS) if direction > 0 else -1
            for index in range(_STILL + direction, end, direction):
                # Back by the last step, then by all before it.
                shifts[index] = small + moved(shifts[index - direction], small)
        lv = torch.from_numpy(mirrored(masks == STRUCTURES["lv"], inside)).float()[None]
        areas = np.array([float(moved(lv, shift)[0][torch.from_numpy(inside)].sum()) for shift in shifts])
        ends = np.stack([axis.apex, axis.base])
        volumes = areas**2 / _lengths(ends, velocity)
        return cls(shifts, volumes / volumes[_STILL])

    def contraction(self, volumes: Floats) -> Floats:
        """Return the contractions (times,) at which the cavity has these volumes (times,) over that in the still."""
        return np.interp(-np.log(np.maximum(volumes, 1e-3)), -np.log(self.volumes), CONTRACTIONS)

    def volume(self, contraction: float) -> float:
        """Return the volume of the cavity over that in the still at a contraction."""
        return float(np.interp(contraction, CONTRACTIONS, self.volumes))

    def shift(self, contraction: float) -> Tensor:
        """Return the way (2, rows, columns) from each pixel of the posed picture to its place in the still, in pixels."""
        place = float(np.clip((contraction - CONTRACTIONS[0]) / _STEP, 0, len(CONTRACTIONS) - 1))
        low = min(int(place), len(CONTRACTIONS) - 2)
        return torch.lerp(self.shifts[low], self.shifts[low + 1], place - low)


def mirrored(picture: NDArray[Any], inside: Mask) -> NDArray[Any]:
    """Continue a picture (rows, columns) beyond a region (True inside) by its mirror image."""
    rows, columns = picture.shape
    (y, x), (row, col) = np.indices(picture.shape), ndimage.distance_transform_edt(~inside, return_indices=True)[1]
    behind = np.clip(2 * row - y, 0, rows - 1), np.clip(2 * col - x, 0, columns - 1)
    there = inside[behind]
    return np.where(inside, picture, np.where(there, picture[behind], picture[row, col]))


def _small_flow(velocity: Tensor, halvings: int = 4) -> Tensor:
    """Return the displacement (2, rows, columns) after a unit of time by scaling and squaring."""
    shift = velocity / 2**halvings
    for _ in range(halvings):
        shift = shift + moved(shift, shift)
    return shift


def moved(planes: Tensor, shift: Tensor) -> Tensor:
    """Read planes (n, rows, columns) at each pixel's place after a shift (2, rows, columns) in pixels."""
    rows, columns = planes.shape[-2:]
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    grid = torch.stack([(col + shift[0]) * 2 / (columns - 1) - 1, (row + shift[1]) * 2 / (rows - 1) - 1], -1)
    return F.grid_sample(planes[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)[0]


def _lengths(ends: Floats, velocity: Tensor, parts: int = 4) -> Floats:
    """(contractions,) distance of two points (2, 2) as (x, y) that the flow carries."""
    field: NDArray[np.float32] = velocity.numpy()
    lengths = np.empty(len(CONTRACTIONS))
    for direction, stop in ((1, len(CONTRACTIONS)), (-1, -1)):
        points = ends.copy()
        for index in range(_STILL, stop, direction):
            lengths[index] = np.linalg.norm(points[1] - points[0])
            for _ in range(parts):
                at = points[:, ::-1].T
                speed = np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in field], -1)
                points = points + direction * _STEP / parts * speed
    return lengths
