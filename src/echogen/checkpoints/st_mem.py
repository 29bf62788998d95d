"""ST-MEM's encoder as released, alone or inside ECHOPulse: names, sizes, and checks of echogen's network against its outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echogen.checkpoints.comparison import Check, Comparison, largest_error
from echogen.checkpoints.reading import load_into, read_tensors
from echogen.cine.published_crop import ultrasound_crop
from echogen.ecg.st_mem_input import notebook_input, published_input, z_normalise
from echogen.errors import InputError
from echogen.networks.st_mem import StMem, StMemConfig

#: Dimension of an attention head unless the number of heads is recorded.
_HEAD_DIM = 64
#: Names in `StMem` by released name.
_NAMES = {
    "pos_embedding": "position",
    "sep_embedding": "separator",
    "to_patch_embedding.1": "patch_norm",
    "to_patch_embedding.2": "patch_projection",
    "to_patch_embedding.3": "patch_out_norm",
}
_BLOCK = re.compile(r"block(\d+)\.(.+)\.(weight|bias)")
#: Names of a layer inside a block of `StMem` by released name.
_IN_BLOCK = {
    "attn.norm": "attention_norm",
    "attn.fn.to_qkv": "qkv",
    "attn.fn.to_out.0": "out",
    "ff.norm": "mlp_norm",
    "ff.fn.net.0": "rise",
    "ff.fn.net.3": "fall",
}
_LEAD = "lead_embeddings."


def config_of(tensors: Mapping[str, Tensor], manifest_config: Mapping[str, Any] | None = None) -> StMemConfig:
    """Read the architecture from the shapes of released weights.

    tensors: Weights under their released names.
    manifest_config: Settings recorded beside them, of which only `heads` is needed; without it a head has 64 dimensions.
    Raises `InputError` when a needed tensor is missing, or heads do not divide the width.
    """
    try:
        patch_size = tensors["to_patch_embedding.2.weight"].shape[1]
        inner = tensors["block0.attn.fn.to_qkv.weight"].shape[0] // 3
        mlp_dim = tensors["block0.ff.fn.net.0.weight"].shape[0]
        patches = tensors["pos_embedding"].shape[-2] - 2
        width = tensors["pos_embedding"].shape[-1]
    except (KeyError, IndexError) as error:
        raise InputError(f"These are not the weights of an ST-MEM encoder: they do not tell its sizes ({error}).") from error
    heads = int((manifest_config or {}).get("heads") or max(inner // _HEAD_DIM, 1))
    if inner % heads:
        raise InputError(f"The {inner} attention dimensions of these ST-MEM weights cannot be shared by {heads} heads.")
    blocks = {match[1] for name in tensors if (match := _BLOCK.fullmatch(name))}
    return StMemConfig(
        seq_len=patches * patch_size,
        patch_size=patch_size,
        num_leads=sum(name.startswith(_LEAD) for name in tensors),
        width=width,
        depth=len(blocks),
        heads=heads,
        head_dim=inner // heads,
        mlp_dim=mlp_dim,
    )


def our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename released tensors to the names of `StMem`; the classifier `head.*` is left out, and unknown names are kept."""
    ours: dict[str, Tensor] = {}
    leads = sorted((name for name in tensors if name.startswith(_LEAD)), key=lambda name: int(name.removeprefix(_LEAD)))
    if leads:
        ours["lead"] = torch.stack([tensors[name] for name in leads])
    for name, tensor in tensors.items():
        if name.startswith((_LEAD, "head.")):
            continue
        stem, _, kind = name.rpartition(".")
        if name == "pos_embedding":
            ours["position"] = tensor.squeeze(0)
        elif name in _NAMES:
            ours[_NAMES[name]] = tensor
        elif stem in _NAMES:
            ours[f"{_NAMES[stem]}.{kind}"] = tensor
        elif (match := _BLOCK.fullmatch(name)) and match[2] in _IN_BLOCK:
            ours[f"blocks.{match[1]}.{_IN_BLOCK[match[2]]}.{match[3]}"] = tensor
        else:
            ours[name] = tensor
    return ours


def st_mem_from(tensors: Mapping[str, Tensor], manifest_config: Mapping[str, Any] | None = None) -> StMem:
    """Make the encoder from weights under their released names, in evaluation mode; errors as `config_of`, `load_into`."""
    network = StMem(config_of(tensors, manifest_config))
    load_into(network, our_names(tensors), what="ST-MEM encoder")
    return network.eval()


@torch.no_grad()
def check_encoder(path: Path) -> list[Comparison]:
    """Compare the pooled embedding of each recorded ECG (all leads, lead II alone, float64) and the first patch embedding."""
    manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    network = st_mem_from(read_tensors(path.parent / "stmem.safetensors"), manifest["config"]["stmem"])
    record = np.load(path)
    ecg = {name.removeprefix("ecg"): torch.from_numpy(record[name]) for name in record.files if name.startswith("ecg")}
    ecg["_float64_input"] = ecg[""].double()
    comparisons = []
    for name in record.files:
        if name.startswith("embedding"):
            ours = network.pooled(ecg[name.removeprefix("embedding")])
            comparisons.append(Comparison(name, largest_error(ours, record[name])))
    if "patch_embedding" in record.files:
        ours = network.patch_embedding(network.patches(ecg[""]))
        comparisons.append(Comparison("patch_embedding", largest_error(ours, record["patch_embedding"])))
    return comparisons


def check_ecg_preprocess(path: Path) -> list[Comparison]:
    """Compare the normalised, tiled and resampled form of each recorded raw beat, and the notebook's variant where recorded."""
    record = np.load(path)
    comparisons = []
    for length in sorted(name.removeprefix("raw_") for name in record.files if name.startswith("raw_")):
        raw = record[f"raw_{length}"]
        found = {f"z_{length}": z_normalise(raw)}
        if f"processed_{length}" in record.files:
            found[f"processed_{length}"] = published_input(raw, record[f"processed_{length}"].shape[-1])[1]
        if f"notebook_{length}_lead1" in record.files:
            notebook = notebook_input(raw, record[f"notebook_{length}_lead1"].shape[-1])
            found |= {f"notebook_{length}_lead1": notebook[1], f"notebook_{length}_lead0_const": notebook[0, 0]}
        comparisons += [Comparison(name, largest_error(ours, record[name])) for name, ours in found.items() if name in record]
    return comparisons


def check_ultrasound_crop(path: Path) -> list[Comparison]:
    """Compare the cropped clip of an input of 8-bit values divided by 100."""
    record = np.load(path)
    height, width = record["out"].shape[-2:]
    return [Comparison("out", largest_error(ultrasound_crop(record["inp"] / 100.0, (height, width)), record["out"]))]


#: Checks by the prefix of the recorded file's name.
CHECKS: dict[str, Check] = {
    "stmem": check_encoder,
    "ecg_preprocess": check_ecg_preprocess,
    "ultrasound_crop": check_ultrasound_crop,
}
