"""Speckle for a structure that something else drew: the phantom's scatterers, moved by the drawn displacement."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.phantom.ultrasound import APEX_ROW, DEPTHS, IMAGE_SIZE, LINES, RADIUS, SPECKLE_BIAS_DB, Probe, Scanner, Scatterers


@dataclass(frozen=True)
class SpeckleStyle:
    """strength 0..1 as `Probe.speckle`; dynamic_range in dB; axial and lateral widths of the point-spread function as in `Probe`.

    dark: grey level (0..1) below which the picture counts as blood, whose speckle is new in every frame.
    """

    strength: float = 0.65
    dynamic_range: float = 55.0
    axial: float = 0.95
    lateral: float = 1.05
    decorrelation: float = 0.5
    dark: float = 0.14
    half_angle: float = 0.80


#: Speckle is not taken from less tissue, nor made stronger than this.
LEAST_TISSUE_PX, MOST_STRENGTH = 300, 1.0
#: Side of the square in pixels whose mean is taken off to leave what is finer.
_FINE_PX = 7


def _fine(picture: Tensor) -> Tensor:
    """What of a picture (H, W) is finer than a few pixels."""
    return picture - F.avg_pool2d(picture[None, None], _FINE_PX, 1, _FINE_PX // 2, count_include_pad=False)[0, 0]


class SpeckleLayer:
    """Adds speckle to drawn frames; the scatterers stay the same for a whole video, so its parts fit together.

    seed: of the scatterers; the same seed gives the same tissue.
    """

    def __init__(self, style: SpeckleStyle, seed: int, device: str | torch.device = "cpu") -> None:
        self.style = style
        probe = Probe(
            depth_mm=RADIUS,
            half_angle=style.half_angle,
            axial=style.axial,
            lateral=style.lateral,
            decorrelation=style.decorrelation,
        )
        self.scanner = Scanner(probe, device)
        self.scatterers = Scatterers(self.scanner, torch.Generator().manual_seed(seed))
        columns = self.scanner.x + (IMAGE_SIZE - 1) / 2
        rows = self.scanner.y + APEX_ROW
        half = (IMAGE_SIZE - 1) / 2
        self._beams = torch.stack([columns / half - 1.0, rows / half - 1.0], dim=-1)[None]

    def match(self, frame: Tensor, structure: Tensor) -> None:
        """Take the strength of speckle from a frame (128, 128) in 0..1 whose structure (128, 128) is known."""
        still = torch.zeros(1, 2, *structure.shape, device=structure.device)
        own = self(structure[None], still, torch.zeros(1, device=structure.device), torch.Generator().manual_seed(0))[0]
        tissue = self.scanner.inside & (structure > self.style.dark) & (structure < 1.0 - self.style.strength / 4)
        if tissue.sum() < LEAST_TISSUE_PX:
            return
        shown, made = (_fine(picture - structure)[tissue].square().mean().sqrt() for picture in (frame, own))
        strength = self.style.strength * float(shown / made.clamp_min(1e-6))
        self.style = replace(self.style, strength=min(max(strength, 0.0), MOST_STRENGTH))

    def __call__(self, structure: Tensor, displacement_px: Tensor, times_s: Tensor, generator: torch.Generator) -> Tensor:
        """structure (frames, 128, 128) in 0..1 and displacement (frames, 2, 128, 128) in pixels -> frames with speckle in 0..1.

        What lies outside of the sector is black. times_s (frames,): on the clock of the whole video. generator: of what is new
        in every frame.
        """
        frames = structure.shape[0]
        stacked = torch.cat([structure[:, None], displacement_px], dim=1).float()
        on_beams = F.grid_sample(
            stacked.reshape(1, frames * 3, IMAGE_SIZE, IMAGE_SIZE), self._beams[:, None], mode="bilinear", align_corners=True
        ).reshape(frames, 3, DEPTHS * LINES)
        # The picture's own unit stands for mm here: RADIUS pixels are RADIUS mm deep, so one texture serves every depth.
        x, y = self.scanner.x + on_beams[:, 1], self.scanner.y + on_beams[:, 2]
        pair, _ = self.scatterers.sample(x, y, times_s.float()[:, None])
        fresh = torch.randn(pair.shape, generator=generator).to(structure.device)
        blood = torch.sigmoid((self.style.dark - on_beams[:, :1]) * 60.0)
        mixed = torch.sqrt(1.0 - blood) * pair * self.scatterers.unit_gain + torch.sqrt(0.5 * blood) * fresh
        field = self.scanner.blur(mixed.reshape(2 * frames, -1), power=False).reshape(frames, 2, -1)
        decibel = 10.0 * torch.log10(field.square().sum(1).clamp_min(1e-6)) - SPECKLE_BIAS_DB
        picture = self.scanner.scan_convert((decibel / self.style.dynamic_range)[:, None])[:, 0]
        visible = (structure / 0.06).clamp(0.0, 1.0)
        return (structure + self.style.strength * visible * picture).clamp(0.0, 1.0) * self.scanner.inside
