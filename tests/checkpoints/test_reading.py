"""Weights files of every kind, whole and damaged, and what goes into a network."""

import os
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from echogen.checkpoints import reading
from echogen.checkpoints.reading import load_into, read_tensors
from echogen.errors import InputError

WEIGHTS = {"net.0.weight": torch.arange(6.0).view(2, 3), "net.0.bias": torch.tensor([1.0, -1.0])}
AVERAGED = {name: value + 100 for name, value in WEIGHTS.items()}


class Intruder:
    """Something that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def prefixed(prefix: str, tensors: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt", ".pth", ""])
@pytest.mark.parametrize("kind", ["safetensors", "zipped", "older"])
def test_the_content_decides_how_a_file_is_read(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if kind == "safetensors":
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == "zipped")
    assert_same(dict(sorted(read_tensors(path).items())), dict(sorted(WEIGHTS.items())))


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"model": WEIGHTS, "step": 7, "opt": {"state": {0: {"exp_avg": torch.ones(2)}}}}, WEIGHTS),
        ({"step": torch.tensor(7), "model": WEIGHTS}, WEIGHTS),
        ({"state_dict": {"model": WEIGHTS}}, WEIGHTS),
        ({"model": WEIGHTS, "ema": AVERAGED}, AVERAGED),
        ({"state_dict": prefixed("module."), "epoch": 3}, WEIGHTS),
        ({"ema_model": prefixed("module.", AVERAGED), "model": WEIGHTS}, AVERAGED),
        ({"initted": torch.tensor(True), "step": torch.tensor([3]), **prefixed("ema_model.", AVERAGED)}, AVERAGED),
        (prefixed("online_model.") | prefixed("ema_model.", AVERAGED), AVERAGED),
        ({"n_averaged": torch.tensor(3), **prefixed("module.")}, WEIGHTS),
        (prefixed("_orig_mod.module."), WEIGHTS),
        ({"ema": {"decay": 0.99, "shadow_params": [torch.ones(2)]}, "model": WEIGHTS}, WEIGHTS),
        ({"generator_weights": WEIGHTS, "note": "trained in May"}, WEIGHTS),
        ({**WEIGHTS, "module.extra": torch.ones(1)}, {**WEIGHTS, "module.extra": torch.ones(1)}),
        ({"model": WEIGHTS, "lr": np.float64(1e-3), "best": np.float32(2), "args": Namespace(depth=3)}, WEIGHTS),
        (nn.ParameterDict({"a": nn.Parameter(torch.ones(2))}).state_dict(), {"a": torch.ones(2)}),
    ],
)
def test_what_surrounds_the_network_is_taken_off(tmp_path: Path, saved: dict[str, Any], expected: dict[str, Tensor]) -> None:
    torch.save(saved, tmp_path / "model-3.pt")
    assert_same(read_tensors(tmp_path / "model-3.pt"), expected)


def test_prefixes_are_taken_off_in_safetensors_too(tmp_path: Path) -> None:
    save_file(prefixed("module."), tmp_path / "weights.safetensors")
    assert set(read_tensors(tmp_path / "weights.safetensors")) == set(WEIGHTS)


@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_would_run_a_program_runs_nothing(tmp_path: Path, older: bool) -> None:
    torch.save(
        {"model": WEIGHTS, "extra": Intruder(tmp_path / "made")}, tmp_path / "x.pt", _use_new_zipfile_serialization=not older
    )
    with pytest.raises(InputError, match=r"more than tensors \(\w+\.mkdir\)"):
        read_tensors(tmp_path / "x.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"w": Intruder(tmp_path / "made")}, protocol=protocol))
    with pytest.raises(InputError, match="not a weights file"):
        read_tensors(tmp_path / "x.pt")
    assert not (tmp_path / "made").exists()


def test_each_wrong_file_gets_its_sentence(tmp_path: Path) -> None:
    def says(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)

    says(tmp_path / "none.pt", "No such file")
    says(tmp_path, "folder")
    for name, content, words in (
        ("empty.pt", b"", "empty"),
        ("page.bin", b"<!DOCTYPE html><html>Not found</html>", "web page"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        ("noise.pth", bytes(range(7, 200)), "not a weights file"),
    ):
        (tmp_path / name).write_bytes(content)
        says(tmp_path / name, words)
    Image.new("L", (4, 4)).save(tmp_path / "heart.png")
    (tmp_path / "heart.png").rename(tmp_path / "heart.pt")
    says(tmp_path / "heart.pt", "PNG picture")
    for name, saved in (("list.pt", [torch.ones(2)]), ("words.pt", {"a": "b"}), ("count.pt", {"step": torch.tensor(3)})):
        torch.save(saved, tmp_path / name)
        says(tmp_path / name, "no tensors")


def test_large_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "w.pt")
    monkeypatch.setattr(reading, "LARGEST_FILE", 2000)
    with pytest.raises(InputError, match="GiB"):
        read_tensors(tmp_path / "w.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    save_file(WEIGHTS, folder / "safetensors")
    torch.save(WEIGHTS, folder / "zipped")
    torch.save(WEIGHTS, folder / "older", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(kind=st.sampled_from(["safetensors", "zipped", "older"]), share=st.floats(0, 0.999))
def test_a_file_cut_short_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], kind: str, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "weights.pt"
    path.write_bytes(whole[kind][: int(share * len(whole[kind]))])
    with pytest.raises(InputError):
        read_tensors(path)


@given(kind=st.sampled_from(["safetensors", "zipped", "older"]), place=st.floats(0, 0.999), value=st.integers(0, 255))
def test_a_damaged_byte_gives_tensors_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], kind: str, place: float, value: int
) -> None:
    content = bytearray(whole[kind])
    content[int(place * len(content))] = value
    path = tmp_path_factory.mktemp("bent") / "weights.pt"
    path.write_bytes(content)
    try:
        found = read_tensors(path)
    except InputError:
        return
    assert found
    assert all(isinstance(tensor, Tensor) for tensor in found.values())


def test_load_into_names_what_does_not_fit() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given_tensors = {"0.weight": torch.zeros(2, 5), "0.bias": torch.zeros(2), "1.bias": torch.zeros(4)}
    given_tensors |= {f"extra.{n}": torch.zeros(1) for n in range(5)}
    with pytest.raises(InputError) as caught:
        load_into(network, given_tensors, what="tokenizer")
    message = str(caught.value)
    for words in ("tokenizer", "1 missing (1.weight)", "5 unknown (extra.0, extra.1, extra.2, ...)", "2 x 5 instead of 2 x 3"):
        assert words in message
    assert_same(dict(network.state_dict()), before)


def test_load_into_casts_and_fills_buffers() -> None:
    network = nn.BatchNorm1d(2)
    tensors = {"weight": torch.tensor([2.0, 3.0]).bfloat16(), "bias": torch.zeros(2).double(), "running_mean": torch.ones(2)}
    tensors |= {"running_var": torch.full((2,), 4.0), "num_batches_tracked": torch.tensor(9)}
    load_into(network, tensors, what="norm")
    assert network.weight.dtype == torch.float32
    assert network.weight.tolist() == [2.0, 3.0]
    assert int(network.num_batches_tracked) == 9
