"""`echogen bench`: what it counts and says; never how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen.bench import looped, measure_live, memory_mb, metered, published_generator, published_networks
from echogen.bench.live import timed_parts
from echogen.ecg import find_landmarks, read_ecg
from echogen.errors import InputError
from echogen.generators import EchoPulse, Generator
from echogen.records import Ecg

Run = Callable[..., Any]
LIVE = {
    "model", "dtype", "frames", "fps", "frames_per_second", "cpu_seconds_per_frame", "streams", "part_s", "future_s", "starts",
    "first_frame_median", "first_frame_worst", "part_median", "part_worst", "behind_worst", "memory_start_mb", "memory_end_mb",
}  # fmt: skip
MACHINE = {"device", "processor", "threads", "load_before", "torch", "matmul_tflops", "idle"}


def test_the_default_is_measured_part_by_part(echogen: Run, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    outcome = echogen("bench", "--frames", 5, "--steps", 1, "--repeats", 1, "--live", 0.6, "--device", "cpu", "--json", file)
    assert outcome.code == 0, outcome.err
    document = json.loads(file.read_text())
    machine, (run,) = document["machine"], document["runs"]
    assert set(machine) == MACHINE
    assert set(machine["matmul_tflops"]) == {"float32", "bfloat16"}
    assert machine["idle"] == (machine["load_before"] < 0.3)
    assert ("do not count" in outcome.out) == (not machine["idle"])
    assert (run["model"], run["frames"], run["steps"], run["dtype"]) == ("phantom-128", 5, 1, "bfloat16")
    assert run["weights_hash"] in outcome.out
    assert [part["part"] for part in run["parts"]] == ["ECG", "first frame", "guessing tokens", "decode", "speckle", "rest"]
    assert sum(part["seconds"] for part in run["parts"]) == pytest.approx(run["seconds"], abs=1e-4)
    assert sum(part["share"] for part in run["parts"]) == pytest.approx(1, abs=1e-4)
    gflop = {part["part"]: part["gflop"] for part in run["parts"]}
    assert sum(gflop.values()) == pytest.approx(run["gflop"], abs=1e-4)
    assert gflop["guessing tokens"] > 1
    assert gflop["decode"] > 1
    assert run["seconds_per_video_second"] == pytest.approx(run["seconds"] * 32 / 5, rel=1e-3)
    (live,) = document["live"]
    heart = Generator.from_pretrained("phantom-128", "cpu")
    assert isinstance(heart, EchoPulse)
    networks = heart.tokenizer, heart.transformer, heart.student
    assert run["parameters"] == sum(weights.numel() for network in networks for weights in network.parameters())
    assert heart.live_timing is not None
    assert set(live) == LIVE
    assert (live["model"], live["dtype"], live["frames"], live["starts"]) == ("phantom-128", "bfloat16", 19, 5)
    assert 0 < live["first_frame_median"] <= live["first_frame_worst"]
    assert 0 < live["part_median"] <= live["part_worst"]
    assert live["behind_worst"] == pytest.approx(heart.live_timing.delay_s + live["part_worst"])
    assert live["streams"] == int(live["frames_per_second"] / 32)
    assert live["memory_start_mb"] > 100
    assert f"{1000 * live['first_frame_median']:.0f} ms" in outcome.out
    beat_s = 60 / run["heart_rate_bpm"]
    assert run["seconds_per_beat"] == pytest.approx(run["seconds_per_video_second"] * beat_s, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--json", "bench.txt"], ".json"),
        (["--json", "no/such.json"], "no"),
        (["--dtype", "float16"], "bfloat16 or float32"),
        (["--dtype", "float32", "--model", "echodiffusion-small"], "leave --dtype out"),
    ],
)
def test_mistakes_are_one_sentence(echogen: Run, arguments: list[str], says: str) -> None:
    outcome = echogen("bench", "--frames", 1, "--repeats", 1, *arguments)
    assert outcome.code == 2
    assert says in outcome.err


def test_a_part_inside_another_counts_for_itself_and_nothing_stays_wrapped() -> None:
    class Tokenizer:
        def decode_ids(self) -> None:
            clock[0] += 7

    class Guesser:
        def guess(self) -> str:
            clock[0] += 1
            self.encode_conditions()
            clock[0] += 2
            return "ids"

        def encode_conditions(self) -> None:
            clock[0] += 10
            if clock[0] > 100:
                raise ValueError("no beats")

    class Parts:
        tokenizer, token_guesser = Tokenizer(), Guesser()

    clock, parts = [0.0], Parts()
    with metered(parts, lambda: clock[0]) as spent:  # type: ignore[arg-type]
        assert parts.token_guesser.guess() == "ids"
        parts.tokenizer.decode_ids()
        parts.token_guesser.guess()
        clock[0] = 100
        with pytest.raises(ValueError, match="no beats"):
            parts.token_guesser.guess()
    assert spent == {"ECG": 30, "guessing tokens": 7, "decode": 7}
    assert not vars(parts)
    assert not vars(parts.tokenizer)
    assert not vars(parts.token_guesser)


def test_the_papers_configuration() -> None:
    with torch.device("meta"):
        networks = published_networks()
    heart = published_generator(networks, "float32", torch.device("meta"))
    config = heart.config
    assert (config.steps, config.frames, config.prime, heart.dtype) == (18, 11, 3, torch.float32)
    assert heart.tokenizer.latent_shape(config.frames) == (6, 16, 16)
    sizes = [sum(weights.numel() for weights in network.parameters()) for network in networks]
    assert [round(size / 1e6) for size in sizes] == [51, 36, 85]


def test_a_repeated_ecg_goes_on_from_beat_to_beat_without_a_gap(dicom_ecg_path: Path) -> None:
    ecg = read_ecg(dicom_ecg_path)
    pieces = [piece for piece, _ in zip(looped(ecg, 0.3), range(100), strict=False)]
    assert pieces[0].start_s == 0.0
    for before, after in pairwise(pieces):
        assert after.start_s == pytest.approx(before.end_s, abs=1e-9)
    whole = replace(pieces[0], signal_mv=np.concatenate([piece.signal_mv for piece in pieces], axis=1))
    known, found = np.diff(find_landmarks(ecg).r_s), np.diff(find_landmarks(whole).r_s)
    assert len(found) > 2.5 * len(known)
    assert known.min() - 0.05 < found.min() < found.max() < known.max() + 0.05
    with pytest.raises(InputError, match="two beats"):
        next(looped(ecg.between(0.0, 1.4)))


def test_the_time_to_a_part_counts_from_the_last_piece_that_it_needs(dicom_ecg_path: Path) -> None:
    generator, clock = Generator.from_pretrained("phantom-128", "cpu"), [0.0]
    assert isinstance(generator, EchoPulse)

    def pieces() -> Iterator[Ecg]:
        for piece in looped(read_ecg(dicom_ecg_path)):
            clock[0] += 10.0
            yield piece

    def drawn(*arguments: Any) -> Any:
        clock[0] += 1.0
        return usual(*arguments)

    renderer = generator.renderer
    usual, renderer.render = renderer.render, drawn  # type: ignore[method-assign]
    timed = list(timed_parts(generator, pieces(), lambda: clock[0], seconds=0.5, steps=1))
    assert [seconds for _, seconds in timed] == [1.0, 1.0, 1.0]
    assert clock[0] > 600


def test_a_live_measurement_needs_what_it_measures(dicom_ecg_path: Path) -> None:
    ecg, device = read_ecg(dicom_ecg_path), torch.device("cpu")
    with pytest.raises(InputError, match="two further parts"):
        measure_live(Generator.from_pretrained("phantom-128", "cpu"), ecg, device, seconds=0.2)
    with pytest.raises(InputError, match="cannot follow"):
        measure_live(Generator.from_pretrained("echodiffusion-small", "cpu"), ecg, device)
    assert memory_mb() != 0
