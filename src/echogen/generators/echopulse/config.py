"""The settings of an ECHOPulse generator, as its generator.json holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from echogen.ecg_window.spec import EcgWindowSpec
from echogen.errors import InputError
from echogen.phantom.speckle import SpeckleStyle
from echogen.physiology import Filling

#: Rules for the tokens that a step keeps: the surest, those next in Halton's order, or those that a critic takes for real.
ORDERS = ("confidence", "halton", "critic")
#: EF in % at which the mean sizes of `UsualCavity` hold: that of a healthy heart.
USUAL_CAVITY_EF = 60.0


@dataclass(frozen=True)
class UsualCavity:
    """Distribution of end-diastolic cavities over hearts, as the training clips have it at an EF of 60 %.

    length_px: mean length in pixels.
    width_px: mean width (area over length) in pixels.
    length_sd: SD of the length in pixels.
    width_sd: SD of the width in pixels.
    correlation: correlation of length and width, -1..1.
    length_per_ef: pixels of length that each point of EF adds.
    width_per_ef: pixels of width that each point of EF adds.
    """

    length_px: float = 59.2
    width_px: float = 26.5
    length_sd: float = 4.4
    width_sd: float = 2.7
    correlation: float = 0.6
    length_per_ef: float = -0.048
    width_per_ef: float = -0.024

    def at(self, deviations: NDArray[np.float64], ef_percent: float) -> tuple[float, float]:
        """Return length and width in pixels of a cavity this many SDs (two uncorrelated numbers) from the mean at an EF in %."""
        first, second = deviations
        mixed = self.correlation * first + np.sqrt(1.0 - self.correlation**2) * second
        length = self.length_px + self.length_per_ef * (ef_percent - USUAL_CAVITY_EF) + self.length_sd * first
        width = self.width_px + self.width_per_ef * (ef_percent - USUAL_CAVITY_EF) + self.width_sd * mixed
        return float(length), float(width)


@dataclass(frozen=True)
class FirstFrame:
    """Settings of a first frame that is guessed before the rest of its window, so that its parts agree before all else follows.

    steps: steps of parallel decoding.
    latents: latents of the window that are in view meanwhile, the first one included.
    candidates: most first frames that are guessed; the one whose wall stands out most is kept (`wall_contrast`).
    clear: contrast of the wall, in grey levels of 1, with which a candidate is kept at once.
    guidance: scale of guidance by the view, which a heart drawn all at once easily loses; 1 is none.
    temperature: temperature of the codes in the first step.
    temperature_end: temperature of the codes in the last step.
    choice_temperature: noise on the confidence by which tokens are kept.
    Raises `InputError` for less than one step, latent or candidate.
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
    """Settings of a live video, which begins with a single frame and goes on in short parts.

    latents: latents of each further part.
    steps: steps of parallel decoding of each part.
    prefix: latents before a part that are in view again.
    ahead: hidden latents behind a part that are in view, too, and left to the next part.
    future_s: ECG that must be there beyond the end of a part, in s.
    lead_in_s: ECG that must be there before anything begins, in s.
    lead_every: parts after which the best lead is chosen anew.
    first: settings of the first frame where none is given.
    Raises `InputError` for settings that are not positive.
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
    """Settings that generator.json holds beside the system's name.

    fps: frame rate of the video, in Hz.
    latents: latents of a window.
    prefix: latents that a window keeps of the one before it.
    reminded: True if every later window sees the video's first frame again before the kept latents, so that the heart stays
        the same and in its place; a network trained with first frames takes it for one that was just before.
    decode_context: latents before a window's new ones that the decoder sees again.
    guidance: scale of classifier-free guidance; 1 is none.
    guided: conditions that the second row of guidance lacks. Only the EF: guiding the ECG, too, exaggerates every contraction.
    steps: steps of parallel decoding of a window.
    temperature: temperature of the codes in the first step.
    temperature_end: temperature of the codes in the last step.
    order: rule for the tokens that a step keeps, one of `ORDERS`; halton suits few steps, critic needs a critic.
    choice_temperature: noise on the confidence, or on the critic's score, by which tokens are kept.
    first: settings of a first frame that is guessed before the rest of its window; None guesses it together with the rest.
    ef_range: lowest and highest EF that may be asked for, in %.
    ef_calibration: pairs (EF given to the network, EF of its videos) in %, both rising, by which an EF asked for is translated.
    ahead_s: time by which the network is asked to run ahead of the ECG, in s, since its videos lag behind by as much.
    usual_ef: mean and SD in % of the EF that is drawn where none is asked for; None leaves it to the network.
    usual_view: view where none is asked for and no first frame is given; None leaves it to the network.
    usual_cavity: sizes of the cavity at end-diastole where no first frame shows one; None tells the network nothing of them.
    usual_filling: filling between beats, the average of the hearts that the network learned from.
    live: settings of a live video.
    takes: conditions that may be asked for.
    speckle: speckle that is added to the drawn frames; None where the decoder draws it.
    ecg_window: sizes of the ECG window and of the latents, those that the networks were trained with.
    Raises `InputError` for an unknown order.
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
    speckle: SpeckleStyle | None = field(default_factory=SpeckleStyle)
    ecg_window: EcgWindowSpec = field(default_factory=EcgWindowSpec)

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InputError(f"The order of tokens must be one of {', '.join(ORDERS)}, not {self.order!r}.")
