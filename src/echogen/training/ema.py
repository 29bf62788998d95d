"""Exponential moving averages of network weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def ema_decay_at(update: int, decay: float) -> float:
    """Decay rate of an update t (0 first): min(decay, (1 + t) / (10 + t)), so that early averages forget the random start."""
    return min(decay, (1 + update) / (10 + update))


class Ema:
    """Averaged copies of some networks, in `networks` under the same names.

    Parameters follow average = d * average + (1 - d) * weight with d from `ema_decay_at`; buffers are copied.
    The copies are in evaluation mode and take no gradient.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.networks = {name: copy.deepcopy(network).eval().requires_grad_(False) for name, network in networks.items()}

    @torch.no_grad()
    def update(self, networks: Mapping[str, nn.Module]) -> None:
        """Move the averages one update towards `networks`."""
        decay = ema_decay_at(self.updates, self.decay)
        for name, average in self.networks.items():
            means: list[Tensor] = list(average.parameters())
            weights: list[Tensor] = list(networks[name].parameters())
            if means:
                torch._foreach_lerp_(means, weights, 1.0 - decay)
            for kept, buffer in zip(average.buffers(), networks[name].buffers(), strict=True):
                kept.copy_(buffer)
        self.updates += 1

    @contextmanager
    def swapped(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Let `networks` hold the averaged weights, in evaluation mode, inside the block; afterwards all is as before."""
        modes = [(module, module.training) for network in networks.values() for module in network.modules()]
        self._swap(networks)
        for network in networks.values():
            network.eval()
        try:
            yield
        finally:
            self._swap(networks)
            for module, mode in modes:
                module.training = mode

    def _swap(self, networks: Mapping[str, nn.Module]) -> None:
        for name, average in self.networks.items():
            for mean, weight in zip(_tensors(average), _tensors(networks[name]), strict=True):
                mean.data, weight.data = weight.data, mean.data


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
