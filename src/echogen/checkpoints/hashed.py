"""Weights and inputs from an integer hash, so that networks of full size are compared without a file of weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def hashed(count: int, key: int, phase: int) -> np.ndarray:
    """Numbers (count,) in [-1, 1) from an integer hash of position, key and phase: float64, the same on every machine."""
    low = np.uint64(0xFFFFFFFF)
    start = np.uint64((key * 40503 + phase * 97) % 2**32)
    mixed = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + start) & low
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed ^= mixed >> np.uint64(shift)
        mixed = (mixed * np.uint64(factor)) & low
    mixed ^= mixed >> np.uint64(16)
    return mixed.astype(np.float64) / 2**32 * 2 - 1


def hashed_weights(shapes: Sequence[tuple[str, Sequence[int]]], phase: int) -> dict[str, Tensor]:
    """Weights of a network by published name, from `hashed`, with magnitudes usual for the kind of each tensor.

    shapes: Name and shape of each tensor.
    phase: Phase of the hash.
    """
    raw = ("token_emb.weight", "pos_emb.weight", "pos_embedding", "sep_embedding", "null_kv")
    weights: dict[str, Tensor] = {}
    for key, (name, shape) in enumerate(sorted((name, tuple(shape)) for name, shape in shapes)):
        if name.endswith(("initted", "cluster_size", "embed_avg")):
            weights[name] = torch.ones(shape)
            continue
        x = hashed(int(np.prod(shape)), key, phase).reshape(shape)
        if name.endswith("_codebook.embed"):
            x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        elif name.endswith(("gamma", "q_scale", "k_scale")) or (len(shape) == 1 and name.endswith("weight")):
            x = 1 + 0.2 * x
        elif name.endswith(("bias", "beta")):
            x = 0.1 * x
        elif not name.endswith(raw) and "lead_embeddings" not in name:
            x = x * np.sqrt(3 / np.prod(shape[1:]))
        weights[name] = torch.from_numpy(x).float()
    return weights
