"""Task `echo-features`: a network learns to describe simulated clips and their degradations.

Its features are behind the project's own distances between sets of clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS, Clip, ClipStore
from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.echo_features import ANSWERS, EchoFeatures, EchoFeaturesConfig, frame_pairs
from echogen.records import VIEWS
from echogen.training.recipe import Recipe
from echogen.training.task import Task

#: Rhythms of the simulated clips; their places are the classes of the answer.
RHYTHMS = ("sinus", "af", "pvc", "pause", "paced")
#: Orders of the steps of a clip; their places are the classes of the answer.
ORDERS = ("real", "shuffled", "frozen", "reversed")
#: Pixels of 128 by which a clip is shifted at most.
LARGEST_SHIFT = 6
#: Answers that are classes; the others are numbers.
_CLASSES = ("view", "rhythm", "order")


@dataclass(frozen=True)
class FeatureData:
    """Clips to learn from.

    clips: Folder of a clip store.
    """

    clips: str


@dataclass(frozen=True)
class Degradation:
    """Changes that are made to a clip on purpose and are then to be recognised.

    speckle: Share of the drawn speckle, 0..1.3.
    blur: Sigma of the Gaussian blur in pixels of 128.
    noise: Standard deviation of the added noise on a 0..1 scale.
    gamma: Exponent of the grey values, as in (grey ** gamma) * gain.
    gain: Factor of the grey values, as in (grey ** gamma) * gain.
    order: Order of the steps, by its place in `ORDERS`.
    """

    speckle: float
    blur: float
    noise: float
    gamma: float
    gain: float
    order: int


def draw_degradation(rng: np.random.Generator) -> Degradation:
    """Random degradation; most clips keep their order, their sharpness and most of their speckle."""
    return Degradation(
        speckle=float(rng.choice([0.0, rng.uniform(0, 1), 1.0, 1.3], p=[0.1, 0.25, 0.5, 0.15])),
        blur=float(rng.uniform(0.4, 2.5)) if rng.random() < 0.35 else 0.0,
        noise=float(rng.uniform(0.01, 0.15)) if rng.random() < 0.25 else 0.0,
        gamma=float(rng.uniform(0.75, 1.35)),
        gain=float(rng.uniform(0.8, 1.2)),
        order=int(rng.choice(len(ORDERS), p=[0.7, 0.1, 0.1, 0.1])),
    )


def blurred(frames: Tensor, sigma_px: float) -> Tensor:
    """Frames (frames, H, W) after a Gaussian blur; unchanged for a sigma of 0."""
    if sigma_px <= 0:
        return frames
    reach = int(3 * sigma_px + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_px) ** 2)
    weights = weights / weights.sum()
    along = F.conv2d(F.pad(frames[:, None], (reach, reach, 0, 0), mode="replicate"), weights.view(1, 1, 1, -1))
    return F.conv2d(F.pad(along, (0, 0, reach, reach), mode="replicate"), weights.view(1, 1, -1, 1))[:, 0]


def degrade(speckled: NDArray[np.uint8], plain: NDArray[np.uint8], how: Degradation, rng: np.random.Generator) -> Tensor:
    """Degrade a clip: frames (frames, H, W) in 0..1 after speckle, gamma, gain, blur, noise, and a small random shift.

    speckled, plain: Frames (frames, H, W) with and without speckle, which are mixed.
    """
    base = plain.astype(np.float32) / 255.0
    mixed = base + how.speckle * (speckled.astype(np.float32) / 255.0 - base)
    picture = np.clip(mixed, 0.0, 1.0) ** how.gamma * how.gain
    picture = np.roll(picture, tuple(int(v) for v in rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, 2)), (1, 2))
    frames = blurred(torch.from_numpy(picture.astype(np.float32)), how.blur)
    if how.noise > 0:
        frames = frames + how.noise * torch.from_numpy(rng.standard_normal(frames.shape, dtype=np.float32))
    return frames.clamp(0.0, 1.0)


def step_order(steps: int, order: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers (steps,) of the steps of a clip in one of the `ORDERS`."""
    if ORDERS[order] == "shuffled":
        return rng.permutation(steps)
    if ORDERS[order] == "frozen":
        return np.full(steps, int(rng.integers(steps)))
    forwards = np.arange(steps, dtype=np.int64)
    return forwards[::-1].copy() if ORDERS[order] == "reversed" else forwards


def _beats(heart: Mapping[str, Any], start_s: float, end_s: float) -> tuple[float, float, float]:
    """Mean EDV and ESV (ml) of the beats that a window shows, and the rate (bpm) by the median interval there."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([np.nan if value is None else value for value in heart[name]], dtype=np.float64)

    ed_s, r_s, edv, esv = column("ed_s"), column("r_s"), column("edv_ml"), column("esv_ml")
    visible = (ed_s < end_s) & (ed_s > start_s - 0.5) & np.isfinite(edv) & np.isfinite(esv)
    visible = visible if visible.any() else np.isfinite(edv) & np.isfinite(esv)
    begins, lasts = r_s[:-1], np.diff(r_s)
    inside = (begins < end_s) & (begins + lasts > start_s)
    interval = float(np.nanmedian(lasts[inside] if inside.any() else lasts))
    return float(edv[visible].mean()), float(esv[visible].mean()), 60.0 / interval


def true_answers(
    clip: Clip, start: int, config: EchoFeaturesConfig, how: Degradation, steps: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """True answers about one window, by the names of `ANSWERS`: class ids, or numbers scaled to about -1..1; nan: not asked.

    start: First frame of the window. steps: Numbers of the steps in the order in which the window shows them.

    The rate needs the real order (or its reverse); EF and volumes need frames that are not frozen.
    """
    heart = clip.heart
    edv, esv, rate = _beats(heart, start / FPS, (start + config.frames) / FPS)
    at = start + steps * config.stride
    moves, runs = ORDERS[how.order] != "frozen", ORDERS[how.order] in ("real", "reversed")
    numbers: dict[str, Any] = {
        "ef": (100.0 * (edv - esv) / edv - 50.0) / 15.0 if moves else np.nan,
        "heart_rate": np.log(rate / 75.0) / 0.3 if runs else np.nan,
        "edv": np.log(edv / 110.0) / 0.35 if moves else np.nan,
        "esv": np.log(esv / 50.0) / 0.5 if moves else np.nan,
        "mm_per_pixel": np.log(heart["mm_per_pixel"] / 1.5) / 0.15,
        "length": (np.array(heart["length_px"], dtype=np.float64)[at] - 50.0) / 8.0,
        "width": (np.array(heart["width_px"], dtype=np.float64)[at] - 20.0) / 5.0,
        "speckle": 2.0 * how.speckle - 1.0,
        "blur": how.blur,
        "noise": 10.0 * how.noise,
        "gamma": 5.0 * np.log(how.gamma),
        "gain": 5.0 * np.log(how.gain),
    }
    classes: dict[str, Any] = {"view": VIEWS.index(heart["view"]), "rhythm": RHYTHMS.index(heart["rhythm"]), "order": how.order}
    return {name: np.atleast_1d(np.float32(value)) for name, value in {**numbers, **classes}.items()}


class EchoFeaturesTask(Task):
    """Network from a window of a clip to view, rhythm, EF, heart rate, volumes, the cavity's outline, and its degradation.

    The loss is the mean of one loss per answer: cross-entropy for classes, Huber's for numbers.
    """

    Data = FeatureData
    Network = EchoFeaturesConfig

    data: FeatureData

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.store = ClipStore(self.data.clips)
        start = self.starting_weights("echo-features")
        self.network = load_network(EchoFeatures, start) if start else EchoFeatures(self.network_config(recipe))
        self.config = self.network.config
        if self.config.fps != FPS:
            raise InputError(f"The clips have {FPS:g} frames per second; set network.fps to that.")
        if self.store[0].frames.shape[0] < self.config.frames:
            found = self.store[0].frames.shape[0]
            raise InputError(f"The clips have {found} frames, but the network spans {self.config.frames}; set fewer steps.")

    def networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"echo-features": self.network}

    def _example(self, rng: np.random.Generator) -> tuple[Tensor, dict[str, NDArray[Any]]]:
        clip = self.store[int(rng.integers(len(self.store)))]
        start = int(rng.integers(clip.frames.shape[0] - self.config.frames + 1))
        how = draw_degradation(rng)
        steps = step_order(self.config.steps, how.order, rng)
        at = start + steps * self.config.stride
        # A reversed step shows its two frames the other way round, a frozen one twice the same.
        first = at + (1 if ORDERS[how.order] == "reversed" else 0)
        second = {"frozen": at, "reversed": at}.get(ORDERS[how.order], at + 1)
        which, places = np.unique(np.stack([first, second], 1), return_inverse=True)
        frames = degrade(clip.frames[which], clip.structure[which], how, rng)[torch.from_numpy(places.ravel())]
        in_pairs = EchoFeaturesConfig(steps=self.config.steps, stride=2, image_size=self.config.image_size)
        return frame_pairs(frames[None], in_pairs)[0], true_answers(clip, start, self.config, how, steps)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Degraded random windows of random clips, as pairs of frames, with the true answers about them."""
        rng = self.random(step, rank)
        pictures, answers = zip(*(self._example(rng) for _ in range(self.recipe.batch_size)), strict=True)
        true = {name: torch.from_numpy(np.stack([answer[name] for answer in answers])) for name in ANSWERS}
        return {"pairs": torch.stack(pictures), **true}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, the loss of each answer, and the shares of right views and orders."""
        answers = self.network.answers(self.network(batch["pairs"]))
        parts: dict[str, Tensor] = {}
        for name, answer in answers.items():
            truth = batch[name].float()
            if name == "view":
                parts[name] = F.binary_cross_entropy_with_logits(answer, truth)
            elif name in _CLASSES:
                parts[name] = F.cross_entropy(answer, truth[:, 0].long())
            else:
                known = torch.isfinite(truth)
                off = F.smooth_l1_loss(answer, torch.where(known, truth, answer.detach()), reduction="none")
                parts[name] = off.sum() / known.sum().clamp_min(1)
        right = {
            "view_right": ((answers["view"] > 0) == (batch["view"] > 0.5)).float().mean(),
            "order_right": (answers["order"].argmax(1) == batch["order"][:, 0]).float().mean(),
        }
        return {
            "loss": torch.stack(list(parts.values())).mean(),
            **{f"{name}_loss": value for name, value in parts.items()},
            **right,
        }

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the network in bfloat16."""
        save_network(networks["echo-features"], folder / "echo-features", torch.bfloat16)
