"""Low-rank changes (LoRA) of a network's linear maps: made for training, and written as an adapter's folder.

`networks.adapters` describes the folder. Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, Eq. 3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from echogen.networks.adapters import ADAPTER_FACTS_FILE, ADAPTER_WEIGHTS_FILE


def with_changes(network: nn.Module, names: Sequence[str], rank: int, seed: int) -> Any:
    """Add a trainable low-rank change, zero at first, to some linear maps of a network, and fix all other weights.

    Gives peft's wrapper of the network, which itself is changed in place.

    names: Names of the linear maps.
    rank: Rank of the changes.
    seed: Seed of the factors' first values.
    """
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        options = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(names), lora_dropout=0.0, bias="none")
        # In evaluation mode throughout: a codebook that follows its uses would move.
        return get_peft_model(network, options).eval()


def save_changes(folder: Path, model: Any, facts: Mapping[str, Any], dtype: torch.dtype | None = None) -> None:
    """Write the low-rank changes of peft's wrapper as an adapter's folder.

    facts: Content of echogen.json, network and network_hash among it.
    dtype: Type of the stored weights; None keeps theirs.
    """
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"]
    config.inference_mode = True
    config.base_model_name_or_path = facts.get("base")
    config.save_pretrained(folder)
    # Left to itself, peft would ask the internet for a model of the base's name.
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: weight.detach().cpu().to(dtype or weight.dtype).contiguous() for name, weight in weights.items()}
    save_file(weights, folder / ADAPTER_WEIGHTS_FILE)
    (folder / ADAPTER_FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
