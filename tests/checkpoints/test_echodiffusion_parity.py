"""EchoDiffusion as released: proved on recorded outputs and sampling traces; imported with every key accounted for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from echogen.checkpoints.echodiffusion import cascade_of
from echogen.checkpoints.echodiffusion_weights import config_of, our_name, our_tensors, video_unet_from
from echogen.checkpoints.importers import import_weights
from echogen.checkpoints.verify import verify
from echogen.errors import InputError
from echogen.generators import EchoDiffusion, Generator
from echogen.generators.echodiffusion.cascade import published_cascade
from echogen.records import Cine

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def recorded(fixtures_folder: Path) -> Path:
    return fixtures_folder / "echodiffusion"


@pytest.fixture(scope="module")
def described(recorded: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((recorded / "ed_cascade.json").read_text())
    return described


@pytest.fixture
def released(recorded: Path) -> dict[str, Any]:
    """What a merged.pt holds, with other weights beside the averages."""
    stages: dict[int, Tensors] = {}
    for name, tensor in load_file(recorded / "ed_cascade.weights.safetensors").items():
        _, stage, rest = name.split(".", 2)
        stages.setdefault(int(stage), {})[rest] = tensor.float()
    ema: Tensors = {}
    for stage, tensors in stages.items():
        ema |= {f"{stage}.online_model.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
        ema |= {f"{stage}.ema_model.{name}": tensor for name, tensor in tensors.items()}
        ema |= {f"{stage}.initted": torch.ones(1), f"{stage}.step": torch.ones(1, dtype=torch.int64)}
    model = {f"unets.{stage}.{name}": torch.zeros_like(t) for stage, tensors in stages.items() for name, t in tensors.items()}
    return {"model": model, "ema": ema, "steps": torch.zeros(2), "version": "1.22.2", "time_elapsed": 1.5, "scaler0": {}}


@pytest.fixture
def folder(released: dict[str, Any], described: dict[str, Any], tmp_path: Path) -> Path:
    """A folder as it is released: merged.pt and config.yaml."""
    torch.save(released, tmp_path / "merged.pt")
    settings = {
        "unets": {f"unet{number}": unet for number, unet in enumerate(described["unets"], start=1)},
        "imagen": described["imagen"],
        "dataset": {"fps": 2, "duration": 2.0},
        "checkpoint": {"cond_scale": 5.0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def test_recorded_outputs_and_traces_are_met(recorded: Path) -> None:
    results = verify(recorded, ["ed_"])
    assert {result.file.split(".")[0]: result.passes for result in results} == {
        "ed_cascade": True, "ed_preproc_metrics": True, "ed_unet_base": True, "ed_unet_sr_memeff": True, "ed_unet_ssr": True,
    }  # fmt: skip
    names = {each.name for result in results for each in result.comparisons}
    assert {"ode_cfg1.out2", "sde_cfg5.out2", "sde_cfg5.call009.D", "train.stage2.ignore_time", "grad.x", "out.cfg5"} <= names
    assert max(each.tolerance for result in results for each in result.comparisons) == 2e-4


def test_whole_files_have_our_names_and_shapes(recorded: Path) -> None:
    results = verify(recorded, ["full_keys_1SCM", "full_keys_2SCM", "full_keys_4SCM"])
    assert [result.passes for result in results] == [True] * 7
    listed = json.loads((recorded / "full_keys_2SCM_stage2.json").read_text())["keys"]
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in listed.items()}
        network = video_unet_from(tensors)
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in our_tensors(tensors, network).items()} == ours
    assert set(listed) - {name for name in listed if our_name(name) in ours} == {"mid_attn.fn.fn.null_attn_bias"}


def test_a_wrong_weight_is_noticed(recorded: Path, tmp_path: Path) -> None:
    for kind in ("io", "weights"):
        tensors = load_file(recorded / f"ed_cascade.{kind}.safetensors")
        if kind == "weights":
            tensors["unets.1.downs.1.5.fn.fn.to_q.weight"] *= 1.2
        save_file(tensors, tmp_path / f"ed_cascade.{kind}.safetensors")
    (tmp_path / "ed_cascade.json").write_text((recorded / "ed_cascade.json").read_text())
    (result,) = verify(tmp_path)
    wrong = {each.name for each in result.comparisons if not each.passes}
    assert "ode_cfg1.out2" in wrong
    assert not {name for name in wrong if "out1" in name or "stage1" in name}


def test_a_released_folder_becomes_a_generator(echogen: Callable[..., Any], folder: Path) -> None:
    outcome = echogen("import-weights", "echodiffusion", folder / "merged.pt", "-o", folder / "out")
    assert outcome.code == 0, outcome.err
    heart = Generator.from_pretrained(folder / "out", "cpu")
    assert isinstance(heart, EchoDiffusion)
    stages = heart.config.cascade.stages
    assert [(stage.size, stage.frames, stage.steps, stage.churn) for stage in stages] == [(8, 2, 3, 1.0), (16, 4, 3, 1.2)]
    assert (heart.config.fps, heart.config.cascade.guidance, heart.config.cascade.told) == (2.0, 5.0, "level")
    image = Cine(np.random.default_rng(0).integers(0, 255, (1, 16, 16), dtype=np.uint8), np.zeros(1))
    assert heart(None, seconds=2, reference=image, ef_percent=40, guidance=1).frames.shape == (4, 16, 16)
    assert float(heart.cascade.networks[0].stem.convs[0].weight.abs().max()) > 0  # type: ignore[union-attr]


def test_every_key_is_accounted_for(released: dict[str, Any], folder: Path) -> None:
    def refused(match: str, **ema: torch.Tensor | None) -> None:
        changed = {name: tensor for name, tensor in (released["ema"] | ema).items() if tensor is not None}
        torch.save({"ema": changed}, folder / "merged.pt")
        with pytest.raises(InputError, match=match):
            import_weights("echodiffusion", [folder / "merged.pt"], folder / "out")
        assert not (folder / "out").exists()

    refused(r"stage 1 do not fit the network: 1 missing \(out\.bias\)", **{"0.ema_model.final_conv.bias": None})
    refused(r"1 unknown \(extra\.weight\)", **{"1.ema_model.extra.weight": torch.ones(2)})
    refused("head belongs to no stage", head=torch.ones(2))
    refused("stages only: 1, 3;", **{"2.ema_model.norm_cond.weight": torch.ones(8)} | dict.fromkeys(
        [name for name in released["ema"] if name.startswith("1.")]))  # fmt: skip
    refused("do not tell its sizes", **{"0.ema_model.norm_cond.weight": None})


def test_the_attention_variant_is_read_from_the_names(recorded: Path) -> None:
    tensors = load_file(recorded / "ed_unet_ssr.weights.safetensors")
    assert not config_of(tensors).unit_queries
    with_scales = {name: tensor.float() for name, tensor in tensors.items()}
    for name in tensors:
        if name.endswith("to_q.weight"):
            head_dim = 64 if "mid_block" in name else 8
            for scale in ("q_scale", "k_scale"):
                with_scales[name.replace("to_q.weight", scale)] = torch.ones(head_dim)
    network = video_unet_from(with_scales)
    assert network.config.unit_queries
    assert network.first_over_time.attention.unit is not None


def test_wrong_configurations_are_one_sentence(folder: Path, described: dict[str, Any]) -> None:
    imagen = described["imagen"]
    with pytest.raises(InputError, match="5 frames of the last stage cannot be divided"):
        cascade_of(imagen, 5)
    with pytest.raises(InputError, match=r"3 values \(\[1, 2, 3\]\) for 2 stages"):
        cascade_of(imagen | {"num_sample_steps": [1, 2, 3]}, 4)
    with pytest.raises(InputError, match="sigma_max of their own"):
        cascade_of(imagen | {"sigma_max": [80, 40]}, 4)
    with pytest.raises(InputError, match="dynamic_thresholding: False is not supported"):
        cascade_of(imagen | {"dynamic_thresholding": False}, 4)
    with pytest.raises(InputError, match="names no image_sizes"):
        cascade_of({}, 4)
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match="not valid YAML"):
        import_weights("echodiffusion", [folder / "merged.pt"], folder / "out")
    (folder / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"no published cascade; put the config\.yaml"):
        import_weights("echodiffusion", [folder / "merged.pt"], folder / "out")


def test_released_configurations_are_the_published_cascades() -> None:
    """What the released configurations say of the cascades, with the library's defaults for the rest."""
    shared = {"sigma_min": 0.002, "sigma_max": 80, "sigma_data": 0.25, "rho": 7, "S_tmin": 0.05, "S_tmax": 50, "S_noise": 1.003}
    one = {"image_sizes": [112], "num_sample_steps": 64, "temporal_downsample_factor": [1], "S_churn": 160}
    two = {"image_sizes": [56, 112], "num_sample_steps": [32, 64], "temporal_downsample_factor": [4, 1], "S_churn": [80, 160]}
    four = {
        "image_sizes": [56, 56, 56, 112], "num_sample_steps": [32, 32, 32, 64], "temporal_downsample_factor": [4, 2, 1, 1],
        "S_churn": [40, 80, 160, 160],
    }  # fmt: skip
    assert cascade_of(shared | one, 16) == published_cascade("1SCM")[0]
    assert cascade_of(shared | two | {"resize_mode": "trilinear"}, 64) == published_cascade("2SCM")[0]
    assert cascade_of(shared | four, 64) == published_cascade("4SCM")[0]
