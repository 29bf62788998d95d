"""Training of a student, which learns to guess the tokens of a video in few steps by low-rank changes of its generator.

In every state of a window that a student of so few steps may meet, it learns to give each hidden token the distribution that the
teacher kept it from, in a step in which more was known; the view's guidance of a first frame is learned with it, so that the
student needs none. Where the cavity is, is learned from the transformer without the changes. Source: Deschenaux and Gulcehre,
Beyond Autoregression: Fast LLMs via Self-Distillation Through Time, ICLR 2025; see `teacher`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.generators.echopulse.add_student import LEARNED
from echogen.networks.adapters import network_hash
from echogen.networks.config import load_network
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.training.lora import save_changes, with_changes
from echogen.training.recipe import Recipe
from echogen.training.task import Task
from echogen.training.teacher import (
    FIRST_STUDENT_SEED,
    Answer,
    SamplingSchedule,
    encoded_conditions,
    gather,
    generator_folder,
    stacked,
)


@dataclass(frozen=True)
class TeacherData:
    """The teacher, and the simulated hearts that it is asked about.

    generator: the teacher: a shipped name or a folder.
    cache: folder in which its answers are kept.
    hearts: simulated ECGs that it is asked about.
    held_out: those of them, the first ones, that only measure the student.
    schedule: settings with which the teacher guesses.
    """

    generator: str
    cache: str
    hearts: int = 1000
    held_out: int = 40
    schedule: SamplingSchedule = field(default_factory=SamplingSchedule)


@dataclass(frozen=True)
class FewStepsOptions:
    """Options of the student's training.

    rank: rank of the changes.
    students: numbers of steps in which a student may guess a window; a batch's state is drawn from one of them.
    first_students: the same for a first frame.
    cavity: weight of the loss of the cavity's cells.
    first: share of batches that are first frames, 0..1.
    live: share of batches that are parts of live video, 0..1.
    """

    rank: int = 16
    students: tuple[int, ...] = (1, 2, 4)
    first_students: tuple[int, ...] = (2, 4, 8)
    cavity: float = 1.0
    first: float = 0.1
    live: float = 0.4


class FewStepsTask(Task):
    """Training of a student by the cross-entropy of the teacher's distribution of each hidden token, and of its cavity."""

    Data = TeacherData
    Options = FewStepsOptions
    former_names = MappingProxyType({"data.way": "data.schedule"})

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        data = self.data
        seeds = range(FIRST_STUDENT_SEED, FIRST_STUDENT_SEED + data.hearts)
        by_heart = gather(data.generator, data.schedule, Path(data.cache), seeds)
        self.answers = by_kind([answer for heart in by_heart[data.held_out :] for answer in heart])
        self.held_out = by_kind([answer for heart in by_heart[: data.held_out] for answer in heart])
        self.transformer = load_network(MaskedTransformer, generator_folder(data.generator) / "transformer")
        self.base_hash = network_hash(self.transformer)
        names = [name for name, part in self.transformer.named_modules() if isinstance(part, nn.Linear)]
        names = [name for name in names if name.startswith(("blocks.", "head"))]
        self.model = with_changes(self.transformer, names, self.options.rank, recipe.seed)

    def networks(self) -> dict[str, nn.Module]:
        """Return the transformer with its changes, which alone learn."""
        return {LEARNED: self.model}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Draw windows of one shape, all in states that a student may meet."""
        rng, options = self.random(step, rank), self.options
        share = rng.random()
        kind = "first" if share < options.first else "live" if share < options.first + options.live else "window"
        shapes = self.answers[kind]
        sizes = np.array([len(group) for group in shapes])
        group = shapes[int(rng.choice(len(shapes), p=sizes / sizes.sum()))]
        picked = [group[int(rng.integers(len(group)))] for _ in range(self.recipe.batch_size)]
        hidden = []
        for answer in picked:
            student = int(rng.choice(options.first_students if kind == "first" else options.students))
            hidden.append(answer.hidden(round(int(answer.steps) * int(rng.integers(student)) / student)))
        return stacked(picked, hidden)

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Cross-entropy against the teacher's distributions, and the share of tokens whose likeliest code is the teacher's."""
        tokens, agreement, features = _compared(self.transformer, batch)
        losses = {"tokens": tokens, "agreement": agreement}
        cavity = self.transformer.cavity
        if cavity is None:
            return losses | {"loss": tokens}
        with torch.no_grad(), self.model.disable_adapter():
            unchanged = cavity(_features(self.transformer, batch)).float().sigmoid()
        cells = F.binary_cross_entropy_with_logits(cavity(features).float(), unchanged)
        return losses | {"cavity": cells, "loss": tokens + self.options.cavity * cells}

    @torch.no_grad()
    def measured(self, transformer: MaskedTransformer) -> dict[str, dict[str, float]]:
        """Mean loss and agreement by kind on the hearts that are held out, all new tokens being hidden."""
        found = {}
        for kind, shapes in self.held_out.items():
            parts = [group[i : i + 8] for group in shapes for i in range(0, len(group), 8)]
            rows = []
            for part in parts:
                batch = {name: tensor.to(self.device) for name, tensor in stacked(part, [a.hidden(0) for a in part]).items()}
                with torch.autocast(self.device.type, torch.bfloat16):
                    rows.append([float(value) for value in _compared(transformer, batch)[:2]])
            loss, agreement = np.average(rows, axis=0, weights=[len(part) for part in parts])
            found[kind] = {"loss": round(float(loss), 4), "agreement": round(float(agreement), 4)}
        return found

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the student's changes (bfloat16), with what they achieve on hearts that are held out."""
        model: Any = networks[LEARNED]
        learned: MaskedTransformer = model.base_model.model
        with model.disable_adapter():
            before = self.measured(learned)
        facts = {
            "base": self.data.generator,
            "network": "transformer",
            "network_hash": self.base_hash,
            "clips": f"none: what the generator guessed for {self.data.hearts} simulated ECGs, seeds {FIRST_STUDENT_SEED}..",
            "held_out": self.data.held_out,
            "before": before,
            "after": self.measured(learned),
        }
        save_changes(folder / LEARNED, model, facts, torch.bfloat16)


def by_kind(answers: Sequence[Answer]) -> dict[str, list[list[Answer]]]:
    """Group answers of one shape, by kind of window: "first" frames, parts of "live" video, and a "window" of other video."""
    groups: dict[tuple[int, int, int, int], list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.shape].append(answer)
    longest = max((shape[0] for shape in groups), default=0)
    kinds: dict[str, list[list[Answer]]] = {"first": [], "live": [], "window": []}
    for (latents, given, *_), group in sorted(groups.items()):
        kinds["first" if not given else "window" if latents == longest else "live"].append(group)
    return kinds


def _features(transformer: MaskedTransformer, batch: Mapping[str, Tensor]) -> Tensor:
    """Features of windows whose hidden tokens are masked."""
    ids = batch["window"].masked_fill(batch["hidden"], transformer.config.mask_id)
    return transformer.features(ids[..., None], batch["clock"], batch["is_first"], encoded_conditions(batch))


def _compared(transformer: MaskedTransformer, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy against the teacher's distribution of hidden tokens, share of equal likeliest codes, and the features."""
    features, hidden = _features(transformer, batch), batch["hidden"]
    log_p = transformer.logits(features[hidden])[:, 0].float().log_softmax(-1)
    given, new = int(batch["given"][0]), batch["codes"].shape[1]
    hidden_new = hidden[:, given : given + new]
    codes, probabilities = batch["codes"][hidden_new], batch["probabilities"][hidden_new]
    each = -(probabilities * log_p.gather(-1, codes)).sum(-1) / probabilities.sum(-1)
    likeliest = codes.gather(-1, probabilities.argmax(-1, keepdim=True))[:, 0]
    agreement = (log_p.argmax(-1) == likeliest).float().mean()
    return each.mean(), agreement, features
