"""Corrections of drawn frames, one after the other; each can be taken out of the list alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from echogen.arrays import Floats
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.state import WindowState
from echogen.generators.echopulse.wall import Cavities, cavity_scale, cavity_share, find_cavities, move_wall, sharpen_wall
from echogen.generators.echopulse.window_request import WindowRequest
from echogen.generators.random_seeds import Purpose, mixed_seed
from echogen.phantom.speckle import SpeckleLayer, SpeckleStyle
from echogen.records import Cine


@dataclass(frozen=True)
class Drawing:
    """Frames as the decoder draws them, and as each filter leaves them.

    picture: (frames, height, width) grey levels in 0..1.
    displacement: (frames, 2, height, width) displacement of the tissue since end-diastole, in pixels.
    cells: (frames, rows, columns) share of each square cell that is cavity; None where the decoder does not say.
    expected: expected length and width of the cavity, (frames,) each in pixels; None until the cavity is found.
    cavities: place and size of the cavity in each frame, in pixels; None until it is found.
    cavity: (frames, height, width) share of each pixel that is cavity; None until it is found.
    """

    picture: Tensor
    displacement: Tensor
    cells: Floats | None = None
    expected: tuple[Floats, Floats] | None = None
    cavities: Cavities | None = None
    cavity: Tensor | None = None


@dataclass(frozen=True)
class NewFrames:
    """The frames that a window adds to its video.

    request: the window's request.
    latents: latents that the frames make.
    times_s: (frames,) times of the added frames, in s.
    index: number of the window, from 0.
    seed: the video's seed.
    """

    request: WindowRequest
    latents: int
    times_s: Floats
    index: int
    seed: int


class FrameFilter(ABC):
    """A correction of drawn frames; what it must remember from window to window lies in the `WindowState`."""

    def prepared(self, state: WindowState, config: EchoPulseConfig, reference: Cine | None, seed: int) -> WindowState:
        """Return the state before the first window, with all that can be made before the ECG is there."""
        return state

    @abstractmethod
    def __call__(
        self, drawing: Drawing, new: NewFrames, state: WindowState, config: EchoPulseConfig
    ) -> tuple[Drawing, WindowState]:
        """Return the corrected frames and the state after them."""


class FindCavity(FrameFilter):
    """Finds the cavity in every frame, where its size is expected and the decoder says which cells it covers.

    The filters after it that need the cavity do nothing where it is not found, or without this filter.
    """

    def __call__(
        self, drawing: Drawing, new: NewFrames, state: WindowState, config: EchoPulseConfig
    ) -> tuple[Drawing, WindowState]:
        """Return the drawing with `expected`, `cavities` and `cavity`."""
        outline = new.request.outline()
        if drawing.cells is None or outline is None:
            return drawing, state
        size = drawing.picture.shape[-1]
        cavities = find_cavities(drawing.cells, size / drawing.cells.shape[-1])
        if cavities is None:
            return drawing, state
        expected = outline(new.times_s + new.request.ahead_s)
        share = cavity_share(drawing.cells, drawing.picture)
        return replace(drawing, expected=expected, cavities=cavities, cavity=share), state


class MoveWall(FrameFilter):
    """Moves the wall of the ventricle to the outline expected from the beats."""

    def __call__(
        self, drawing: Drawing, new: NewFrames, state: WindowState, config: EchoPulseConfig
    ) -> tuple[Drawing, WindowState]:
        """Return the drawing with its cavity stretched to the expected size, times the video's own scale."""
        if drawing.cavities is None or drawing.cavity is None or drawing.expected is None:
            return drawing, state
        length, width = drawing.expected
        given = new.index == 0 and new.request.conditions.reference is not None
        scale = state.cavity_scale or cavity_scale(drawing.cavities, length, width, given=given)
        picture, displacement, cavity = move_wall(
            drawing.picture, drawing.displacement, drawing.cavity, drawing.cavities, scale[0] * length, scale[1] * width
        )
        moved = replace(drawing, picture=picture, displacement=displacement, cavity=cavity)
        return moved, replace(state, cavity_scale=scale)


class SharpenWall(FrameFilter):
    """Draws a crisp edge where the cavity ends in a brighter wall."""

    def __call__(
        self, drawing: Drawing, new: NewFrames, state: WindowState, config: EchoPulseConfig
    ) -> tuple[Drawing, WindowState]:
        """Return the drawing with its wall sharpened."""
        if drawing.cavity is None:
            return drawing, state
        return replace(drawing, picture=sharpen_wall(drawing.picture, drawing.cavity)), state


class AddSpeckle(FrameFilter):
    """Adds speckle that moves with the tissue: of a machine that the seed draws, or as in the reference's first frame."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def prepared(self, state: WindowState, config: EchoPulseConfig, reference: Cine | None, seed: int) -> WindowState:
        """Return the state with the scatterers and the machine, where no reference decides them."""
        drawn = None if config.speckle is None else self._drawn(config.speckle, seed)
        return replace(state, speckle=drawn) if reference is None else state

    def __call__(
        self, drawing: Drawing, new: NewFrames, state: WindowState, config: EchoPulseConfig
    ) -> tuple[Drawing, WindowState]:
        """Return the drawing with speckle, black outside of the sector; unchanged where the decoder draws speckle."""
        if config.speckle is None:
            return drawing, state
        layer = state.speckle or self._layer(drawing, new, config.speckle)
        start_s = new.times_s[0] if state.start_s is None else state.start_s
        noise = torch.Generator().manual_seed(mixed_seed(new.seed, new.index, Purpose.SPECKLE_NOISE))
        times = torch.tensor(new.times_s - start_s, device=self.device)
        picture = layer(drawing.picture, drawing.displacement, times, noise, drawing.cavity)
        return replace(drawing, picture=picture), replace(state, speckle=layer)

    def _layer(self, drawing: Drawing, new: NewFrames, usual: SpeckleStyle) -> SpeckleLayer:
        """The scatterers and the machine of a video that begins with these frames."""
        reference = new.request.conditions.reference
        if reference is None:
            return self._drawn(usual, new.seed)
        layer = SpeckleLayer(usual, new.seed, self.device)
        frame = torch.from_numpy(reference.frames[0]).to(self.device) / 255.0
        cavity = None if drawing.cavity is None else drawing.cavity[0]
        layer.match(frame, drawing.picture[0], drawing.displacement[0], cavity)
        return layer

    def _drawn(self, usual: SpeckleStyle, seed: int) -> SpeckleLayer:
        """Scatterers and a machine that the seed draws."""
        return SpeckleLayer(usual.drawn(mixed_seed(seed, 0, Purpose.MACHINE)), seed, self.device)


def default_filters(device: torch.device) -> tuple[FrameFilter, ...]:
    """Return the corrections of an ECHOPulse video, in their order."""
    return FindCavity(), MoveWall(), SharpenWall(), AddSpeckle(device)
