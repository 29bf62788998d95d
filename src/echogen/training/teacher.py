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
from echogen.files import whole_file
from echogen.generators import EchoPulse, Generator
from echogen.generators.echopulse.config import EchoPulseConfig, FirstFrame
from echogen.generators.echopulse.frame_filters import NewFrames
from echogen.generators.echopulse.state import WindowState
from echogen.generators.echopulse.token_guesser import Guess
from echogen.networks.attention import Tokens
from echogen.networks.masked_transformer import Conditioning
from echogen.phantom.looks import PLAIN, VARIED
from echogen.phantom.simulate import render
from echogen.records import ByteArray, Cine, Ecg

logger = logging.getLogger("echogen.training")

#: Codes of a token whose probability is kept: the likeliest; together they hold nearly all of it.
CODES = 12
#: First seed of the hearts that a teacher is asked about; no other training sees them.
FIRST_STUDENT_SEED = 3_000_000
#: Length in s of the video that a teacher guesses of each heart: a first window and a part of the next.
SECONDS = 3.3
#: Length in s of the live video that it guesses of each heart: a first frame and five parts.
LIVE_SECONDS = 1.3


@dataclass(frozen=True)
class Answer:
    """The new tokens of one window, and how they came about.

    window: (latents, positions) int16 ids at the end, the kept ones first, hidden ones (mask id) behind.
    given: latents that are kept.
    kept_at: (new, positions) int8 step, from 0, that kept each new token.
    steps: steps in all.
    codes: (new, positions, `CODES`) int16 likeliest ids of each new token in the step that kept it.
    probabilities: (new, positions, `CODES`) float16 probabilities of those ids.
    clock: (latents,) float32 times of the latents after the window's first frame, in s.
    is_first: True if the window's first latent is a single frame.
    modulation: (latents, 6 dim) float16 encoded conditions of each latent.
    context: (tokens, dim) float16 ECG tokens.
    context_s: (tokens,) float32 times of the ECG tokens, in s.
    context_seen: (tokens,) True for ECG tokens that may be seen.
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
        """(latents, positions) True for new tokens that were still hidden before a step (from 0)."""
        hidden = np.zeros(self.window.shape, bool)
        hidden[int(self.given) : int(self.given) + len(self.kept_at)] = self.kept_at >= step
        return hidden


@dataclass(frozen=True)
class SamplingSchedule:
    """Settings with which a teacher guesses; each field is that of the same name in `EchoPulseConfig`.

    steps: steps of parallel decoding of a window.
    temperature: temperature of the codes in the first step.
    temperature_end: temperature of the codes in the last step.
    choice_temperature: noise on the confidence by which tokens are kept.
    first: settings of a first frame.
    """

    steps: int = 10
    temperature: float = 0.9
    temperature_end: float = 0.1
    choice_temperature: float = 6.0
    first: FirstFrame = field(default_factory=lambda: FirstFrame(8, 3, 4, temperature_end=0.3))


class NoRenderer:
    """A renderer that draws nothing: one black pixel a frame."""

    def prepared(self, config: EchoPulseConfig, reference: Cine | None, seed: int) -> WindowState:
        """Return the state before the first window."""
        return WindowState()

    def render(self, state: WindowState, new: NewFrames, config: EchoPulseConfig) -> tuple[ByteArray, WindowState]:
        """Return black frames, and the state as it is."""
        return np.zeros((len(new.times_s), 1, 1), np.uint8), state


class Teacher:
    """Observes a generator that guesses tokens as ever, but draws nothing of the video (candidates of a first frame aside).

    generator: the generator. answers: its answers so far.
    """

    def __init__(self, generator: EchoPulse, schedule: SamplingSchedule) -> None:
        """Take the transformer of a generator, to guess by a schedule, live video in as many steps as other.

        Raises `InputError` for one whose tokens are not kept once and for all.
        """
        transformer = generator.transformer
        if generator.config.order == "critic" or transformer.config.groups != 1 or not transformer.config.adaptive_norm:
            raise InputError("A student learns from a generator with one code a token and adaptive norm, and without a critic.")
        live = replace(generator.config.live, steps=schedule.steps, first=replace(schedule.first, candidates=1))
        settings = {entry.name: getattr(schedule, entry.name) for entry in fields(schedule)}
        config = replace(generator.config, live=live, **settings)
        self.answers: list[Answer] = []
        self.generator = EchoPulse(config, generator.tokenizer, transformer, generator.device, observer=self._write_down)
        self.generator.renderer = NoRenderer()
        self._mask_id = transformer.config.mask_id

    def _write_down(self, guess: Guess) -> None:
        self.answers.append(answer_of(guess, self._mask_id))


def answer_of(guess: Guess, mask_id: int) -> Answer:
    """Sum up a guess: of each token the step that kept it, and the distribution there."""
    query, tokens = guess.query, guess.tokens
    shape = tokens.shape[1:3]
    kept_at = torch.zeros(shape.numel(), dtype=torch.int64)
    for number, step in enumerate(guess.steps):
        kept_at[step.places.cpu()] = number
    codes = torch.zeros(len(kept_at), CODES, dtype=torch.int64)
    probabilities = torch.zeros(len(kept_at), CODES)
    for number, step in enumerate(guess.steps):
        kept = (kept_at[step.places.cpu()] == number).to(step.log_p.device)
        likely = (step.log_p[kept] / guess.temperature[number]).softmax(-1).topk(CODES, dim=-1)
        at = step.places[kept].cpu()
        probabilities[at], codes[at] = likely.values.cpu(), likely.indices.cpu()
    modulation, context = query.encoded_conditions
    assert modulation is not None
    assert context is not None
    assert context.times_s is not None

    def first_row(tensor: Tensor, kind: type[np.generic]) -> NDArray[Any]:
        return np.asarray(tensor[0].float().cpu().numpy()).astype(kind)

    return Answer(
        window=first_row(query.window(tokens, mask_id)[..., 0], np.int16),
        given=np.array(query.given),
        kept_at=kept_at.view(shape).numpy().astype(np.int8),
        steps=np.array(len(guess.steps)),
        codes=codes.view(*shape, CODES).numpy().astype(np.int16),
        probabilities=probabilities.view(*shape, CODES).numpy().astype(np.float16),
        clock=first_row(query.times_s, np.float32),
        is_first=first_row(query.is_first[:, None], np.bool_)[0],
        modulation=first_row(modulation[:, :, 0], np.float16),
        context=first_row(context.values, np.float16),
        context_s=first_row(context.times_s, np.float32),
        context_seen=first_row(context.mask, np.bool_),
    )


def ask(teacher: Teacher, seed: int) -> list[Answer]:
    """Return a teacher's answers about the simulated heart of a seed, for a video and a live one.

    The first frame is the heart's in half of them, else the teacher's own; the EF, the view or the sex is left out at times.
    """
    rng = np.random.default_rng([seed, 1])
    heart, leads = draw_recording(seed, SECONDS, VARIED if rng.random() < 0.5 else PLAIN)
    ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
    given = rng.random() < 0.5
    reference = Cine(render(heart, np.arange(2) / FPS, seed).frames[:1], np.zeros(1)) if given else None
    low, high = teacher.generator.ef_range
    conditions: dict[str, Any] = {
        "ef_percent": float(np.clip(heart.anatomy.ef_percent, low, high)) if rng.random() < 0.85 else None,
        "view": heart.anatomy.view if rng.random() < (0.5 if given else 0.9) else None,
        "sex": heart.sex if rng.random() < 0.5 else None,
        "reference": reference,
    }
    teacher.answers = []
    try:
        for seconds, live in ((SECONDS, False), (LIVE_SECONDS, True)):
            for _ in teacher.generator.stream(ecg, start_s=0.0, seconds=seconds, seed=seed, live=live, **conditions):
                pass
    except InputError:
        # An ECG without a beat early on asks nothing.
        return []
    return teacher.answers


def generator_folder(name_or_dir: str) -> Path:
    """Find the folder of an ECHOPulse generator, given itself or by its shipped name; raises `InputError` otherwise."""
    generator = Generator.from_pretrained(name_or_dir, "cpu")
    if not isinstance(generator, EchoPulse) or generator.folder is None:
        raise InputError(f"{name_or_dir} is no generator of the system echopulse, from which a student could learn.")
    return generator.folder


@lru_cache(maxsize=1)
def _teacher(folder: Path, schedule: SamplingSchedule) -> Teacher:
    torch.set_num_threads(1)
    generator = Generator.from_pretrained(folder, "cpu")
    assert isinstance(generator, EchoPulse)
    return Teacher(generator, schedule)


def _ask_once(folder: Path, schedule: SamplingSchedule, cache: Path, seed: int) -> None:
    """Write the file with a teacher's answers about a seed."""
    answers = ask(_teacher(folder, schedule), seed)
    named = {f"{i}.{f.name}": getattr(answer, f.name) for i, answer in enumerate(answers) for f in fields(Answer)}
    with whole_file(cache / f"{seed}.npz") as unfinished:
        np.savez(unfinished, **named)


def read_answers(path: Path) -> list[Answer]:
    """Read the answers in a file."""
    with np.load(path) as stored:
        count = 1 + max((int(name.split(".")[0]) for name in stored.files), default=-1)
        return [Answer(**{f.name: stored[f"{i}.{f.name}"] for f in fields(Answer)}) for i in range(count)]


def gather(
    name_or_dir: str, schedule: SamplingSchedule, cache: Path, seeds: Sequence[int], processes: int = 2
) -> list[list[Answer]]:
    """Ask a generator about these seeds, heart by heart; what the cache holds already is not asked again."""
    missing = [seed for seed in seeds if not (cache / f"{seed}.npz").is_file()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        ask_one = partial(_ask_once, generator_folder(name_or_dir), schedule, cache)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for done, _ in enumerate(pool.imap_unordered(ask_one, missing), start=1):
                if done % 50 == 0:
                    logger.info("The teacher was asked about %d of %d hearts.", done, len(missing))
    return [read_answers(cache / f"{seed}.npz") for seed in seeds]


def stacked(answers: Sequence[Answer], hidden: Sequence[NDArray[np.bool_]]) -> dict[str, Tensor]:
    """Join answers of one shape to a batch, with the tokens (latents, positions) of each that are hidden."""
    batch = {}
    for entry in fields(Answer):
        values = np.stack([getattr(answer, entry.name) for answer in answers])
        kind = np.float32 if values.dtype.kind == "f" else np.int64 if values.dtype.kind == "i" else values.dtype
        batch[entry.name] = torch.from_numpy(values.astype(kind))
    return batch | {"hidden": torch.from_numpy(np.stack(hidden))}


def encoded_conditions(batch: Mapping[str, Tensor]) -> Conditioning:
    """Return the conditions of a batch as a transformer takes them."""
    context = Tokens(batch["context"], batch["context_s"], batch["context_seen"])
    return Conditioning(batch["modulation"].unsqueeze(2), context)
