from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from echogen.networks.linear import Linear


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(24, 40)


def asked(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        out: torch.Tensor = layer(x)
        return out


def as_torch_does(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.load_state_dict(layer.state_dict())
    return asked(plain, x)


def test_it_gives_the_bits_that_torch_gives_whatever_happens_to_its_weights(layer: Linear) -> None:
    x = torch.randn(7, 24)

    def check() -> torch.Tensor:
        for _ in range(2):
            assert torch.equal(asked(layer, x), as_torch_does(layer, x))
        return asked(layer, x)

    before = check()
    with torch.no_grad():
        layer.weight.add_(0.1)
    assert not torch.equal(check(), before)
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias.copy_(torch.randn(40))
    check()
    other = nn.Linear(24, 40)
    layer.weight.data, other.weight.data = other.weight.data, layer.weight.data
    check()
    layer.load_state_dict(nn.Linear(24, 40).state_dict())
    check()


def test_without_autocast_and_while_it_learns_it_is_torchs_own(layer: Linear) -> None:
    x = torch.randn(3, 24)
    with torch.inference_mode():
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    asked(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_a_copy_has_weights_of_its_own(layer: Linear) -> None:
    x = torch.randn(3, 24)
    before = asked(layer, x)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.zero_()
    assert torch.equal(asked(twin, x), as_torch_does(twin, x))
    assert torch.equal(asked(layer, x), before)
    assert set(layer.state_dict()) == {"weight", "bias"}
