"""Task `masked-video`: a masked transformer learns the video tokens that belong to an ECG, an EF, a view and a first frame.

It is the second step of the shipped default, after the task `tokenizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen import ecg as ecg_module
from echogen.arrays import Floats
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, FPS, ClipStore
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg_window.beats import Beats
from echogen.ecg_window.features import CELLS_PER_FRAME, FEATURES, latent_features
from echogen.ecg_window.lead import lead_window, normalised_lead
from echogen.ecg_window.outline import Outline
from echogen.ecg_window.spec import EcgWindowSpec, latent_times
from echogen.files import whole_file
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.generator import EchoPulse
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.config import load_config, load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer, MaskedTransformerConfig
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import STRUCTURES, Ecg
from echogen.training.masked_tokens import CriticTraining, check_tokens
from echogen.training.outlines import cells_of_tokens, true_outline
from echogen.training.recipe import Recipe
from echogen.training.task import OptimizerGroup, Task

#: Sizes of the ECG window and of the latents that the network learns; the generator stores them with it.
SPEC = EcgWindowSpec()
#: Share of windows beginning with a given first frame that are given further latents too, as after a reminder of it.
LONGER_START_SHARE = 0.3
#: Share of P waves that are hidden one by one, as a detector misses some.
MISSED_P_SHARE = 0.05
#: Share of windows in which all P waves are hidden, as in an ECG in which none can be seen.
NO_P_SHARE = 0.08
#: SD in s of the error that the onsets of P waves get.
P_JITTER_S = 0.010


@dataclass(frozen=True)
class TokenData:
    """Clips with their tokens.

    clips: Folder of a clip store.
    tokenizer: Folder of the trained tokenizer.
    cache: Folder in which the clips' token ids are kept.
    latents: Length of a training window in latent frames.
    starts: Frames from which each clip is encoded, each as a first frame.
    """

    clips: str
    tokenizer: str
    cache: str
    latents: int = 17
    starts: tuple[int, ...] = (0, 7, 18, 29)


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
    clearest: Share of the clips, those with most contrast of wall and cavity, from which windows without a given frame come.
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


def encode_store(data: TokenData, device: torch.device, batch: int = 4) -> Path:
    """Tokenize every clip of the store from each start, once; gives the folder of the ids.

    There is one int16 file (clips, latents, positions, groups) a start.
    """
    folder = Path(data.cache)
    folder.mkdir(parents=True, exist_ok=True)
    store = ClipStore(data.clips)
    tokenizer = load_network(VideoTokenizer, data.tokenizer).to(device)
    for start in data.starts:
        path = folder / f"ids_{start:03d}.npy"
        if path.is_file() and len(np.load(path, mmap_mode="r")) == len(store):
            continue
        parts = []
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            for first in range(0, len(store), batch):
                clips = [store[i].frames[start:] for i in range(first, min(first + batch, len(store)))]
                whole = (len(clips[0]) - 1) // SPEC.frames_per_latent
                usable = SPEC.frames(1 + whole, True)
                video = torch.from_numpy(np.stack([clip[:usable] for clip in clips])).to(device).float() / 255.0
                parts.append(tokenizer.tokenize(video).to(torch.int16).cpu().numpy())
        with whole_file(path) as unfinished:
            np.save(unfinished, np.concatenate(parts))
    return folder


class MaskedVideoTask(Task):
    """Masked transformer that guesses hidden tokens of a window from the others, their share by the cosine schedule.

    A window begins with a single-frame latent, given or hidden, or in mid-stream with up to `prefix` latents given; any of the
    conditions may be absent. The loss is the cross-entropy of the hidden tokens (ECHOPulse, ICLR 2025,
    Eqs. 7 and 8).
    """

    Data = TokenData
    Options = MaskedVideoOptions
    Network = MaskedTransformerConfig

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
        patches = load_config(VideoTokenizer, self.data.tokenizer)
        check_tokens(self.transformer.config, patches, self.data.latents)
        self.grid = patches.grid
        self.places = np.arange(patches.grid**2) if patches.active_patches is None else np.array(patches.active_patches)
        folder = encode_store(self.data, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.ids = {start: np.load(folder / f"ids_{start:03d}.npy", mmap_mode="r") for start in self.data.starts}
        store = self.store = ClipStore(self.data.clips)
        self.hearts = [store[i].heart for i in range(len(store))]
        self.leads = _clean_leads(store, folder / "leads.npy")
        contrast = [_contrast(store, index) for index in range(len(store))]
        self.clear = np.argsort(contrast)[min(round((1.0 - self.options.clearest) * len(store)), len(store) - 1) :]

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

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Random windows with their conditions, some of them hidden."""
        rng = self.random(step, rank)
        rows = [self._window(rng) for _ in range(self.recipe.batch_size)]
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _window(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        options, latents = self.options, self.data.latents
        start = int(rng.choice(self.data.starts))
        longest = self.ids[start].shape[1] - latents
        offset = 0 if rng.random() < options.first_share or longest == 0 else int(rng.integers(1, longest + 1))
        first = offset == 0
        given = int(rng.random() < options.first_given) if first else int(rng.integers(2, options.prefix + 1))
        index = int(rng.integers(len(self.hearts)) if given else rng.choice(self.clear))
        heart = self.hearts[index]
        ids = self.ids[start][index][offset : offset + latents].astype(np.int64)
        begin = start if first else start + SPEC.frames(offset, True)
        frames = (begin + np.arange(SPEC.frames(latents, first))) / FPS

        if first and given and rng.random() < LONGER_START_SHARE:
            given = int(rng.integers(1, options.prefix + 1))
        hidden = np.zeros(ids.shape[:2], bool)
        share = np.cos(0.5 * np.pi * rng.random())  # Eq. 8
        places = hidden[given:].size
        chosen = rng.permutation(places)[: max(1, int(np.ceil(share * places)))]
        hidden[given:].reshape(-1)[chosen] = True

        everything = rng.random() >= options.drop_all
        beats = _beats(heart, rng, options.r_jitter_s)
        ef_known = everything and rng.random() >= options.drop_ef
        sex = heart["sex"] if everything and rng.random() >= options.drop_sex else None
        view = heart["view"] if everything and rng.random() >= options.drop_view else None
        ef = float(heart["ef_percent"])
        outline: Outline | None = true_outline(heart, 1.0 + rng.normal(0.0, options.outline_error))
        if not ef_known or rng.random() < options.drop_outline:
            outline = None
        features = latent_features(frames, first, beats, sex, ef if ef_known else None, outline)
        lead = self.leads[index, int(rng.choice(12, p=_LEAD_SHARE))]
        return {
            "ids": ids,
            "hidden": hidden,
            "cavity": cells_of_tokens(self.store[index].cavity[begin : begin + len(frames)], first, self.grid, self.places),
            "times_s": (latent_times(frames, first, SPEC.frames_per_latent) - frames[0]).astype(np.float32),
            "is_first": np.array(first),
            "features": features,
            "features_keep": np.array(everything and rng.random() >= options.drop_features),
            "ecg": lead_window(lead, -ECG_BEFORE_S, frames[0], SPEC.samples(latents), SPEC),
            "ecg_keep": np.array(everything and rng.random() >= options.drop_ecg),
            "ef_percent": np.array(ef if ef_known else np.nan, np.float32),
            "view": np.array(VIEW_IDS[view]),
            "sex": np.array(SEX_IDS[sex]),
        }

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Cross-entropy and accuracy of the hidden tokens, and cross-entropy of the cells that are cavity."""
        ids, hidden = batch["ids"], batch["hidden"]

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
        covered = batch["cavity"].float() / 255.0
        share = covered.mean(-1)[hidden]
        weight = 1.0 + self.options.edge * ((share > 0) & (share < 1)).float().repeat_interleave(ids.shape[-1])
        tokens = (each * weight).sum() / weight.sum()
        assert self.transformer.cavity is not None
        cavity = F.binary_cross_entropy_with_logits(self.transformer.cavity(features).float(), covered)
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
        tokenizer = load_network(VideoTokenizer, self.data.tokenizer)
        latents = self.data.latents
        maker = EchoPulse(EchoPulseConfig(latents=latents), tokenizer, self.transformer, self.device)
        rows = []
        for index in range(min(2, len(self.store))):
            clip = self.store[index]
            ecg = Ecg(clip.ecg, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
            frames = SPEC.frames(latents, True)
            made = maker(ecg, start_s=0.0, seconds=frames / FPS, ef_percent=clip.heart["ef_percent"], view=clip.heart["view"])
            rows += [np.hstack([row[i] for i in range(0, frames, SPEC.frames_per_latent)]) for row in (clip.frames, made.frames)]
        return np.vstack(rows)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the transformer, and its critic, in bfloat16."""
        for name, network in networks.items():
            save_network(network, folder / name, torch.bfloat16)


#: Probability of each of the twelve leads in training: the usual rhythm leads, which users have most, come most.
_LEAD_SHARE = np.array([3, 6, 1, 0.5, 1, 1, 1, 1, 1, 1.5, 2, 2]) / 21.0


def _clean_leads(store: ClipStore, cache: Path) -> NDArray[np.float32]:
    """Leads (clips, 12, samples) cleaned and normalised at `ECG_RATE_HZ`, kept beside the ids."""
    if cache.is_file() and len(np.load(cache, mmap_mode="r")) == len(store):
        cached: NDArray[np.float32] = np.load(cache, mmap_mode="r")
        return cached
    rows = []
    for index in range(len(store)):
        cleaned = ecg_module.clean(Ecg(store[index].ecg, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S))
        rows.append(np.stack([normalised_lead(lead) for lead in cleaned.signal_mv]))
    leads = np.stack(rows)
    np.save(cache, leads)
    return leads


def _contrast(store: ClipStore, index: int) -> float:
    """Contrast of wall and cavity in a clip's first frame: the wall's lower quartile minus the cavity's mean, in grey levels."""
    clip = store[index]
    labels, picture = clip.labels[0], clip.structure[0].astype(np.float64)
    cavity, wall = (picture[labels == STRUCTURES[name]] for name in ("lv", "myocardium"))
    return float(np.percentile(wall, 25) - cavity.mean()) if cavity.size and wall.size else 0.0


def _beats(heart: Mapping[str, Any], rng: np.random.Generator, jitter_s: float) -> Beats:
    """Beats of a clip as a detector would find them: R peaks a little off, now and then a P wave missed."""
    r = np.asarray(heart["r_s"], dtype=np.float64)
    off = rng.normal(0.0, jitter_s, len(r)) + rng.normal(0.0, jitter_s)
    p = np.array([np.nan if value is None else value for value in heart["p_onset_s"]], dtype=np.float64)
    p = np.where(rng.random(len(p)) < MISSED_P_SHARE, np.nan, p + rng.normal(0.0, P_JITTER_S, len(p)))
    if rng.random() < NO_P_SHARE:
        p = np.full(len(p), np.nan)
    onset: Floats = np.asarray(heart["qrs_onset_s"], dtype=np.float64) + off
    return Beats(r + off, onset, p, np.asarray(heart["wide_qrs"], dtype=bool))
