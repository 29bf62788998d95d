"""Task `echo-features`: a network learns to describe clips and their degradations.

Its features are behind the project's own distances between sets of clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.networks.config import load_network, save_network
from echogen.networks.echo_features import ANSWERS, EchoFeatures, EchoFeaturesConfig, frame_pairs
from echogen.records import VIEWS
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.source.targets import cavity_outline
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


def pictures_of(window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames (frames, H, W) of a window with and without speckle; twice the same where the source does not know the latter."""
    assert window.frames is not None
    plain: NDArray[np.uint8] = window.frames if "structure" not in window.maps else np.asarray(window.maps["structure"], np.uint8)
    return window.frames, plain


def step_order(steps: int, order: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers (steps,) of the steps of a clip in one of the `ORDERS`."""
    if ORDERS[order] == "shuffled":
        return rng.permutation(steps)
    if ORDERS[order] == "frozen":
        return np.full(steps, int(rng.integers(steps)))
    forwards = np.arange(steps, dtype=np.int64)
    return forwards[::-1].copy() if ORDERS[order] == "reversed" else forwards


def shown_volumes(window: Window) -> tuple[float, float, float]:
    """Mean EDV and ESV in ml and rate in bpm (by the median interval) of the beats that a window shows; nan where unknown."""
    start, end = window.times_s[0], window.times_s[-1]
    with_volumes = [beat for beat in window.beats if beat.edv_ml and beat.esv_ml]
    shown = [beat for beat in with_volumes if start - 0.5 < beat.ed_s < end] or with_volumes
    edv, esv = (float(np.mean([getattr(beat, name) for beat in shown])) if shown else np.nan for name in ("edv_ml", "esv_ml"))
    known = window.labels.get("r_s") or [beat.r_s if beat.r_s is not None else beat.ed_s for beat in window.beats]
    begins = np.array([value for value in known if value is not None], dtype=np.float64)
    lasts = np.diff(begins)
    inside = (begins[:-1] < end) & (begins[:-1] + lasts > start)
    interval = float(np.median(lasts[inside] if inside.any() else lasts)) if len(lasts) else np.nan
    return edv, esv, 60.0 / interval


def true_answers(
    window: Window, config: EchoFeaturesConfig, how: Degradation, steps: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """True answers about one window, by the names of `ANSWERS`: class ids, or numbers scaled to about -1..1.

    steps: Numbers of the steps in the order in which the window shows them.

    The rate needs the real order (or its reverse); EF and volumes need frames that are not frozen. What is unknown, or not asked,
    is nan, or a class of -1.
    """
    edv, esv, rate = shown_volumes(window)
    ef = 100.0 * (edv - esv) / edv if np.isfinite(edv) else window.ef_percent if window.ef_percent is not None else np.nan
    length, width = cavity_outline(window)[steps * config.stride].T
    mm_per_pixel = window.labels["mm_per_pixel"] if "outline" in window.maps else np.nan  # of simulated pictures only
    moves, runs = ORDERS[how.order] != "frozen", ORDERS[how.order] in ("real", "reversed")
    numbers: dict[str, Any] = {
        "ef": (ef - 50.0) / 15.0 if moves else np.nan,
        "heart_rate": np.log(rate / 75.0) / 0.3 if runs else np.nan,
        "edv": np.log(edv / 110.0) / 0.35 if moves else np.nan,
        "esv": np.log(esv / 50.0) / 0.5 if moves else np.nan,
        "mm_per_pixel": np.log(mm_per_pixel / 1.5) / 0.15,
        "length": (length - 50.0) / 8.0,
        "width": (width - 20.0) / 5.0,
        "speckle": 2.0 * how.speckle - 1.0 if "structure" in window.maps else np.nan,
        "blur": how.blur,
        "noise": 10.0 * how.noise,
        "gamma": 5.0 * np.log(how.gamma),
        "gain": 5.0 * np.log(how.gain),
    }
    classes: dict[str, Any] = {
        "view": VIEWS.index(window.view) if window.view in VIEWS else -1,
        "rhythm": RHYTHMS.index(window.labels["rhythm"]) if window.labels.get("rhythm") in RHYTHMS else -1,
        "order": how.order,
    }
    return {name: np.atleast_1d(np.float32(value)) for name, value in {**numbers, **classes}.items()}


class EchoFeaturesTask(Task):
    """Network from a window of a clip to view, rhythm, EF, heart rate, volumes, the cavity's outline, and its degradation.

    The loss is the mean of one loss per answer: cross-entropy for classes, Huber's for numbers.
    """

    Data = SourceSettings
    Network = EchoFeaturesConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: SourceSettings

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        start = self.starting_weights("echo-features")
        self.network = load_network(EchoFeatures, start) if start else EchoFeatures(self.network_config(recipe))
        self.config = self.network.config
        needs = Needs(frozenset({"frames"}), frozenset({"structure", "masks", "ef", "beats"}))
        self.source = TrainingSource(self.data, needs, WindowShape(self.config.frames, self.config.fps), recipe.seed)

    def networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"echo-features": self.network}

    def _example(self, position: int) -> tuple[Tensor, dict[str, NDArray[Any]]]:
        rng, window = self.row_random(position), self.source.at(position)
        how = draw_degradation(rng)
        steps = step_order(self.config.steps, how.order, rng)
        at = steps * self.config.stride
        # A reversed step shows its two frames the other way round, a frozen one twice the same.
        first = at + (1 if ORDERS[how.order] == "reversed" else 0)
        second = {"frozen": at, "reversed": at}.get(ORDERS[how.order], at + 1)
        which, places = np.unique(np.stack([first, second], 1), return_inverse=True)
        speckled, plain = pictures_of(window)
        frames = degrade(speckled[which], plain[which], how, rng)[torch.from_numpy(places.ravel())]
        in_pairs = EchoFeaturesConfig(steps=self.config.steps, stride=2, image_size=self.config.image_size)
        return frame_pairs(frames[None], in_pairs)[0], true_answers(window, self.config, how, steps)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Degraded windows, as pairs of frames, with the true answers about them."""
        pictures, answers = zip(*(self._example(at) for at in self.positions(step, rank, world)), strict=True)
        true = {name: torch.from_numpy(np.stack([answer[name] for answer in answers])) for name in ANSWERS}
        return {"pairs": torch.stack(pictures), **true}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, the loss of each answer, and the shares of right views and orders."""
        answers = self.network.answers(self.network(batch["pairs"]))
        parts: dict[str, Tensor] = {}
        for name, answer in answers.items():
            truth = batch[name].float()
            if name == "view":
                known = truth >= 0
                each = F.binary_cross_entropy_with_logits(answer, truth.clamp_min(0), reduction="none")
                parts[name] = (each * known).sum() / known.sum().clamp_min(1)
            elif name in _CLASSES:
                known = truth >= 0
                each = F.cross_entropy(answer, truth[:, 0].long(), ignore_index=-1, reduction="sum")
                parts[name] = each / known.sum().clamp_min(1)
            else:
                known = torch.isfinite(truth)
                off = F.smooth_l1_loss(answer, torch.where(known, truth, answer.detach()), reduction="none")
                parts[name] = off.sum() / known.sum().clamp_min(1)
        right = {
            "view_right": ((answers["view"] > 0) == (batch["view"] > 0.5))[batch["view"] >= 0].float().mean().nan_to_num(),
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
