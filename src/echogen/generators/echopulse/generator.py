"""ECHOPulse: video tokens guessed in parallel from the ECG, then drawn.

Source: Li et al., ECHOPulse, ICLR 2025. The shipped presets draw structure and motion and add speckle by the phantom's physics.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen.ecg_window import features as steering
from echogen.ecg_window.analysis import EcgWindow, analyse_ecg, analyse_ecg_so_far
from echogen.errors import InputError
from echogen.generators.base import GENERATOR_FILE, Context, Generator, LiveTiming, Sampling, ef_to_give
from echogen.generators.echopulse.config import EchoPulseConfig, FirstFrame, LivePace
from echogen.generators.echopulse.wall import cavity_scale, find_cavities, move_wall, sharpen_wall
from echogen.generators.echopulse.wall_contrast import wall_contrast
from echogen.generators.echopulse.window_request import TokenQuery, WindowRequest, between, encode_conditions, frames_of
from echogen.networks.adapters import ADAPTER_CONFIG_FILE, add_adapter, load_adapter
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.networks.token_critic import Critic, TokenCritic, check_critic, load_critic
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.phantom.speckle import SpeckleLayer
from echogen.phantom.ultrasound import IMAGE_SIZE
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers import halton
from echogen.samplers.maskgit import Score, linear_ramp, sample

#: Displacement in pixels that the tokenizer's motion channels draw as 1.
MOTION_SCALE = 16.0
#: Side in pixels of the cells of which the decoder says how much is cavity.
CELL_PX = 4.0


#: The folder of a generator's student: a network, or low-rank changes of the transformer (`networks.adapters`).
STUDENT = "student"


class EchoPulse(Generator):
    """Masked video transformer over the tokens of a causal video tokenizer, steered by an ECG on the clock."""

    system = "echopulse"
    #: Of the matrix products: bfloat16, or float32 for a processor that has no units for it.
    dtype: torch.dtype = torch.bfloat16

    def __init__(
        self,
        config: EchoPulseConfig,
        tokenizer: VideoTokenizer,
        transformer: MaskedTransformer,
        device: torch.device,
        critic: Critic | None = None,
        student: MaskedTransformer | None = None,
    ) -> None:
        if config.order == "critic" and critic is None:
            raise InputError("There is no critic to order the tokens by; train one, or set the order to confidence or halton.")
        if critic is not None:
            check_critic(critic, transformer)
        self.config = config
        self.device = device
        self.tokenizer = tokenizer.to(device).eval()
        self.transformer = transformer.to(device).eval()
        #: Guesses all that follows a first frame, in few steps; the transformer itself where none learned from it.
        self.student = self.transformer if student is None else student.to(device).eval()
        self.critic = None if critic is None else critic.to(device).eval()
        patches = tokenizer.config
        by_turn = config.order == "halton"
        order = halton.order(config.latents, patches.grid, patches.grid, patches.active_patches) if by_turn else None
        self.order = None if order is None else order.view(config.latents, -1)
        self.native_fps = config.fps
        self.takes = frozenset(config.takes)
        self.ef_range = config.ef_range
        self.name, self.weights_hash = self.system, ""

    @classmethod
    def _load(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        config = config_from_dict(EchoPulseConfig, settings)
        tokenizer = load_network(VideoTokenizer, folder / "tokenizer")
        transformer = load_network(MaskedTransformer, folder / "transformer")
        if tokenizer.quantizer.vocabulary != transformer.config.vocabulary:
            raise InputError(
                f"The tokenizer in {folder} has {tokenizer.quantizer.vocabulary} codes but the transformer expects "
                f"{transformer.config.vocabulary}; they do not belong together."
            )
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
        text = json.dumps({"system": self.system, **asdict(self.config)}, indent=2) + "\n"
        (folder / GENERATOR_FILE).write_text(text, encoding="utf-8")

    @property
    def adaptable(self) -> VideoTokenizer:
        """The tokenizer."""
        return self.tokenizer

    @property
    def window_s(self) -> float:
        """A window of mid-stream latents."""
        return 4 * self.config.latents / self.config.fps

    @property
    def live(self) -> LiveTiming:
        """The first frame, then a few latents at a time."""
        pace, fps = self.config.live, self.config.fps
        return LiveTiming(1 / fps, 4 * pace.latents / fps, pace.future_s, pace.lead_in_s)

    def prepared(self, conditions: Conditions, sampling: Sampling) -> dict[str, Any]:
        """The speckle of a video whose first frame is not given."""
        return {} if conditions.frames is not None else {"speckle": self._drawn_speckle(sampling.seed)}

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The next window: guess its tokens around the kept ones, draw the new frames, add speckle."""
        config, state = self.config, context.state
        pace = config.live if sampling.live else None
        known: Tensor | None = state.get("ids")
        from_start: bool = state.get("from_start", True)
        prefix = (pace or config).prefix
        if known is None:
            kept, is_first = self._first_frame(conditions.frames), True
        else:
            kept, is_first = known[:, -prefix:], from_start and prefix >= known.shape[1]
            if config.reminded and not is_first:
                kept, is_first = torch.cat([state["first"], kept], dim=1), True
        shown = 0 if known is None or kept is None else kept.shape[1]
        new, latents = self._sizes(shown, pace)
        before = frames_of(shown, is_first) if shown else 0
        times = context.next_s - before / config.fps + np.arange(frames_of(latents, is_first)) / config.fps
        ecg_window = self._analyse_ecg(conditions.ecg, context, pace)
        request = WindowRequest(
            self._with_defaults(conditions, sampling.seed), ecg_window, times, is_first, filling=config.usual_filling
        )
        request = replace(request, cavity=self._cavity(request, sampling.seed, kept) if known is None else state["cavity"])
        first = config.first and (pace or config).first
        if kept is None and first is not None:
            kept = self._imagined(request, sampling, first)
            request = replace(request, cavity=self._cavity(request, sampling.seed, kept))
        steps = sampling.steps or (pace or config).steps
        ids = self._guess(request, sampling, context.index, kept, new if known is None else shown + new, steps)[:, shown:]
        history = ids if known is None else torch.cat([known, ids], dim=1)
        fresh = times[before : before + frames_of(ids.shape[1], from_start and known is None)]
        frames, drawn = self._shown(history, ids.shape[1], request, fresh, conditions, context, sampling)
        following = drawn | {
            "ids": history[:, -config.decode_context :],
            "from_start": from_start and history.shape[1] <= config.decode_context,
            "first": state.get("first", history[:, :1]),
            "cavity": request.cavity,
            "lead": request.ecg_window and request.ecg_window.lead_name,
        }
        next_s = float(fresh[-1] + 1.0 / config.fps)
        return Cine(frames, fresh, view=conditions.view), Context(context.index + 1, next_s, following)

    def _shown(
        self,
        history: Tensor,
        count: int,
        request: WindowRequest,
        times_s: NDArray[np.float64],
        conditions: Conditions,
        context: Context,
        sampling: Sampling,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """The last `count` latents as frames: drawn, their wall settled, with speckle; and what the next window needs of that."""
        config, state = self.config, context.state
        picture, moved, cells = self._draw(history, count, state.get("from_start", True))
        scale: tuple[float, float] | None = state.get("scale")
        cavity = None
        if cells is not None and (outline := request.outline()) and (found := find_cavities(cells, CELL_PX)):
            length, width = outline(times_s + config.ahead_s)
            scale = scale or cavity_scale(found, length, width, given=not context.index and conditions.frames is not None)
            picture, moved, cavity = move_wall(picture, moved, cells, found, scale[0] * length, scale[1] * width)
            picture = sharpen_wall(picture, cavity)
        layer: SpeckleLayer = state.get("speckle") or self._speckle(conditions, sampling.seed, picture, moved, cavity)
        noise = torch.Generator().manual_seed(_mix(sampling.seed, context.index, 1))
        start_s = state.get("start_s", float(times_s[0]))
        video = layer(picture, moved, torch.tensor(times_s - start_s, device=self.device), noise, cavity)
        frames = (video * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
        return frames, {"scale": scale, "speckle": layer, "start_s": start_s}

    def _sizes(self, shown: int, pace: LivePace | None) -> tuple[int, int]:
        """How many latents a window adds to those that were shown before, and how many it has with those that it leaves."""
        longest = self.config.latents
        if pace is None:
            return longest - shown, longest
        if not shown:
            return 1, min(pace.first.latents, longest)
        new = min(pace.latents, longest - shown)
        return new, min(shown + new + pace.ahead, longest)

    def _with_defaults(self, conditions: Conditions, seed: int) -> Conditions:
        """The conditions with what is usual where nothing is asked, and the EF to give to get the one asked for."""
        config, ef, view = self.config, conditions.ef_percent, conditions.view
        if ef is None and config.usual_ef is not None:
            mean, spread = config.usual_ef
            ef = float(np.clip(np.random.default_rng(_mix(seed, 0, 2)).normal(mean, spread), *config.ef_range))
        if ef is not None:
            ef = ef_to_give(ef, config.ef_calibration)
        if view is None and conditions.frames is None:
            view = config.usual_view
        return replace(conditions, ef_percent=ef, view=view)

    def _speckle(self, conditions: Conditions, seed: int, picture: Tensor, moved: Tensor, cavity: Tensor | None) -> SpeckleLayer:
        """What adds speckle to a video that begins with these frames: as in its given first frame, else drawn from the seed."""
        given = conditions.frames
        if given is None:
            return self._drawn_speckle(seed)
        layer = SpeckleLayer(self.config.speckle, seed, self.device)
        frame = torch.from_numpy(given.frames[0]).to(self.device) / 255.0
        layer.match(frame, picture[0], moved[0], None if cavity is None else cavity[0])
        return layer

    def _drawn_speckle(self, seed: int) -> SpeckleLayer:
        """Speckle of a machine that the seed draws."""
        return SpeckleLayer(self.config.speckle.drawn(_mix(seed, 0, 5)), seed, self.device)

    @torch.inference_mode()
    def _first_frame(self, frames: Cine | None) -> Tensor | None:
        """The ids (1, 1, positions, groups) of a reference image, if there is one."""
        if frames is None:
            return None
        image: NDArray[np.uint8] = frames.frames[:1]
        if image.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise InputError(f"The first frame must be {IMAGE_SIZE} x {IMAGE_SIZE} in sector geometry, not {image.shape[1:]}.")
        return self.tokenizer.tokenize(torch.from_numpy(image).to(self.device).float()[None] / 255.0)

    @staticmethod
    def _analyse_ecg(ecg: Ecg | None, context: Context, pace: LivePace | None) -> EcgWindow | None:
        """What a window hears; an ECG that loses its beats on the way is absent while it does."""
        if ecg is None:
            return None
        try:
            if pace is None:
                return analyse_ecg(ecg)
            return analyse_ecg_so_far(ecg, context.state["lead"] if context.index % pace.lead_every else None)
        except InputError:
            if context.index == 0:
                raise
            return None

    def _cavity(self, request: WindowRequest, seed: int, first_frame: Tensor | None) -> tuple[float, float] | None:
        """Length and width in pixels of the cavity at end-diastole, as the first frame shows it, else as the seed draws it."""
        usual, ef = self.config.usual_cavity, request.conditions.ef_percent
        if usual is None or ef is None:
            return None
        outline = replace(request, cavity=(1.0, 1.0)).outline()
        if first_frame is not None and outline is not None:
            seen = self._seen_cavity(request, first_frame)
            if seen is not None:
                length, width = outline(request.times_s[:1])
                return seen[0] / float(length[0]), seen[1] / float(width[0])
        drawn = np.random.default_rng(_mix(seed, 0, 3)).normal(size=2).clip(-2.0, 2.0)
        return usual.at(drawn, ef)

    @torch.inference_mode()
    def _seen_cavity(self, request: WindowRequest, first_frame: Tensor) -> tuple[float, float] | None:
        """Length and width in pixels of the cavity that the first frame shows, where the transformer finds one."""
        transformer, grid = self.transformer, self.tokenizer.config.grid
        if transformer.cavity is None:
            return None
        with self._autocast():
            told = self._conditioning(replace(request, cavity=None), [request.conditions])
            window = between(first_frame, self._hidden(0), request.latents, transformer.config.mask_id)
            features = transformer.features(window, *request.clock(1, self.device), told, slice(1))
            share = transformer.cavity(features[0, 0]).float().sigmoid().unflatten(-1, (4, -1)).mean(1).cpu()
        side = round(share.shape[-1] ** 0.5)
        places = self.tokenizer.config.active_patches or range(grid**2)
        patches = torch.zeros(grid**2, side, side).index_copy(0, torch.tensor(places), share.view(-1, side, side))
        cells = patches.view(grid, grid, side, side).transpose(1, 2).reshape(grid * side, grid * side)
        return steering.outline_of_cells(cells.double().numpy(), self.tokenizer.config.image_size / (grid * side))

    @torch.inference_mode()
    def _imagined(self, request: WindowRequest, sampling: Sampling, first: FirstFrame) -> Tensor:
        """The ids (1, 1, positions, groups) of a first frame, guessed before the rest of its window and guided by its view.

        Of the candidates the first one that is clear enough, else the clearest.
        """
        conditions = request.conditions
        asked = [conditions, replace(conditions, view=None)]
        asked = asked[: 2 if first.guidance != 1.0 and conditions.view is not None else 1]
        with self._autocast():
            told = self._conditioning(request, asked)
            latents = min(first.latents, request.latents)
            query = TokenQuery.about(request, told, len(asked), self.device, latents, None, first.guidance)
            best, kept = -np.inf, self._hidden(1)
            for candidate in range(first.candidates):
                ids = self._fill(
                    self.transformer,
                    query,
                    1,
                    steps=first.steps,
                    generator=torch.Generator().manual_seed(_mix(sampling.seed, candidate, 4)),
                    temperature=linear_ramp(first.temperature, first.temperature_end, first.steps),
                    choice_temperature=first.choice_temperature,
                )
                clear = self._wall_contrast(ids) if first.candidates > 1 else np.inf
                if clear > best or candidate == 0:
                    best, kept = clear, ids
                if clear >= first.clear:
                    break
        return kept

    def _wall_contrast(self, ids: Tensor) -> float:
        """See `wall_contrast`, of a first frame's ids (1, 1, positions, groups); 0 where the decoder knows no cavity."""
        picture, _, cells = self._draw(ids, 1, from_start=True)
        return 0.0 if cells is None else wall_contrast(picture[0].double().cpu().numpy(), cells[0])

    @torch.inference_mode()
    def _guess(
        self, request: WindowRequest, sampling: Sampling, index: int, kept: Tensor | None, until: int, steps: int
    ) -> Tensor:
        """The ids (1, until, positions, groups) of a window up to a latent, the kept ones unchanged."""
        config, conditions = self.config, request.conditions
        given = 0 if kept is None else kept.shape[1]
        if kept is not None and given == until:
            return kept
        scale = config.guidance if sampling.guidance is None else sampling.guidance
        absent: dict[str, Any] = dict.fromkeys(config.guided)
        to_guide = any(getattr(conditions, name) is not None for name in config.guided)
        asked = [conditions, replace(conditions, **absent)][: 2 if scale != 1.0 and to_guide else 1]
        with self._autocast():
            told = self._conditioning(request, asked)
            guessed = self._fill(
                self.student,
                TokenQuery.about(request, told, len(asked), self.device, request.latents, kept, scale),
                until - given,
                steps=steps,
                generator=torch.Generator().manual_seed(_mix(sampling.seed, index, 0)),
                temperature=linear_ramp(config.temperature, config.temperature_end, steps),
                choice_temperature=config.choice_temperature,
                order=None if self.order is None else self.order[given:until].flatten(),
                score=self._judge(request, kept, given) if config.order == "critic" else None,
            )
        return guessed if kept is None else torch.cat([kept, guessed], dim=1)

    def _fill(self, network: MaskedTransformer, query: TokenQuery, new: int, **way: Any) -> Tensor:
        """The ids (1, new, positions, groups) with which a network answers a question; way: how, as `sample` takes it."""
        return sample(query.asked_of(network), self._hidden(new), network.config.mask_id, **way)

    def _judge(self, request: WindowRequest, kept: Tensor | None, given: int) -> Score:
        """tokens (1, new, positions, groups) -> how real the critic finds each."""
        critic, transformer = self.critic, self.transformer
        assert critic is not None
        told = self._conditioning(request, [request.conditions], critic.trunk if isinstance(critic, TokenCritic) else transformer)
        clock, head = request.clock(1, self.device)

        def score(tokens: Tensor) -> Tensor:
            window = between(kept, tokens, request.latents, transformer.config.mask_id)
            judged: Tensor = critic(transformer, window, clock, head, lambda network: told)
            return judged[:, given : given + tokens.shape[1]]

        return score

    def _hidden(self, latents: int) -> Tensor:
        config = self.transformer.config
        return torch.full((1, latents, config.spatial_positions, config.groups), config.mask_id, device=self.device)

    def _conditioning(
        self, request: WindowRequest, asked: Sequence[Conditions], network: MaskedTransformer | None = None
    ) -> Conditioning:
        """See `encode_conditions`; network: the one that encodes the conditions, if not the transformer."""
        return encode_conditions(network or self.transformer, request, asked, self.config.ahead_s, self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.inference_mode()
    def _draw(self, ids: Tensor, count: int, from_start: bool) -> tuple[Tensor, Tensor, NDArray[np.float64] | None]:
        """Structure (frames, 128, 128) and displacement (frames, 2, 128, 128) in pixels of the last `count` latents.

        Third, the share (frames, 32, 32) of each cell that is cavity, where the decoder says so. from_start: the latents begin
        with the first one of the video.
        """
        tokenizer, alone = self.tokenizer, from_start and count == ids.shape[1]
        with self._autocast():
            features = tokenizer.decode_features(tokenizer.quantizer.decode_ids(ids))[:, -count:]
            drawn = tokenizer.picture(features, alone)[0].float()
            said = None if tokenizer.cavity is None else tokenizer.cavity(features[0]).float().sigmoid().cpu()
        cells = None if said is None else self._cells(said, alone)
        return drawn[:, 0].clamp(0.0, 1.0), drawn[:, 1:3] * MOTION_SCALE, cells

    def _cells(self, said: Tensor, from_start: bool) -> NDArray[np.float64]:
        """What is said of the tokens (latents, positions, cells) as pictures (frames, 32, 32)."""
        grid, count = self.tokenizer.config.grid, len(said)
        places = torch.tensor(self.tokenizer.config.active_patches or range(grid**2))
        patches = torch.zeros(count, grid**2, said.shape[-1]).index_copy(1, places, said)
        side = round((said.shape[-1] / 4) ** 0.5)
        cells = (
            patches.view(count, grid, grid, 4, side, side).permute(0, 3, 1, 4, 2, 5).reshape(count, 4, grid * side, grid * side)
        )
        frames = list(cells.double().numpy())
        return np.concatenate([frames[0].mean(0, keepdims=True), *frames[1:]] if from_start else frames)


def load_student(folder: Path, transformer: MaskedTransformer) -> MaskedTransformer:
    """The student in a folder; raises `InputError` for one that learned from another transformer."""
    if not (folder / ADAPTER_CONFIG_FILE).is_file():
        return load_network(MaskedTransformer, folder)
    student = copy.deepcopy(transformer)
    add_adapter(student, load_adapter(folder))
    return student


def _mix(seed: int, index: int, purpose: int) -> int:
    """One seed from a video's seed, a window's number and what it is for."""
    return int(np.random.SeedSequence([seed, index, purpose]).generate_state(1, np.uint64)[0] >> 1)
