"""LoRA adapters: read from a folder, checked against their base, added to a network's weights and taken off again.

ADAPTER/adapter_config.json, adapter_model.safetensors   as the `peft` library writes and reads them
        echogen.json                                     the network it belongs to, what it was trained on, what it changed

Using one needs no `peft`: every changed matrix becomes W + (alpha / rank) B A.
Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, Eq. 3.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.config import config_to_dict

#: Name of the folder in a generator's folder that holds its adapters, one folder each.
ADAPTERS = "adapters"
#: Name of the file with the adapter's settings, as `peft` writes it.
ADAPTER_CONFIG_FILE = "adapter_config.json"
#: Name of the file with the adapter's tensors, as `peft` writes it.
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
#: Name of the file with the network that the adapter belongs to, its training and its effect.
ADAPTER_FACTS_FILE = "echogen.json"

#: Prefix of the names of a wrapped network's weights in peft.
_WRAPPED = "base_model.model."
#: Suffix of the name of the factor A, which comes first, in peft.
_DOWN = ".lora_A.weight"
#: Suffix of the name of the factor B, which comes second, in peft.
_UP = ".lora_B.weight"
#: Options of peft that give W another form than `load_adapter` computes.
_OTHER_FORMS = ("alpha_pattern", "fan_in_fan_out", "lora_bias", "modules_to_save", "rank_pattern", "use_dora")


@dataclass(frozen=True)
class Adapter:
    """LoRA adapter of a folder.

    name: Name of the folder.
    digest: First 16 hex digits of the SHA-256 of the weights file.
    facts: Content of echogen.json.
    changes: Tensor that is added to a weight, by the weight's name.
    """

    name: str
    digest: str
    facts: Mapping[str, Any]
    changes: Mapping[str, Tensor]


def network_hash(network: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 of a network's config and its weights in bfloat16, alike for both if stored in it."""
    digest = hashlib.sha256(json.dumps(config_to_dict(network.config), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        plain = plain.to(torch.bfloat16).view(torch.int16) if plain.is_floating_point() else plain
        digest.update(name.encode())
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()[:16]


def adapter_folders(folder: Path | None) -> list[Path]:
    """Folders of the adapters in a generator's folder, by name."""
    if folder is None:
        return []
    return sorted(path.parent for path in (folder / ADAPTERS).glob(f"*/{ADAPTER_CONFIG_FILE}"))


def find_adapter(name_or_dir: str | Path, folder: Path | None) -> Path:
    """Find an adapter by its folder, or by its name in a generator's folder; raises `InputError` where there is none."""
    for place in [Path(name_or_dir), *(p for p in adapter_folders(folder) if p.name == str(name_or_dir))]:
        if (place / ADAPTER_CONFIG_FILE).is_file():
            return place
    known = ", ".join(path.name for path in adapter_folders(folder)) or "none"
    raise InputError(
        f"There is no adapter {str(name_or_dir)!r}; give its folder, or the name of one that the model has: {known}."
    )


def load_adapter(folder: str | Path) -> Adapter:
    """Load the adapter in a folder; raises `InputError` when a file is missing or damaged, or it is another kind of adapter."""
    folder = Path(folder)
    config, facts = _read_json(folder / ADAPTER_CONFIG_FILE), _read_json(folder / ADAPTER_FACTS_FILE)
    if not {"network_hash", "base", "clips", "before", "after"} <= set(facts):
        raise InputError(f"{folder / ADAPTER_FACTS_FILE} does not say what the adapter belongs to; get its folder again.")
    unknown = [name for name in _OTHER_FORMS if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unknown:
        raise InputError(f"The adapter {folder} is not a plain LoRA adapter; make one with echogen adapt.")
    try:
        content = (folder / ADAPTER_WEIGHTS_FILE).read_bytes()
        tensors = load(content)
    except OSError as error:
        raise InputError(f"The adapter {folder} has no weights that can be read; get its folder again.") from error
    except SafetensorError as error:
        raise InputError(f"The weights of the adapter {folder} are damaged; get its folder again.") from error
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        share = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        changes = {
            name.removeprefix(_WRAPPED).removesuffix(_DOWN) + ".weight": share
            * (tensors[name.removesuffix(_DOWN) + _UP].float() @ tensors[name].float())  # Eq. 3
            for name in tensors
            if name.endswith(_DOWN)
        }
    except (KeyError, ValueError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"The files of the adapter {folder} do not belong together; get its folder again.") from error
    return Adapter(folder.resolve().name, hashlib.sha256(content).hexdigest()[:16], facts, changes)


@torch.no_grad()
def add_adapter(network: nn.Module, adapter: Adapter) -> dict[str, Tensor]:
    """Add an adapter to a network's weights, in place; gives the weights it changed as they were, for `restore_weights`.

    Raises `InputError` for an adapter of another network; nothing is changed then.
    """
    weights = dict(network.named_parameters())
    fits = all(name in weights and weights[name].shape == change.shape for name, change in adapter.changes.items())
    if not fits or adapter.facts["network_hash"] != network_hash(network):
        raise InputError(
            f"The adapter {adapter.name} was made for other weights than these, those of a {adapter.facts['base']}; "
            "use it with its own model, or adapt this one with echogen adapt."
        )
    before = {name: weights[name].detach().clone() for name in adapter.changes}
    for name, change in adapter.changes.items():
        weights[name].add_(change.to(weights[name]))
    return before


@torch.no_grad()
def restore_weights(network: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Put back the weights that `add_adapter` gave, bit for bit."""
    weights = dict(network.named_parameters())
    for name, weight in before.items():
        weights[name].copy_(weight)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged; give the folder that echogen adapt wrote.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged; give the folder that echogen adapt wrote.")
    return values
