"""Pictures of varied hearts: range, shape, reproducibility, and that nothing is outlined where nothing is shown."""

from __future__ import annotations

import numpy as np
import torch

from echogen.phantom.variety import draw_variant, map_variant
from echogen.records import STRUCTURES
from echogen.training.picture_variation import Pictures, speckle_bank, vary_maps, vary_pictures

BANK = speckle_bank(0)


def hearts(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and moments of four hearts."""
    moments = np.linspace(0.2, 0.4, frames)
    drawn = [map_variant(draw_variant(np.random.default_rng(seed)), moments, np.zeros(frames)) for seed in range(4)]
    maps = np.stack([np.stack([one.labels, one.levels, one.depths]) for one in drawn])
    return torch.from_numpy(maps), torch.from_numpy(np.tile(moments.astype(np.float32), (4, 1)))


def varied(seed: int, frames: int = 3) -> Pictures:
    """Pictures of the four hearts."""
    return vary_maps(*hearts(frames), BANK, torch.Generator().manual_seed(seed))


def test_pictures_are_grey_values_and_labels_are_structures() -> None:
    for frames in (1, 3):
        drawn = varied(0, frames)
        assert drawn.pictures.shape == (4, 3, 128, 128)
        assert drawn.labels.shape == (4, 128, 128)
        assert torch.isfinite(drawn.pictures).all()
        assert drawn.pictures.min() >= 0
        assert drawn.pictures.max() <= 1
        assert drawn.labels.max() < len(STRUCTURES)


def test_a_heart_that_stands_still_shows_one_picture_three_times_and_a_beating_one_does_not() -> None:
    still, beating = varied(1, frames=1).pictures, varied(1, frames=3).pictures
    assert torch.equal(still[:, 0], still[:, 2])
    assert not torch.equal(beating[:, 0], beating[:, 2])


def test_the_generator_decides_everything() -> None:
    assert torch.equal(varied(2).pictures, varied(2).pictures)
    assert not torch.equal(varied(2).pictures, varied(3).pictures)


def test_nothing_is_outlined_in_the_corners_that_no_fan_reaches() -> None:
    for seed in range(5):
        labels = varied(seed).labels
        assert (labels[:, :4] == 0).all()
        assert (labels[:, 120:, :3] == 0).all()
        assert (labels[:, 120:, -3:] == 0).all()


def test_the_phantoms_pictures_move_together_with_their_labels() -> None:
    label = torch.zeros(2, 128, 128, dtype=torch.uint8)
    label[:, 50:70, 40:60] = 1
    frames = (label[:, None] * 200).expand(-1, 3, -1, -1)
    drawn = vary_pictures(frames, frames, label, torch.Generator().manual_seed(0))
    inside = drawn.pictures[:, 1][drawn.labels == 1]
    assert inside.median() > 0.3
    assert drawn.pictures[:, 1][drawn.labels == 0].median() == 0
