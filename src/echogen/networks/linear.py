"""A linear layer that is quick where nothing learns."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """As torch's, bit for bit, but in inference its weights in autocast's precision are kept until they change.

    In inference mode torch converts them anew at every call, which takes a sixth of the time of a video.
    """

    _kept: tuple[Any, Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        device = x.device.type
        if not torch.is_inference_mode_enabled() or not torch.is_autocast_enabled(device):
            return super().forward(x)
        return F.linear(x, *self._in(torch.get_autocast_dtype(device)))

    def _in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in a precision."""
        parts = [self.weight] if self.bias is None else [self.weight, self.bias]
        state = (dtype, *((part.data_ptr(), part._version) for part in parts))
        kept = self._kept
        if kept is None or kept[0] != state:
            kept = self._kept = (state, self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))
        return kept[1:]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_kept"}
