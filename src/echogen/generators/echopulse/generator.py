"""ECHOPulse: video tokens guessed in parallel from the ECG, then drawn.

Source: Li et al., ECHOPulse, ICLR 2025. The shipped presets draw structure and motion and add speckle by the phantom's physics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from echogen.ecg_window.analysis import EcgWindow, analyse_ecg, analyse_ecg_so_far
from echogen.errors import InputError
from echogen.generators.base import Context, Generator
from echogen.generators.echopulse.cavity import CavitySizer
from echogen.generators.echopulse.checks import check_networks
from echogen.generators.echopulse.config import EchoPulseConfig, LivePace
from echogen.generators.echopulse.first_frame import FirstFrameGuesser
from echogen.generators.echopulse.frame_filters import FrameFilter, NewFrames, default_filters
from echogen.generators.echopulse.frame_renderer import FrameRenderer, Renderer
from echogen.generators.echopulse.state import WindowState, window_sizes
from echogen.generators.echopulse.student import STUDENT, load_student
from echogen.generators.echopulse.token_guesser import Observer, TokenGuesser
from echogen.generators.echopulse.window_request import WindowRequest, with_defaults
from echogen.generators.precision import Precision
from echogen.generators.random_seeds import Purpose, mixed_seed
from echogen.generators.sampling import LiveTiming, Sampling
from echogen.generators.settings_file import write_settings
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.networks.token_critic import Critic, load_critic
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Cine, Conditions, Ecg


class EchoPulse(Generator):
    """Masked video transformer over the tokens of a causal video tokenizer, steered by the ECG's beats and one of its leads.

    first_frame: makes the tokens of the first frame.
    cavity_sizer: finds the size of the cavity at end-diastole.
    token_guesser: guesses all other tokens.
    renderer: draws the tokens and corrects the frames.
    """

    system = "echopulse"

    def __init__(
        self,
        config: EchoPulseConfig,
        tokenizer: VideoTokenizer,
        transformer: MaskedTransformer,
        device: torch.device,
        critic: Critic | None = None,
        student: MaskedTransformer | None = None,
        *,
        filters: Sequence[FrameFilter] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Put networks to work under a config.

        critic: judges tokens where config.order is "critic". student: guesses all that follows a first frame; None is the
        transformer itself. filters: corrections of the frames; None takes `default_filters`. observer: called with every
        guess of tokens. Raises `InputError` for networks that do not fit one another or the config.
        """
        check_networks(config, tokenizer.config, transformer, critic)
        self.config, self.device, self.precision = config, device, Precision(device)
        self.tokenizer = tokenizer.to(device).eval()
        self.transformer = transformer.to(device).eval()
        self.student = self.transformer if student is None else student.to(device).eval()
        self.critic = None if critic is None else critic.to(device).eval()
        self.token_guesser = TokenGuesser(self.transformer, self.student, self.critic, tokenizer.config, self.precision, observer)
        renderer = FrameRenderer(self.tokenizer, self.precision, default_filters(device) if filters is None else filters)
        self.renderer: Renderer = renderer
        self.first_frame = FirstFrameGuesser(self.tokenizer, self.token_guesser, renderer)
        self.cavity_sizer = CavitySizer(self.transformer, tokenizer.config, self.precision)
        self.native_fps, self.ef_range, self.takes = config.fps, config.ef_range, frozenset(config.takes)
        self.name, self.weights_hash = self.system, ""

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder; see `Generator.from_folder`."""
        config = config_from_dict(EchoPulseConfig, settings)
        tokenizer = load_network(VideoTokenizer, folder / "tokenizer")
        transformer = load_network(MaskedTransformer, folder / "transformer")
        critic = load_critic(folder / "critic", transformer) if (folder / "critic").is_dir() else None
        student = load_student(folder / STUDENT, transformer) if (folder / STUDENT).is_dir() else None
        return cls(config, tokenizer, transformer, device, critic, student)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json and the networks (bfloat16) into a folder."""
        folder = Path(folder)
        save_network(self.tokenizer, folder / "tokenizer", torch.bfloat16)
        save_network(self.transformer, folder / "transformer", torch.bfloat16)
        if self.student is not self.transformer:
            save_network(self.student, folder / STUDENT, torch.bfloat16)
        if self.critic is not None:
            save_network(self.critic, folder / "critic", torch.bfloat16)
        write_settings(folder, self.system, self.config)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the matrix products: bfloat16, or float32 for a processor without units for it."""
        return self.precision.dtype

    @dtype.setter
    def dtype(self, dtype: torch.dtype) -> None:
        self.precision.dtype = dtype

    @property
    def adaptable(self) -> VideoTokenizer:
        """The tokenizer."""
        return self.tokenizer

    @property
    def window_s(self) -> float:
        """Duration of a window of mid-stream latents, in s."""
        return self.config.ecg_window.frames(self.config.latents, False) / self.config.fps

    @property
    def live_timing(self) -> LiveTiming:
        """Timing of a live video: the first frame, then a few latents at a time."""
        pace, fps, spec = self.config.live, self.config.fps, self.config.ecg_window
        return LiveTiming(1 / fps, spec.frames(pace.latents, False) / fps, pace.future_s, pace.lead_in_s)

    def initial_state(self, conditions: Conditions, sampling: Sampling) -> WindowState:
        """Return the state before the first window, with the speckle of a video whose first frame is not given."""
        return self.renderer.prepared(self.config, conditions.reference, sampling.seed)

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """Make the next window: guess its tokens around the kept ones, draw the new frames and correct them."""
        config, spec, seed = self.config, self.config.ecg_window, sampling.seed
        state: WindowState = context.state or WindowState()
        pace = config.live if sampling.live else None
        settings, begins = pace or config, state.tokens is None
        if begins:
            kept, is_first, drawn = self.first_frame.encode(conditions.reference), True, 0
        else:
            kept, is_first = state.kept_tokens(settings.prefix, config.reminded)
            drawn = kept.shape[1]
        added, latents = window_sizes(config.latents, drawn, pace)
        frames_before = spec.frames(drawn, is_first) if drawn else 0
        times_s = context.next_s - frames_before / config.fps + np.arange(spec.frames(latents, is_first)) / config.fps
        request = WindowRequest(
            with_defaults(conditions, seed, config),
            self.analysed_ecg(conditions.ecg, state.lead_name, context.index, pace),
            times_s,
            is_first,
            state.cavity,
            filling=config.usual_filling,
            ahead_s=config.ahead_s,
            spec=spec,
            ef_calibration=config.ef_calibration,
        )
        if begins:
            kept, request = self._begin(request, kept, sampling)
        tokens = self.token_guesser.guess(
            request,
            kept,
            drawn + added,
            seed=mixed_seed(seed, context.index, Purpose.TOKENS),
            steps=sampling.steps or settings.steps,
            guidance=config.guidance if sampling.guidance is None else sampling.guidance,
            config=config,
        )
        state = state.with_tokens(tokens[:, drawn:])
        new_s = times_s[frames_before : frames_before + spec.frames(added, begins)]
        frames, state = self.renderer.render(state, NewFrames(request, added, new_s, context.index, seed), config)
        state = replace(state.shortened(config.decode_context), cavity=request.cavity, lead_name=request.lead_name)
        next_s = float(new_s[-1] + 1.0 / config.fps)
        return Cine(frames, new_s, view=request.drawn_view), Context(context.index + 1, next_s, state)

    def analysed_ecg(self, ecg: Ecg | None, lead_name: str | None, index: int, pace: LivePace | None) -> EcgWindow | None:
        """Analyse the ECG around window `index`; None without one, and while an ECG has no beats after the first window.

        lead_name: the lead of the window before. pace: that of a live video; None for a whole ECG.
        """
        if ecg is None:
            return None
        try:
            if pace is None:
                return analyse_ecg(ecg, self.config.ecg_window)
            return analyse_ecg_so_far(ecg, lead_name if index % pace.lead_every else None, self.config.ecg_window)
        except InputError:
            if index == 0:
                raise
            return None

    def _begin(self, request: WindowRequest, kept: Tensor | None, sampling: Sampling) -> tuple[Tensor | None, WindowRequest]:
        """Return the first frame's tokens, guessed where none are given, and the request with its cavity's size."""
        config, seed = self.config, sampling.seed
        request = replace(request, cavity=self.cavity_sizer.size(request, seed, kept, config.usual_cavity))
        if kept is None and config.first is not None:
            kept = self.first_frame.guess(request, seed, config.live.first if sampling.live else config.first)
            request = replace(request, cavity=self.cavity_sizer.size(request, seed, kept, config.usual_cavity))
        return kept, request
