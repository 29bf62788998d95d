"""A student guesses in few steps what its generator guesses in many: what it learns from, how it learns, how it is used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echogen import Ecg, InputError
from echogen.generators import EchoPulse, Generator
from echogen.generators.base import hash_weights
from echogen.generators.echopulse.add_student import LEARNED, add_student
from echogen.generators.echopulse.config import FirstFrame
from echogen.generators.echopulse.student import STUDENT
from echogen.generators.echopulse.token_guesser import Guess
from echogen.training.recipe import Recipe
from echogen.training.tasks.few_steps import FewStepsTask, by_kind
from echogen.training.teacher import FIRST_STUDENT_SEED, Answer, SamplingSchedule, Teacher, ask, gather
from echogen.training.trainer import train

SCHEDULE = SamplingSchedule(steps=4, first=FirstFrame(3, 2, candidates=2))


@pytest.fixture(scope="module")
def folder(tiny: EchoPulse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny generator on disk."""
    path = tmp_path_factory.mktemp("tiny")
    tiny.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def answers(tiny: EchoPulse) -> list[Answer]:
    teacher = Teacher(tiny, SCHEDULE)
    return [answer for seed in range(6) for answer in ask(teacher, seed)]


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run."""
    schedule = {"steps": 4, "first": {"steps": 3, "latents": 2}}
    data = {"generator": str(folder), "cache": str(folder / "answers"), "hearts": 6, "held_out": 2, "schedule": schedule}
    recipe = Recipe("few-steps", steps=60, batch_size=2, learning_rate=1e-2, warmup_steps=5, weight_decay=0.0, ema_decay=0.9,
                    sample_every=0, data=data)  # fmt: skip
    path = tmp_path_factory.mktemp("run") / "student"
    train(FewStepsTask(recipe), recipe, path, progress=False)
    return path


@pytest.mark.parametrize("live", [False, True])
def test_a_teacher_guesses_what_the_generator_guesses(tiny: EchoPulse, ecg: Ecg, live: bool) -> None:
    config = replace(tiny.config, live=replace(tiny.config.live, steps=tiny.config.steps))
    guesses: list[Guess] = []
    generator = EchoPulse(config, tiny.tokenizer, tiny.transformer, tiny.device, observer=guesses.append)
    first = config.first
    assert first is not None
    schedule = SamplingSchedule(config.steps, config.temperature, config.temperature_end, config.choice_temperature, first)
    teacher = Teacher(generator, schedule)
    teacher.generator.config = replace(teacher.generator.config, live=config.live)
    for each in (generator, teacher.generator):
        for _ in each.stream(ecg, start_s=3.0, seconds=2.0, seed=2, live=live):
            pass
    mask_id = tiny.transformer.config.mask_id
    assert len(guesses) == len(teacher.answers)
    for guess, answer in zip(guesses, teacher.answers, strict=True):
        window = guess.query.window(guess.tokens, mask_id)[0, ..., 0]
        np.testing.assert_array_equal(answer.window, window.numpy())


def test_an_answer_tells_how_it_came_about(answers: list[Answer], tiny: EchoPulse) -> None:
    mask = tiny.transformer.config.mask_id
    listed: list[bool] = []
    mass: list[float] = []
    for answer in answers:
        given, new = int(answer.given), len(answer.kept_at)
        assert (answer.window[: given + new] < mask).all()
        assert (answer.window[given + new :] == mask).all()
        assert (answer.hidden(0)[given : given + new]).all()
        assert answer.hidden(0).sum() == answer.kept_at.size
        left = [int(answer.hidden(step).sum()) for step in range(int(answer.steps) + 1)]
        assert left == sorted(left, reverse=True)
        assert left[-1] == 0
        assert len(set(left)) == len(left)  # each step keeps something
        total = answer.probabilities.astype(float).sum(-1)
        assert (total > 0.2).all()
        assert (total < 1.01).all()
        listed += (answer.codes == answer.window[given : given + new, :, None]).any(-1).flatten().tolist()
        mass += total.flatten().tolist()
    # What was drawn is among the codes that are kept as often as their probabilities say.
    assert np.mean(listed) == pytest.approx(np.mean(mass), abs=0.02)
    kinds = by_kind(answers)
    assert all(kinds.values())
    assert {int(group[0].given) for group in kinds["first"]} == {0}


def test_a_student_comes_nearer_to_its_teacher_on_hearts_it_has_not_seen(run: Path) -> None:
    facts = json.loads((run / "weights" / LEARNED / "echogen.json").read_text())
    assert facts["network"] == "transformer"
    for kind in ("window", "live"):
        assert facts["after"][kind]["loss"] < facts["before"][kind]["loss"] - 0.02, facts


def test_a_recipe_of_before_may_call_the_schedule_way(run: Path, folder: Path) -> None:
    old = {"generator": str(folder), "cache": str(folder / "answers"), "hearts": 6, "held_out": 2, "way": {"steps": 4}}
    with pytest.warns(FutureWarning, match=r"data\.schedule"):
        assert FewStepsTask(Recipe("few-steps", steps=1, data=old)).data.schedule.steps == 4


def test_answers_are_asked_for_once(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echogen.training.teacher.multiprocessing", None)  # whoever asks again needs it
    seeds = range(FIRST_STUDENT_SEED, FIRST_STUDENT_SEED + 6)
    found = gather(str(folder), SCHEDULE, folder / "answers", seeds)
    assert len(found) == 6
    assert all(isinstance(answer, Answer) for heart in found for answer in heart)


def test_a_generator_is_given_its_student_which_is_saved_with_it(run: Path, folder: Path, ecg: Ecg, tmp_path: Path) -> None:
    taught = tmp_path / "taught"
    shutil.copytree(folder, taught, ignore=shutil.ignore_patterns("answers"))
    add_student(run, taught, steps=1, live_steps=1)
    plain, student = (Generator.from_pretrained(path, "cpu") for path in (folder, taught))
    assert isinstance(student, EchoPulse)
    assert (student.config.steps, student.config.live.steps) == (1, 1)
    one, other = (each(ecg, start_s=3.0, seconds=1.0, steps=1, seed=1).frames for each in (plain, student))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one[0], other[0])  # the first frame is the transformer's own
    assert hash_weights(taught) != hash_weights(folder)
    assert student.adapters() == []  # it is no look that a user chooses
    student.save_pretrained(tmp_path / "saved")
    again = Generator.from_pretrained(tmp_path / "saved", "cpu")
    assert isinstance(again, EchoPulse)
    assert again.config == student.config
    assert again.student is not again.transformer
    weights = again.student.state_dict()
    for name, tensor in student.student.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0.01, atol=1e-3)


def test_a_student_is_given_to_its_own_generator_only(run: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    generator = Generator.from_pretrained(folder, "cpu")
    assert isinstance(generator, EchoPulse)
    with torch.no_grad():
        generator.transformer.first += 1.0
    other.mkdir()
    generator.save_pretrained(other)
    before = (other / "generator.json").read_text()
    with pytest.raises(InputError, match="made for other weights"):
        add_student(run, other, steps=1, live_steps=1)
    assert (other / "generator.json").read_text() == before
    assert not (other / STUDENT).exists()
    with pytest.raises(InputError, match="no student"):
        add_student(tmp_path, other, steps=1, live_steps=1)
    with pytest.raises(InputError, match="no generator in"):
        add_student(run, tmp_path, steps=1, live_steps=1)
    # Nor is one loaded that was put there by hand.
    shutil.copytree(run / "weights" / LEARNED, other / STUDENT)
    with pytest.raises(InputError, match="made for other weights"):
        Generator.from_pretrained(other, "cpu")


def test_only_a_fitting_generator_has_a_student(tiny: EchoPulse) -> None:
    critical = EchoPulse(tiny.config, tiny.tokenizer, tiny.transformer, tiny.device)
    critical.config = replace(tiny.config, order="critic")
    with pytest.raises(InputError, match="without a critic"):
        Teacher(critical, SCHEDULE)
    with pytest.raises(InputError, match="no generator of the system echopulse"):
        gather("echodiffusion-small", SCHEDULE, Path("nowhere"), [FIRST_STUDENT_SEED])
