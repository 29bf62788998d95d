"""Leaflets and fibrous rings of the valves at points of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from echogen.phantom.anatomy import Anatomy, Pose, Shape
from echogen.phantom.chambers import SIN_BASE, HeartPoints, RightHeart


def _near_line(x: Tensor, z: Tensor, ax: Tensor, az: Tensor, bx: Tensor, bz: Tensor) -> Tensor:
    """Squared distance of the points to the segments a-b; x, z (frames, points), the rest (frames, 1)."""
    dx, dz = bx - ax, bz - az
    px, pz = x - ax, z - az
    along = ((px * dx + pz * dz) / (dx * dx + dz * dz + 1e-6)).clamp_(0.0, 1.0)
    return (px - along * dx).square_() + (pz - along * dz).square_()


def _valve(
    x: Tensor, z: Tensor, left: Tensor, right: Tensor, plane: Tensor, openness: Tensor, lengths: tuple[float, float], meet: float
) -> Tensor:
    """Squared distance in mm^2 to the two leaflets of a valve between (left, plane) and (right, plane).

    Closed they meet at share `meet` of the opening, 4 mm towards the apex; open their tips hang into the ventricle.
    """
    cx, cz = left + meet * (right - left), plane - 4.0
    nearest: Tensor | None = None
    for hinge, inward, length in ((left, 1.0, lengths[0]), (right, -1.0, lengths[1])):
        tip_x = cx + openness * (hinge + inward * 0.30 * length - cx)
        tip_z = cz + openness * (plane - 0.95 * length - cz)
        mid_x = 0.5 * (hinge + tip_x) + inward * openness * 0.14 * length
        mid_z = 0.5 * (plane + tip_z) + (1.0 - openness) * 1.2
        for part in (_near_line(x, z, hinge, plane, mid_x, mid_z), _near_line(x, z, mid_x, mid_z, tip_x, tip_z)):
            nearest = part if nearest is None else torch.minimum(nearest, part)
    assert nearest is not None
    return nearest


def valves(anatomy: Anatomy, shape: Shape, pose: Pose, at: HeartPoints, right: RightHeart | None) -> tuple[Tensor, Tensor]:
    """Squared distances in mm^2, (frames, points), to the nearest leaflet and to the nearest fibrous ring."""
    hinge_l, hinge_r = -(shape.b_septal - pose.delta) * SIN_BASE, (shape.b_lateral - pose.delta) * SIN_BASE
    lengths = (anatomy.anterior_leaflet, anatomy.posterior_leaflet)
    leaflets = _valve(at.x, at.z, hinge_l, hinge_r, pose.z_base, pose.openness, lengths, 0.60)
    fibrous = torch.minimum(
        (at.x - hinge_l).square() + (at.z - pose.z_base).square(),
        (at.x - hinge_r).square() + (at.z - pose.z_base).square(),
    )
    if right is not None:
        free_wall, septum = right.x_rv - right.b_rv * SIN_BASE, hinge_l - 0.55 * anatomy.wall
        tricuspid = _valve(at.x, at.z, free_wall, septum, right.tricuspid, pose.openness, (18.0, 14.0), 0.5)
        leaflets = torch.minimum(leaflets, tricuspid)
        fibrous = torch.minimum(fibrous, (at.x - free_wall).square() + (at.z - right.tricuspid).square())
    return leaflets, fibrous
