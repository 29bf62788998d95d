"""Image formation by an ultrasound probe: scatterers, point-spread function, attenuation, haze, log compression, scan conversion.

The same image formation gives the picture with speckle and the picture without (its expected power), and adds speckle
to a structure that something else drew (`SpeckleLayer`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.phantom.details import Details

#: The canonical picture: square, the probe's point at (APEX_ROW, centre), the sector's radius, all in pixels.
IMAGE_SIZE = 128
APEX_ROW = 6.0
RADIUS = 112.0
DEPTHS, LINES = 128, 96
#: Mean of 10 log10 of an exponential variable: fully developed speckle looks this much darker than its mean power.
SPECKLE_BIAS_DB = -2.507
_TEXTURE_X, _TEXTURE_Y, _TEXTURE_SPACING = 140.0, 240.0, 0.75


@dataclass(frozen=True)
class Probe:
    """The settings of one recording.

    depth_mm: along the sector's radius. half_angle: of the sector in rad. axial, lateral: standard deviation of the
    point-spread function in samples along and across the beam; the lateral one grows by `defocus` away from `focus`
    (share of the depth). dynamic_range, gain in dB; slope: dB lost from top to bottom that gain does not make up.
    noise: electronic noise in dB below the brightest at the bottom. haze: near-field clutter in dB at the probe, fading
    over haze_depth (share of the depth). edge: dB lost at the sector's sides. shadows: (angle share -1..1, width share,
    depth in dB) of ribs and lung. decorrelation: rad/s at which tissue speckle changes. curve: exponent of the grey map.
    mottle: dB of slow variation inside a tissue. speckle: 0..1, what the machine's smoothing leaves of the speckle.
    """

    depth_mm: float = 165.0
    half_angle: float = 0.66
    axial: float = 0.95
    lateral: float = 1.0
    focus: float = 0.55
    defocus: float = 0.8
    dynamic_range: float = 55.0
    gain: float = 6.0
    slope: float = 5.0
    noise: float = -50.0
    haze: float = -26.0
    haze_depth: float = 0.10
    edge: float = 8.0
    shadows: tuple[tuple[float, float, float], ...] = ()
    decorrelation: float = 0.5
    curve: float = 1.0
    mottle: float = 3.0
    speckle: float = 0.75

    @property
    def mm_per_pixel(self) -> float:
        """Size of a pixel of the canonical picture in mm."""
        return self.depth_mm / RADIUS


def draw_probe(rng: np.random.Generator, *, heart_length_mm: float) -> Probe:
    """Random settings of a recording in which a heart of this length (mm from the probe to the atrial roof) fits."""
    shadows = tuple(
        (float(rng.uniform(-1, 1)), float(rng.uniform(0.06, 0.16)), float(rng.uniform(4, 14))) for _ in range(rng.integers(0, 3))
    )
    return Probe(
        depth_mm=float(np.clip(heart_length_mm * rng.uniform(0.96, 1.10), 125.0, 215.0)),
        half_angle=float(rng.uniform(0.58, 0.76)),
        axial=float(rng.uniform(0.75, 1.15)),
        lateral=float(rng.uniform(0.8, 1.3)),
        focus=float(rng.uniform(0.35, 0.75)),
        defocus=float(rng.uniform(0.3, 1.2)),
        dynamic_range=float(rng.uniform(46, 64)),
        gain=float(rng.normal(-4, 3.0)),
        slope=float(rng.uniform(0, 10)),
        noise=float(rng.uniform(-60, -44)),
        haze=float(rng.uniform(-32, -18)),
        haze_depth=float(rng.uniform(0.06, 0.2)),
        edge=float(rng.uniform(4, 18)),
        shadows=shadows,
        decorrelation=float(rng.uniform(0.2, 0.9)),
        curve=float(rng.uniform(0.85, 1.25)),
        mottle=float(rng.uniform(1.5, 4.5)),
        speckle=float(rng.uniform(0.4, 0.95)),
    )


def _gaussian_matrix(size: int, sigma: Tensor) -> Tensor:
    """(..., size, size) rows of a Gaussian of width sigma (...,) in samples, each row with unit sum of squares."""
    index = torch.arange(size, device=sigma.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * ((index[:, None] - index[None]) / sigma[..., None, None]).square())
    # Too small to change a sum; denormal numbers among them would make products many times as slow.
    kernel = kernel * (kernel > 1e-18)
    return kernel / kernel.square().sum(-1, keepdim=True).sqrt()


class Scanner:
    """A probe's geometry and point-spread function, made once and used for every frame.

    finer: so many times as many samples along and across the beams, and pixels a side; the point-spread function in mm stays.
    """

    def __init__(self, probe: Probe, device: str | torch.device = "cpu", finer: int = 1) -> None:
        self.probe = probe
        self.device = torch.device(device)
        self.finer, self.size = finer, finer * IMAGE_SIZE
        self.depths, self.lines = finer * DEPTHS, finer * LINES
        depth_share = torch.linspace(0.0, 1.0, self.depths, device=self.device)
        angle_share = torch.linspace(-1.0, 1.0, self.lines, device=self.device)
        radius_mm = (depth_share * probe.depth_mm).clamp_min(0.5)[:, None]
        angle = (angle_share * probe.half_angle)[None]
        #: (depths * lines,) sample positions in mm, the probe at the origin.
        self.x = (radius_mm * torch.sin(angle)).reshape(-1)
        self.y = (radius_mm * torch.cos(angle)).reshape(-1)
        self.axial = _gaussian_matrix(self.depths, torch.tensor(finer * probe.axial, device=self.device))
        blur = finer * probe.lateral * (1.0 + probe.defocus * (depth_share - probe.focus).abs())
        self.lateral = _gaussian_matrix(self.lines, blur)
        self.axial_power, self.lateral_power = self.axial.square(), self.lateral.square()
        loss = -probe.slope * depth_share[:, None] - probe.edge * angle_share[None].abs().pow(4)
        for at, width, deep in probe.shadows:
            start = torch.sigmoid((depth_share[:, None] - 0.12) * 30.0)
            loss = loss - deep * start * torch.exp(-0.5 * ((angle_share[None] - at) / width).square())
        self.loss_db = (loss + probe.gain).reshape(1, -1)
        rings = 0.5 + 0.5 * torch.cos(depth_share * 2 * torch.pi / 0.028)
        haze_db = probe.haze + probe.gain - 8.7 * depth_share / probe.haze_depth + 5.0 * rings * (depth_share < 0.12)
        self.haze_power = (10.0 ** (haze_db / 10.0))[:, None].expand(self.depths, self.lines).reshape(1, -1)
        noise_db = probe.noise - 12.0 * (1.0 - depth_share)
        self.noise_power = (10.0 ** (noise_db / 10.0))[:, None].expand(self.depths, self.lines).reshape(1, -1)
        self.grid, self.inside = self._picture_grid()

    def _places(self) -> tuple[Tensor, Tensor]:
        """Distances of the pixels' rows (size, 1) and columns (1, size) from the probe, in pixels of the canonical picture."""
        index = (torch.arange(self.size, device=self.device, dtype=torch.float32) + 0.5) / self.finer - 0.5
        return index[:, None] - APEX_ROW, index[None] - (IMAGE_SIZE - 1) / 2

    def _picture_grid(self) -> tuple[Tensor, Tensor]:
        row, column = self._places()
        radius, angle = torch.sqrt(row.square() + column.square()), torch.atan2(column, row)
        grid = torch.stack([angle / self.probe.half_angle, 2.0 * radius / RADIUS - 1.0], dim=-1)
        return grid, (radius <= RADIUS) & (angle.abs() <= self.probe.half_angle) & (row > 0)

    def picture_points(self) -> tuple[Tensor, Tensor]:
        """x and y in mm of the pixels inside the sector, each (pixels,), in the order of `inside`."""
        row, column = self._places()
        x, y = torch.broadcast_tensors(column, row)
        return (x * self.probe.mm_per_pixel)[self.inside], (y * self.probe.mm_per_pixel)[self.inside]

    def blur(self, field: Tensor, *, power: bool) -> Tensor:
        """Apply the point-spread function to (n, depths * lines): to a field, or to its expected power."""
        axial, lateral = (self.axial_power, self.lateral_power) if power else (self.axial, self.lateral)
        n, depths, lines = field.shape[0], self.depths, self.lines
        across = torch.bmm(field.reshape(n, depths, lines).transpose(0, 1), lateral)
        return (axial @ across.reshape(depths, n * lines)).reshape(depths, n, lines).transpose(0, 1).reshape(n, -1)

    def grey(self, power: Tensor, *, expected: bool) -> Tensor:
        """Log-compressed grey level 0..1 of a power (n, depths * lines)."""
        decibel = 10.0 * torch.log10(power.clamp_min(1e-9)) + (SPECKLE_BIAS_DB if expected else 0.0)
        grey = ((decibel + self.probe.dynamic_range) / self.probe.dynamic_range).clamp(0.0, 1.0)
        return grey.pow(self.probe.curve) if self.probe.curve != 1.0 else grey

    def shadow(self, level_db: Tensor, db_per_mm: float) -> Tensor:
        """dB lost at each point (frames, depths * lines) to what lies between it and the probe."""
        bright = torch.pow(10.0, level_db.reshape(-1, self.depths, self.lines) * 0.1)
        before = bright.cumsum(1) - bright
        return (before * (db_per_mm * self.probe.depth_mm / self.depths)).reshape(level_db.shape)

    def finish(self, grey: Tensor, details: Details) -> Tensor:
        """Apply a machine's edge processing to grey levels (n, channels, depths * lines): smoothing, or sharpening."""
        if details.smooth_px <= 0:
            return grey
        reach = math.ceil(3 * self.finer * details.smooth_px)
        steps = torch.arange(-reach, reach + 1, device=grey.device, dtype=grey.dtype)
        kernel = torch.exp(-0.5 * (steps / (self.finer * details.smooth_px)).square())
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
        planes = grey.reshape(-1, 1, self.depths, self.lines)
        smooth = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), kernel)
        smooth = F.conv2d(F.pad(smooth, (reach, reach, 0, 0), mode="replicate"), kernel.transpose(2, 3))
        if details.sharpen > 0:
            smooth = (planes + details.sharpen * (planes - smooth)).clamp(0.0, 1.0)
        return smooth.reshape(grey.shape)

    def scan_convert(self, values: Tensor) -> Tensor:
        """(n, channels, depths * lines) on the beams -> (n, channels, size, size) pixels, 0 outside the sector."""
        n, channels, _ = values.shape
        picture = F.grid_sample(
            values.reshape(1, n * channels, self.depths, self.lines),
            self.grid[None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return picture.reshape(n, channels, self.size, self.size) * self.inside


class Scatterers:
    """Random scatterers that belong to the tissue: two complex fields, turned into each other as time goes by, and a mottle."""

    def __init__(self, scanner: Scanner, generator: torch.Generator) -> None:
        self.scanner = scanner
        self.generator = generator
        height, width = int(_TEXTURE_Y / _TEXTURE_SPACING), int(2 * _TEXTURE_X / _TEXTURE_SPACING)
        noise = torch.randn(4, height, width, generator=generator, device=generator.device).to(scanner.device)
        coarse = torch.randn(1, 1, height // 10, width // 10, generator=generator, device=generator.device).to(scanner.device)
        mottle = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]
        self.texture = torch.cat([noise, mottle])[None]
        depths, lines = scanner.depths, scanner.lines
        unit, _ = self.sample(scanner.x[None], scanner.y[None], torch.zeros(1, 1, device=scanner.device))
        measured = self._power(scanner.blur(unit.reshape(2, -1), power=False)).reshape(depths, lines).mean(1)
        smooth = F.avg_pool1d(F.pad(measured[None, None], (8, 8), mode="replicate"), 17, 1)[0, 0]
        self.unit_gain = smooth.clamp_min(1e-6).rsqrt()[:, None].expand(depths, lines).reshape(1, -1)
        static = torch.randn(2, depths * lines, generator=generator, device=generator.device).to(scanner.device)
        self.static = scanner.blur(static, power=False) * 0.5**0.5

    @staticmethod
    def _power(complex_pair: Tensor) -> Tensor:
        return complex_pair.reshape(-1, 2, complex_pair.shape[-1]).square().sum(1)

    def sample(self, x_mm: Tensor, y_mm: Tensor, times_s: Tensor) -> tuple[Tensor, Tensor]:
        """Scatterers (frames, 2, points) and mottle (frames, points) of the tissue whose reference position is x, y."""
        grid = torch.stack([x_mm / _TEXTURE_X, y_mm * (2.0 / _TEXTURE_Y) - 0.9], dim=-1)[None]
        values = F.grid_sample(self.texture, grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
        turn = times_s * self.scanner.probe.decorrelation
        pair = torch.cos(turn) * values[0:2] + torch.sin(turn) * values[2:4]
        return pair.transpose(0, 1), values[4]

    def speckle(self, x_mm: Tensor, y_mm: Tensor, times_s: Tensor) -> Tensor:
        """Speckle power of mean 1 (frames, points on the beams) for tissue whose reference position is x, y."""
        pair, _ = self.sample(x_mm, y_mm, times_s)
        field = self.scanner.blur(pair.reshape(-1, pair.shape[-1]), power=False) * self.unit_gain
        return self._power(field)

    def image(
        self, level_db: Tensor, blood: Tensor, x_mm: Tensor, y_mm: Tensor, times_s: Tensor, details: Details = Details()
    ) -> Tensor:
        """Grey levels 0..1, (frames, 2, size, size): with speckle, and the expected picture without.

        level_db, blood, x_mm, y_mm: (frames, points on the beams) as `locate_tissue` gives them; times_s: (frames, 1).
        """
        scanner = self.scanner
        if details.shadowing > 0:
            level_db = level_db - scanner.shadow(level_db, details.shadowing)
        pair, mottle = self.sample(x_mm, y_mm, times_s)
        frames = level_db.shape[0]
        decibel = level_db + scanner.loss_db + scanner.probe.mottle * mottle * (1.0 - blood)
        amplitude = torch.pow(10.0, decibel * 0.05)
        fresh = torch.randn(pair.shape, generator=self.generator, device=self.generator.device).to(scanner.device)
        tissue_gain = self.unit_gain
        mixed = torch.where(blood.bool()[:, None], fresh * 0.5**0.5, pair * tissue_gain) * amplitude[:, None]
        field = scanner.blur(mixed.reshape(2 * frames, -1), power=False).reshape(frames, 2, -1)
        field = field + self.static[None] * scanner.haze_power.sqrt() + fresh * (0.5 * scanner.noise_power).sqrt()
        power = field.square().sum(1)
        expected = scanner.blur(amplitude.square(), power=True) + scanner.haze_power + scanner.noise_power
        mean = scanner.grey(expected, expected=True)
        speckled = torch.lerp(mean, scanner.grey(power, expected=False), scanner.probe.speckle)
        return scanner.scan_convert(scanner.finish(torch.stack([speckled, mean], dim=1), details))
