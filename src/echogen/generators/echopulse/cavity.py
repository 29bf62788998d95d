"""The left ventricular cavity as the networks see it: cells of tokens as pictures, and its size at end-diastole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from echogen.ecg_window.outline import outline_of_cells
from echogen.generators.echopulse.config import UsualCavity
from echogen.generators.echopulse.window_request import WindowRequest, encode_conditions, whole_window
from echogen.generators.precision import Precision
from echogen.generators.random_seeds import Purpose, mixed_seed
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.networks.video_tokenizer import VideoTokenizerConfig

#: Largest deviation of a drawn size from the mean, in SDs; beyond lie hearts that no training clip showed.
FURTHEST_SD = 2.0


def cell_pictures(shares: Tensor, grid: int, places: Sequence[int] | None) -> Tensor:
    """Arrange the cells of tokens as pictures: (latents, positions, frames, cells) -> (latents, frames, rows, columns).

    grid: patches along one side of the picture. places: row-major patches that are tokens; None = all. Cells elsewhere are 0.
    """
    latents, _, frames, cells = shares.shape
    side = round(cells**0.5)
    everywhere = torch.zeros(latents, grid**2, frames * cells)
    everywhere.index_copy_(1, torch.tensor(places or range(grid**2)), shares.flatten(2))
    patches = everywhere.view(latents, grid, grid, frames, side, side)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(latents, frames, grid * side, grid * side)


class CavitySizer:
    """Finds length and width of the cavity at end-diastole: as a first frame shows them, else as a seed draws them."""

    def __init__(self, transformer: MaskedTransformer, tokenizer: VideoTokenizerConfig, precision: Precision) -> None:
        self.transformer, self.tokenizer, self.precision = transformer, tokenizer, precision

    def size(
        self, request: WindowRequest, seed: int, first_frame: Tensor | None, usual: UsualCavity | None
    ) -> tuple[float, float] | None:
        """Return length and width in pixels at end-diastole; None where no EF is asked for, or without usual sizes.

        first_frame: (1, 1, positions, groups) ids of the video's first frame, which may lie anywhere in the beat.
        """
        ef = request.calibrated_ef_percent()
        if usual is None or ef is None:
            return None
        relative = replace(request, cavity=(1.0, 1.0)).outline()
        if first_frame is not None and relative is not None:
            seen = self.seen(request, first_frame)
            if seen is not None:
                length, width = relative(request.times_s[:1])
                return seen[0] / float(length[0]), seen[1] / float(width[0])
        deviations = np.random.default_rng(mixed_seed(seed, 0, Purpose.CAVITY)).normal(size=2)
        return usual.at(deviations.clip(-FURTHEST_SD, FURTHEST_SD), ef)

    @torch.inference_mode()
    def seen(self, request: WindowRequest, first_frame: Tensor) -> tuple[float, float] | None:
        """Return length and width in pixels of the cavity that the first frame shows; None where the transformer sees none."""
        transformer, grid, device = self.transformer, self.tokenizer.grid, self.precision.device
        if transformer.cavity is None:
            return None
        with self.precision.autocast():
            encoded = encode_conditions(transformer, replace(request, cavity=None), [request.conditions], device)
            window = whole_window(first_frame, first_frame[:, :0], request.latents, transformer.config.mask_id)
            features = transformer.features(window, *request.latent_clock(1, device), encoded, slice(1))
            shares = transformer.cavity(features[0, 0]).float().sigmoid()
            shares = shares.unflatten(-1, (self.tokenizer.time_patch, -1)).mean(1).cpu()
        cells = cell_pictures(shares[None, :, None], grid, self.tokenizer.active_patches)[0, 0]
        return outline_of_cells(cells.double().numpy(), self.tokenizer.image_size / len(cells))
