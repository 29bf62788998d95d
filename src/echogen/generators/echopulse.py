"""ECHOPulse: video tokens guessed in parallel from the ECG, then drawn.

Source: Li et al., ECHOPulse, ICLR 2025. The shipped presets draw structure and motion and add speckle by the phantom's physics.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen import ecg as ecg_module
from echogen.errors import InputError
from echogen.generators import conditioning as steering
from echogen.generators.base import GENERATOR_FILE, Context, Generator, Sampling, ef_to_give
from echogen.generators.echopulse_config import EchoPulseConfig, FirstFrame
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.networks.token_critic import Critic, TokenCritic, check_critic, load_critic
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.phantom.speckle import SpeckleLayer
from echogen.phantom.ultrasound import IMAGE_SIZE
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers import halton
from echogen.samplers.maskgit import guided, linear_ramp, sample

#: Displacement in pixels that the tokenizer's motion channels draw as 1.
MOTION_SCALE = 16.0


class EchoPulse(Generator):
    """Masked video transformer over the tokens of a causal video tokenizer, steered by an ECG on the clock."""

    system = "echopulse"

    def __init__(
        self,
        config: EchoPulseConfig,
        tokenizer: VideoTokenizer,
        transformer: MaskedTransformer,
        device: torch.device,
        critic: Critic | None = None,
    ) -> None:
        if config.order == "critic" and critic is None:
            raise InputError("There is no critic to order the tokens by; train one, or set the order to confidence or halton.")
        if critic is not None:
            check_critic(critic, transformer)
        self.config = config
        self.device = device
        self.dtype = torch.bfloat16
        self.tokenizer = tokenizer.to(device).eval()
        self.transformer = transformer.to(device).eval()
        self.critic = None if critic is None else critic.to(device).eval()
        patches = tokenizer.config
        by_turn = config.order == "halton"
        self.order = halton.order(config.latents, patches.grid, patches.grid, patches.active_patches) if by_turn else None
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
        return cls(config, tokenizer, transformer, device, critic)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json and the networks (bfloat16) into a folder."""
        folder = Path(folder)
        save_network(self.tokenizer, folder / "tokenizer", torch.bfloat16)
        save_network(self.transformer, folder / "transformer", torch.bfloat16)
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

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The next window: guess its tokens around the kept ones, draw the new frames, add speckle."""
        config, state = self.config, context.state
        conditions = self._settled(conditions, sampling.seed)
        is_first = context.index == 0
        kept: Tensor | None = state.get("ids")
        if is_first:
            kept = self._first_frame(conditions.frames)
            begin = context.next_s
            count = 1 + 4 * (config.latents - 1)
        else:
            assert kept is not None
            kept = kept[:, -config.prefix :]
            begin = context.next_s - 4 * config.prefix / config.fps
            count = 4 * config.latents
        times = begin + np.arange(count) / config.fps
        cavity = state["cavity"] if "cavity" in state else self._cavity(conditions, sampling.seed, times, kept)
        if is_first and kept is None and config.first is not None:
            kept = self._imagined(conditions, sampling, times, cavity, config.first)
            cavity = self._cavity(conditions, sampling.seed, times, kept)
        ids = self._guess(conditions, sampling, context.index, times, is_first, kept, cavity)
        new = ids if is_first else ids[:, config.prefix :]
        known: Tensor | None = None if is_first else state["ids"]
        picture, moved = self._draw(new, known)
        fresh = times[len(times) - picture.shape[0] :]
        layer = state.get("speckle") or SpeckleLayer(config.speckle, sampling.seed, self.device)
        noise = torch.Generator().manual_seed(_mix(sampling.seed, context.index, 1))
        relative = torch.tensor(fresh - state.get("start_s", fresh[0]), device=self.device)
        video = layer(picture, moved * MOTION_SCALE, relative, noise)
        frames = (video * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
        history = new if known is None else torch.cat([known, new], dim=1)
        following = Context(
            context.index + 1,
            float(fresh[-1] + 1.0 / config.fps),
            {
                "ids": history[:, -config.decode_context :],
                "cavity": cavity,
                "speckle": layer,
                "start_s": state.get("start_s", float(fresh[0])),
            },
        )
        return Cine(frames, fresh, view=conditions.view), following

    def _settled(self, conditions: Conditions, seed: int) -> Conditions:
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

    @torch.inference_mode()
    def _first_frame(self, frames: Cine | None) -> Tensor | None:
        """The ids (1, 1, positions, groups) of a reference image, if there is one."""
        if frames is None:
            return None
        image: NDArray[np.uint8] = frames.frames[:1]
        if image.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise InputError(f"The first frame must be {IMAGE_SIZE} x {IMAGE_SIZE} in sector geometry, not {image.shape[1:]}.")
        return self.tokenizer.tokenize(torch.from_numpy(image).to(self.device).float()[None] / 255.0)

    def _cavity(
        self, conditions: Conditions, seed: int, times: NDArray[np.float64], first_frame: Tensor | None
    ) -> tuple[float, float] | None:
        """Length and width in pixels of the cavity at end-diastole, as the first frame shows it, else as the seed draws it."""
        usual, ef = self.config.usual_cavity, conditions.ef_percent
        if usual is None or ef is None:
            return None
        beats = self._beats(conditions.ecg, required=True)
        if first_frame is not None and beats is not None:
            seen = self._seen_cavity(conditions, times, first_frame)
            if seen is not None:
                length, width = steering.expected_outline(beats, conditions.sex, ef, 1.0, 1.0)(times[:1])
                return seen[0] / float(length[0]), seen[1] / float(width[0])
        drawn = np.random.default_rng(_mix(seed, 0, 3)).normal(size=2).clip(-2.0, 2.0)
        return usual.at(drawn, ef)

    @torch.inference_mode()
    def _seen_cavity(self, conditions: Conditions, times: NDArray[np.float64], first_frame: Tensor) -> tuple[float, float] | None:
        """Length and width in pixels of the cavity that the first frame shows, where the transformer finds one."""
        transformer, grid = self.transformer, self.tokenizer.config.grid
        if transformer.cavity is None:
            return None
        ids = torch.full_like(first_frame, transformer.config.mask_id).repeat(1, self.config.latents, 1, 1)
        ids[:, :1] = first_frame
        clock = torch.tensor(steering.latent_times(times, True) - times[0], dtype=torch.float32, device=self.device)[None]
        with torch.autocast(self.device.type, self.dtype):
            asked = self._conditioning([conditions], times, 0, [None])
            features = transformer.features(ids, clock, torch.ones(1, dtype=torch.bool, device=self.device), asked)
            share = transformer.cavity(features[0, 0]).float().sigmoid().unflatten(-1, (4, -1)).mean(1).cpu()
        side = round(share.shape[-1] ** 0.5)
        places = self.tokenizer.config.active_patches or range(grid**2)
        patches = torch.zeros(grid**2, side, side).index_copy(0, torch.tensor(places), share.view(-1, side, side))
        cells = patches.view(grid, grid, side, side).transpose(1, 2).reshape(grid * side, grid * side)
        return steering.outline_of_cells(cells.double().numpy(), self.tokenizer.config.image_size / (grid * side))

    @torch.inference_mode()
    def _imagined(
        self,
        conditions: Conditions,
        sampling: Sampling,
        times: NDArray[np.float64],
        cavity: tuple[float, float] | None,
        first: FirstFrame,
    ) -> Tensor:
        """The ids (1, 1, positions, groups) of a first frame, guessed before the rest of its window and guided by its view."""
        transformer, device = self.transformer, self.device
        rows = 2 if first.guidance != 1.0 and conditions.view is not None else 1
        count = min(first.latents, self.config.latents)
        shape = (1, count, transformer.config.spatial_positions, transformer.config.groups)
        hidden = torch.full(shape, transformer.config.mask_id, dtype=torch.int64, device=device)
        clock = torch.tensor(steering.latent_times(times, True)[:count] - times[0], dtype=torch.float32, device=device)
        clock, head = clock.expand(rows, -1), torch.ones(rows, dtype=torch.bool, device=device)
        with torch.autocast(device.type, self.dtype):
            asked = self._conditioning([conditions, replace(conditions, view=None)][:rows], times, 0, [cavity] * rows)
            seen = None if asked.modulation is None else asked.modulation[:, :count]
            asked = asked._replace(modulation=seen)

            def predict(tokens: Tensor) -> Tensor:
                window = torch.cat([tokens, hidden[:, 1:]], dim=1).expand(rows, -1, -1, -1)
                return transformer.logits(transformer.features(window, clock, head, asked)[:, :1]).float()

            def pair(tokens: Tensor) -> tuple[Tensor, Tensor]:
                both = predict(tokens)
                return both[:1], both[1:]

            return sample(
                predict if rows == 1 else guided(pair, first.guidance),
                hidden[:, :1],
                transformer.config.mask_id,
                steps=first.steps,
                generator=torch.Generator().manual_seed(_mix(sampling.seed, 0, 4)),
                temperature=linear_ramp(first.temperature, first.temperature_end, first.steps),
                choice_temperature=first.choice_temperature,
            )

    @torch.inference_mode()
    def _guess(
        self,
        conditions: Conditions,
        sampling: Sampling,
        index: int,
        times: NDArray[np.float64],
        is_first: bool,
        kept: Tensor | None,
        cavity: tuple[float, float] | None,
    ) -> Tensor:
        """The ids (1, latents, positions, groups) of a window, the kept ones unchanged."""
        config, transformer, device = self.config, self.transformer, self.device
        scale = config.guidance if sampling.guidance is None else sampling.guidance
        steps = sampling.steps or config.steps
        shape = (1, config.latents, transformer.config.spatial_positions, transformer.config.groups)
        ids = torch.full(shape, transformer.config.mask_id, dtype=torch.int64, device=device)
        if kept is not None:
            ids[:, : kept.shape[1]] = kept
        to_guide = any(getattr(conditions, name) is not None for name in config.guided)
        rows = 2 if scale != 1.0 and to_guide else 1
        clock = torch.tensor(steering.latent_times(times, is_first) - times[0], dtype=torch.float32, device=device).expand(
            rows, -1
        )
        head = torch.full((rows,), is_first, dtype=torch.bool, device=device)
        with torch.autocast(device.type, self.dtype):
            absent: dict[str, Any] = dict.fromkeys(config.guided)
            both = [conditions, replace(conditions, **absent)][:rows]
            asked = self._conditioning(both, times, index, [cavity, None if "ef_percent" in config.guided else cavity])

            def predict(tokens: Tensor) -> Tensor:
                return transformer(tokens.expand(rows, -1, -1, -1), clock, head, asked).float()

            def pair(tokens: Tensor) -> tuple[Tensor, Tensor]:
                both = predict(tokens)
                return both[:1], both[1:]

            critic = self.critic if config.order == "critic" else None
            judging = critic.trunk if isinstance(critic, TokenCritic) else transformer
            told = self._conditioning([conditions], times, index, [cavity], judging) if critic is not None else asked

            def score(tokens: Tensor) -> Tensor:
                assert critic is not None
                judged: Tensor = critic(transformer, tokens, clock[:1], head[:1], lambda network: told)
                return judged

            source = predict if rows == 1 else guided(pair, scale)
            return sample(
                source,
                ids,
                transformer.config.mask_id,
                steps=steps,
                generator=torch.Generator().manual_seed(_mix(sampling.seed, index, 0)),
                temperature=linear_ramp(config.temperature, config.temperature_end, steps),
                choice_temperature=config.choice_temperature,
                order=self.order,
                score=score if critic is not None else None,
            )

    def _conditioning(
        self,
        asked: Sequence[Conditions],
        times: NDArray[np.float64],
        index: int,
        cavities: Sequence[tuple[float, float] | None],
        network: MaskedTransformer | None = None,
    ) -> Conditioning:
        """One row for each of the conditions, which share their ECG or lack it, and for its cavity (see `_cavity`).

        network: the one that encodes them, if not the transformer.

        An ECG that loses its beats on the way is absent while it does.
        """
        config, device, rows = self.config, self.device, len(asked)
        times = times + config.ahead_s
        ecg = asked[0].ecg
        beats = self._beats(ecg, required=index == 0)
        lead = np.zeros(steering.window_samples(config.latents), np.float32)
        if ecg is not None and beats is not None:
            cleaned = ecg_module.resample(ecg_module.clean(ecg), steering.ECG_RATE_HZ)
            chosen = steering.normalised_lead(cleaned.lead(ecg_module.choose_lead(ecg)))
            lead = steering.lead_window(chosen, cleaned.start_s, float(times[0]), len(lead))
        present = torch.tensor([beats is not None and row.ecg is not None for row in asked], device=device)
        features = np.zeros((rows, config.latents, 4 * steering.FEATURES), np.float32)
        for row, conditions, cavity in zip(features, asked, cavities, strict=False):
            if beats is not None:
                ef, sex = conditions.ef_percent, conditions.sex
                outline = None if cavity is None or ef is None else steering.expected_outline(beats, sex, ef, *cavity)
                row[:] = steering.latent_features(times, index == 0, beats, sex, ef, outline)
        network = network or self.transformer
        return network.condition(
            rows,
            ecg=torch.from_numpy(lead).to(device).expand(rows, -1),
            ecg_start_s=torch.full((rows,), -steering.ECG_BEFORE_S, device=device),
            ecg_keep=present,
            ef_percent=torch.tensor([np.nan if row.ef_percent is None else row.ef_percent for row in asked], device=device),
            view=torch.tensor([VIEW_IDS[row.view] for row in asked], device=device),
            sex=torch.tensor([SEX_IDS[row.sex] for row in asked], device=device),
            frame_features=torch.from_numpy(features).to(device),
            frame_keep=present,
        )

    @staticmethod
    def _beats(ecg: Ecg | None, required: bool) -> steering.Beats | None:
        if ecg is None:
            return None
        try:
            return steering.find_beats(ecg)
        except InputError:
            if required:
                raise
            return None

    @torch.inference_mode()
    def _draw(self, new: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        """Structure (frames, 128, 128) and displacement (frames, 2, 128, 128) of the new latents, drawn after the known ones."""
        ids = new if known is None else torch.cat([known, new], dim=1)
        with torch.autocast(self.device.type, self.dtype):
            drawn = self.tokenizer.decode_ids(ids, first=known is None)[0].float()
        if known is not None:
            drawn = drawn[4 * known.shape[1] :]
        return drawn[:, 0].clamp(0.0, 1.0), drawn[:, 1:3]


def _mix(seed: int, index: int, purpose: int) -> int:
    """One seed from a video's seed, a window's number and what it is for."""
    return int(np.random.SeedSequence([seed, index, purpose]).generate_state(1, np.uint64)[0] >> 1)
