"""Looks of recordings of patients: machines with a hand of their own, fine anatomy, patients who image badly.

A look changes the picture, never the truth: volumes, masks and times of a heart stay what they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from echogen.errors import InputError
from echogen.phantom.details import Details
from echogen.phantom.tissue import Levels
from echogen.phantom.ultrasound import Probe

#: The plain phantom; any of the machines that training sees.
PLAIN, VARIED = "plain", "varied"
#: Share of patients who image badly, 0..1.
BAD_WINDOWS = 0.15

Range = tuple[float, float]


@dataclass(frozen=True)
class Machine:
    """Ranges of one maker's picture settings: fields of `Probe` and of `Details`.

    curve: exponent of the grey map, below 1 is brighter. speckle: what is left of it. sector: half-angle in rad.
    """

    dynamic_range: Range
    curve: Range
    speckle: Range
    axial: Range
    lateral: Range
    sector: Range
    persistence: Range
    smooth_px: Range
    sharpen: Range
    haze: Range


#: Machines by the look of their pictures. No maker's name: each stands for a way of processing.
MACHINES = {
    "balanced": Machine(
        (50, 60), (0.9, 1.1), (0.6, 0.9), (0.8, 1.1), (0.9, 1.3), (0.60, 0.74),
        (0.0, 0.15), (0, 0.4), (0, 0), (-30, -20),
    ),
    "soft": Machine(
        (56, 68), (0.85, 1.05), (0.3, 0.5), (0.9, 1.2), (1.1, 1.6), (0.60, 0.76),
        (0.2, 0.35), (0.6, 1.2), (0, 0), (-32, -24),
    ),
    "grainy": Machine(
        (46, 56), (0.95, 1.2), (0.85, 1.0), (0.7, 0.95), (0.8, 1.1), (0.56, 0.70),
        (0.0, 0.1), (0, 0), (0, 0), (-28, -18),
    ),
    "bright": Machine(
        (60, 72), (0.75, 0.95), (0.5, 0.8), (0.8, 1.1), (0.9, 1.4), (0.60, 0.76),
        (0.1, 0.3), (0.3, 0.8), (0, 0.3), (-26, -16),
    ),
    "crisp": Machine(
        (48, 58), (1.0, 1.2), (0.5, 0.75), (0.7, 0.9), (0.8, 1.1), (0.58, 0.74),
        (0.1, 0.3), (0.8, 1.1), (0.6, 1.1), (-32, -22),
    ),
    "dark": Machine(
        (44, 52), (1.0, 1.25), (0.6, 0.9), (0.8, 1.1), (0.9, 1.3), (0.56, 0.72),
        (0.15, 0.3), (0.2, 0.6), (0, 0), (-34, -26),
    ),
}  # fmt: skip
#: Machines that no training sees, to find out what carries over.
HELD_OUT_MACHINES = ("crisp", "dark")
LOOKS = (PLAIN, VARIED, *MACHINES)


def draw_look(look: str, rng: np.random.Generator, view: str, probe: Probe, levels: Levels) -> tuple[Details, Probe, Levels]:
    """Details, probe and echogenicities of a recording with this look, one of `LOOKS`, from those of the plain phantom.

    Raises `InputError` for another.
    """
    if look not in LOOKS:
        raise InputError(f"The look must be one of {', '.join(LOOKS)}, not {look!r}.")
    if look == PLAIN:
        return Details(), probe, levels
    seen = [name for name in MACHINES if name not in HELD_OUT_MACHINES]
    machine = MACHINES[str(rng.choice(seen)) if look == VARIED else look]

    def drawn(bounds: Range) -> float:
        return float(rng.uniform(*bounds))

    bad = rng.random() < BAD_WINDOWS
    probe = replace(
        probe,
        half_angle=drawn(machine.sector),
        axial=drawn(machine.axial),
        lateral=drawn(machine.lateral) * (1.35 if bad else 1.0),
        dynamic_range=drawn(machine.dynamic_range),
        curve=drawn(machine.curve),
        speckle=drawn(machine.speckle),
        haze=drawn(machine.haze) + (5.0 if bad else 0.0),
        haze_depth=probe.haze_depth * (1.6 if bad else 1.0),
        gain=probe.gain + float(rng.normal(0.0, 1.5)) - (2.0 if bad else 0.0),
        noise=probe.noise + (6.0 if bad else 0.0),
    )
    levels = replace(
        levels,
        leaflet=levels.myocardium + float(rng.uniform(2.0, 6.0)),
        annulus=levels.myocardium + float(rng.uniform(1.0, 6.0)),
        anisotropy=levels.anisotropy + (3.0 if bad else 0.0),
    )
    dropouts = []
    for _ in range(int(rng.integers(0, 2)) + (1 if bad else 0)):
        # The lateral wall lies along the beam and is lost first.
        side = 1.0 if rng.random() < 0.75 else -1.0
        dropouts.append((side * float(rng.uniform(0.3, 1.7)), float(rng.uniform(0.15, 0.45)), float(rng.uniform(6, 18))))
    if rng.random() < 0.3:
        dropouts.append((0.0, float(rng.uniform(0.15, 0.35)), float(rng.uniform(4, 12))))
    details = Details(
        leaflet_mm2=float(rng.uniform(0.5, 1.1)),
        leaflet_fade=float(rng.uniform(7.0, 12.0)),
        annulus_mm2=float(rng.uniform(3.0, 8.0)),
        annulus_fade=float(rng.uniform(0.8, 1.6)),
        soft_papillary=True,
        trabeculae=drawn((0.0, 0.18)),
        trabecular_phases=(drawn((0.0, 6.28)), drawn((0.0, 6.28)), drawn((0.0, 6.28))),
        dropouts=tuple(dropouts),
        shadowing=drawn((0.0, 3.0)),
        breath_mm=float(rng.choice([0.0, rng.uniform(0.5, 4.0)])),
        breath_s=float(rng.uniform(3.0, 6.0)),
        breath_phase=drawn((0.0, 6.28)),
        persistence=drawn(machine.persistence),
        smooth_px=drawn(machine.smooth_px),
        sharpen=drawn(machine.sharpen),
    )
    return details, probe, levels
