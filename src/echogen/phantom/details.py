"""Details beyond the plain phantom: finer valves, trabeculae, drop-out, breathing, a machine's processing of the picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Details:
    """Details beyond the plain phantom, whose values are the defaults; see `looks.draw_look`. The truth stays.

    leaflet_mm2, annulus_mm2: squared half-thickness of the valves' leaflets and squared radius of their ring; leaflet_fade,
    annulus_fade: dB lost per mm^2 from their middle. soft_papillary: papillary muscles without a hard edge, two of them in A2C.
    trabeculae: share of the cavity's half-width that they reach inward at most; trabecular_phases: where on the wall they lie,
    rad. dropouts: (angle from the apex in rad, negative septal; width in rad; dB) of wall that is hardly seen. shadowing: dB
    lost behind 1 mm of tissue of 0 dB. breath_mm, breath_s, breath_phase: how far breathing moves the heart to and fro, how
    often, and when. persistence: 0..1, share of the frame before that each frame keeps (at 32 frames/s). smooth_px: width of
    the machine's smoothing in samples. sharpen: how much of what that smoothing takes is added instead.
    """

    leaflet_mm2: float = 1.8
    leaflet_fade: float = 7.0
    annulus_mm2: float = 14.0
    annulus_fade: float = 0.35
    soft_papillary: bool = False
    trabeculae: float = 0.0
    trabecular_phases: tuple[float, float, float] = (0.0, 0.0, 0.0)
    dropouts: tuple[tuple[float, float, float], ...] = ()
    shadowing: float = 0.0
    breath_mm: float = 0.0
    breath_s: float = 4.0
    breath_phase: float = 0.0
    persistence: float = 0.0
    smooth_px: float = 0.0
    sharpen: float = 0.0
