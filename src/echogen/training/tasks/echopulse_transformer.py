"""Task `echopulse-transformer`: ECHOPulse's masked transformer learns the tokens that belong to an ECG or to a sentence.

It is the second step of the paper (ICLR 2025, section 3.2), after the task `echopulse-tokenizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS
from echogen.datasets.paired_folder import resize
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.st_mem_input import StMemInput, st_mem_input
from echogen.ecg_window.spec import latent_times
from echogen.errors import InputError
from echogen.networks.attention import Tokens
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.config import config_to_dict, load_config, load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer, MaskedTransformerConfig
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.text import DEFAULT_TEXT_ENCODER, TextEncoder, ef_sentence
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Ecg
from echogen.samplers.maskgit import guided, sample
from echogen.training.masked_tokens import CriticTraining, check_tokens
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.task import OptimizerGroup, Task

#: Length in s of ECG beside the encoder's input, for filters and for a window that lies anywhere over the video.
_MARGIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class WindowData(SourceSettings):
    """Windows of echo with an ECG on the same clock, and the networks that encode them.

    tokenizer: Folder of a trained tokenizer.
    ecg_encoder: Folder of a trained ST-MEM; needed for options.condition=ecg.
    frames: Frames of a window, 1 plus a multiple of the tokenizer's time patch.
    frame_step: Frames at 32 per second from one frame of a window to the next.
    leads: Leads that the ECG encoder sees.
    text_encoder: Folder or hub name of a T5 encoder, for options.condition=text.
    """

    tokenizer: str
    ecg_encoder: str | None = None
    frames: int = 11
    frame_step: int = 3
    leads: tuple[str, ...] = STANDARD_LEADS
    text_encoder: str = DEFAULT_TEXT_ENCODER


@dataclass(frozen=True)
class EchoPulseTransformerOptions:
    """Conditions of the transformer, their dropout, its critic, and the sampling of filmstrips.

    condition: Condition that the transformer sees: the patches of an ECG, or the EF in a sentence (text).
    drop: Dropout probability of the condition; guidance compares with a row that lacks it.
    ecg_mask: Largest share of the ECG's patches that is hidden, at the same times in all leads.
    first_given: Share of windows whose first latent frames are given.
    prefix: Most latent frames that are given then.
    critic: Critic that learns to tell guessed tokens: none, token (own transformer) or self (the transformer's features).
    critic_weight: Weight of the loss of a self critic.
    steps: Sampling steps of filmstrips.
    guidance: Guidance scale of filmstrips; 1 is none.
    """

    condition: Literal["ecg", "text"] = "ecg"
    drop: float = 0.1
    ecg_mask: float = 0.5
    first_given: float = 0.5
    prefix: int = 2
    critic: Literal["none", "token", "self"] = "none"
    critic_weight: float = 1.0
    steps: int = 18
    guidance: float = 3.0


class EchoPulseTransformerTask(Task):
    """Masked transformer that guesses hidden tokens of a window from the others, their share by the cosine schedule.

    The loss is Eq. 7 of the paper, the schedule Eq. 8. The recipe's network holds changes to `MaskedTransformerConfig.paper()`;
    sizes that it does not give follow the tokenizer and the encoder. With adaptive_norm, EF, view and sex are conditions as well,
    the EF as a plain number.
    """

    Data = WindowData
    Options = EchoPulseTransformerOptions
    Network = MaskedTransformerConfig
    former_names = MappingProxyType(FORMER_NAMES | {"data.starts": ""})
    network_from_files = frozenset({"vocabulary", "groups", "spatial_positions", "max_latents", "context_dim"})

    data: WindowData
    options: EchoPulseTransformerOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.tokenizer = load_network(VideoTokenizer, self.data.tokenizer).eval().requires_grad_(False)
        tokenizer = self.tokenizer.config
        self.time_patch = tokenizer.time_patch
        if self.data.frames < 1 or (self.data.frames - 1) % self.time_patch:
            raise InputError(
                f"The recipe's data.frames must be 1 plus a multiple of the time patch {self.time_patch}, not {self.data.frames}."
            )
        self.latents = 1 + (self.data.frames - 1) // self.time_patch
        self.ecg_encoder: StMem | None = None
        self.text_encoder: TextEncoder | None = None
        width = self._open_encoder()
        known = {
            "vocabulary": tokenizer.quantizer.vocabulary,
            "groups": tokenizer.quantizer.groups,
            "spatial_positions": tokenizer.positions,
            "max_latents": self.latents,
            "context_dim": width,
        }
        start = self.starting_weights("transformer")
        if start:
            config = load_config(MaskedTransformer, start)
        else:
            given = {name: size for name, size in known.items() if name not in recipe.network}
            config = replace(self.network_config(recipe), **given)
        check_tokens(config, tokenizer, self.latents)
        if config.ecg is not None or config.context_dim != width:
            raise InputError(
                f"The transformer takes condition tokens of width {config.context_dim}, but the encoder's have width {width}; "
                "change the recipe's network.context_dim, and give the network no encoder of its own (ecg)."
            )
        self.transformer = load_network(MaskedTransformer, start) if start else MaskedTransformer(config)
        self.critics = CriticTraining(self.options.critic, self.options.critic_weight, self.transformer, start)
        self.source = self._open_source()

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """The paper's transformer (Table 5)."""
        return config_to_dict(MaskedTransformerConfig.paper())

    def _open_encoder(self) -> int:
        """Load the condition's encoder and give its width; raises `InputError` where it does not fit the clips."""
        data = self.data
        if self.options.condition == "text":
            self.text_encoder = TextEncoder(data.text_encoder)
            return self.text_encoder.dim
        if data.ecg_encoder is None:
            raise InputError("The recipe's data.ecg_encoder must name the folder of a trained ST-MEM.")
        config: StMemConfig = load_config(StMem, data.ecg_encoder)
        unknown = [lead for lead in data.leads if lead not in STANDARD_LEADS]
        if unknown or not data.leads:
            raise InputError(f"The recipe's data.leads must be some of {', '.join(STANDARD_LEADS)}, not {unknown or 'none'}.")
        self.ecg_encoder = load_network(StMem, data.ecg_encoder).requires_grad_(False)
        return config.width

    def _open_source(self) -> TrainingSource:
        """Windows with the ECG that the encoder needs, or with the EF of the sentence."""
        data = self.data
        if data.frame_step < 1:
            raise InputError("The recipe's data.frame_step must be at least 1.")
        encoder = self.ecg_encoder
        around_s = 0.0 if encoder is None else encoder.config.seq_len / encoder.config.rate_hz + _MARGIN_S
        shape = WindowShape(data.frames, FPS / data.frame_step, ecg_before_s=around_s, ecg_after_s=around_s)
        condition, others = ("ef", "ecg") if encoder is None else ("ecg", "ef")
        needs = Needs(frozenset({"frames", condition}), frozenset({others}))
        return TrainingSource(data, needs, shape, self.recipe.seed, check=self._check_ecg)

    def networks(self) -> dict[str, nn.Module]:
        """The masked transformer, and its critic if there is one."""
        return self.critics.networks()

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """One optimizer, or one each where a critic has a transformer of its own."""
        return self.critics.optimized()

    def to(self, device: torch.device) -> None:
        """Move to a device, with the tokenizer and the encoders."""
        super().to(device)
        for encoder in (self.tokenizer, self.ecg_encoder, self.text_encoder):
            if encoder is not None:
                encoder.to(device)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Random windows, some of their tokens and conditions hidden."""
        rows = [self._row(position) for position in self.positions(step, rank, world)]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _row(self, position: int) -> dict[str, NDArray[Any]]:
        options, rng, window = self.options, self.row_random(position), self.source.at(position)
        assert window.frames is not None
        times = window.times_s
        given = int(rng.integers(1, options.prefix + 1)) if rng.random() < options.first_given else 0
        given = min(given, self.latents - 1)
        hidden = np.zeros((self.latents, self.tokenizer.config.positions), bool)
        places = hidden[given:].size
        share = np.cos(0.5 * np.pi * rng.random())  # Eq. 8
        hidden[given:].reshape(-1)[rng.permutation(places)[: max(1, int(np.ceil(share * places)))]] = True
        keep = rng.random() >= options.drop
        row: dict[str, NDArray[Any]] = {
            "frames": resize(window.frames, self.tokenizer.config.image_size),
            "hidden": hidden,
            "times_s": latent_times(times - times[0], True, self.time_patch).astype(np.float32),
            "is_first": np.array(True),
            "keep": np.array(keep),
            "ef_percent": np.array(np.nan if window.ef_percent is None else window.ef_percent, np.float32),
            "view": np.array(VIEW_IDS[window.view]),
            "sex": np.array(SEX_IDS[window.sex]),
        }
        if self.ecg_encoder is not None:
            config, excerpt = self.ecg_encoder.config, self._excerpt(window, rng)
            row["ecg"] = excerpt.signal
            row["ecg_start_s"] = np.array(excerpt.start_s - times[0], np.float32)
            row["patches"] = rng.random(config.patches) >= options.ecg_mask * rng.random()
        return row

    def _excerpt(self, window: Window, rng: np.random.Generator) -> StMemInput:
        """ECG of a window as the encoder sees it; raises `InputError` for one that is too short, flat, or lacks a lead."""
        assert self.ecg_encoder is not None
        assert window.ecg is not None
        config, times = self.ecg_encoder.config, window.times_s
        start = ecg_start(window.ecg, float(times[0]), float(times[-1]), config.seq_len / config.rate_hz, rng)
        return st_mem_input(window.ecg, start, leads=self.data.leads, samples=config.seq_len, rate_hz=config.rate_hz)

    def _check_ecg(self, window: Window) -> None:
        """Raise `InputError` for a window whose ECG the encoder cannot take."""
        if self.ecg_encoder is not None:
            self._excerpt(window, np.random.default_rng(0))

    @torch.no_grad()
    def token_ids(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Token ids (B, latents, positions, groups) of the windows."""
        video, channels = batch["frames"].float() / 255.0, self.tokenizer.config.channels_in
        ids: Tensor = self.tokenizer.tokenize(video.unsqueeze(1).expand(-1, channels, -1, -1, -1) if channels > 1 else video)
        return ids

    def _context(self, batch: Mapping[str, Tensor], keep: Tensor) -> Tokens:
        """Tokens of the conditions of a batch; those of windows that do not keep theirs are masked."""
        if self.text_encoder is not None:
            sentences = [ef_sentence(float(ef)) if kept else None for ef, kept in zip(batch["ef_percent"], keep, strict=True)]
            return self.text_encoder(sentences)
        assert self.ecg_encoder is not None
        leads = [STANDARD_LEADS.index(lead) for lead in self.data.leads]
        with torch.no_grad():
            tokens: Tokens = self.ecg_encoder(batch["ecg"], batch["ecg_start_s"], leads)
        return tokens._replace(mask=batch["patches"].repeat(1, len(leads)) & keep.unsqueeze(1))

    def _condition(self, network: MaskedTransformer, batch: Mapping[str, Tensor], context: Tokens, keep: Tensor) -> Conditioning:
        return network.condition(
            len(keep),
            context=context,
            ef_percent=batch["ef_percent"].masked_fill(~keep, torch.nan),
            view=batch["view"] * keep,
            sex=batch["sex"] * keep,
        )

    def totals(self, batch: Any) -> dict[str, Tensor]:
        """Number of hidden tokens."""
        return {"tokens": batch["hidden"].sum() * self.transformer.config.groups}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Negative log-likelihood of the hidden tokens (Eq. 7), how many are guessed right, and the critic's loss."""
        ids, hidden, keep = self.token_ids(batch), batch["hidden"], batch["keep"]
        batch = {**batch, "ids": ids}
        context = self._context(batch, keep)

        def condition(network: MaskedTransformer) -> Conditioning:
            return self._condition(network, batch, context, keep)

        masked = ids.masked_fill(hidden[..., None], self.transformer.config.mask_id)
        logits = self.transformer(masked, batch["times_s"], batch["is_first"], condition(self.transformer), hidden)
        target = ids[hidden]
        likelihood = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="sum")  # Eq. 7
        loss = likelihood / self.total("tokens", self.totals(batch)["tokens"])
        accuracy = (logits.argmax(-1) == target).float().mean()
        return self.critics.add({"loss": loss, "accuracy": accuracy}, batch, logits, condition)

    @torch.no_grad()
    def generate(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Ids of the batch's windows sampled from their conditions alone, no frame given; a critic decides the order, if any."""
        ids = torch.full_like(self.token_ids(batch), self.transformer.config.mask_id)
        keep = torch.ones_like(batch["keep"])
        known, nothing = (self._context(batch, each) for each in (keep, ~keep))
        with_condition = self._condition(self.transformer, batch, known, keep)
        without = self._condition(self.transformer, batch, nothing, ~keep)
        when = batch["times_s"], batch["is_first"]
        critic = self.critics.critic

        def pair(tokens: Tensor) -> tuple[Tensor, Tensor]:
            return self.transformer(tokens, *when, with_condition).float(), self.transformer(tokens, *when, without).float()

        def score(tokens: Tensor) -> Tensor:
            assert critic is not None
            scores: Tensor = critic(self.transformer, tokens, *when, lambda network: self._condition(network, batch, known, keep))
            return scores

        return sample(
            guided(pair, self.options.guidance),
            ids,
            self.transformer.config.mask_id,
            steps=self.options.steps,
            generator=generator,
            score=None if critic is None else score,
        )

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Two windows, each above what is made from its condition alone."""
        rows = [self._row(position) for position in range(2)]
        batch = {name: torch.from_numpy(np.stack([row[name] for row in rows])).to(self.device) for name in rows[0]}
        made = self.generate(batch, torch.Generator().manual_seed(self.recipe.seed))
        strips = []
        for ids in (self.token_ids(batch), made):
            pictures = self.tokenizer.decode_ids(ids)[:, :, 0].float().clamp(0, 1)
            strips.append((pictures * 255).round().byte().cpu().numpy())
        return np.vstack([np.hstack(list(clip)) for both in zip(*strips, strict=True) for clip in both])

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the transformer, and its critic, in bfloat16."""
        for name, network in networks.items():
            save_network(network, folder / name, torch.bfloat16)


def ecg_start(ecg: Ecg, first_s: float, last_s: float, length_s: float, rng: np.random.Generator) -> float:
    """Random start in s of a window of an ECG that lies within it and, where it can, covers the video from first_s to last_s."""
    latest = max(ecg.start_s, ecg.end_s - length_s)
    low, high = np.clip([last_s - length_s, first_s], ecg.start_s, latest)
    return float(rng.uniform(*sorted((low, high))))
