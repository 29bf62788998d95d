"""The network of re-identification: unit vectors, whatever the order of frames."""

from pathlib import Path

import torch

from echogen.networks.config import load_network, save_network
from echogen.networks.identity import Identity, IdentityConfig

SMALL = IdentityConfig(steps=3, image_size=32, widths=(8, 16), place_channels=4, dims=16)


def test_vectors_have_length_1_and_do_not_know_the_order_of_frames() -> None:
    torch.manual_seed(0)
    network = Identity(SMALL)
    parts = torch.rand(4, 3, 32, 32)
    vectors = network(parts)
    assert vectors.shape == (4, 16)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(network(parts[:, [2, 0, 1]]), vectors)
    assert not torch.allclose(network(parts.flip(3)), vectors, atol=1e-3)


def test_a_part_does_not_know_the_others_of_its_batch() -> None:
    network = Identity(SMALL)
    parts = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(network(parts[1:2])[0], network(parts)[1])


def test_stored_in_8_bit_steps_it_says_nearly_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, parts = Identity(SMALL), torch.rand(4, 3, 32, 32)
    save_network(network, tmp_path, torch.int8)
    again = load_network(Identity, tmp_path)
    assert again.config == SMALL
    assert float((again(parts) * network(parts)).sum(1).min()) > 0.995


def test_the_default_is_small() -> None:
    assert sum(weights.numel() for weights in Identity().parameters()) < 1.0e6
