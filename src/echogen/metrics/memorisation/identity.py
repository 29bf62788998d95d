"""Clips as unit vectors that tell whose heart they show: the shipped network of re-identification, applied to a cine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from echogen.arrays import ByteArray
from echogen.cine.sector import to_sector
from echogen.metrics.sets.features import at_rate
from echogen.networks.adapters import network_hash
from echogen.networks.config import load_network
from echogen.networks.identity import Identity, IdentityConfig
from echogen.records import Cine

Vector = NDArray[np.float32]
SHIPPED = Path(__file__).parents[2] / "weights" / "identity"


def clip_parts(frames: ByteArray, config: IdentityConfig) -> ByteArray:
    """(frames, H, W) at config.fps -> (parts, config.steps, H, W), one part after the other; what is left over is left out.

    A clip shorter than one part repeats its frames.
    """
    count = max(1, len(frames) // config.steps) * config.steps
    return frames[np.arange(count) % len(frames)].reshape(-1, config.steps, *frames.shape[1:])


class HeartIdentity:
    """A cine -> the unit vector of its heart: the mean over its parts, one second each.

    The cosine of two vectors (-1..1) is the similarity of two clips. digest: 16 hex digits that name the network's weights;
    vectors of different networks cannot be compared. dims: of a vector.
    """

    def __init__(self, folder: str | Path | None = None, *, device: str | torch.device = "cpu") -> None:
        """folder: of the network, as training leaves it; None is the shipped one. Raises `InputError` where there is none."""
        network = load_network(Identity, folder or SHIPPED)
        self.digest = network_hash(network)
        self.config: IdentityConfig = network.config
        self.dims = self.config.dims
        self.device = device
        self._network = network.to(device).requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, cine: Cine) -> Vector:
        """(dims,) the vector; pictures that are not 128 x 128 are cropped to their sector first.

        Raises `InputError` for pictures without a sector.
        """
        frames, side = at_rate(cine, self.config.fps), self.config.image_size
        if frames.shape[1:] != (side, side):
            frames, _ = to_sector(frames, side)
        parts = torch.from_numpy(np.ascontiguousarray(clip_parts(frames, self.config))).to(self.device).float() / 255.0
        mean = torch.cat([self._network(few) for few in parts.split(16)]).mean(0)
        vector: Vector = torch.nn.functional.normalize(mean, dim=0).cpu().numpy()
        return vector
