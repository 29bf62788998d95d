"""Checks of echogen's networks against names and shapes of whole released files (full_keys_*.json), without any weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from echogen.checkpoints.comparison import Check, Comparison
from echogen.checkpoints.echopulse_weights import (
    critic_from,
    discriminator_from,
    networks_from,
    our_names,
    tokenizer_from,
    transformer_from,
)
from echogen.checkpoints.st_mem import st_mem_from
from echogen.errors import InputError

Tensors = dict[str, Tensor]


def listed_tensors(path: Path) -> Tensors:
    """Make tensors without content from the names and shapes in a list {"keys": [[name, shape, dtype], ...]}."""
    listed = json.loads(path.read_text(encoding="utf-8"))["keys"]
    return {name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for name, shape, dtype in listed}


def _fits(build: Callable[[Tensors], object]) -> Check:
    """Make a check that networks take every listed tensor and lack none; `load_into` names a tensor that does not fit."""

    def check(path: Path) -> list[Comparison]:
        with torch.device("meta"):
            build(listed_tensors(path))
        return [Comparison("names that do not fit", 0.0, 0.0)]

    return check


def _unused(path: Path) -> list[Comparison]:
    """Check that no network of the training losses is read as a part of echogen's networks."""
    return [Comparison("names taken for ours", float(len(our_names(listed_tensors(path)))), 0.0)]


def _refused(path: Path) -> list[Comparison]:
    """Check that a file of another tokenizer raises `InputError`."""
    try:
        tokenizer_from(listed_tensors(path))
    except InputError:
        return [Comparison("taken although foreign", 0.0, 0.0)]
    return [Comparison("taken although foreign", 1.0, 0.0)]


#: Checks by the prefix of the recorded file's name.
CHECKS: dict[str, Check] = {
    "full_keys_cvivit": _fits(tokenizer_from),
    "full_keys_cvivit_training_extras": _unused,
    "full_keys_cvivit_pip042": _refused,
    "full_keys_maskgit": _fits(transformer_from),
    "full_keys_token_critic": _fits(critic_from),
    "full_keys_discriminator": _fits(discriminator_from),
    "full_keys_stmem": _fits(st_mem_from),
    "full_keys_phenaki": _fits(networks_from),
}
