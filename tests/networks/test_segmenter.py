import pytest
import torch

from echogen.networks.segmenter import Segmenter, SegmenterConfig, segmentation_loss, with_neighbours


def test_default_shape_and_size():
    segmenter = Segmenter()
    assert 0.3e6 < sum(p.numel() for p in segmenter.parameters()) < 0.4e6
    assert segmenter(torch.rand(2, 3, 128, 128)).shape == (2, 6, 128, 128)
    assert segmenter(torch.rand(1, 3, 64, 96)).shape == (1, 6, 64, 96)


def test_neighbours_repeat_at_the_edges():
    frames = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    assert with_neighbours(frames)[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert with_neighbours(frames[:1])[:, :, 0, 0].tolist() == [[0, 0, 0]]


def test_loss_falls_to_zero_with_the_truth_and_ignores_absent_classes():
    mask = torch.zeros(2, 32, 32, dtype=torch.uint8)
    mask[:, 8:20, 8:20] = 1
    truth = 30.0 * torch.nn.functional.one_hot(mask.long(), 6).permute(0, 3, 1, 2).float()
    assert segmentation_loss(truth, mask).item() == pytest.approx(0, abs=1e-3)
    # No left ventricle at all: cross-entropy of 144 wrong pixels and no overlap for its class, one of five.
    blank = torch.zeros(2, 6, 32, 32)
    blank[:, 0] = 30.0
    assert segmentation_loss(blank, mask).item() == pytest.approx(30 * 144 / 1024 + (1 - 1 / 289) / 5, rel=1e-3)


def test_it_learns_and_is_saved(tmp_path):
    from echogen.networks.config import load_network, save_network

    torch.manual_seed(0)
    segmenter = Segmenter(SegmenterConfig(widths=(8, 16), blocks=1, groups=4))
    mask = torch.zeros(4, 32, 32, dtype=torch.long)
    for index in range(4):
        mask[index, 4 + index : 18 + index, 8:22] = 1
    frames = (mask * 0.5 + 0.2 * torch.rand(4, 32, 32))[:, None].expand(4, 3, 32, 32)
    optimizer = torch.optim.Adam(segmenter.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        segmentation_loss(segmenter(frames), mask).backward()
        optimizer.step()
    segmenter.eval()
    with torch.inference_mode():
        logits = segmenter(frames)
        assert (logits.argmax(1) == mask).float().mean() > 0.98
        save_network(segmenter, tmp_path)
        assert torch.equal(load_network(Segmenter, tmp_path)(frames), logits)


def test_structures_that_nobody_outlined_may_be_called_anything() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[:, 2:4] = 1
    truth = torch.nn.functional.one_hot(mask, 6).permute(0, 3, 1, 2).float() * 30
    told = torch.tensor([[True, True, False, False, False, False]])
    other = truth.clone()
    other[:, 3, 5:7], other[:, 0, 5:7] = 30, 0  # an atrium, where only the ventricle was outlined
    assert segmentation_loss(other, mask, told=told).item() == pytest.approx(segmentation_loss(truth, mask, told=told).item())
    assert segmentation_loss(other, mask).item() > 1
    every = torch.ones(1, 6, dtype=torch.bool)
    assert segmentation_loss(truth, mask, told=every).item() == pytest.approx(segmentation_loss(truth, mask).item(), abs=1e-5)
