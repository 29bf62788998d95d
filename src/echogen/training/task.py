"""What the trainer asks of the thing it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_model
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.training.recipe import Recipe

SHIPPED = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class OptimizerGroup:
    """One AdamW: the names of the networks it trains, and the name of the loss that it minimises.

    learning_rate_share: times the recipe's rate. betas: instead of the recipe's.
    """

    name: str
    networks: tuple[str, ...]
    loss: str = "loss"
    learning_rate_share: float = 1.0
    betas: tuple[float, float] | None = None


class Task:
    """What is trained: a subclass builds its networks and says how a batch and its losses are made.

    The constructor seeds torch with the recipe's seed, so that networks built after it start the same every time.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.device = torch.device("cpu")
        torch.manual_seed(recipe.seed)

    def networks(self) -> dict[str, nn.Module]:
        """Every network that is trained and saved, by name; the same objects at every call."""
        raise TypeError(f"{type(self).__name__} must say which networks it trains.")

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """The optimizers; one for all networks unless a subclass says otherwise.

        All gradients of a step are taken before any weight moves. A group whose loss is absent from a step rests in that step.
        """
        return (OptimizerGroup("all", tuple(self.networks())),)

    def to(self, device: torch.device) -> None:
        """Called once before training; a subclass moves here what it holds beside its `networks`."""
        self.device = device

    def batch(self, step: int, rank: int, world: int) -> Any:
        """Tensors (nested in tuples, lists, dicts) for one step of process `rank` of `world`.

        It must depend on its arguments and the recipe only, and draw from a generator of its own (`random`), never from
        torch's global one: it runs in another thread or process, and a resumed run asks for the same batch again.
        """
        raise TypeError(f"{type(self).__name__} must say how a batch is made.")

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Scalars by name: those that the optimizers minimise ("loss" by default), and any others, which are only logged.

        torch's global generator is seeded from (seed, step, rank) before each call.
        """
        raise TypeError(f"{type(self).__name__} must say what its losses are.")

    def sample(self, step: int) -> NDArray[np.uint8] | None:
        """A filmstrip to look at, (height, width) or (height, width, 3), or None; the networks hold their averaged weights."""
        return None

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the weights of `networks` (the averages) to ship; here NAME/model.safetensors each."""
        for name, network in networks.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            save_model(network, str(folder / name / "model.safetensors"))

    def starting_weights(self, name: str) -> Path | None:
        """The folder of a network's weights that the recipe's init_from names (a folder, or a shipped generator); None without.

        Raises `InputError` where there is no such network.
        """
        if self.recipe.init_from is None:
            return None
        for folder in (Path(self.recipe.init_from), SHIPPED / self.recipe.init_from):
            if (folder / name).is_dir():
                return folder / name
        raise InputError(
            f"The recipe's init_from {self.recipe.init_from!r} holds no {name}; give a folder with one or a shipped name."
        )

    def random(self, step: int, rank: int) -> np.random.Generator:
        """The random source of one batch, a pure function of (seed, step, rank)."""
        return np.random.default_rng([self.recipe.seed, step, rank])
