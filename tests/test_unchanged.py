"""Frames, R peaks, JSON and phantom truth stay bit for bit as recorded while names and borders of the code change.

`python tests/test_unchanged.py` records them anew, after a change that is meant to change them.
"""

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import echogen

RECORDED = Path(__file__).with_name("unchanged.json")
#: Keys of a video's JSON that differ from run to run.
VOLATILE = {"wall_time_s", "image"}

#: Eleven videos on the command line; "{name}" stands for a file that `prepared` makes.
VIDEOS = {
    "wheel": ["--seconds", "2"],
    "weak": ["--seconds", "2", "--ef", "30", "--seed", "3"],
    "two-chamber": ["--seconds", "3", "--view", "A2C", "--sex", "f", "--ecg-start", "1.5"],
    "other-rate": ["--seconds", "1.5", "--fps", "25", "--seed", "8"],
    "af": ["{af}/ecg.npz", "--ef", "45", "--seconds", "2"],
    "pvc": ["{pvc}/ecg.npz", "--seconds", "5", "--seed", "2"],
    "steps": ["{paced}/ecg.npz", "--seconds", "2", "--guidance", "2", "--steps", "3", "--sex", "m"],
    "still": ["{af}/ecg.npz", "--image", "{still}", "--texture", "drawn", "--ef", "40", "--seconds", "2"],
    "finer": ["--seconds", "1", "--refine", "2x-time"],
    "private": ["--seconds", "1", "--private", "--seed", "5"],
    "cascade": ["--model", "echodiffusion-small", "--image", "{still}", "--ef", "35", "--seed", "1"],
}
#: Six phantoms, each by its own options of `simulate`.
PHANTOMS = {
    "plain": ["--seed", "0"],
    "af": ["--rhythm", "af", "--heart-rate", "95", "--ef", "35", "--seed", "1"],
    "pvc": ["--rhythm", "pvc", "--view", "A2C", "--seed", "2", "--seconds", "6"],
    "paced": ["--rhythm", "paced", "--look", "varied", "--seed", "3"],
    "crisp": ["--look", "crisp", "--ef", "20", "--seed", "4"],
    "fast": ["--heart-rate", "140", "--fps", "50", "--look", "grainy", "--seed", "5"],
}


def digest(array: Any) -> str:
    """The first 16 hexadecimal digits of an array's SHA-256, shape and type included."""
    values = np.ascontiguousarray(array)
    return hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest()[:16]


def processor() -> str:
    """Maker and family of the processor, as Linux tells them; libraries choose their kernels by these."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return " ".join([told.get("vendor_id", platform.processor()), told.get("cpu family", "")]).strip()


def computer() -> list[str]:
    """What floating-point results depend on beside the code."""
    capability = torch.backends.cpu.get_cpu_capability()
    return [platform.machine(), processor(), capability, torch.__version__, np.__version__]


def run(*arguments: object) -> None:
    """Run the command line in this process."""
    from echogen.cli import main

    before = sys.argv
    sys.argv = ["echogen", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = before


def phantom(folder: Path, options: list[str]) -> dict[str, Any]:
    """Digests of all that `simulate` writes, and its truth."""
    run("simulate", *options, "-o", folder)
    (clip,) = [path.parent for path in folder.rglob("truth.json")]
    found: dict[str, Any] = {"truth": json.loads((clip / "truth.json").read_text())}
    for name in ("cine", "ecg", "masks"):
        with np.load(clip / f"{name}.npz") as arrays:
            found |= {f"{name}.{key}": digest(arrays[key]) for key in sorted(arrays.files)}
    return found


def prepare(folder: Path) -> dict[str, str]:
    """Two ECGs that are no sinus rhythm and a still, all simulated."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for name in ("af", "pvc", "paced"):
        run("simulate", "--rhythm", name, "--seconds", "8", "--seed", "11", "-o", folder / name)
    clips = {name: next((folder / name).rglob("truth.json")).parent for name in ("af", "pvc", "paced")}
    with np.load(clips["af"] / "cine.npz") as arrays:
        Image.fromarray(arrays["frames"][0]).save(folder / "still.png")
    return {name: str(path) for name, path in clips.items()} | {"still": str(folder / "still.png")}


def video(folder: Path, name: str, prepared: dict[str, str]) -> dict[str, Any]:
    """Digests of the frames, their tokens and times, and the JSON beside them."""
    out = folder / f"{name}.npz"
    run("generate", *(option.format(**prepared) for option in VIDEOS[name]), "-o", out)
    with np.load(out) as arrays:
        frames = arrays["frames"]
        found: dict[str, Any] = {key: digest(arrays[key]) for key in sorted(arrays.files)}
    told = json.loads(out.with_suffix(".json").read_text())
    told["settings"] = {key: value for key, value in told.get("settings", {}).items() if key not in VOLATILE}
    found["json"] = {key: value for key, value in told.items() if key not in VOLATILE}
    return found | tokens_of(frames)


def tokens_of(frames: np.ndarray) -> dict[str, str]:
    """Digest of the tokens that the shipped tokenizer gives these frames, where they are of its size."""
    if frames.shape[1:] != (128, 128):
        return {}
    tokenizer = echogen.Generator.from_pretrained("phantom-128", device="cpu").tokenizer
    count = 1 + (len(frames) - 1) // 4 * 4
    with torch.inference_mode():
        return {"tokens": digest(tokenizer.tokenize(torch.from_numpy(frames[:count]).float()[None] / 255.0).numpy())}


def live() -> dict[str, Any]:
    """Digest of a video that follows an ECG in pieces of 0.2 s."""
    from pydicom.data import get_testdata_file

    ecg = echogen.read_ecg(str(get_testdata_file("waveform_ecg.dcm")))
    pieces = (ecg.between(at / 5, (at + 1) / 5) for at in range(25))
    parts = list(echogen.Generator.from_pretrained("phantom-128", device="cpu").stream(pieces, seed=4, live=True))
    return {"frames": digest(np.concatenate([part.frames for part in parts])), "parts": [len(part.frames) for part in parts]}


def contains(whole: Any, part: Any) -> bool:
    """True if a JSON value holds all of another; keys that came since are allowed."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


@pytest.fixture(scope="module")
def recorded() -> Iterator[dict[str, Any]]:
    """The recorded values, on one thread as they were made; skipped on another kind of processor."""
    values = json.loads(RECORDED.read_text())
    if values["computer"] != computer():
        pytest.skip(f"recorded with {values['computer']}: other processors and versions round differently")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield values
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files that videos are asked with."""
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_as_recorded(name: str, recorded: dict[str, Any], prepared: dict[str, str], tmp_path: Path) -> None:
    assert contains(video(tmp_path, name, prepared), recorded["videos"][name])


def test_a_live_video_is_as_recorded(recorded: dict[str, Any]) -> None:
    assert contains(live(), recorded["live"])


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_phantom_is_as_recorded(name: str, recorded: dict[str, Any], tmp_path: Path) -> None:
    assert contains(phantom(tmp_path, PHANTOMS[name]), recorded["phantoms"][name])


if __name__ == "__main__":
    os.environ.setdefault("ECHOGEN_DEBUG", "1")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        files = prepare(work / "prepared")
        values = {
            "computer": computer(),
            "videos": {name: video(work, name, files) for name in VIDEOS},
            "live": live(),
            "phantoms": {name: phantom(work / name, options) for name, options in PHANTOMS.items()},
        }
    RECORDED.write_text(json.dumps(values, indent=1) + "\n")
