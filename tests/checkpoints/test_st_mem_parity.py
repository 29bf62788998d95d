"""ST-MEM's released form: recorded outputs are met, and weights that are not those are refused."""

import json
from pathlib import Path

import pytest
import torch

from echogen.checkpoints.reading import read_tensors
from echogen.checkpoints.st_mem import CHECKS, config_of, our_names, st_mem_from
from echogen.errors import InputError
from echogen.networks.st_mem import StMemConfig


@pytest.mark.parametrize(("prefix", "least"), [("stmem", 4), ("ecg_preprocess", 8), ("ultrasound_crop", 1)])
def test_recorded_outputs_are_met(fixtures_folder: Path, prefix: str, least: int) -> None:
    comparisons = CHECKS[prefix](fixtures_folder / "echopulse" / f"{prefix}.npz")
    assert len(comparisons) >= least
    assert [comparison for comparison in comparisons if not comparison.passes] == []


def test_the_config_is_read_from_the_shapes(fixtures_folder: Path) -> None:
    folder = fixtures_folder / "echopulse"
    recorded = json.loads((folder / "manifest.json").read_text())["config"]["stmem"]
    config = config_of(read_tensors(folder / "stmem.safetensors"), recorded)
    for name in ("seq_len", "patch_size", "num_leads", "width", "depth", "heads", "mlp_dim"):
        assert getattr(config, name) == recorded[name]
    assert config.head_dim == recorded["dim_head"]


def test_the_full_size_is_the_papers(fixtures_folder: Path) -> None:
    keys = json.loads((fixtures_folder / "echopulse" / "full_keys_stmem.json").read_text())["keys"]
    tensors = {name: torch.empty(shape, device="meta") for name, shape, _ in keys}
    assert config_of(tensors) == StMemConfig.paper()


def released(leads: int = 3) -> dict[str, torch.Tensor]:
    """Weights of a tiny encoder under their released names."""
    shapes = {
        "pos_embedding": (1, 6, 10), "sep_embedding": (10,), "norm.weight": (10,), "norm.bias": (10,), "head.weight": (2, 10),
        "to_patch_embedding.1.weight": (5,), "to_patch_embedding.1.bias": (5,), "to_patch_embedding.2.weight": (10, 5),
        "to_patch_embedding.2.bias": (10,), "to_patch_embedding.3.weight": (10,), "to_patch_embedding.3.bias": (10,),
    }  # fmt: skip
    shapes |= {f"lead_embeddings.{lead}": (10,) for lead in range(leads)}
    sizes = {"attn.norm": (10,), "attn.fn.to_qkv": (36, 10), "attn.fn.to_out.0": (10, 12), "ff.norm": (10,)}
    sizes |= {"ff.fn.net.0": (14, 10), "ff.fn.net.3": (10, 14)}
    for name, shape in sizes.items():
        shapes |= {f"block0.{name}.weight": shape, f"block0.{name}.bias": shape[:1]}
    return {name: torch.full(shape, float(index)) for index, (name, shape) in enumerate(shapes.items())}


def test_every_tensor_finds_its_place() -> None:
    tensors = released()
    network = st_mem_from(tensors, {"heads": 2})
    assert network.config == StMemConfig(20, 5, 3, 10, 1, 2, 6, 14)
    assert torch.equal(network.lead[2], tensors["lead_embeddings.2"])
    assert torch.equal(network.position, tensors["pos_embedding"][0])
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == sum(
        tensor.numel() for name, tensor in tensors.items() if not name.startswith("head.")
    )


def test_twelve_leads_keep_their_order() -> None:
    tensors = released(12)
    assert torch.equal(our_names(tensors)["lead"][:, 0], torch.stack([tensors[f"lead_embeddings.{n}"][0] for n in range(12)]))


def test_weights_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(InputError, match="not the weights of an ST-MEM"):
        config_of({"something.weight": torch.zeros(3)})
    with pytest.raises(InputError, match="5 heads"):
        config_of(released(), {"heads": 5})
    with pytest.raises(InputError, match="extra"):
        st_mem_from(released() | {"extra": torch.zeros(1)}, {"heads": 2})
    incomplete = released()
    del incomplete["sep_embedding"]
    with pytest.raises(InputError, match="separator"):
        st_mem_from(incomplete, {"heads": 2})
