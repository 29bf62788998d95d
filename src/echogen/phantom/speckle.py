"""Speckle for a structure that something else drew: the phantom's scatterers, moved by the drawn displacement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.phantom.texture import Texture, blurred, coarse_part, smooth_motion
from echogen.phantom.ultrasound import (
    APEX_ROW,
    DEPTHS,
    IMAGE_SIZE,
    LINES,
    RADIUS,
    SPECKLE_BIAS_DB,
    Probe,
    Scanner,
    Scatterers,
    draw_probe,
)


@dataclass(frozen=True)
class SpeckleStyle:
    """strength 0..1 as `Probe.speckle`; dynamic_range in dB; axial and lateral widths of the point-spread function as in `Probe`.

    decorrelation, noise, mottle: as in `Probe`; the mottle is what a drawn structure lacks of it. dark: grey level (0..1) below
    which the picture counts as blood, whose speckle is new in every frame. half_angle: of the sector in rad.
    """

    strength: float = 0.65
    dynamic_range: float = 55.0
    axial: float = 0.95
    lateral: float = 1.05
    decorrelation: float = 0.5
    noise: float = -52.0
    mottle: float = 2.0
    dark: float = 0.14
    half_angle: float = 0.80

    def drawn(self, seed: int) -> SpeckleStyle:
        """The style of one recording: its machine is drawn from a seed as the phantom draws its probes."""
        probe = draw_probe(np.random.default_rng(seed), heart_length_mm=RADIUS)
        alike = ("dynamic_range", "axial", "lateral", "decorrelation", "noise")
        return replace(self, strength=probe.speckle, **{name: getattr(probe, name) for name in alike})


#: Speckle is not taken from less tissue, nor made stronger than this; nor taken from where the drawn structure changes by more
#: than this per pixel, since its edges are never quite in place.
LEAST_TISSUE_PX, MOST_STRENGTH, STEEPEST = 300, 1.0, 0.03
#: Grey level (of 1) up to which a pixel counts as black.
BLACK = 0.01
#: Number of times that the missing part of a given frame is computed again, once its speckle's contribution is known.
ROUNDS = 2
#: The machine's noise, which is finer than speckle, is sought among these levels in dB, where a first frame is dim but not black:
#: the least that is as fine, but for this much.
NOISES, DIMMEST, ALIKE = tuple(float(level) for level in range(-60, -19, 4)), 0.06, 0.02


def _fine(picture: Tensor) -> Tensor:
    """Return the part of a picture (H, W) that is finer than the mean of its neighbours."""
    return picture - F.avg_pool2d(picture[None, None], 3, 1, 1, count_include_pad=False)[0, 0]


def _graininess(speckle: Tensor, where: Tensor) -> float:
    """Return the share (0..1) of the speckle (H, W) that is finer than the mean of its neighbours."""
    return float(_fine(speckle)[where].square().mean() / speckle[where].square().mean().clamp_min(1e-9))


def _steepness(structure: Tensor) -> Tensor:
    """Change per pixel (H, W) of a picture, slightly smoothed."""
    down, across = torch.gradient(blurred(structure, 1.0))
    return torch.hypot(down, across)


def _sector_of(frame: Tensor, inside: Tensor) -> Tensor:
    """The part (H, W; bool) of a sector, `inside`, that a frame (H, W) in 0..1 fills: its own may be narrower."""
    row, column = torch.meshgrid(*(torch.arange(side, device=frame.device) for side in frame.shape), indexing="ij")
    angle = torch.atan2(column - (IMAGE_SIZE - 1) / 2, (row - APEX_ROW).clamp_min(0.5))
    lit = angle[inside & (frame > BLACK) & (row > frame.shape[0] // 3)]
    if lit.numel() < LEAST_TISSUE_PX:
        return inside
    return inside & (angle >= lit.min()) & (angle <= lit.max())


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
            noise=style.noise,
        )
        self.scanner = Scanner(probe, device)
        self.scatterers = Scatterers(self.scanner, torch.Generator().manual_seed(seed))
        columns = self.scanner.x + (IMAGE_SIZE - 1) / 2
        rows = self.scanner.y + APEX_ROW
        half = (IMAGE_SIZE - 1) / 2
        self._beams = torch.stack([columns / half - 1.0, rows / half - 1.0], dim=-1)[None]
        #: Texture of the video's first frame, where one was given.
        self.given: Texture | None = None
        #: Mask of the pixels that are not black.
        self.inside = self.scanner.inside

    def match(self, frame: Tensor, structure: Tensor, displacement_px: Tensor, cavity: Tensor | None = None) -> None:
        """Take strength, noise and texture from the given first frame (128, 128) in 0..1 of the video, which is its frame at 0 s.

        structure (128, 128) in 0..1, displacement (2, 128, 128) in pixels, cavity (128, 128) in 0..1: what was drawn of it.
        """
        self.inside = _sector_of(frame, self.scanner.inside)
        tissue = self._tissue(structure, cavity)
        seen = partial(Texture.of, frame, structure, displacement_px, tissue, self.inside)
        self.given = seen()
        self.style = self._style_of(frame, structure, (structure + self.given.coarse).clamp(0.0, 1.0), tissue)
        for _ in range(ROUNDS):
            base = (structure + self.given.coarse).clamp(0.0, 1.0)
            self.given = seen(speckle=self._still(self.style, base, tissue))

    def _style_of(self, frame: Tensor, structure: Tensor, base: Tensor, tissue: Tensor) -> SpeckleStyle:
        """The own style with noise and strength as a frame (H, W) shows them.

        structure (H, W): as drawn; base (H, W): with the grey levels of the frame; tissue (H, W): 0..1.
        """
        style, shown, even = self.style, frame - base, self.inside & (_steepness(structure) < STEEPEST)

        def own(style: SpeckleStyle) -> Tensor:
            speckle = self._still(style, base, tissue)
            return speckle - coarse_part(speckle, tissue, self.inside)

        dim = even & (base > DIMMEST) & (base < base[even].median())
        if dim.sum() >= LEAST_TISSUE_PX:
            wanted = _graininess(shown, dim)
            grains = {noise: _graininess(own(replace(style, noise=noise)), dim) for noise in NOISES}
            enough = min(wanted, max(grains.values())) - ALIKE
            style = replace(style, noise=next(noise for noise, grain in grains.items() if grain >= enough))
        known = even & (base > style.dark) & (base < 1.0 - style.strength / 4)
        if known.sum() >= LEAST_TISSUE_PX:
            there, made = (_fine(speckle)[known].square().mean().sqrt() for speckle in (shown, own(style)))
            strength = style.strength * float(there / made.clamp_min(1e-6))
            style = replace(style, strength=min(max(strength, 0.0), MOST_STRENGTH))
        return style

    def _still(self, style: SpeckleStyle, base: Tensor, tissue: Tensor) -> Tensor:
        """The speckle (H, W) of a first picture (H, W), always the same."""
        start, still = base.new_zeros(1), base.new_zeros(1, 2, *base.shape)
        return self._speckle(style, base[None], still, 1.0 - tissue[None], start, torch.Generator().manual_seed(0))[0][0]

    def __call__(
        self,
        structure: Tensor,
        displacement_px: Tensor,
        times_s: Tensor,
        generator: torch.Generator,
        cavity: Tensor | None = None,
    ) -> Tensor:
        """structure (frames, 128, 128) in 0..1 and displacement (frames, 2, 128, 128) in pixels -> frames with speckle in 0..1.

        What lies outside of the sector is black. times_s (frames,): on the clock of the whole video. generator: of what is new
        in every frame. cavity: (frames, 128, 128) in 0..1, where it is known how much of each pixel is the ventricle's.
        """
        structure, moved = structure.float(), smooth_motion(displacement_px.float())
        if self.given is None:
            speckle, mottle = self._speckle(self.style, structure, moved, 1.0 - self._tissue(structure), times_s, generator)
            frames = structure + mottle + speckle
        else:
            frames = self._like_given(self.given, structure, moved, times_s, generator, cavity)
        return frames.clamp(0.0, 1.0) * self.inside

    def _like_given(
        self,
        given: Texture,
        structure: Tensor,
        moved: Tensor,
        times_s: Tensor,
        generator: torch.Generator,
        cavity: Tensor | None,
    ) -> Tensor:
        """Frames of a video whose first frame was given.

        Tissue keeps for good what that frame showed beyond the drawn structure; its speckle turns into another as time goes by.
        """
        coarse, fine, then = given.at(moved)
        now = self._tissue(structure, cavity)
        first = (times_s == 0).to(structure)[:, None, None]
        turn = (times_s.to(structure) * self.style.decorrelation).clamp_max(torch.pi / 2)[:, None, None]
        alike = torch.maximum(1.0 - (then - now).abs(), first)
        kept = torch.maximum(then * now * turn.cos().square(), first)
        base = (structure + alike * coarse).clamp(0.0, 1.0)
        speckle, _ = self._speckle(self.style, base, moved, 1.0 - self._tissue(base, cavity), times_s, generator)
        return base + kept * fine + torch.sqrt(1.0 - kept.square()) * speckle

    def _tissue(self, structure: Tensor, cavity: Tensor | None = None) -> Tensor:
        """Return the share (0..1) of each pixel that is tissue rather than blood."""
        bright = torch.sigmoid((structure - self.style.dark) * 60.0)
        return bright if cavity is None else bright * (1.0 - cavity)

    def _speckle(
        self,
        style: SpeckleStyle,
        structure: Tensor,
        moved: Tensor,
        blood: Tensor,
        times_s: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return the scatterers' contribution to a structure: speckle and mottle (frames, 128, 128)."""
        frames = structure.shape[0]
        stacked = torch.cat([structure[:, None], moved, blood[:, None]], dim=1)
        on_beams = F.grid_sample(
            stacked.reshape(1, frames * 4, IMAGE_SIZE, IMAGE_SIZE), self._beams[:, None], mode="bilinear", align_corners=True
        ).reshape(frames, 4, DEPTHS * LINES)
        level, blood = on_beams[:, :1], on_beams[:, 3:]
        # The picture's own unit stands for mm here: RADIUS pixels are RADIUS mm deep, so one texture serves every depth.
        x, y = self.scanner.x + on_beams[:, 1], self.scanner.y + on_beams[:, 2]
        pair, mottle = self.scatterers.sample(x, y, times_s.float()[:, None])
        fresh = torch.randn(pair.shape, generator=generator).to(structure.device) * 0.5**0.5
        mixed = torch.sqrt(1.0 - blood) * pair * self.scatterers.unit_gain + torch.sqrt(blood) * fresh
        field = self.scanner.blur(mixed.reshape(2 * frames, -1), power=False).reshape(frames, 2, -1)
        # Where the picture is as dark as the machine's own noise, that noise is all.
        expected = torch.pow(10.0, 0.1 * ((level - 1.0) * style.dynamic_range - SPECKLE_BIAS_DB))
        power = self.scanner.noise_power * 10.0 ** (0.1 * (style.noise - self.scanner.probe.noise))
        noise = (power / expected).clamp_max(1.0)
        field = torch.sqrt(1.0 - noise) * field + torch.sqrt(noise) * fresh
        decibel = 10.0 * torch.log10(field.square().sum(1).clamp_min(1e-6)) - SPECKLE_BIAS_DB
        planes = torch.stack([decibel, style.mottle * mottle * (1.0 - blood[:, 0])], dim=1) / style.dynamic_range
        picture, mottled = self.scanner.scan_convert(planes).unbind(1)
        visible = (structure / 0.06).clamp(0.0, 1.0)
        # The display ends at black and at white before the machine smooths its speckle away.
        within = torch.minimum(torch.maximum(picture, -structure), 1.0 - structure)
        return style.strength * visible * within, visible * mottled
