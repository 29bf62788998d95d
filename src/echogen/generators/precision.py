"""Device and number type in which a generator's networks compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Number types by the names that generator.json and the command line use.
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass
class Precision:
    """Device and number type of the matrix products of a generator's networks, shared by all its parts.

    device: where the networks are.
    dtype: bfloat16, or float32 for a processor without units for bfloat16.
    """

    device: torch.device
    dtype: torch.dtype = torch.bfloat16

    def autocast(self) -> torch.autocast:
        """Return a context in which networks multiply in `dtype`; does nothing for float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
