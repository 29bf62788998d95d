"""R(2+1)D-18 as released for ejection fractions: its sizes, its input, and checks of echogen's network against recorded outputs.

EchoNet-Dynamic's names are those of the network; EchoDiffusion's have `model.` (once or twice) before them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echogen.checkpoints.comparison import Check, Comparison, largest_error
from echogen.checkpoints.reading import load_into, read_tensors
from echogen.errors import InputError
from echogen.networks.config import config_from_dict, config_to_dict
from echogen.networks.ef_regressor import EfRegressor, EfRegressorConfig

#: Prefix of EchoDiffusion's names.
_PREFIX = re.compile(r"(model\.)+")
#: Name of a tensor of which each block has one: layer and block from 1 and 0.
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.conv1\.1\.weight")
#: Largest error of activations as a share of the largest value: they were recorded in half precision.
_HALF_PRECISION = 1e-3


def config_of(tensors: Mapping[str, Tensor], given: Mapping[str, Any] | None = None) -> EfRegressorConfig:
    """Read the architecture from the shapes of released weights, and the input from their names.

    tensors: Weights under their released names; with `model.` before them the input is 64 frames at 32 fps in 0..1
        (EchoDiffusion), else 32 frames at 25 fps, normalised (EchoNet-Dynamic).
    given: Fields of `EfRegressorConfig` that differ from these.
    Raises `InputError` when a needed tensor is missing.
    """
    diffusion = any(name.startswith("model.") for name in tensors)
    ours = our_names(tensors)
    published = EfRegressorConfig.published() if diffusion else EfRegressorConfig.echonet()
    try:
        stem_width, channels = ours["stem.0.weight"].shape[:2]
        widths: dict[int, int] = {}
        blocks: dict[int, int] = {}
        for name, tensor in ours.items():
            if match := _BLOCK.fullmatch(name):
                level = int(match[1])
                widths[level] = tensor.shape[0]
                blocks[level] = blocks.get(level, 0) + 1
        levels = range(1, max(widths) + 1)
        config = replace(
            published,
            channels=channels,
            widths=tuple(widths[level] for level in levels),
            blocks=tuple(blocks[level] for level in levels),
            stem_width=stem_width,
        )
    except (KeyError, ValueError) as error:
        raise InputError("These are not the weights of an R(2+1)D regressor: they do not tell its sizes.") from error
    return config_from_dict(EfRegressorConfig, config_to_dict(config) | dict(given or {}))


def our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename released tensors to the names of `EfRegressor`."""
    return {_PREFIX.sub("", name, count=1) if name.startswith("model.") else name: tensor for name, tensor in tensors.items()}


def ef_regressor_from(tensors: Mapping[str, Tensor], given: Mapping[str, Any] | None = None) -> EfRegressor:
    """Make the network with released weights, in evaluation mode. Raises `InputError` as `config_of` and `load_into`."""
    network = EfRegressor(config_of(tensors, given))
    load_into(network, our_names(tensors), what="EF regressor")
    return network.eval()


@torch.no_grad()
def check_regressor(path: Path) -> list[Comparison]:
    """Compare the ejection fraction of each recorded video, and the maps of the recorded levels."""
    record = read_tensors(path)
    stem = path.name.removesuffix(".io.safetensors")
    network = ef_regressor_from(read_tensors(path.with_name(f"{stem}.weights.safetensors")))
    seen: dict[str, Tensor] = {}
    for name in record:
        if name.startswith("act."):
            module = network.get_submodule(name.removeprefix("act."))
            module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    ef = network(record["in.video"])
    comparisons = [Comparison("out.ef", largest_error(ef.reshape(record["out.ef"].shape), record["out.ef"]))]
    for name, ours in seen.items():
        scale = max(float(record[name].abs().max()), 1e-12)
        error = largest_error(ours / scale, record[name].float() / scale)
        comparisons.append(Comparison(name, error, _HALF_PRECISION))
    return comparisons


def check_names(path: Path) -> list[Comparison]:
    """Check that the names and shapes of a whole released file fit R(2+1)D-18 and fill all of it."""
    listed = json.loads(path.read_text(encoding="utf-8"))["keys"]
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in listed.items()}
        network = ef_regressor_from(tensors)
    published = network.config == EfRegressorConfig.published()
    return [Comparison("names that do not fit", 0.0 if published else float(np.inf), 0.0)]


#: Checks by the prefix of the recorded file's name.
CHECKS: dict[str, Check] = {"ef_": check_regressor, "full_keys_ef_": check_names}
