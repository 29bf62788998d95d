"""The shape of a simulated heart in an apical view, and where each of its parts is while it beats.

Two frames of reference, both in mm: the image (x to the right, y away from the probe, the probe at the origin) and the
heart (X lateral, Z along the left ventricle's axis from its epicardial apex to the base). The left ventricle is a
truncated ellipse whose single-plane area-length volume is the true volume at every moment; its wall keeps its volume, so
it thickens inward as the cavity shrinks while the base comes to the apex.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from echogen.arrays import Floats

#: LV length / semi-axis: the ellipse is cut this far below its apex.
TRUNCATION = 1.42
_PSI_BASE = float(np.arccos(1.0 - TRUNCATION))


def _sin2_integral(psi: Floats, weight: Floats) -> float:
    return float(np.trapezoid(weight * np.sin(psi) ** 2, psi))


@dataclass(frozen=True)
class Anatomy:
    """One subject in one view; lengths in mm, angles in rad, volumes in ml.

    apex_x, apex_y: epicardial apex in the image. tilt: rotation of the axis, positive turns the base to the viewer's left.
    off_axis: 0..0.15, how much a cut beside the true axis narrows and shortens the ventricle.
    hypokinesis: 0 (normal) .. 1 (still) of one wall segment centred at angle `segment_psi` (rad from the apex, the sign
    chooses the side: negative septal) with width `segment_width`. moderator: a bright band in the right ventricle.
    """

    view: str
    edv_ml: float
    ef_percent: float
    length_ed: float
    wall: float
    apex_x: float
    apex_y: float
    tilt: float
    off_axis: float = 0.0
    mapse: float = 13.0
    septal_share: float = 0.48
    hypokinesis: float = 0.0
    segment_psi: float = 1.2
    segment_width: float = 0.5
    rv_width: float = 30.0
    rv_length: float = 0.80
    tapse: float = 18.0
    la_length: float = 44.0
    la_width: float = 21.0
    ra_length: float = 42.0
    ra_width: float = 20.0
    anterior_leaflet: float = 23.0
    posterior_leaflet: float = 14.0
    papillary: float = 0.6
    apex_motion: float = 1.5
    sway_mm: float = 1.0


def draw_anatomy(
    rng: np.random.Generator, *, view: str = "A4C", ef_percent: float | None = None, sex: str | None = None
) -> Anatomy:
    """A random subject: weak hearts are larger, women's smaller; about one in six has a segment that moves badly."""
    ef = (
        float(ef_percent)
        if ef_percent is not None
        else float(np.clip(rng.choice([rng.normal(60, 8), rng.uniform(15, 78)]), 15, 80))
    )
    edv = float(np.clip(rng.lognormal(np.log(115.0), 0.22) * (1.0 + 0.9 * max(0.0, 0.55 - ef / 100.0)), 50, 260))
    if sex == "f":
        edv *= 0.88
    length = 88.0 * (edv / 120.0) ** (1 / 3) * rng.normal(1.0, 0.05)
    bad = rng.random() < 0.16
    rv = rng.normal(29.0, 4.0)
    return Anatomy(
        view=view,
        edv_ml=edv,
        ef_percent=ef,
        length_ed=float(length),
        wall=float(np.clip(rng.normal(9.0, 1.5), 6.0, 14.0)),
        apex_x=float(rng.normal(4.0, 5.0)),
        apex_y=float(rng.uniform(8.0, 20.0)),
        tilt=float(rng.normal(0.05, 0.12)),
        off_axis=float(rng.choice([0.0, rng.uniform(0.0, 0.15)])),
        mapse=float(np.clip(length * 0.25 * ef / 100.0 * rng.normal(1.0, 0.1), 2.0, 22.0)),
        septal_share=float(np.clip(rng.normal(0.48, 0.025), 0.40, 0.56)),
        hypokinesis=float(rng.uniform(0.5, 1.0)) if bad else 0.0,
        segment_psi=float(rng.uniform(0.0, 1.6) * rng.choice([-1, 1])),
        segment_width=float(rng.uniform(0.3, 0.6)),
        rv_width=float(np.clip(rv, 18.0, 45.0)),
        rv_length=float(np.clip(rng.normal(0.80, 0.06), 0.6, 0.95)),
        tapse=float(np.clip(rng.normal(18.0, 4.0), 6.0, 26.0)),
        la_length=float(np.clip(rng.normal(46.0, 6.0), 30.0, 64.0)),
        la_width=float(np.clip(rng.normal(21.0, 3.0), 14.0, 30.0)),
        ra_length=float(np.clip(rng.normal(43.0, 5.0), 30.0, 58.0)),
        ra_width=float(np.clip(rng.normal(20.0, 3.0), 13.0, 28.0)),
        anterior_leaflet=float(rng.normal(23.0, 2.0)),
        posterior_leaflet=float(rng.normal(13.5, 1.5)),
        papillary=float(rng.uniform(0.0, 1.0)),
        apex_motion=float(rng.uniform(0.5, 2.5)),
        sway_mm=float(rng.uniform(0.0, 2.0)),
    )


@dataclass(frozen=True)
class Pose:
    """The heart at each frame; every tensor is (frames, 1) float32, lengths in mm.

    a: long semi-axis of the LV cavity; delta: what the contraction takes off its half-widths; a_epi, b_epi: semi-axes of
    the outer surface; z_base: Z of the mitral plane; shorten: 0 (ED) .. 1 (reference ES); openness: 0 (closed) .. 1 of
    the atrioventricular valves; apex_x, apex_y: the epicardial apex in the image.
    """

    a: Tensor
    delta: Tensor
    a_epi: Tensor
    b_epi: Tensor
    z_base: Tensor
    shorten: Tensor
    openness: Tensor
    apex_x: Tensor
    apex_y: Tensor

    def at(self, index: slice) -> Pose:
        """The same for some of the frames."""
        return Pose(*(getattr(self, f.name)[index] for f in fields(self)))


@dataclass(frozen=True)
class Shape:
    """Size of an `Anatomy` for the evaluation: the reference (end-diastolic) axes in mm, which do not change in time."""

    b_septal: float
    b_lateral: float
    a_ed: float
    a_epi_ed: float
    b_epi_ed: float
    z_base_ed: float


def _motion_weight(anatomy: Anatomy, psi: Floats) -> Floats:
    """Share 0..1 of the normal inward motion at signed angle psi (negative: septal side)."""
    return 1.0 - anatomy.hypokinesis * np.exp(-0.5 * ((psi - anatomy.segment_psi) / anatomy.segment_width) ** 2)


def _ellipsoid_volume(a: Floats, b: Floats, zc_over_a: float) -> Floats:
    """Volume of an ellipsoid with semi-axes a, b, b cut zc below its centre, in mm^3."""
    c = zc_over_a
    return np.pi * b**2 * a * ((1.0 + c) - (1.0 + c**3) / 3.0)


def cavity_outline(anatomy: Anatomy, volume_ml: Floats) -> tuple[Floats, Floats]:
    """Length in mm and area in mm^2 of the cavity that the cut shows when the ventricle holds volume_ml (frames,).

    Single-plane area-length: A = sqrt(3 pi L V / 8). An off-axis cut shows a smaller, similar ventricle: EF is kept.
    """
    narrow, shorter = 1.0 - anatomy.off_axis, 1.0 - 0.5 * anatomy.off_axis
    shorten = (anatomy.edv_ml - volume_ml) / (anatomy.edv_ml * anatomy.ef_percent / 100.0)
    length = anatomy.length_ed * shorter - anatomy.mapse * np.clip(shorten, -0.3, 1.4)
    return length, np.sqrt(3.0 * np.pi * length * volume_ml * 1000.0 * narrow**2 * shorter / 8.0)


def pose_heart(
    anatomy: Anatomy, times_s: Floats, volume_ml: Floats, openness: Floats, device: str | torch.device = "cpu"
) -> tuple[Shape, Pose]:
    """Pose the heart at each frame for its ventricular volume volume_ml (frames,) in ml and the openness (0..1) of its valves."""
    shorten = (anatomy.edv_ml - volume_ml) / (anatomy.edv_ml * anatomy.ef_percent / 100.0)
    length, area = cavity_outline(anatomy, volume_ml)
    length_ed, area_ed = (float(values[0]) for values in cavity_outline(anatomy, np.array([anatomy.edv_ml])))
    a, a_ed = length / TRUNCATION, length_ed / TRUNCATION
    psi = np.linspace(0.0, _PSI_BASE, 256)
    per_side = _sin2_integral(psi, np.ones_like(psi))
    b_total = area_ed / (a_ed * per_side)
    b_septal, b_lateral = b_total * anatomy.septal_share, b_total * (1.0 - anatomy.septal_share)
    moving = _sin2_integral(psi, _motion_weight(anatomy, psi)) + _sin2_integral(psi, _motion_weight(anatomy, -psi))
    delta = (a * per_side * b_total - area) / (a * moving)
    # The wall keeps its volume; the apical wall thickens a third as much as the others.
    cut = TRUNCATION - 1.0
    apical = 0.75 * anatomy.wall
    a_epi = a + apical * (1.0 + 0.2 * shorten)
    b_mean_ed = b_total / 2.0
    wall_volume = _ellipsoid_volume(np.asarray(a_ed + apical), np.asarray(b_mean_ed + anatomy.wall), cut) - _ellipsoid_volume(
        np.asarray(a_ed), np.asarray(b_mean_ed), cut
    )
    cavity = _ellipsoid_volume(a, b_mean_ed - delta * moving / (2.0 * per_side), cut)
    b_epi = np.sqrt((cavity + wall_volume) / _ellipsoid_volume(a_epi, np.ones_like(a_epi), cut))
    apex_moves = anatomy.apex_motion * np.clip(shorten, -0.2, 1.2)
    z_base = apical + length
    sway = anatomy.sway_mm * np.sin(2 * np.pi * times_s / 4.1)

    def column(values: Floats | float) -> Tensor:
        return torch.tensor(np.broadcast_to(values, times_s.shape), dtype=torch.float32, device=device)[:, None]

    pose = Pose(
        a=column(a),
        delta=column(delta),
        a_epi=column(a_epi),
        b_epi=column(b_epi),
        z_base=column(z_base),
        shorten=column(shorten),
        openness=column(openness),
        apex_x=column(anatomy.apex_x + sway),
        apex_y=column(anatomy.apex_y + apex_moves + 0.5 * sway),
    )
    shape = Shape(
        b_septal=float(b_septal),
        b_lateral=float(b_lateral),
        a_ed=float(a_ed),
        a_epi_ed=float(a_ed + apical),
        b_epi_ed=float(b_mean_ed + anatomy.wall),
        z_base_ed=float(apical + length_ed),
    )
    return shape, pose
