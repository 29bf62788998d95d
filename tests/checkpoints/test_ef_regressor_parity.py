"""Released EF regressors: proved on recorded outputs, imported from either project's file, refused otherwise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from echogen.checkpoints.importers import import_weights
from echogen.checkpoints.verify import verify
from echogen.errors import InputError
from echogen.networks.config import load_network
from echogen.networks.ef_regressor import ECHONET_MEAN, EfRegressor, EfRegressorConfig

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def recorded(fixtures_folder: Path) -> Path:
    return fixtures_folder / "echodiffusion"


@pytest.fixture
def names() -> dict[str, torch.Tensor]:
    """A small regressor under EchoNet-Dynamic's names."""
    torch.manual_seed(0)
    return EfRegressor(EfRegressorConfig(widths=(4, 8), blocks=(1, 2), stem_width=6)).state_dict()


def test_recorded_outputs_are_met(recorded: Path) -> None:
    results = verify(recorded, ["ef_", "full_keys_ef"])
    assert [(result.file, result.passes) for result in results] == [
        ("ef_r2plus1d.io.safetensors", True),
        ("full_keys_ef_r2plus1d_18.json", True),
    ]
    assert {"out.ef", "act.layer1"} <= {each.name for each in results[0].comparisons}
    assert results[0].comparisons[0].tolerance == 1e-4


def test_a_wrong_weight_is_noticed(recorded: Path, tmp_path: Path) -> None:
    for kind in ("io", "weights"):
        tensors = load_file(recorded / f"ef_r2plus1d.{kind}.safetensors")
        if kind == "weights":
            tensors["model.model.layer3.0.conv1.0.3.weight"] *= 1.1
        save_file(tensors, tmp_path / f"ef_r2plus1d.{kind}.safetensors")
    listed = json.loads((recorded / "full_keys_ef_r2plus1d_18.json").read_text())
    listed["keys"]["model.model.fc.weight"] = [2, 512]
    (tmp_path / "full_keys_ef_r2plus1d_18.json").write_text(json.dumps(listed))
    assert [result.passes for result in verify(tmp_path, ["ef_", "full_keys_ef"])] == [False, False]


def test_both_layouts_become_one_network(echogen: Run, names: dict[str, torch.Tensor], tmp_path: Path) -> None:
    echonet = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in names.items()}, "best_loss": 30.1}
    diffusion = {"state_dict": {f"model.model.{name}": tensor for name, tensor in names.items()}, "global_step": 7}
    torch.save(echonet | {"opt_dict": {"state": {}, "param_groups": [{"lr": 1e-4}]}}, tmp_path / "echonet.pt")
    torch.save(diffusion, tmp_path / "diffusion.ckpt")
    for name in ("echonet.pt", "diffusion.ckpt"):
        outcome = echogen("import-weights", "ef-regressor", tmp_path / name, "-o", tmp_path / Path(name).stem)
        assert outcome.code == 0, outcome.err
    one, other = (load_network(EfRegressor, tmp_path / name) for name in ("echonet", "diffusion"))
    assert all(torch.equal(tensor, names[name]) for name, tensor in one.state_dict().items())
    assert all(torch.equal(tensor, names[name]) for name, tensor in other.state_dict().items())
    assert (one.config.frames, one.config.fps, one.config.mean[0]) == (32, 25.0, ECHONET_MEAN[0] / 255)
    assert (other.config.frames, other.config.fps, other.config.mean) == (64, 32.0, (0.0,))
    assert (one.config.widths, one.config.blocks, one.config.stem_width) == ((4, 8), (1, 2), 6)


def test_what_a_regressor_looks_at_may_be_told_beside_it(names: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(names, tmp_path / "w.pt")
    told = {"ef_regressor": {"frames": 16, "fps": 12.5}}
    (tmp_path / "manifest.json").write_text(json.dumps({"config": told}))
    import_weights("ef-regressor", [tmp_path / "w.pt"], tmp_path / "out")
    config = load_network(EfRegressor, tmp_path / "out").config
    assert (config.frames, config.fps, config.mean[0]) == (16, 12.5, ECHONET_MEAN[0] / 255)


def test_every_key_is_accounted_for(names: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def refused(tensors: dict[str, torch.Tensor], match: str) -> None:
        torch.save(tensors, tmp_path / "w.pt")
        with pytest.raises(InputError, match=match):
            import_weights("ef-regressor", [tmp_path / "w.pt"], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused({name: tensor for name, tensor in names.items() if name != "fc.bias"}, r"1 missing \(fc\.bias\)")
    refused(names | {"head.weight": torch.ones(1)}, r"1 unknown \(head\.weight\)")
    refused(names | {"fc.weight": torch.zeros(400, 8)}, "1 of another shape")
    refused({name: tensor for name, tensor in names.items() if "layer1" not in name}, "do not tell its sizes")
    refused({"weight": torch.ones(1)}, "not the weights of an R")
    torch.save(names, tmp_path / "w.pt")
    with pytest.raises(InputError, match="one file, not 2"):
        import_weights("ef-regressor", [tmp_path / "w.pt"] * 2, tmp_path / "out")
