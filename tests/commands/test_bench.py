"""`echogen bench`: what it counts and says; never how fast anything is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from echogen.bench import metered, published_generator, published_networks

Run = Callable[..., Any]
MACHINE = {"device", "processor", "threads", "load_before", "torch", "matmul_tflops", "idle"}


def test_the_default_is_measured_part_by_part(echogen: Run, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    outcome = echogen("bench", "--frames", 5, "--steps", 1, "--repeats", 1, "--device", "cpu", "--json", file)
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
    assert run["parameters"] > 1e6
    beat_s = 60 / run["heart_rate_bpm"]
    assert run["seconds_per_beat"] == pytest.approx(run["seconds_per_video_second"] * beat_s, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--model", "no-such-model"], "no-such-model"), (["--json", "bench.txt"], ".json"), (["--json", "no/such.json"], "no")],
)
def test_mistakes_are_one_sentence(echogen: Run, arguments: list[str], says: str) -> None:
    outcome = echogen("bench", "--frames", 1, "--repeats", 1, *arguments)
    assert outcome.code == 2
    assert says in outcome.err


def test_a_part_inside_another_counts_for_itself_and_nothing_stays_wrapped() -> None:
    class Tokenizer:
        def decode_ids(self) -> None:
            clock[0] += 7

    class Heart:
        tokenizer = Tokenizer()

        def _guess(self) -> str:
            clock[0] += 1
            self._conditioning()
            clock[0] += 2
            return "ids"

        def _conditioning(self) -> None:
            clock[0] += 10
            if clock[0] > 100:
                raise ValueError("no beats")

    clock, heart = [0.0], Heart()
    with metered(heart, lambda: clock[0]) as spent:  # type: ignore[arg-type]
        assert heart._guess() == "ids"
        heart.tokenizer.decode_ids()
        heart._guess()
        clock[0] = 100
        with pytest.raises(ValueError, match="no beats"):
            heart._guess()
    assert spent == {"ECG": 30, "guessing tokens": 7, "decode": 7}
    assert not vars(heart)
    assert not vars(heart.tokenizer)


def test_the_papers_configuration() -> None:
    with torch.device("meta"):
        networks = published_networks()
    heart = published_generator(networks, "float32", torch.device("meta"))
    config = heart.config
    assert (config.steps, config.frames, config.prime, heart.dtype) == (18, 11, 3, torch.float32)
    assert heart.tokenizer.latent_shape(config.frames) == (6, 16, 16)
    sizes = [sum(weights.numel() for weights in network.parameters()) for network in networks]
    assert [round(size / 1e6) for size in sizes] == [51, 36, 85]
