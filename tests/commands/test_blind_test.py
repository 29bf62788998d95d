"""`echogen blind-test`, from two folders to answers and from answers to a report."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen.app.blind_test.session import Answer, append_answer
from echogen.cine import write
from echogen.records import Cine

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    made = []
    for kind in ("real", "made"):
        folder = tmp_path_factory.mktemp(kind)
        for index in range(2):
            frames = np.random.default_rng(index).integers(0, 255, (20, 48, 64)).astype(np.uint8)
            write(Cine(frames, np.arange(20) / 20), folder / f"{kind}-{index}.npz")
        made.append(str(folder))
    return ["--real", made[0], "--generated", made[1]]


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """Two readers: ada is right about all of 12 clips, bob about half of them; each saw two twice."""
    folder = tmp_path / "answers"
    folder.mkdir()
    for reader, right in (("ada", lambda index: True), ("bob", lambda index: index % 4 < 2)):
        for position in range(14):
            index, real = position % 12, position % 2 == 0
            name = f"{'real' if real else 'generated'}/clip-{index}"
            said = real if right(index) else not real
            append_answer(folder, Answer(reader, position, name, position > 11, real, said, 1 + position % 5, 3, 4.0))
    return folder


def call(address: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return dict(json.load(response))


def test_a_test_is_set_up_served_stopped_and_gone_on_with(folders: list[str], echogen: Run, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    output = tmp_path / "answers"
    settings = ["-n", "2", "--repeats", "0", "--seconds", "0.5", "--whole", "--port", "0"]
    command = ["blind-test", *folders, "-o", str(output), *settings]
    for done in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", "from echogen.cli import main; main()", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            told = process.stdout.readline()
            address = told.split(" is at ")[1].split()[0]
            state = call(address, "api/next", {"reader": "ada"})
            assert (state["done"], state["total"]) == (done, 2)
            answer = {"clip": state["clip"], "answer": "real", "confidence": 3, "quality": 3, "seconds": 1}
            assert call(address, "api/answers", answer)["done"] == done + 1
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in errors) == (0, False), errors
    assert {path.name for path in output.iterdir()} == {"test.json", "answers-ada.jsonl"}
    outcome = echogen("blind-test", "--report", output)
    assert (outcome.code, "ada" in outcome.out, "50 (" in outcome.out) == (0, True, True)
    outcome = echogen(*command, "--seed", "1")
    assert (outcome.code, "holds a blind test with seed 0, not 1" in outcome.err) == (2, True)


def test_a_report(answered: Path, echogen: Run, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    outcome = echogen("blind-test", "--report", answered, "--json", output)
    assert outcome.code == 0, outcome.err
    assert "ada and bob agree on 50" in outcome.out
    found = json.loads(output.read_text())
    assert set(found) == {"readers", "pooled", "between_readers", "clips"}
    ada, bob = found["readers"]["ada"], found["readers"]["bob"]
    assert ada["accuracy"]["value"] == 1
    assert ada["accuracy"]["p_against_chance"] == pytest.approx(2 / 2**12, abs=1e-6)
    assert bob["accuracy"]["value"] == bob["sensitivity"]["value"] == bob["specificity"]["value"] == 0.5
    assert bob["d_prime"]["value"] == 0
    assert bob["with_oneself"]["agreement"]["n"] == 2
    assert found["pooled"]["accuracy"] | {"low": 0, "high": 0} == {"value": 0.75, "low": 0, "high": 0, "n": 24}
    assert 0.5 <= found["pooled"]["accuracy"]["low"] < 0.75 < found["pooled"]["accuracy"]["high"] <= 1
    assert len(found["clips"]) == 12


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give --real and --generated"),
        (["--report", "nowhere"], "There is no folder nowhere"),
        (["--report", "."], "There are no answers in ."),
        (["--report", ".", "-o", "x"], "leave out --real, --generated and -o"),
        (["--real", "a", "--generated", "b", "-o", "x", "--json", "y.json"], "--json belongs to --report"),
        (["--real", "a", "--generated", "b", "-o", "x"], "The folder"),
        (["--real", "a", "--generated", "b", "-o", "x/y"], "The output folder x does not exist"),
        (["--real", "a", "--generated", "b", "-o", "x", "-n", "3"], "must be even"),
        (["--real", "a", "--generated", "b", "-o", "x", "--host", "0.0.0.0"], "--token"),
        (["--real", "a", "--generated", "b", "-o", "x", "--token", "short"], "8 or more"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, echogen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    free_port = ["--port", "0"] if "--real" in arguments else []
    outcome = echogen("blind-test", *arguments, *free_port)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
