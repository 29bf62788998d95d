"""Chambers of the heart at points of the image: which points lie in the cavities, in the walls, and how far outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from echogen.phantom.anatomy import TRUNCATION, Anatomy, Pose, Shape

#: Height of the base plane below the centre of a truncated ellipse, as a share of its half axis.
CUT = TRUNCATION - 1.0
#: Half width of a truncated ellipse at its base plane, as a share of its half width.
SIN_BASE = math.sqrt(1.0 - CUT**2)


@dataclass(frozen=True)
class HeartPoints:
    """Image points in the frame of the heart, in mm; all tensors (frames, points).

    x: across the long axis, positive towards the lateral wall. z: along the long axis, from the apex to the base.
    up: from the ventricle's centre towards the apex. lateral: True on the lateral side. below: True beyond the base plane.
    cos, sin: of the tilt of the long axis.
    """

    x: Tensor
    z: Tensor
    up: Tensor
    lateral: Tensor
    below: Tensor
    cos: float
    sin: float


@dataclass(frozen=True)
class Ventricle:
    """Left ventricle; tensors (frames, points) unless stated.

    b_side: half width at end-diastole on the side of each point, in mm. mean_b: mean of both sides. b_in, b_out: half width of
    endocardium and epicardium in mm.
    e_in, e_out: distance from the centre as a share of that to the endocardium and to the epicardium.
    depth: in the wall, 0 at the endocardium to 1 at the epicardium. cavity, wall: True there.
    """

    b_side: Tensor
    mean_b: Tensor | float
    b_in: Tensor
    b_out: Tensor
    e_in: Tensor
    e_out: Tensor
    depth: Tensor
    cavity: Tensor
    wall: Tensor


@dataclass(frozen=True)
class Atrium:
    """Left atrium: roof on the long axis in mm, half width in mm (frames, 1), e as of `Ventricle`, cavity True inside."""

    roof: float
    width: Tensor
    e: Tensor
    cavity: Tensor


@dataclass(frozen=True)
class RightHeart:
    """Right ventricle and atrium of a four-chamber view.

    tricuspid: height of the valve's plane in mm (frames, 1). x_rv: of the ventricle's axis in mm. b_rv, b_ra: half widths in mm
    (frames, 1). e_rv, e_ra: as of `Ventricle`. rv, ra: True in the cavities. thin: True in the thin walls.
    """

    tricuspid: Tensor
    x_rv: float
    b_rv: Tensor
    b_ra: Tensor
    e_rv: Tensor
    e_ra: Tensor
    rv: Tensor
    ra: Tensor
    thin: Tensor


def heart_points(anatomy: Anatomy, pose: Pose, x: Tensor, y: Tensor) -> HeartPoints:
    """Bring image points x, y (points,) in mm into the frame of the heart, for every frame of the pose."""
    cos, sin = math.cos(anatomy.tilt), math.sin(anatomy.tilt)
    dx, dy = x[None] - pose.apex_x, y[None] - pose.apex_y
    heart_x, heart_z = dx * cos + dy * sin, dy * cos - dx * sin
    up = pose.z_base - CUT * pose.a - heart_z
    return HeartPoints(heart_x, heart_z, up, heart_x > 0, heart_z > pose.z_base, cos, sin)


def left_ventricle(anatomy: Anatomy, shape: Shape, pose: Pose, at: HeartPoints) -> Ventricle:
    """Locate endocardium, epicardium and the depth in the wall."""
    width = at.x.abs()
    b_side = torch.where(at.lateral, shape.b_lateral, shape.b_septal)
    if anatomy.hypokinesis > 0:
        psi = torch.atan2(width / (b_side - pose.delta), at.up / pose.a)
        signed = torch.where(at.lateral, psi, -psi)
        weight = 1.0 - anatomy.hypokinesis * torch.exp(-0.5 * ((signed - anatomy.segment_psi) / anatomy.segment_width) ** 2)
        b_in = b_side - weight * pose.delta
    else:
        b_in = b_side - pose.delta
    mean_b = 0.5 * (shape.b_lateral + shape.b_septal)
    b_out = pose.b_epi + (b_side - mean_b)
    e_in = torch.sqrt((at.up / pose.a).square() + (width / b_in).square()).clamp_min_(1e-3)
    e_out = torch.sqrt((at.up / pose.a_epi).square() + (width / b_out).square()).clamp_min_(1e-3)
    depth = (1.0 - 1.0 / e_in) / (1.0 / e_out - 1.0 / e_in).clamp_min_(1e-3)
    cavity = (e_in < 1.0) & ~at.below
    wall = (e_in >= 1.0) & (e_out < 1.0) & (at.z < pose.z_base + 3.0)
    return Ventricle(b_side, mean_b, b_in, b_out, e_in, e_out, depth, cavity, wall)


def left_atrium(anatomy: Anatomy, shape: Shape, pose: Pose, at: HeartPoints, wall: Tensor) -> Atrium:
    """Locate the left atrium: its roof stands still, the annulus comes and goes. wall: of the left ventricle."""
    roof = shape.z_base_ed + anatomy.la_length
    a_la = (roof - pose.z_base) / TRUNCATION
    b_la = anatomy.la_width * (1.0 + 0.10 * pose.shorten)
    e_la = torch.sqrt(((at.z - roof + a_la) / a_la).square() + ((at.x - 1.0) / b_la).square())
    return Atrium(roof, b_la, e_la, (e_la < 1.0) & at.below & ~wall)


def right_heart(anatomy: Anatomy, shape: Shape, pose: Pose, at: HeartPoints, lv: Ventricle, la: Atrium) -> RightHeart:
    """Locate the right ventricle and atrium, outside the left ones."""
    tricuspid = shape.z_base_ed - 4.0 - anatomy.tapse * pose.shorten
    rv_apex = (1.0 - anatomy.rv_length) * shape.z_base_ed
    a_rv = (tricuspid - rv_apex) / TRUNCATION
    x_rv = -0.80 * shape.b_epi_ed
    b_rv = (anatomy.rv_width + 0.20 * shape.b_epi_ed) * (1.0 - 0.20 * pose.shorten)
    e_rv = torch.sqrt(((at.z - tricuspid + CUT * a_rv) / a_rv).square() + ((at.x - x_rv) / b_rv).square())
    x_ra = -(anatomy.la_width + anatomy.ra_width + 1.0)
    ra_roof = shape.z_base_ed - 4.0 + anatomy.ra_length
    a_ra = (ra_roof - tricuspid) / TRUNCATION
    b_ra = anatomy.ra_width * (1.0 + 0.10 * pose.shorten)
    e_ra = torch.sqrt(((at.z - ra_roof + a_ra) / a_ra).square() + ((at.x - x_ra) / b_ra).square())
    free = ~lv.cavity & ~lv.wall & ~la.cavity
    rv = (e_rv < 1.0) & (lv.e_out >= 1.0) & (at.z < tricuspid) & ~at.lateral & free
    ra = (e_ra < 1.0) & (at.z >= tricuspid) & free & (la.e > 1.0 + 2.5 / anatomy.la_width)
    thin = (
        free
        & ~rv
        & ~ra
        & ~at.lateral
        & (
            ((e_rv < 1.0 + 4.5 / anatomy.rv_width) & (at.z < tricuspid))
            | ((e_ra < 1.0 + 3.0 / anatomy.ra_width) & (at.z >= tricuspid))
            | ((la.e < 1.0 + 4.0 / anatomy.la_width) & at.below)
        )
    )
    return RightHeart(tricuspid, x_rv, b_rv, b_ra, e_rv, e_ra, rv, ra, thin)
