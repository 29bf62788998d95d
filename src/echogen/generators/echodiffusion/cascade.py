"""EchoDiffusion's cascades as data (Reynaud et al., MICCAI 2023, Table 3), and the stages sampled one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.errors import InputError
from echogen.generators.precision import DTYPES, Precision
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.samplers.edm import SOLVERS, Denoiser, Edm, Normal, Watch, add_noise, log_snr

#: Ways to enlarge a stage's video for the next one, by their names in torch.
RESIZES = ("trilinear", "nearest")
#: Numbers that stand for the noise level of the smaller video: its log-SNR, as in training, or the level itself.
LEVEL_ENCODINGS = {"log_snr": log_snr, "level": lambda level: level}
#: Function that is called after each call of a network: number of the stage from 0, noisy video, sigma, denoised video.
WatchStage = Callable[[int, Tensor, float, Tensor], None]


@dataclass(frozen=True)
class Stage:
    """One stage of a cascade.

    size: height and width of its frames in pixels.
    frames: frames of its video.
    steps: steps of Heun's solver.
    churn: noise that each step adds before it denoises (S_churn of Karras et al., 2022).
    difference: True if the stage makes the difference to the enlarged video of the stage before instead of the video itself.
    edm: constants of its diffusion; None takes those of the cascade.
    Raises `InputError` for sizes that are not positive.
    """

    size: int
    frames: int
    steps: int
    churn: float
    difference: bool = False
    edm: Edm | None = None

    def __post_init__(self) -> None:
        if min(self.size, self.frames, self.steps) < 1 or self.churn < 0:
            raise InputError("A stage needs a positive size, number of frames and of steps, and no negative churn.")


@dataclass(frozen=True)
class CascadeConfig:
    """The stages of a cascade, and the settings of their sampling.

    stages: the stages in their order.
    edm: constants of the stages that have none of their own; each stage has a churn of its own.
    resize: way to enlarge a stage's video for the next one, one of `RESIZES`.
    lowres_level: level of the noise that is put on the enlarged video, 0..1.
    told: encoding in which a network is given that level, one of `LEVEL_ENCODINGS`.
    guidance: scale of classifier-free guidance by the EF; 1 is none.
    guided_stages: number of stages, from the first on, that are guided; None guides all.
    solver: solver for `steps`, one of `SOLVERS`.
    steps: steps of that solver in each stage; None takes each stage's own steps of Heun's solver.
    dtype: number type of the matrix products, "bfloat16" or the slower "float32".
    Raises `InputError` for unknown names, values out of range and stages in the wrong order.
    """

    stages: tuple[Stage, ...]
    edm: Edm = field(default_factory=Edm)
    resize: str = "trilinear"
    lowres_level: float = 0.2
    told: str = "log_snr"
    guidance: float = 1.0
    guided_stages: int | None = None
    solver: str = "multistep"
    steps: tuple[int, ...] | None = None
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("resize", self.resize, RESIZES),
            ("told", self.told, LEVEL_ENCODINGS),
            ("solver", self.solver, SOLVERS),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in choices:
                raise InputError(f"The {name} of a cascade must be {' or '.join(choices)}, not {value!r}.")
        if not self.stages:
            raise InputError("A cascade needs at least one stage.")
        if self.steps is not None and (len(self.steps) != len(self.stages) or min(self.steps) < 1):
            raise InputError(f"A cascade of {len(self.stages)} stages needs as many positive numbers of steps, or none at all.")
        if self.guidance < 0 or not 0 <= self.lowres_level <= 1:
            raise InputError("A cascade needs a guidance of at least 0 and a noise level from 0 to 1.")
        for number, (before, after) in enumerate(pairwise(self.stages), start=1):
            if after.size < before.size or after.frames < before.frames:
                raise InputError(
                    f"The stages are in the wrong order: stage {number} makes {before.frames} frames of {before.size} pixels, "
                    f"stage {number + 1} only {after.frames} of {after.size}."
                )
            if after.frames % before.frames:
                raise InputError(
                    f"Stage {number + 1} cannot make {after.frames} frames of the {before.frames} of stage {number}; its number "
                    "of frames must be a multiple."
                )


#: Table 3 of the paper: size, frames, steps and churn of every stage.
_TABLE_3: dict[str, tuple[Stage, ...]] = {
    "1SCM": (Stage(112, 16, 64, 160.0),),
    "2SCM": (Stage(56, 16, 32, 80.0), Stage(112, 64, 64, 160.0)),
    "4SCM": (Stage(56, 16, 32, 40.0), Stage(56, 32, 32, 80.0), Stage(56, 64, 32, 160.0), Stage(112, 64, 64, 160.0)),
}
#: Time in s that the clips of the paper span.
_SECONDS = 2.0


def paper_cascade(name: str) -> tuple[CascadeConfig, tuple[VideoUnetConfig, ...]]:
    """Return 1SCM, 2SCM or 4SCM of the paper: the cascade and the network of each stage. Raises `InputError` for another name.

    Sampled with each stage's own steps of Heun's solver; the paper says nothing of guidance, so there is none.
    """
    if name not in _TABLE_3:
        raise InputError(f"There is no cascade {name!r}; use one of {', '.join(_TABLE_3)}.")
    base = VideoUnetConfig.paper()
    saving = replace(base, memory_saving=True, lowres=True)
    no_bottom = replace(base, middle_attention=False)
    # That the last stage of 4SCM has no cross-attention outside its middle is in the released configuration, not in the table.
    spatial = replace(no_bottom, lowres=True, cross_attention=(False,) * len(base.widths))
    networks = {"1SCM": (no_bottom,), "2SCM": (base, saving), "4SCM": (base, saving, saving, spatial)}
    return CascadeConfig(_TABLE_3[name]), networks[name]


def published_cascade(name: str) -> tuple[CascadeConfig, tuple[VideoUnetConfig, ...]]:
    """Return a cascade of the paper as its released weights are sampled; see `paper_cascade`.

    It is guided, networks are given the noise level of the smaller video as it is instead of as log-SNR, an EF of 0 is taken for
    none, and only 2SCM resizes smoothly.
    """
    config, networks = paper_cascade(name)
    resize = "trilinear" if name == "2SCM" else "nearest"
    published = replace(config, resize=resize, told="level", guidance=5.0)
    return published, tuple(replace(network, zero_is_none=True) for network in networks)


def frames_per_second(config: CascadeConfig, seconds: float = _SECONDS) -> float:
    """Frame rate of the last stage in Hz, all stages spanning the same time."""
    return config.stages[-1].frames / seconds


def resized(video: Tensor, frames: int, size: int, how: str) -> Tensor:
    """Resize a video (B, C, T, H, W) in 0..1 to (B, C, frames, size, size); how: one of `RESIZES`."""
    if video.shape[2:] == (frames, size, size):
        return video
    corners = None if how == "nearest" else False
    return F.interpolate(video, (frames, size, size), mode=how, align_corners=corners).clamp(0.0, 1.0)


class Cascade:
    """The networks of all stages, sampled one after the other."""

    def __init__(self, config: CascadeConfig, networks: Sequence[VideoUnet]) -> None:
        """Raises `InputError` when networks and stages do not belong together."""
        if len(networks) != len(config.stages):
            raise InputError(f"A cascade of {len(config.stages)} stages needs as many networks, not {len(networks)}.")
        for number, (stage, network) in enumerate(zip(config.stages, networks, strict=True), start=1):
            if network.config.lowres != (number > 1):
                what = "takes no smaller video" if number > 1 else "takes the video of a stage before it"
                raise InputError(f"The stages are in the wrong order: the network of stage {number} {what}.")
            if stage.size % network.config.shrinks:
                raise InputError(
                    f"Stage {number} makes frames of {stage.size} pixels, but its network needs a multiple of "
                    f"{network.config.shrinks}."
                )
            if network.config.channels != networks[0].config.channels:
                raise InputError(f"Stage {number} has {network.config.channels} channels, but the first stage has others.")
        self.config, self.networks = config, list(networks)
        self.device = next(self.networks[0].parameters()).device

    def network_calls(self, steps: int | None = None) -> list[int]:
        """Number of calls of each stage's network in `sample` with so many steps, guidance aside."""
        return [2 * each - 1 if solver == "heun" else each for solver, each in self._solvers(steps)]

    def _solvers(self, steps: int | None) -> list[tuple[str, int]]:
        """Solver and number of steps of each stage; steps: those of every stage, None for the cascade's."""
        config = self.config
        if steps is not None:
            return [(config.solver, steps)] * len(config.stages)
        if config.steps is not None:
            return [(config.solver, each) for each in config.steps]
        return [("heun", stage.steps) for stage in config.stages]

    def enlarged(self, index: int, video: Tensor) -> Tensor:
        """Enlarge the video (B, C, T, H, W) in 0..1 of the stage before to the size of stage `index`, in -1..1."""
        stage = self.config.stages[index]
        return resized(video, stage.frames, stage.size, self.config.resize) * 2.0 - 1.0

    def lowres(self, index: int, video: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
        """Enlarge the video (B, C, T, H, W) in 0..1 of the stage before for stage `index`, with noise, and encode its level."""
        video = self.enlarged(index, video)
        level = torch.full((len(video),), self.config.lowres_level, device=video.device)
        return add_noise(video, level, normal(video.shape)), LEVEL_ENCODINGS[self.config.told](level)

    def predict(
        self,
        index: int,
        frame: Tensor,
        ef: Tensor | None,
        guidance: float,
        lowres: tuple[Tensor, Tensor] | None,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function from a noisy video and its noise level to the prediction of stage `index`.

        It is guided towards the EF if the stage is one of the guided: without + scale (with - without), of the network's own
        output (Ho and Salimans, 2022, eq. 6 with scale = 1 + w).
        """
        network, dtype = self.networks[index], DTYPES[self.config.dtype]
        guided = self.config.guided_stages is None or index < self.config.guided_stages
        smaller = {} if lowres is None else {"lowres": lowres[0], "lowres_level": lowres[1]}

        def prediction(video: Tensor, level: Tensor) -> Tensor:
            with Precision(self.device, dtype).autocast():
                with_ef: Tensor = network(video, level, frame, ef, **smaller).float()
                if ef is None or guidance == 1.0 or not guided:
                    return with_ef
                without_ef: Tensor = network(video, level, frame, None, **smaller).float()
            return without_ef + guidance * (with_ef - without_ef)  # eq. 6

        return prediction

    @torch.inference_mode()
    def sample(
        self,
        frame: Tensor,
        ef: Tensor | None,
        normal: Normal,
        *,
        guidance: float | None = None,
        steps: int | None = None,
        watch: WatchStage | None = None,
    ) -> list[Tensor]:
        """Sample the video of every stage, (B, C, frames, size, size) in 0..1.

        frame: (B, C, H, W) reference frame in 0..1. ef: (B,) as a fraction, or None. normal: source of normal random numbers,
        drawn for each stage first for the noise on the smaller video, then by the solver. guidance: None takes the cascade's.
        steps: steps of the cascade's solver in every stage; None takes the cascade's, or else each stage's own of Heun's solver.
        watch: called after each call of a network.
        """
        guidance = self.config.guidance if guidance is None else guidance
        videos: list[Tensor] = []
        for index, (solver, count) in enumerate(self._solvers(steps)):
            of_stage = None if watch is None else (lambda x, sigma, clean, index=index: watch(index, x, sigma, clean))
            before = videos[-1] if videos else None
            videos.append(self.sample_stage(index, before, frame, ef, normal, solver, count, guidance=guidance, watch=of_stage))
        return videos

    @torch.inference_mode()
    def sample_stage(
        self,
        index: int,
        before: Tensor | None,
        frame: Tensor,
        ef: Tensor | None,
        normal: Normal,
        solver: str,
        steps: int,
        *,
        guidance: float = 1.0,
        watch: Watch | None = None,
    ) -> Tensor:
        """Sample stage `index` alone, from the video of the stage `before` it; see `sample`. solver: one of `SOLVERS`."""
        stage, network = self.config.stages[index], self.networks[index]
        edm = replace(stage.edm or self.config.edm, churn=stage.churn)
        lowres = None if before is None else self.lowres(index, before, normal)
        denoiser = Denoiser(self.predict(index, frame, ef, guidance, lowres), edm, watch)
        shape = (len(frame), network.config.channels, stage.frames, stage.size, stage.size)
        video = SOLVERS[solver](denoiser, shape, steps, edm, normal)
        if stage.difference and before is not None:
            video = video + self.enlarged(index, before)
        return video.clamp(-1.0, 1.0) * 0.5 + 0.5
