"""Hearts of more shapes and poses than the plain phantom draws, as maps without a picture: what a reader would outline in them.

Walls are as thick as readers draw them (trabeculae and papillary muscles that close up in systole count as wall), apices are
blunt or pointed, ventricles small, dilated, hypertrophied, round or bulging, atria large or cut off, and the cut is oblique
or foreshortened. Smooth deformations that stay with the heart take the ellipses' regularity away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from echogen.phantom.anatomy import Anatomy, Pose, Shape, draw_anatomy, pose_heart
from echogen.phantom.details import Details
from echogen.phantom.tissue import Levels, locate_tissue
from echogen.phantom.ultrasound import APEX_ROW, IMAGE_SIZE, RADIUS
from echogen.records import STRUCTURES

#: Pixels by which a map reaches beyond the canonical picture on every side, so that it can be moved and turned.
MARGIN = 16
MAP_SIZE = IMAGE_SIZE + 2 * MARGIN
#: The echogenicities in dB that the bytes 0 and 255 of a map stand for.
DARKEST_DB, BRIGHTEST_DB = -62.0, 0.0
#: Depths in the wall (0 endocardium, 1 epicardium) that the bytes 0 and 255 of a map stand for.
INNERMOST, OUTERMOST = -1.5, 3.0
#: Side in mm of the cells between which deformations are interpolated, and of the square that they cover.
_CELL_MM, _FIELD_MM = 26.0, 364.0


@dataclass(frozen=True)
class Variant:
    """A heart to be mapped.

    anatomy: its shape as the phantom has it. apical_wall: thickness of the wall at the apex over that at the sides (mean).
    taper, systolic_taper: share by which the ventricle is narrower at its apex than the ellipse, always and added at
    end-systole. blunt: share by which it is wider close to the apex. warp_mm: (2, n, n) displacements of a coarse grid over
    the image (x, y), in mm. bulges: (x, z, radius, push) in mm, in the heart's frame: where the septum or the apex bulges
    across. mm_per_pixel: of the map. levels, details: of the tissue, as the phantom has them.
    """

    anatomy: Anatomy
    apical_wall: float
    taper: float
    systolic_taper: float
    blunt: float
    warp_mm: NDArray[np.float32]
    bulges: tuple[tuple[float, float, float, float], ...]
    mm_per_pixel: float
    levels: Levels
    details: Details


@dataclass(frozen=True)
class Maps:
    """Frames of a variant, all uint8 (frames, MAP_SIZE, MAP_SIZE), over the whole square and not the sector alone.

    labels: ids of `STRUCTURES`. levels: mean echogenicity, DARKEST_DB..BRIGHTEST_DB. depths: INNERMOST..OUTERMOST, the place in
    the ventricle's wall, with the mean thickness of the wall as the unit in the cavity (negative) and outside (above 1).
    """

    labels: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    depths: NDArray[np.uint8]


def draw_variant(rng: np.random.Generator) -> Variant:
    """A random heart, pose and cut."""
    view = "A4C" if rng.random() < 0.8 else "A2C"
    ef = float(np.clip(rng.normal(57, 9) if rng.random() < 0.45 else rng.uniform(10, 78), 8, 82))
    base = draw_anatomy(rng, view=view, ef_percent=ef)
    scale = float(np.clip(rng.lognormal(0.0, 0.22), 0.55, 1.9))
    edv = float(np.clip(base.edv_ml * scale, 30, 330))
    # Round or long at the same volume; a foreshortened cut is short and round.
    length = 86.0 * (edv / 120.0) ** (1 / 3) * float(np.clip(rng.normal(1.0, 0.09), 0.76, 1.22))
    thick = rng.random() < 0.15
    wall = float(rng.uniform(13.0, 19.0)) if thick else float(np.clip(rng.normal(11.0, 1.8), 6.5, 15.0))
    anatomy = replace(
        base,
        edv_ml=edv,
        length_ed=length,
        wall=wall,
        apex_x=float(rng.normal(2.0, 9.0)),
        apex_y=float(rng.uniform(5.0, 29.0) if rng.random() < 0.8 else rng.uniform(15.0, 45.0)),
        tilt=float(rng.normal(0.04, 0.17)),
        mapse=float(np.clip(length * 0.25 * ef / 100.0 * rng.normal(1.0, 0.25), 1.0, 22.0)),
        septal_share=float(np.clip(rng.normal(0.48, 0.03), 0.38, 0.58)),
        rv_width=float(np.clip(rng.normal(30.0, 7.0), 14.0, 55.0)),
        rv_length=float(np.clip(rng.normal(0.80, 0.09), 0.5, 1.0)),
        la_length=float(np.clip(rng.normal(47.0, 9.0), 26.0, 75.0)),
        la_width=float(np.clip(rng.normal(20.0, 4.5), 11.0, 36.0)),
        ra_length=float(np.clip(rng.normal(43.0, 8.0), 26.0, 65.0)),
        ra_width=float(np.clip(rng.normal(20.0, 4.5), 11.0, 34.0)),
        sway_mm=0.0,
    )
    cells = round(_FIELD_MM / _CELL_MM)
    strength = float(rng.choice([0.5, 1.0, 1.8]))
    warp = rng.normal(0.0, strength, (2, cells, cells)).astype(np.float32)
    bulges = []
    if rng.random() < 0.3:  # a basal septum that bulges into the outflow tract
        bulges.append(
            (-0.42 * wall - 14.0, length * float(rng.uniform(0.6, 0.95)), float(rng.uniform(9, 18)), float(rng.uniform(2, 6)))
        )
    if rng.random() < 0.1:  # a septum pushed over by a full right ventricle
        bulges.append((-20.0, length * float(rng.uniform(0.3, 0.6)), float(rng.uniform(20, 35)), float(rng.uniform(3, 8))))
    depth_mm = (anatomy.apex_y + length + wall + anatomy.la_length) * float(rng.uniform(0.82, 1.18))
    shift = float(rng.normal(0, 2.5))
    levels = Levels(
        blood=float(rng.uniform(-58, -34)),
        myocardium=-17.0 + shift + float(rng.normal(0, 2.5)),
        atrial_wall=-15.0 + shift + float(rng.normal(0, 2)),
        outside=float(rng.uniform(-32, -14)),
        pericardium=float(rng.uniform(-15, -5)),
        leaflet=-12.0 + float(rng.normal(0, 3)),
        annulus=-12.0 + float(rng.normal(0, 3)),
        fade_per_mm=float(rng.uniform(0.1, 1.3)),
        anisotropy=float(rng.uniform(3, 18)),
        border=float(rng.uniform(0, 9)),
    )
    details = Details(
        leaflet_mm2=float(rng.uniform(0.5, 1.8)),
        leaflet_fade=float(rng.uniform(5.0, 12.0)),
        annulus_mm2=float(rng.uniform(3.0, 14.0)),
        annulus_fade=float(rng.uniform(0.35, 1.6)),
        soft_papillary=True,
        trabeculae=float(rng.uniform(0.0, 0.3)),
        trabecular_phases=tuple(float(v) for v in rng.uniform(0, 6.28, 3)),  # type: ignore[arg-type]
    )
    return Variant(
        anatomy,
        apical_wall=float(np.clip(rng.normal(1.28, 0.2), 0.7, 1.8)),
        taper=float(rng.uniform(-0.12, 0.15)),
        systolic_taper=float(rng.uniform(0.0, 0.28)),
        blunt=float(rng.uniform(0.0, 0.30)),
        warp_mm=warp,
        bulges=tuple(bulges),
        mm_per_pixel=float(np.clip(depth_mm, 95.0, 230.0)) / RADIUS,
        levels=levels,
        details=details,
    )


def map_variant(variant: Variant, contraction: NDArray[np.float64], openness: NDArray[np.float64]) -> Maps:
    """The maps of a heart at the given moments.

    contraction: (frames,) 0 at end-diastole .. 1 at end-systole. openness: (frames,) 0..1 of the atrioventricular valves.
    """
    anatomy = variant.anatomy
    volume = anatomy.edv_ml * (1.0 - anatomy.ef_percent / 100.0 * contraction)
    shape, pose = pose_heart(anatomy, np.zeros(len(contraction)), volume, openness)
    # The phantom's apical wall is 0.75 of the others; this one's may be as thick.
    pose = replace(pose, a_epi=pose.a + variant.apical_wall / 0.75 * (pose.a_epi - pose.a))
    x, y = _points(variant)
    labels, levels = [], []
    for index in range(len(contraction)):
        now = pose.at(slice(index, index + 1))
        taper = variant.taper + variant.systolic_taper * float(contraction[index])
        at_x, at_y = _unshaped(variant, shape, now, x, y, taper)
        tissue = locate_tissue(anatomy, shape, now, at_x, at_y, variant.levels, variant.details)
        labels.append(tissue.label[0].reshape(MAP_SIZE, MAP_SIZE).numpy())
        share = (tissue.level_db[0] - DARKEST_DB) / (BRIGHTEST_DB - DARKEST_DB)
        levels.append((share.clamp(0, 1) * 255 + 0.5).to(torch.uint8).reshape(MAP_SIZE, MAP_SIZE).numpy())
    wall_px = anatomy.wall / variant.mm_per_pixel
    return Maps(np.stack(labels), np.stack(levels), np.stack([_wall_depth(label, wall_px) for label in labels]))


def _points(variant: Variant) -> tuple[Tensor, Tensor]:
    """x and y in mm, each (MAP_SIZE ** 2,), of the map's pixels before the variant's deformation."""
    index = np.arange(MAP_SIZE) - MARGIN
    x, y = np.meshgrid((index - (IMAGE_SIZE - 1) / 2) * variant.mm_per_pixel, (index - APEX_ROW) * variant.mm_per_pixel)
    place = [(y + 100.0) / _CELL_MM, (x + _FIELD_MM / 2) / _CELL_MM]
    moved = [ndimage.map_coordinates(field, place, order=3, mode="nearest") for field in variant.warp_mm]
    return (
        torch.from_numpy((x + moved[0]).astype(np.float32).reshape(-1)),
        torch.from_numpy((y + moved[1]).astype(np.float32).reshape(-1)),
    )


def _unshaped(variant: Variant, shape: Shape, pose: Pose, x: Tensor, y: Tensor, taper: float) -> tuple[Tensor, Tensor]:
    """Places of the image points x, y in the untapered heart without bulges, both (points,)."""
    tilt = variant.anatomy.tilt
    cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
    dx, dy = x - pose.apex_x[0], y - pose.apex_y[0]
    across, along = dx * cos + dy * sin, dy * cos - dx * sin
    for at_x, at_z, radius, push in variant.bulges:
        near = torch.exp(-((across - at_x).square() + (along - at_z).square()) / (2 * radius**2))
        across = across - push * near
    height = ((pose.z_base[0] - along) / shape.z_base_ed).clamp(0.0, 1.0)
    wider = 1.0 + variant.blunt * torch.exp(-((height - 0.9) / 0.22).square())
    across = across / (1.0 + 0.4 * taper) / (1.0 - taper * height) / wider
    return across * cos - along * sin + pose.apex_x[0], across * sin + along * cos + pose.apex_y[0]


def _wall_depth(label: NDArray[np.uint8], wall_px: float) -> NDArray[np.uint8]:
    """The place in the wall at every pixel, as `Maps.depths` has it, by the distances to both borders."""
    cavity, wall = label == STRUCTURES["lv"], label == STRUCTURES["myocardium"]
    to_cavity = ndimage.distance_transform_edt(~cavity)
    to_outside = ndimage.distance_transform_edt(cavity | wall)
    depth = np.where(wall, to_cavity / np.maximum(to_cavity + to_outside, 1e-6), 1.0)
    beyond = ndimage.distance_transform_edt(~(cavity | wall)) / wall_px
    inward = ndimage.distance_transform_edt(cavity) / wall_px
    depth = np.where(cavity, -inward, depth + np.where(cavity | wall, 0.0, beyond))
    share = (depth - INNERMOST) / (OUTERMOST - INNERMOST)
    return (np.clip(share, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
