"""A generator's own answers, step by step, kept so that a student learns to give them in fewer steps.

No video is drawn for it: simulated ECGs and first frames are enough, and what is kept is how the tokens of the video that a
generator would make from them came about: of every token the distribution that it was drawn from, in the step that kept it.
Source: Deschenaux and Gulcehre, Beyond Autoregression: Fast LLMs via Self-Distillation Through Time, ICLR 2025, section 3.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, FPS, draw_recording
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.generators import EchoPulse, Generator
from echogen.generators.echopulse_config import FirstFrame
from echogen.generators.scene import Question
from echogen.networks.attention import Tokens
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.phantom.looks import PLAIN, VARIED
from echogen.phantom.simulate import render
from echogen.records import Cine, Ecg

logger = logging.getLogger("echogen.training")

#: Codes of a token of which the probability is kept: the likeliest.
CODES = 12
#: The hearts that a student's teacher is asked about have seeds from here on; no other training sees them.
FIRST_STUDENT_SEED = 3_000_000
#: Length in s of a video that is guessed, all at once and live.
SECONDS, LIVE_SECONDS = 3.3, 1.3


@dataclass(frozen=True)
class Answer:
    """How the new tokens of one window came about.

    window (latents, positions): int16 ids at the end, the kept ones first, hidden ones (mask id) behind. given: latents that are
    kept. kept_at (new, positions): int8, the step that kept each new token, steps: how many there were. codes (new, positions,
    `CODES`): int16 ids, probabilities: float16, what each was drawn from. clock (latents,) in s, is_first: see `Scene.clock`.
    modulation (latents, 6 dim), context (M, dim), context_s (M,), context_seen (M,): the scene as the teacher was told it.
    """

    window: NDArray[np.int16]
    given: NDArray[np.int64]
    kept_at: NDArray[np.int8]
    steps: NDArray[np.int64]
    codes: NDArray[np.int16]
    probabilities: NDArray[np.float16]
    clock: NDArray[np.float32]
    is_first: NDArray[np.bool_]
    modulation: NDArray[np.float16]
    context: NDArray[np.float16]
    context_s: NDArray[np.float32]
    context_seen: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Latents of the window, those given, those that are new, and tokens of the context: one shape makes a batch."""
        return len(self.window), int(self.given), len(self.kept_at), len(self.context)

    def hidden(self, step: int) -> NDArray[np.bool_]:
        """(latents, positions) which new tokens were still unknown before a step (from 0)."""
        hidden = np.zeros(self.window.shape, bool)
        hidden[int(self.given) : int(self.given) + len(self.kept_at)] = self.kept_at >= step
        return hidden


@dataclass(frozen=True)
class Way:
    """How a teacher guesses: see `EchoPulseConfig` and `FirstFrame`."""

    steps: int = 10
    temperature: float = 0.9
    temperature_end: float = 0.1
    choice_temperature: float = 6.0
    first: FirstFrame = field(default_factory=lambda: FirstFrame(8, 3, 4, temperature_end=0.3))


class Teacher(EchoPulse):
    """A generator that guesses tokens as ever and writes down how, but draws nothing of the video (a first frame aside)."""

    answers: list[Answer]

    @classmethod
    def of(cls, heart: EchoPulse, way: Way) -> Teacher:
        """The teacher that guesses in this way with the transformer of a generator, live video in as many steps as other.

        Raises `InputError` for one whose tokens are not kept once and for all.
        """
        transformer = heart.transformer
        if heart.config.order == "critic" or transformer.config.groups != 1 or not transformer.config.adaptive_norm:
            raise InputError("A student learns from a generator with one code a token and adaptive norm, and without a critic.")
        live = replace(heart.config.live, steps=way.steps, first=replace(way.first, candidates=1))
        config = replace(heart.config, live=live, **{entry.name: getattr(way, entry.name) for entry in fields(way)})
        teacher = cls(config, heart.tokenizer, transformer, heart.device)
        teacher.answers = []
        return teacher

    def _shown(self, history: Tensor, count: int, *rest: Any) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        times: NDArray[np.float64] = rest[1]
        return np.zeros((len(times), 1, 1), np.uint8), {"start_s": float(times[0])}

    def _fill(self, network: MaskedTransformer, question: Question, new: int, **way: Any) -> Tensor:
        said: list[tuple[Tensor, Tensor]] = []
        ids = super()._fill(network, question, new, **way, watch=lambda places, log_p: said.append((places[0], log_p[0, :, 0])))
        self.answers.append(_answer(question, ids, said, way["temperature"], self.transformer.config.mask_id))
        return ids


def _answer(
    question: Question, ids: Tensor, said: Sequence[tuple[Tensor, Tensor]], temperature: Sequence[float], mask_id: int
) -> Answer:
    """What a question was answered; said: of each step the hidden places and the log-probabilities there."""
    shape = ids.shape[1:3]
    kept_at = torch.zeros(ids.shape[1:3].numel(), dtype=torch.int64)
    for step, (places, _) in enumerate(said):
        kept_at[places.cpu()] = step
    codes = torch.zeros(len(kept_at), CODES, dtype=torch.int64)
    probabilities = torch.zeros(len(kept_at), CODES)
    for step, (places, log_p) in enumerate(said):
        kept = (kept_at[places.cpu()] == step).to(log_p.device)
        likely = (log_p[kept] / temperature[step]).softmax(-1).topk(CODES, dim=-1)
        at = places[kept].cpu()
        probabilities[at], codes[at] = likely.values.cpu(), likely.indices.cpu()
    told = question.told
    assert told.modulation is not None
    assert told.context is not None
    assert told.context.times_s is not None

    def kept_as(tensor: Tensor, kind: type[np.generic]) -> NDArray[Any]:
        return np.asarray(tensor[0].float().cpu().numpy()).astype(kind)

    return Answer(
        window=kept_as(question.window(ids, mask_id)[..., 0], np.int16),
        given=np.array(0 if question.kept is None else question.kept.shape[1]),
        kept_at=kept_at.view(shape).numpy().astype(np.int8),
        steps=np.array(len(said)),
        codes=codes.view(*shape, CODES).numpy().astype(np.int16),
        probabilities=probabilities.view(*shape, CODES).numpy().astype(np.float16),
        clock=kept_as(question.clock, np.float32),
        is_first=kept_as(question.head[:, None], np.bool_)[0],
        modulation=kept_as(told.modulation[:, :, 0], np.float16),
        context=kept_as(told.context.values, np.float16),
        context_s=kept_as(told.context.times_s, np.float32),
        context_seen=kept_as(told.context.mask, np.bool_),
    )


def ask(teacher: Teacher, seed: int) -> list[Answer]:
    """What a teacher answers about the simulated heart of a seed: a video, and a live one.

    The first frame is the heart's in half of them, else the teacher's own; the EF, the view or the sex is at times not told.
    """
    rng = np.random.default_rng([seed, 1])
    heart, leads = draw_recording(seed, SECONDS, VARIED if rng.random() < 0.5 else PLAIN)
    ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
    given = rng.random() < 0.5
    shown = Cine(render(heart, np.arange(2) / FPS, seed).frames[:1], np.zeros(1)) if given else None
    low, high = teacher.ef_range
    asked: dict[str, Any] = {
        "ef_percent": float(np.clip(heart.anatomy.ef_percent, low, high)) if rng.random() < 0.85 else None,
        "view": heart.anatomy.view if rng.random() < (0.5 if given else 0.9) else None,
        "sex": heart.sex if rng.random() < 0.5 else None,
        "frames": shown,
    }
    teacher.answers = []
    try:
        for seconds, live in ((SECONDS, False), (LIVE_SECONDS, True)):
            for _ in teacher.stream(ecg, start_s=0.0, seconds=seconds, seed=seed, live=live, **asked):
                pass
    except InputError:
        # An ECG without a beat early on asks nothing.
        return []
    return teacher.answers


def generator_folder(name_or_dir: str) -> Path:
    """The folder of a generator of the system echopulse, given itself or by its shipped name; raises `InputError` otherwise."""
    heart = Generator.from_pretrained(name_or_dir, "cpu")
    if not isinstance(heart, EchoPulse) or heart.folder is None:
        raise InputError(f"{name_or_dir} is no generator of the system echopulse, from which a student could learn.")
    return heart.folder


@lru_cache(maxsize=1)
def _teacher(folder: Path, way: Way) -> Teacher:
    torch.set_num_threads(1)
    heart = Generator.from_pretrained(folder, "cpu")
    assert isinstance(heart, EchoPulse)
    return Teacher.of(heart, way)


def _ask_once(folder: Path, way: Way, cache: Path, seed: int) -> None:
    """Write the file with what the teacher answers about a seed."""
    answers = ask(_teacher(folder, way), seed)
    named = {f"{i}.{f.name}": getattr(answer, f.name) for i, answer in enumerate(answers) for f in fields(Answer)}
    unfinished = cache / f"{seed}.partial.npz"
    np.savez(unfinished, **named)
    unfinished.replace(cache / f"{seed}.npz")


def read_answers(path: Path) -> list[Answer]:
    """The answers in a file."""
    with np.load(path) as stored:
        count = 1 + max((int(name.split(".")[0]) for name in stored.files), default=-1)
        return [Answer(**{f.name: stored[f"{i}.{f.name}"] for f in fields(Answer)}) for i in range(count)]


def gather(name_or_dir: str, way: Way, cache: Path, seeds: Sequence[int], processes: int = 2) -> list[list[Answer]]:
    """What a generator answers about these seeds, heart by heart; what the cache holds already is not asked again."""
    missing = [seed for seed in seeds if not (cache / f"{seed}.npz").is_file()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        ask_one = partial(_ask_once, generator_folder(name_or_dir), way, cache)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for done, _ in enumerate(pool.imap_unordered(ask_one, missing), start=1):
                if done % 50 == 0:
                    logger.info("The teacher was asked about %d of %d hearts.", done, len(missing))
    return [read_answers(cache / f"{seed}.npz") for seed in seeds]


def stacked(answers: Sequence[Answer], hidden: Sequence[NDArray[np.bool_]]) -> dict[str, Tensor]:
    """Answers of one shape as a batch, and which tokens (latents, positions) of each are hidden."""
    batch = {}
    for entry in fields(Answer):
        values = np.stack([getattr(answer, entry.name) for answer in answers])
        kind = np.float32 if values.dtype.kind == "f" else np.int64 if values.dtype.kind == "i" else values.dtype
        batch[entry.name] = torch.from_numpy(values.astype(kind))
    return batch | {"hidden": torch.from_numpy(np.stack(hidden))}


def told(batch: Mapping[str, Tensor]) -> Conditioning:
    """The scenes of a batch as a transformer takes them."""
    context = Tokens(batch["context"], batch["context_s"], batch["context_seen"])
    return Conditioning(batch["modulation"].unsqueeze(2), context)
