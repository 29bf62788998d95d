"""Tissue at each point of the image: structure, echogenicity, and the place of that tissue in the reference heart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from echogen.phantom.anatomy import Anatomy, Pose, Shape
from echogen.phantom.chambers import (
    CUT,
    Atrium,
    HeartPoints,
    RightHeart,
    Ventricle,
    heart_points,
    left_atrium,
    left_ventricle,
    right_heart,
)
from echogen.phantom.details import Details
from echogen.phantom.valves import valves
from echogen.records import STRUCTURES


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


def _trabeculated(level: Tensor, lv: Tensor, angle: Tensor, e_in: Tensor, muscle: Tensor, details: Details) -> Tensor:
    """Echogenicity with trabeculae: ridges that reach from the wall into the cavity, most of them near the apex."""
    first, second, third = details.trabecular_phases
    ridges = torch.sin(9.0 * angle + first) + torch.sin(17.0 * angle + second) + 0.7 * torch.sin(29.0 * angle + third)
    reach = details.trabeculae * (0.35 + 0.65 * torch.cos(0.5 * angle).square()) * (0.5 + 0.25 * ridges).clamp(0.0, 1.0)
    inward = (1.0 - e_in) / reach.clamp_min(1e-3)
    ridge = torch.maximum(muscle - 3.0 - 8.0 * inward.square(), level)
    return torch.where(lv & (inward < 1.0), ridge, level)


def _labels(lv: Ventricle, la: Atrium, right: RightHeart | None) -> Tensor:
    """Ids of `records.STRUCTURES`, uint8 (frames, points)."""
    label = torch.zeros(lv.cavity.shape, dtype=torch.uint8, device=lv.cavity.device)
    found = {"lv": lv.cavity, "myocardium": lv.wall, "la": la.cavity}
    for name, where in (found if right is None else found | {"rv": right.rv, "ra": right.ra}).items():
        label.masked_fill_(where, STRUCTURES[name])
    return label


def _squareness(pose: Pose, at: HeartPoints, lv: Ventricle, x: Tensor, y: Tensor) -> Tensor:
    """Cosine between the beam and the normal of the epicardium's ellipse: 1 where the beam meets the wall head-on."""
    normal_x, normal_z = at.x / lv.b_out.square(), -at.up / pose.a_epi.square()
    beam_x, beam_z = x[None] * at.cos + y[None] * at.sin, y[None] * at.cos - x[None] * at.sin
    return (normal_x * beam_x + normal_z * beam_z).abs() / torch.sqrt(
        (normal_x.square() + normal_z.square()) * (beam_x.square() + beam_z.square())
    ).clamp_min_(1e-9)


def _with_papillary(
    level: Tensor, anatomy: Anatomy, shape: Shape, pose: Pose, at: HeartPoints, lv: Tensor, muscle: Tensor, shade: Tensor,
    levels: Levels, details: Details,
) -> Tensor:  # fmt: skip
    """Echogenicity with a mound on the lateral wall's inside: tissue, though volumetry counts it as cavity."""
    if anatomy.papillary <= 0.35:
        return level
    centre = pose.z_base - CUT * pose.a
    mound_x, mound_z = 0.80 * (shape.b_lateral - pose.delta), centre + 0.02 * pose.a
    narrow = 3.2 if details.soft_papillary else 4.0
    mound = ((at.x - mound_x) / narrow).square() + ((at.z - mound_z) / 9.0).square()
    if details.soft_papillary and anatomy.view == "A2C":
        other_x = -0.82 * (shape.b_septal - pose.delta)
        mound = torch.minimum(mound, ((at.x - other_x) / 3.0).square() + ((at.z - mound_z - 5.0) / 8.0).square())
    if details.soft_papillary:
        soft = torch.maximum(muscle - 2.0 - 9.0 * mound.square(), level)
        return torch.where(lv & (mound < 1.6), soft, level)
    return torch.where(lv & (mound < 1.0), levels.myocardium - 4.0 - 6.0 * shade, level)


def _reference(
    anatomy: Anatomy, shape: Shape, pose: Pose, at: HeartPoints, lv: Ventricle, la: Atrium, outward: Tensor
) -> tuple[Tensor, Tensor]:
    """Shift in mm, image frame, from each point to the place of its tissue at end-diastole.

    In the wall that is the same depth and angle; tissue farther out follows less. Atria and everything that hangs at the annulus
    move along the axis, less and less towards the roof.
    """
    inside = lv.depth.clamp(-0.5, 3.0)
    a_here, b_here = pose.a + inside * (pose.a_epi - pose.a), lv.b_in + inside * (lv.b_out - lv.b_in)
    b_then = lv.b_side + inside * (shape.b_epi_ed - lv.mean_b)
    a_then = shape.a_ed + inside * (shape.a_epi_ed - shape.a_ed)
    then_x = at.x * (b_then / b_here)
    then_z = (shape.z_base_ed - CUT * shape.a_ed) - at.up * (a_then / a_here)
    follow = torch.where(at.below, 0.0, (2.5 - lv.depth).clamp_(0.0, 1.0))
    down = (shape.z_base_ed - pose.z_base) * ((la.roof - at.z) / anatomy.la_length).clamp_(0.0, 1.0)
    then_x = at.x + follow * (then_x - at.x)
    then_z = at.z + follow * (then_z - at.z) + torch.where(at.below, down * (la.e < 1.35), torch.zeros_like(down))
    near = (1.0 - outward / 25.0).clamp_(0.0, 1.0)
    shift_x = (then_x - at.x) * at.cos - (then_z - at.z) * at.sin + anatomy.apex_x - pose.apex_x
    shift_y = (then_x - at.x) * at.sin + (then_z - at.z) * at.cos + anatomy.apex_y - pose.apex_y
    return near * shift_x, near * shift_y


def locate_tissue(
    anatomy: Anatomy, shape: Shape, pose: Pose, x: Tensor, y: Tensor, levels: Levels, details: Details = Details()
) -> Tissue:
    """Locate the tissue at the image points x, y (points,) in mm for every frame of the pose."""
    at = heart_points(anatomy, pose, x, y)
    lv = left_ventricle(anatomy, shape, pose, at)
    la = left_atrium(anatomy, shape, pose, at, lv.wall)
    right = right_heart(anatomy, shape, pose, at, lv, la) if anatomy.view == "A4C" else None

    blood = lv.cavity | la.cavity
    outward = torch.minimum((lv.e_out - 1.0) * pose.b_epi, (la.e - 1.0) * la.width)
    thin = (la.e >= 1.0) & (la.e < 1.0 + 3.0 / anatomy.la_width) & at.below
    if right is not None:
        blood = blood | right.rv | right.ra
        outward = torch.minimum(outward, torch.minimum((right.e_rv - 1.0) * right.b_rv, (right.e_ra - 1.0) * right.b_ra))
        thin = thin | right.thin
    thin = thin & ~lv.wall & ~blood
    outward = outward.clamp_min_(0.0)

    # Echogenicity, from outside inwards.
    square = _squareness(pose, at, lv, x, y)
    level = levels.outside - levels.fade_per_mm * outward
    rim = (levels.pericardium - levels.outside) * (0.25 + 0.75 * square) * torch.exp(-(outward / 3.5).square())
    level = level + rim
    level = torch.where(thin, levels.atrial_wall - 0.4 * levels.anisotropy * (1.0 - square), level)
    border = levels.border * square * torch.exp(-(lv.depth / 0.22).square())
    muscle = levels.myocardium - levels.anisotropy * (1.0 - square)
    level = torch.where(lv.wall, muscle + border, level)
    level = torch.where(blood, levels.blood, level)
    level = _with_papillary(level, anatomy, shape, pose, at, lv.cavity, muscle, 1.0 - square, levels, details)
    if details.trabeculae > 0 or details.dropouts:
        angle = torch.atan2(at.x, at.up)
        if details.trabeculae > 0:
            level = _trabeculated(level, lv.cavity, angle, lv.e_in, muscle, details)
        for place, wide, deep in details.dropouts:
            level = level - deep * torch.exp(-0.5 * ((angle - place) / wide).square()) * ~blood
    leaflets, fibrous = valves(anatomy, shape, pose, at, right)
    on_leaflet, on_ring = leaflets < details.leaflet_mm2, fibrous < details.annulus_mm2
    level = torch.where(on_leaflet, torch.maximum(level, levels.leaflet - details.leaflet_fade * leaflets), level)
    level = torch.where(on_ring, torch.maximum(level, levels.annulus - details.annulus_fade * fibrous), level)
    blood = blood & ~on_leaflet & ~on_ring

    shift_x, shift_y = _reference(anatomy, shape, pose, at, lv, la, outward)
    return Tissue(_labels(lv, la, right), level, x[None] + shift_x, y[None] + shift_y, blood.to(level.dtype))
