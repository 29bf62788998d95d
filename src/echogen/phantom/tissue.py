"""Tissue at each point of the image: structure, echogenicity, and the place of that tissue in the reference heart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from echogen.phantom.anatomy import TRUNCATION, Anatomy, Pose, Shape
from echogen.phantom.details import Details
from echogen.records import STRUCTURES

_CUT = TRUNCATION - 1.0
_SIN_BASE = math.sqrt(1.0 - _CUT**2)


@dataclass(frozen=True)
class Levels:
    """Mean echogenicity of each tissue in dB (0 is the brightest), and how it changes with the angle to the beam.

    anisotropy: dB lost where a wall runs along the beam. border: dB gained at the endocardium hit head-on.
    fade_per_mm: dB lost per mm outside the heart.
    """

    blood: float = -44.0
    myocardium: float = -16.0
    atrial_wall: float = -15.0
    pericardium: float = -9.0
    leaflet: float = -7.0
    annulus: float = -7.0
    outside: float = -20.0
    fade_per_mm: float = 0.7
    anisotropy: float = 9.0
    border: float = 5.0


@dataclass(frozen=True)
class Tissue:
    """Tissue at each point; all tensors (frames, points).

    label: uint8 ids of `records.STRUCTURES`. level_db: mean echogenicity in dB. reference_x, reference_y: where the tissue
    at this point lies in the reference (end-diastolic) heart, image frame, in mm; the point itself where nothing moves.
    blood: 1 in blood, 0 in tissue.
    """

    label: Tensor
    level_db: Tensor
    reference_x: Tensor
    reference_y: Tensor
    blood: Tensor


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


def _trabeculated(level: Tensor, lv: Tensor, angle: Tensor, e_in: Tensor, muscle: Tensor, details: Details) -> Tensor:
    """Echogenicity with trabeculae: ridges that reach from the wall into the cavity, most of them near the apex."""
    first, second, third = details.trabecular_phases
    ridges = torch.sin(9.0 * angle + first) + torch.sin(17.0 * angle + second) + 0.7 * torch.sin(29.0 * angle + third)
    reach = details.trabeculae * (0.35 + 0.65 * torch.cos(0.5 * angle).square()) * (0.5 + 0.25 * ridges).clamp(0.0, 1.0)
    inward = (1.0 - e_in) / reach.clamp_min(1e-3)
    ridge = torch.maximum(muscle - 3.0 - 8.0 * inward.square(), level)
    return torch.where(lv & (inward < 1.0), ridge, level)


def locate_tissue(
    anatomy: Anatomy, shape: Shape, pose: Pose, x: Tensor, y: Tensor, levels: Levels, details: Details = Details()
) -> Tissue:
    """The tissue at the image points x, y (points,) in mm for every frame of the pose."""
    cos, sin = math.cos(anatomy.tilt), math.sin(anatomy.tilt)
    dx, dy = x[None] - pose.apex_x, y[None] - pose.apex_y
    heart_x, heart_z = dx * cos + dy * sin, dy * cos - dx * sin
    lateral = heart_x > 0
    width = heart_x.abs()
    centre = pose.z_base - _CUT * pose.a
    up = centre - heart_z

    # Left ventricle: endocardium, epicardium and the depth in the wall (0 inside .. 1 outside).
    b_side = torch.where(lateral, shape.b_lateral, shape.b_septal)
    if anatomy.hypokinesis > 0:
        psi = torch.atan2(width / (b_side - pose.delta), up / pose.a)
        signed = torch.where(lateral, psi, -psi)
        weight = 1.0 - anatomy.hypokinesis * torch.exp(-0.5 * ((signed - anatomy.segment_psi) / anatomy.segment_width) ** 2)
        b_in = b_side - weight * pose.delta
    else:
        b_in = b_side - pose.delta
    mean_b = 0.5 * (shape.b_lateral + shape.b_septal)
    b_out = pose.b_epi + (b_side - mean_b)
    e_in = torch.sqrt((up / pose.a).square() + (width / b_in).square()).clamp_min_(1e-3)
    e_out = torch.sqrt((up / pose.a_epi).square() + (width / b_out).square()).clamp_min_(1e-3)
    depth = (1.0 - 1.0 / e_in) / (1.0 / e_out - 1.0 / e_in).clamp_min_(1e-3)
    below = heart_z > pose.z_base
    lv = (e_in < 1.0) & ~below
    wall = (e_in >= 1.0) & (e_out < 1.0) & (heart_z < pose.z_base + 3.0)

    # Left atrium: its roof stands still, the annulus comes and goes.
    roof = shape.z_base_ed + anatomy.la_length
    a_la = (roof - pose.z_base) / TRUNCATION
    b_la = anatomy.la_width * (1.0 + 0.10 * pose.shorten)
    e_la = torch.sqrt(((heart_z - roof + a_la) / a_la).square() + ((heart_x - 1.0) / b_la).square())
    la = (e_la < 1.0) & below & ~wall
    outward = torch.minimum((e_out - 1.0) * pose.b_epi, (e_la - 1.0) * b_la)
    thin = (e_la >= 1.0) & (e_la < 1.0 + 3.0 / anatomy.la_width) & below

    rv = ra = torch.zeros_like(lv)
    if anatomy.view == "A4C":
        tricuspid = shape.z_base_ed - 4.0 - anatomy.tapse * pose.shorten
        rv_apex = (1.0 - anatomy.rv_length) * shape.z_base_ed
        a_rv = (tricuspid - rv_apex) / TRUNCATION
        x_rv = -0.80 * shape.b_epi_ed
        b_rv = (anatomy.rv_width + 0.20 * shape.b_epi_ed) * (1.0 - 0.20 * pose.shorten)
        e_rv = torch.sqrt(((heart_z - tricuspid + _CUT * a_rv) / a_rv).square() + ((heart_x - x_rv) / b_rv).square())
        x_ra = -(anatomy.la_width + anatomy.ra_width + 1.0)
        ra_roof = shape.z_base_ed - 4.0 + anatomy.ra_length
        a_ra = (ra_roof - tricuspid) / TRUNCATION
        b_ra = anatomy.ra_width * (1.0 + 0.10 * pose.shorten)
        e_ra = torch.sqrt(((heart_z - ra_roof + a_ra) / a_ra).square() + ((heart_x - x_ra) / b_ra).square())
        free = ~lv & ~wall & ~la
        rv = (e_rv < 1.0) & (e_out >= 1.0) & (heart_z < tricuspid) & ~lateral & free
        ra = (e_ra < 1.0) & (heart_z >= tricuspid) & free & (e_la > 1.0 + 2.5 / anatomy.la_width)
        open_space = free & ~rv & ~ra
        thin = thin | (
            open_space
            & ~lateral
            & (
                ((e_rv < 1.0 + 4.5 / anatomy.rv_width) & (heart_z < tricuspid))
                | ((e_ra < 1.0 + 3.0 / anatomy.ra_width) & (heart_z >= tricuspid))
                | ((e_la < 1.0 + 4.0 / anatomy.la_width) & below)
            )
        )
        outward = torch.minimum(outward, torch.minimum((e_rv - 1.0) * b_rv, (e_ra - 1.0) * b_ra))
    thin = thin & ~wall & ~lv & ~la & ~rv & ~ra

    label = torch.zeros(heart_x.shape, dtype=torch.uint8, device=heart_x.device)
    for name, where in (("lv", lv), ("myocardium", wall), ("la", la), ("rv", rv), ("ra", ra)):
        label.masked_fill_(where, STRUCTURES[name])
    blood = lv | la | rv | ra

    # How squarely the beam meets the wall: the ellipse's normal against the direction from the probe.
    normal_x, normal_z = heart_x / b_out.square(), -up / pose.a_epi.square()
    beam_x, beam_z = x[None] * cos + y[None] * sin, y[None] * cos - x[None] * sin
    square = (normal_x * beam_x + normal_z * beam_z).abs() / torch.sqrt(
        (normal_x.square() + normal_z.square()) * (beam_x.square() + beam_z.square())
    ).clamp_min_(1e-9)

    outward = outward.clamp_min_(0.0)
    level = levels.outside - levels.fade_per_mm * outward
    rim = (levels.pericardium - levels.outside) * (0.25 + 0.75 * square) * torch.exp(-(outward / 3.5).square())
    level = level + rim
    level = torch.where(thin, levels.atrial_wall - 0.4 * levels.anisotropy * (1.0 - square), level)
    border = levels.border * square * torch.exp(-(depth / 0.22).square())
    muscle = levels.myocardium - levels.anisotropy * (1.0 - square)
    level = torch.where(wall, muscle + border, level)
    level = torch.where(blood, levels.blood, level)

    # Papillary muscle: a mound on the lateral wall's inside that is tissue, though volumetry counts it as cavity.
    if anatomy.papillary > 0.35:
        mound_x, mound_z = 0.80 * (shape.b_lateral - pose.delta), centre + 0.02 * pose.a
        narrow = 3.2 if details.soft_papillary else 4.0
        mound = ((heart_x - mound_x) / narrow).square() + ((heart_z - mound_z) / 9.0).square()
        if details.soft_papillary and anatomy.view == "A2C":
            other_x = -0.82 * (shape.b_septal - pose.delta)
            mound = torch.minimum(mound, ((heart_x - other_x) / 3.0).square() + ((heart_z - mound_z - 5.0) / 8.0).square())
        if details.soft_papillary:
            soft = torch.maximum(muscle - 2.0 - 9.0 * mound.square(), level)
            level = torch.where(lv & (mound < 1.6), soft, level)
        else:
            level = torch.where(lv & (mound < 1.0), levels.myocardium - 4.0 - 6.0 * (1.0 - square), level)
    if details.trabeculae > 0 or details.dropouts:
        angle = torch.atan2(heart_x, up)
        if details.trabeculae > 0:
            level = _trabeculated(level, lv, angle, e_in, muscle, details)
        for at, wide, deep in details.dropouts:
            level = level - deep * torch.exp(-0.5 * ((angle - at) / wide).square()) * ~blood

    hinge_l, hinge_r = -(shape.b_septal - pose.delta) * _SIN_BASE, (shape.b_lateral - pose.delta) * _SIN_BASE
    leaflets = _valve(
        heart_x,
        heart_z,
        hinge_l,
        hinge_r,
        pose.z_base,
        pose.openness,
        (anatomy.anterior_leaflet, anatomy.posterior_leaflet),
        0.60,
    )
    fibrous = torch.minimum(
        (heart_x - hinge_l).square() + (heart_z - pose.z_base).square(),
        (heart_x - hinge_r).square() + (heart_z - pose.z_base).square(),
    )
    if anatomy.view == "A4C":
        left, right = x_rv - b_rv * _SIN_BASE, hinge_l - 0.55 * anatomy.wall
        three = _valve(heart_x, heart_z, left, right, tricuspid, pose.openness, (18.0, 14.0), 0.5)
        leaflets = torch.minimum(leaflets, three)
        fibrous = torch.minimum(fibrous, (heart_x - left).square() + (heart_z - tricuspid).square())
    on_leaflet, on_ring = leaflets < details.leaflet_mm2, fibrous < details.annulus_mm2
    level = torch.where(on_leaflet, torch.maximum(level, levels.leaflet - details.leaflet_fade * leaflets), level)
    level = torch.where(on_ring, torch.maximum(level, levels.annulus - details.annulus_fade * fibrous), level)
    blood = blood & ~on_leaflet & ~on_ring

    # Where this tissue was at end-diastole: same depth in the wall, same angle; what lies farther out follows less.
    inside = depth.clamp(-0.5, 3.0)
    a_here, b_here = pose.a + inside * (pose.a_epi - pose.a), b_in + inside * (b_out - b_in)
    b_then = b_side + inside * (shape.b_epi_ed - mean_b)
    a_then = shape.a_ed + inside * (shape.a_epi_ed - shape.a_ed)
    then_x = heart_x * (b_then / b_here)
    then_z = (shape.z_base_ed - _CUT * shape.a_ed) - up * (a_then / a_here)
    follow = torch.where(below, 0.0, (2.5 - depth).clamp_(0.0, 1.0))
    # Atria and what hangs at the annulus: moved along the axis, less and less towards the roof.
    down = (shape.z_base_ed - pose.z_base) * ((roof - heart_z) / anatomy.la_length).clamp_(0.0, 1.0)
    then_x = heart_x + follow * (then_x - heart_x)
    then_z = heart_z + follow * (then_z - heart_z) + torch.where(below, down * (e_la < 1.35), torch.zeros_like(down))
    near = (1.0 - outward / 25.0).clamp_(0.0, 1.0)
    shift_x = (then_x - heart_x) * cos - (then_z - heart_z) * sin + anatomy.apex_x - pose.apex_x
    shift_y = (then_x - heart_x) * sin + (then_z - heart_z) * cos + anatomy.apex_y - pose.apex_y
    return Tissue(label, level, x[None] + near * shift_x, y[None] + near * shift_y, blood.to(level.dtype))
