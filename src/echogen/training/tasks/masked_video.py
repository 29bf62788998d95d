"""Task `masked-video`: a masked transformer learns the video tokens that belong to an ECG, an EF, a view and a first frame.

It is the second step of the shipped default, after the task `tokenizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS
from echogen.ecg_window.beats import Beats
from echogen.ecg_window.features import CELLS_PER_FRAME, FEATURES, latent_features
from echogen.ecg_window.lead import lead_window, normalised_lead
from echogen.ecg_window.spec import EcgWindowSpec, latent_times
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.generator import EchoPulse
from echogen.generators.sampling import Span
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.config import load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer, MaskedTransformerConfig
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Conditions
from echogen.training.ecg_variation import as_detected, random_lead
from echogen.training.masked_tokens import CriticTraining, check_tokens
from echogen.training.outlines import cells_of_tokens, outline_over_time
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.source.recent import Recent
from echogen.training.source.targets import beats_of_window, covered_cells, wall_contrast_of
from echogen.training.task import OptimizerGroup, Task

#: Sizes of the ECG window and of the latents that the network learns; the generator stores them with it.
SPEC = EcgWindowSpec()
#: Share of windows beginning with a given first frame that are given further latents too, as after a reminder of it.
LONGER_START_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class TokenData(SourceSettings):
    """Windows of echo with an ECG on the same clock, and the tokenizer that encodes them.

    tokenizer: Folder of the trained tokenizer.
    latents: Length of a training window in latent frames.
    lead_in: Most latent frames before a window that begins in mid-stream, encoded with it.
    """

    tokenizer: str
    latents: int = 17
    lead_in: int = 8


@dataclass(frozen=True)
class MaskedVideoOptions:
    """Dropout of each condition, beginnings of windows, errors of the conditions, and weights of the losses.

    drop_all: Dropout probability of all conditions together.
    drop_features: Dropout probability of the frame features: place in the beat, and cavity outline.
    drop_ecg: Dropout probability of the ECG's tokens.
    drop_ef: Dropout probability of the EF and of the cavity outline that follows from it.
    drop_outline: Dropout probability of the cavity outline alone.
    drop_view: Dropout probability of the view.
    drop_sex: Dropout probability of the sex.
    first_share: Share of windows that begin with a single-frame latent; the others begin in mid-stream.
    first_given: Share of those windows in which the single-frame latent is given.
    clearest: Share of the windows, those with most contrast of wall and cavity, that are taken where no frame is given: the best
        of 1 / clearest windows. It counts where the source knows its pictures without speckle.
    prefix: Most latents given at the beginning of a window.
    r_jitter_s: SD in s of the error that R peaks get, as a detector has one.
    outline_error: SD of the relative error of a window's cavity outlines.
    label_smoothing: Share of the target's probability that is spread over all codes.
    cavity: Weight of guessing from every token where the cavity is; what the conditions mean is learned sooner with it.
    edge: Additional weight of the tokens that the cavity's edge crosses; others have weight 1.
    critic: Critic that learns to tell guessed tokens: none, token (own transformer) or self (the transformer's features).
    critic_weight: Weight of the loss of a self critic.
    """

    drop_all: float = 0.10
    drop_features: float = 0.12
    drop_ecg: float = 0.15
    drop_ef: float = 0.15
    drop_outline: float = 0.15
    drop_view: float = 0.10
    drop_sex: float = 0.40
    first_share: float = 0.5
    first_given: float = 0.5
    clearest: float = 0.5
    prefix: int = 4
    r_jitter_s: float = 0.006
    outline_error: float = 0.015
    label_smoothing: float = 0.0
    cavity: float = 4.0
    edge: float = 1.0
    critic: Literal["none", "token", "self"] = "none"
    critic_weight: float = 1.0


class MaskedVideoTask(Task):
    """Masked transformer that guesses hidden tokens of a window from the others, their share by the cosine schedule.

    A window begins with a single-frame latent, given or hidden, or in mid-stream with up to `prefix` latents given; any of the
    conditions may be absent. The loss is the cross-entropy of the hidden tokens (ECHOPulse, ICLR 2025,
    Eqs. 7 and 8).
    """

    Data = TokenData
    Options = MaskedVideoOptions
    Network = MaskedTransformerConfig
    former_names = MappingProxyType(FORMER_NAMES | {"data.starts": ""})

    data: TokenData
    options: MaskedVideoOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        start = self.starting_weights("transformer")
        if start:
            self.transformer = load_network(MaskedTransformer, start)
        else:
            self.transformer = MaskedTransformer(self.network_config(recipe))
        self.critics = CriticTraining(self.options.critic, self.options.critic_weight, self.transformer, start)
        self.tokenizer = load_network(VideoTokenizer, self.data.tokenizer).eval().requires_grad_(False)
        patches = self.tokenizer.config
        check_tokens(self.transformer.config, patches, self.data.latents)
        self.grid = patches.grid
        self.places = np.arange(patches.grid**2) if patches.active_patches is None else np.array(patches.active_patches)
        shape = WindowShape(
            SPEC.frames(self.data.latents, True), FPS, longest=SPEC.frames(self.data.latents + self.data.lead_in, True)
        )
        needs = Needs(frozenset({"frames", "ecg"}), frozenset({"ef", "masks", "structure"}))
        self._known_beats: Recent[Beats] = Recent(_KEPT_BEATS)
        self.source = TrainingSource(self.data, needs, shape, recipe.seed, check=self._beats_found)

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """Sizes that follow from the frame features and from the length of the windows."""
        latents = recipe.data.get("latents", TokenData.latents)
        return {
            "frame_features": SPEC.frames_per_latent * FEATURES,
            "cavity_cells": SPEC.frames_per_latent * CELLS_PER_FRAME,
            "max_latents": latents,
        }

    def networks(self) -> dict[str, nn.Module]:
        """The masked transformer, and its critic if there is one."""
        return self.critics.networks()

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """One optimizer, or one each where a critic has a transformer of its own."""
        return self.critics.optimized()

    def to(self, device: torch.device) -> None:
        """Move to a device, with the tokenizer."""
        super().to(device)
        self.tokenizer.to(device)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Random windows with their conditions, some of them hidden; frames (B, T, H, W) from before each window to its end."""
        rows = [self._row(position) for position in self.positions(step, rank, world)]
        longest = max(len(row["frames"]) for row in rows)
        for row in rows:
            row["frames"] = np.pad(row["frames"], ((0, longest - len(row["frames"])), (0, 0), (0, 0)), mode="edge")
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _beats_found(self, window: Window) -> Beats:
        """Beats of a window's sample, found once; raises `InputError` for an ECG without any."""
        return self._known_beats.get(window.key, lambda: beats_of_window(window))

    def _clear_window(self, position: int) -> Window:
        """The window of a place, or one of others drawn with it, in which wall and cavity differ most."""
        window = self.source.at(position)
        candidates = min(round(1.0 / max(self.options.clearest, 1e-3)), _MOST_CANDIDATES)
        if candidates < 2 or wall_contrast_of(window) is None:
            return window
        others = (self.source.at(position + number * _OTHERS) for number in range(1, candidates))
        return max((window, *others), key=lambda each: wall_contrast_of(each) or 0.0)

    def _row(self, position: int) -> dict[str, NDArray[Any]]:
        options, latents, rng = self.options, self.data.latents, self.row_random(position)
        first, given = rng.random() < options.first_share, 0
        if first and rng.random() < options.first_given:
            given = int(rng.integers(1, options.prefix + 1)) if rng.random() < LONGER_START_SHARE else 1
        window = self._clear_window(position) if first and not given else self.source.at(position)
        assert window.frames is not None
        assert window.ecg is not None
        spare = (len(window.frames) + SPEC.frames_per_latent - 1) // SPEC.frames_per_latent - latents
        offset = 0 if first or spare < 1 else int(rng.integers(1, spare + 1))
        if not first:
            first, given = offset == 0, int(rng.integers(2 if offset else 1, options.prefix + 1))
        begin = 0 if first else SPEC.frames(offset, True)
        part = slice(begin, begin + SPEC.frames(latents, first))
        frames = window.times_s[part]

        given = min(given, latents - 1)
        hidden = np.zeros((latents, len(self.places)), bool)
        share = np.cos(0.5 * np.pi * rng.random())  # Eq. 8
        places = hidden[given:].size
        chosen = rng.permutation(places)[: max(1, int(np.ceil(share * places)))]
        hidden[given:].reshape(-1)[chosen] = True

        everything = rng.random() >= options.drop_all
        beats = as_detected(self._beats_found(window), rng, options.r_jitter_s)
        ef_known = everything and window.ef_percent is not None and rng.random() >= options.drop_ef
        sex = window.sex if everything and rng.random() >= options.drop_sex else None
        view = window.view if everything and rng.random() >= options.drop_view else None
        outline = outline_over_time(window, 1.0 + rng.normal(0.0, options.outline_error))
        if not ef_known or rng.random() < options.drop_outline:
            outline = None
        ef = window.ef_percent if ef_known else None
        features = latent_features(frames, first, beats, sex, ef, outline)
        covered = covered_cells(window)
        cells = np.zeros((len(window.frames), CELLS, CELLS), np.uint8) if covered is None else covered
        lead = random_lead(window.ecg, rng, SPEC.rate_hz)
        signal = normalised_lead(lead.signal_mv[0])
        return {
            "frames": window.frames[: part.stop],
            "offset": np.array(offset),
            "hidden": hidden,
            "cavity": cells_of_tokens(cells[part], first, self.grid, self.places),
            "outlined": np.array(covered is not None),
            "times_s": (latent_times(frames, first, SPEC.frames_per_latent) - frames[0]).astype(np.float32),
            "is_first": np.array(first),
            "features": features,
            "features_keep": np.array(everything and rng.random() >= options.drop_features),
            "ecg": lead_window(signal, lead.start_s, float(frames[0]), SPEC.samples(latents), SPEC),
            "ecg_keep": np.array(everything and rng.random() >= options.drop_ecg),
            "ef_percent": np.array(np.nan if ef is None else ef, np.float32),
            "view": np.array(VIEW_IDS[view]),
            "sex": np.array(SEX_IDS[sex]),
        }

    @torch.no_grad()
    def token_ids(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Token ids (B, latents, positions, groups) of the windows."""
        ids = self.tokenizer.tokenize(batch["frames"].float() / 255.0)
        taken = batch["offset"][:, None] + torch.arange(self.data.latents, device=ids.device)
        return ids[torch.arange(len(ids), device=ids.device)[:, None], taken]

    def _weights(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Weight of each hidden token: more where its cells are cavity in part."""
        share = (batch["cavity"].float() / 255.0).mean(-1)[batch["hidden"]]
        return 1.0 + self.options.edge * ((share > 0) & (share < 1)).float().repeat_interleave(self.transformer.config.groups)

    def totals(self, batch: Any) -> dict[str, Tensor]:
        """Weight of all hidden tokens, and number of windows that are outlined."""
        return {"tokens": self._weights(batch).sum(), "outlined": batch["outlined"].sum()}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Cross-entropy and accuracy of the hidden tokens, and cross-entropy of the cells that are cavity."""
        ids, hidden = self.token_ids(batch), batch["hidden"]
        batch = {**batch, "ids": ids}

        def condition(network: MaskedTransformer) -> Conditioning:
            return network.condition(
                ids.shape[0],
                ecg=batch["ecg"],
                ecg_start_s=torch.full((ids.shape[0],), -SPEC.before_s, device=ids.device),
                ecg_keep=batch["ecg_keep"],
                ef_percent=batch["ef_percent"],
                view=batch["view"],
                sex=batch["sex"],
                frame_features=batch["features"],
                frame_keep=batch["features_keep"],
            )

        masked = ids.masked_fill(hidden[..., None], self.transformer.config.mask_id)
        features = self.transformer.features(masked, batch["times_s"], batch["is_first"], condition(self.transformer))
        logits = self.transformer.logits(features[hidden])
        target = ids[hidden]
        each = F.cross_entropy(  # Eq. 7
            logits.float().flatten(0, 1), target.flatten(), label_smoothing=self.options.label_smoothing, reduction="none"
        )
        weight = self._weights(batch)
        tokens = (each * weight).sum() / self.total("tokens", weight.sum())
        covered = batch["cavity"].float() / 255.0
        assert self.transformer.cavity is not None
        each_cell = F.binary_cross_entropy_with_logits(self.transformer.cavity(features).float(), covered, reduction="none")
        outlined = batch["outlined"].float()
        cavity = (each_cell.flatten(1).mean(1) * outlined).sum()
        cavity = cavity / self.total("outlined", outlined.sum()).clamp_min(1e-6)
        accuracy = (logits.argmax(-1) == target).float().mean()
        losses = {
            "loss": tokens + self.options.cavity * cavity,
            "tokens": each.mean(),
            "cavity": cavity,
            "accuracy": accuracy,
        }
        return self.critics.add(losses, batch, logits, condition)

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Two clips, each as it is and as it is made from its ECG and EF, frame 0 not given."""
        latents = self.data.latents
        maker = EchoPulse(EchoPulseConfig(latents=latents), self.tokenizer, self.transformer, self.device)
        rows = []
        for position in range(2):
            window = self.source.at(position)
            assert window.frames is not None
            assert window.ecg is not None
            frames = SPEC.frames(latents, True)
            shown = Conditions(ef_percent=window.ef_percent, view=window.view)
            made = maker(window.ecg, shown, span=Span(float(window.times_s[0]), frames / FPS))
            for row in (window.frames, made.frames):
                rows.append(np.hstack([row[i] for i in range(0, frames, SPEC.frames_per_latent)]))
        return np.vstack(rows)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the transformer, and its critic, in bfloat16."""
        for name, network in networks.items():
            save_network(network, folder / name, torch.bfloat16)


#: Number of cells along a side of a picture of which the cavity's share is known.
CELLS = 32
#: Number of samples whose beats are kept in memory.
_KEPT_BEATS = 4096
#: Most windows of which the clearest is taken.
_MOST_CANDIDATES = 20
#: Distance in places from a window to the next one that is tried in its stead, past any place that a training reaches.
_OTHERS = 2**40
