"""The settings of an ECHOPulse generator, as its generator.json holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError
from echogen.phantom.speckle import SpeckleStyle
from echogen.physiology import Filling

#: Which tokens of a step are kept: the surest, those whose turn it is, or those that a critic takes for real.
ORDERS = ("confidence", "halton", "critic")


@dataclass(frozen=True)
class UsualCavity:
    """Length and width (area over length) in pixels of end-diastolic cavities at an EF of 60 %: means, SDs, their correlation,
    and what each point of EF adds."""

    length_px: float = 59.2
    width_px: float = 26.5
    length_sd: float = 4.4
    width_sd: float = 2.7
    correlation: float = 0.6
    length_per_ef: float = -0.048
    width_per_ef: float = -0.024

    def at(self, deviations: NDArray[np.float64], ef_percent: float) -> tuple[float, float]:
        """Length and width of a cavity that lies this many SDs (two uncorrelated numbers) from the usual one."""
        first, second = deviations
        mixed = self.correlation * first + np.sqrt(1.0 - self.correlation**2) * second
        length = self.length_px + self.length_per_ef * (ef_percent - 60.0) + self.length_sd * first
        width = self.width_px + self.width_per_ef * (ef_percent - 60.0) + self.width_sd * mixed
        return float(length), float(width)


@dataclass(frozen=True)
class FirstFrame:
    """How a first frame that is not given is guessed: in steps of its own, so that its parts agree before all else follows.

    latents: how much of the window is seen meanwhile, its own included. guidance: scale, the other row lacking the view, which
    a heart drawn all at once easily forgets. temperature, choice_temperature: as in `EchoPulseConfig`. candidates: up to so many
    are guessed, and the one is kept in which the heart is seen best (`wall_contrast`). clear: one that is as clear as this, in
    grey levels of 1, is kept at once.
    """

    steps: int = 12
    latents: int = 5
    candidates: int = 1
    clear: float = 0.15
    guidance: float = 4.0
    temperature: float = 0.8
    temperature_end: float = 0.3
    choice_temperature: float = 20.0

    def __post_init__(self) -> None:
        if min(self.steps, self.latents, self.candidates) < 1:
            raise InputError("A first frame needs at least one step, one latent and one candidate.")


@dataclass(frozen=True)
class LivePace:
    """How a live video is made: a first frame, then `latents` latents (four frames each) at a time, guessed in `steps`.

    prefix: latents before a part that are seen again. ahead: hidden latents behind a part that are seen, too, and left to the
    next one. future_s: ECG that is heard beyond a part, in s; lead_in_s: before anything begins. lead_every: parts after which
    the best lead is chosen anew. first: how the first frame is guessed where none is given.
    """

    latents: int = 2
    steps: int = 4
    prefix: int = 4
    ahead: int = 4
    future_s: float = 0.25
    lead_in_s: float = 3.0
    lead_every: int = 8
    first: FirstFrame = field(default_factory=lambda: FirstFrame(8, 3))

    def __post_init__(self) -> None:
        if min(self.latents, self.steps, self.prefix, self.lead_every) < 1 or min(self.ahead, self.future_s, self.lead_in_s) < 0:
            raise InputError("The settings of live video must be positive.")


@dataclass(frozen=True)
class EchoPulseConfig:
    """What generator.json holds beside the system's name.

    fps: native frame rate. latents: of a window. prefix: latents that a window keeps of the one before it. reminded: every window
    sees the video's first frame again before those, so that the heart stays the same and where it is; a network trained with
    first frames takes it for one that was just before. decode_context: latents before a window's new ones that the decoder
    sees again. guidance: classifier-free scale, 1 is none. guided: the
    conditions that the other row of guidance lacks; the EF alone, since guiding the ECG too exaggerates every contraction.
    steps: of parallel decoding. temperature: of the codes, from the first step to the last. order: one of `ORDERS`, halton for
    few steps, critic where there is one. choice_temperature: noise on confidence or score.
    first: how a first frame is guessed before the rest of its window; None: together with it.
    ef_calibration: (EF given to the network, EF that its videos then have) in %, both rising, by which a wish is translated.
    ahead_s: how far ahead the heart is asked to be, to make up for what the videos lag behind.
    usual_ef: mean and SD in % of the EF that is drawn from the seed where none is asked for; usual_view: the view then, unless a
    first frame shows one. None leaves either to the network. usual_cavity: how large the cavity is at end-diastole, drawn from
    the seed or read from the first frame; None: the network is not told how large the clock expects it.
    usual_filling: how it fills between beats, as the hearts did on average from which the network learned.
    live: how it follows an ECG that is being recorded.
    """

    fps: float = 32.0
    latents: int = 17
    prefix: int = 4
    reminded: bool = True
    decode_context: int = 10
    guidance: float = 1.0
    guided: tuple[str, ...] = ("ef_percent",)
    steps: int = 10
    temperature: float = 0.9
    temperature_end: float = 0.1
    order: str = "confidence"
    choice_temperature: float = 6.0
    first: FirstFrame | None = field(default_factory=FirstFrame)
    ef_range: tuple[float, float] = (15.0, 80.0)
    ef_calibration: tuple[tuple[float, float], ...] = ()
    ahead_s: float = 0.0
    usual_ef: tuple[float, float] | None = (60.0, 5.0)
    usual_view: str | None = "A4C"
    usual_cavity: UsualCavity | None = field(default_factory=UsualCavity)
    usual_filling: Filling = field(default_factory=Filling)
    live: LivePace = field(default_factory=LivePace)
    takes: tuple[str, ...] = ("ecg", "ef_percent", "reference", "sex", "view")
    speckle: SpeckleStyle = field(default_factory=SpeckleStyle)

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InputError(f"The order of tokens must be one of {', '.join(ORDERS)}, not {self.order!r}.")
