"""LPIPS written out from its definition, on random weights: the published ones cannot be had without a download."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from echogen.metrics.sets.features import LPIPS
from echogen.networks.perceptual import VGG_STAGES


@contextmanager
def random_lpips_weights() -> Iterator[Path]:
    """A folder with a weights file of the right names and shapes."""
    torch.manual_seed(0)
    tensors = {}
    for stage, layers in enumerate(VGG_STAGES, start=1):
        for number, inputs, outputs in layers:
            tensors[f"net.slice{stage}.{number}.weight"] = torch.randn(outputs, inputs, 3, 3) * np.sqrt(2 / (9 * inputs))
            tensors[f"net.slice{stage}.{number}.bias"] = 0.1 * torch.randn(outputs)
        tensors[f"lin{stage - 1}.model.1.weight"] = torch.rand(1, outputs, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / LPIPS.name)
        yield Path(folder)


def lpips_by_definition(folder: Path, frames: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Zhang et al. 2018, equation 1, in float64: channels normalised, differences squared, weighted and averaged over places."""
    tensors = {name: tensor.double() for name, tensor in load_file(folder / LPIPS.name).items()}
    shift, scale = (torch.tensor(v).double()[:, None, None] for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    both = [torch.from_numpy(x).double()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1 for x in (frames, reference)]
    x = (torch.cat(both) - shift) / scale
    total = torch.zeros(len(frames), dtype=torch.float64)
    for stage, layers in enumerate(VGG_STAGES, start=1):
        x = F.max_pool2d(x, 2) if stage > 1 else x
        for number, _, _ in layers:
            x = F.relu(F.conv2d(x, *(tensors[f"net.slice{stage}.{number}.{part}"] for part in ("weight", "bias")), padding=1))
        a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
        total += F.conv2d((a - b).square(), tensors[f"lin{stage - 1}.model.1.weight"]).mean((1, 2, 3))
    return float(total.mean())
