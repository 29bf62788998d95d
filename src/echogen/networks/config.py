"""Networks on disk: a folder with the architecture (config.json) and the weights (model.safetensors)."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from echogen.config import config_from_dict, config_to_dict
from echogen.errors import InputError
from echogen.files import whole_file

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "config_from_dict",
    "config_to_dict",
    "load_config",
    "load_network",
    "save_network",
]

#: Name of the file that holds the fields of the config dataclass, and the name of the network's class as "network".
CONFIG_FILE = "config.json"
#: Name of the file that holds the tensors.
WEIGHTS_FILE = "model.safetensors"
#: Suffix of the name of a matrix under which the size of its rows' 8-bit steps is stored.
STEP = "::step"

Network = TypeVar("Network", bound=nn.Module)


def save_network(
    module: nn.Module, folder: str | Path, dtype: torch.dtype | None = None, *, most: int = 127, exact: Collection[str] = ()
) -> None:
    """Write a network (a module with a `config`) as config.json and model.safetensors into `folder`, made if missing.

    Each file is written whole or not at all.

    dtype: Type of floating-point weights on disk, for instance torch.bfloat16 to halve the size; None keeps theirs.
        torch.int8 stores matrices in a quarter, each row in steps of its own, and the rest in bfloat16.
    most: Largest number of such steps; 31 (6 bits) instead of 127 takes a quarter less room where the file is compressed.
    exact: Names of modules that stay in bfloat16 nevertheless.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in module.state_dict().items():
        plain = tensor.detach().cpu()
        if dtype is not None and plain.is_floating_point():
            if dtype == torch.int8 and plain.ndim >= 2 and name.partition(".")[0] not in exact:
                plain, tensors[name + STEP] = _in_steps(plain, most)
            else:
                plain = plain.to(torch.bfloat16 if dtype == torch.int8 else dtype)
        tensors[name] = plain.clone(memory_format=torch.contiguous_format)
    document = {"network": type(module).__name__, **config_to_dict(module.config)}
    with whole_file(folder / WEIGHTS_FILE) as path:
        path.write_bytes(save(tensors))
    with whole_file(folder / CONFIG_FILE) as path:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _in_steps(tensor: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers from -most to most, of the shape of the tensor, and the step (rows,) that they are multiples of."""
    step = tensor.float().flatten(1).abs().amax(1).clamp_min(1e-12) / most
    return (tensor.float() / _along_rows(step, tensor)).round().to(torch.int8), step


def _along_rows(step: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return step.view(-1, *(1,) * (tensor.ndim - 1))


def _stored_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file by name, those in steps as floating-point numbers again."""
    tensors = load_file(path)
    for name in [key for key in tensors if key.endswith(STEP)]:
        step, whole = tensors.pop(name), tensors[name.removesuffix(STEP)]
        tensors[name.removesuffix(STEP)] = whole.float() * _along_rows(step, whole)
    return tensors


def load_config(cls: type[Network], folder: str | Path) -> Any:
    """Load the config of the network stored in `folder`, of the type `cls.config_class`; raises `InputError` if it is not one."""
    path = Path(folder) / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"There is no network in {folder}: its {CONFIG_FILE} cannot be read.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON; the download may be incomplete.") from error
    if not isinstance(values, dict) or values.pop("network", None) != cls.__name__:
        raise InputError(f"{path} does not describe a {cls.__name__}; give the folder of that network.")
    return config_from_dict(cls.config_class, values)  # type: ignore[attr-defined]


def load_network(cls: type[Network], folder: str | Path) -> Network:
    """Load the network stored in `folder`, in float32 on the CPU and in evaluation mode.

    cls: Module class with a `config_class`, made as cls(config); weights stored in another type are cast.
    Raises `InputError` when a file is missing or damaged, describes another network, or its tensors do not fit.
    """
    path = Path(folder) / WEIGHTS_FILE
    network = cls(load_config(cls, folder))
    try:
        network.load_state_dict(_stored_tensors(path), strict=True)
    except OSError as error:
        raise InputError(f"The weights {path} cannot be read.") from error
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file; the download may be incomplete.") from error
    except (RuntimeError, KeyError) as error:
        raise InputError(f"The tensors in {path} do not fit the {cls.__name__} that its {CONFIG_FILE} describes.") from error
    return network.eval()
