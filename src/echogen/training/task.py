"""The protocol of everything that the trainer trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_model
from torch import Tensor, nn

from echogen.config import check_fields, config_from_dict
from echogen.errors import InputError
from echogen.training.recipe import RECIPE, Recipe, settings, with_present_names

#: Folder of the shipped generators.
SHIPPED = Path(__file__).parent.parent / "weights"


#: Numbers that keep apart the random sources of a row, of a step, of a row's noise, and of a window (which has none).
_ROWS, _STEPS, _NOISE = 1, 2, 3


@dataclass(frozen=True)
class NoSettings:
    """Settings of a part of a recipe from which a task takes none."""


@dataclass(frozen=True)
class OptimizerGroup:
    """One AdamW optimizer.

    name: Name in logs and checkpoints.
    networks: Names of the networks that it trains.
    loss: Name of the loss that it minimises.
    learning_rate_share: Its learning rate over the recipe's.
    betas: Decay rates of its two moments; None for the recipe's.
    """

    name: str
    networks: tuple[str, ...]
    loss: str = "loss"
    learning_rate_share: float = 1.0
    betas: tuple[float, float] | None = None


class Task:
    """Networks to be trained, with their batches and losses; a subclass fills in the methods.

    A subclass declares the dataclasses of its recipe's data, options and network as `Data`, `Options` and `Network`, each field
    documented by a line "name: Meaning." of the docstring, which `echogen train --show` reads. The constructor makes `data` and
    `options` of the recipe, checks the names and types in its network, and seeds torch with the recipe's seed, so that networks
    built after it start the same every time. Raises `InputError` for settings that the dataclasses do not have.
    """

    #: Dataclass of the recipe's data.
    Data: ClassVar[type[Any]] = NoSettings
    #: Dataclass of the recipe's options.
    Options: ClassVar[type[Any]] = NoSettings
    #: Config dataclass of the trained network, of which the recipe's network holds fields.
    Network: ClassVar[type[Any]] = NoSettings
    #: Present names of settings by their former ones, which go on working for one release: dotted, as in "data.way".
    former_names: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: Fields of `Network` that follow from files named in the recipe, unless the recipe gives them.
    network_from_files: ClassVar[frozenset[str]] = frozenset()

    data: Any
    options: Any

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe = with_present_names(recipe, self.former_names)
        self.data = settings(self.Data, recipe.data, "data.")
        self.options = settings(self.Options, recipe.options, "options.")
        check_fields(self.Network, recipe.network, where="network.", source=RECIPE)
        self.device = torch.device("cpu")
        self._step_totals: Mapping[str, Tensor] = {}
        torch.manual_seed(recipe.seed)

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """Plain values of network settings that differ from the defaults of `Network`, known before any file is read."""
        return {}

    @classmethod
    def network_config(cls, recipe: Recipe) -> Any:
        """Config of the network that a recipe asks for, where it is not loaded; raises `InputError` for one that cannot be."""
        values = _merged(cls.network_defaults(recipe), recipe.network)
        return config_from_dict(cls.Network, values, where="network.", source=RECIPE)

    def networks(self) -> dict[str, nn.Module]:
        """Every network that is trained and saved, by name; the same objects at every call."""
        raise TypeError(f"{type(self).__name__} must say which networks it trains.")

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """The optimizers; one for all networks unless a subclass says otherwise.

        All gradients of a step are taken before any weight moves. A group whose loss is absent from a step rests in that step.
        """
        return (OptimizerGroup("all", tuple(self.networks())),)

    def to(self, device: torch.device) -> None:
        """Move to a device, once before training; a subclass moves here what it holds beside its `networks`."""
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

    def totals(self, batch: Any) -> dict[str, Tensor]:
        """Scalars of a batch by name, by which its losses are divided, such as its number of hidden tokens; none by default."""
        return {}

    def set_step_totals(self, totals: Mapping[str, Tensor]) -> None:
        """Take the means of `totals` over all parts of a step, of all processes, before its losses are asked for."""
        self._step_totals = totals

    def total(self, name: str, own: Tensor) -> Tensor:
        """Divisor of a loss: the mean over the step's parts, so that the mean of their losses is that of one large batch.

        own: The batch's own total, which counts outside of a training.
        """
        return self._step_totals.get(name, own)

    def sample(self, step: int) -> NDArray[np.uint8] | None:
        """Filmstrip to look at, (height, width) or (height, width, 3), or None; the networks hold their averaged weights."""
        return None

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the weights of `networks` (the averages) to ship; here NAME/model.safetensors each."""
        for name, network in networks.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            save_model(network, str(folder / name / "model.safetensors"))

    def starting_weights(self, name: str) -> Path | None:
        """Folder of a network's weights that the recipe's init_from names (a folder, or a shipped generator); None without.

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
        """Random source of one batch, a pure function of (seed, step, rank)."""
        return np.random.default_rng([self.recipe.seed, step, rank])

    def positions(self, step: int, rank: int, world: int, rows: int | None = None) -> range:
        """Places of the rows of one process's batch (of `rows`, or the recipe's size) in the order of all rows of a training.

        Whatever depends on its place alone is the same when the same rows are divided among another number of processes.
        """
        rows = self.recipe.batch_size if rows is None else rows
        first = (step * world + rank) * rows
        return range(first, first + rows)

    def step_random(self, step: int) -> np.random.Generator:
        """Random source of what all rows of a step share, alike in all processes, a pure function of (seed, step)."""
        return np.random.default_rng([self.recipe.seed, _STEPS, step])

    def row_seeds(self, places: range) -> Tensor:
        """Seeds (B,) of the rows of a batch, for `RowNoise`."""
        sources = (np.random.default_rng([self.recipe.seed, _NOISE, place]) for place in places)
        return torch.tensor([int(source.integers(2**62)) for source in sources])

    def row_random(self, position: int) -> np.random.Generator:
        """Random source of one row, a pure function of the seed and its place."""
        return np.random.default_rng([self.recipe.seed, _ROWS, position])


def _merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with the given values in their place, mapping by mapping."""
    result = {**defaults, **values}
    for name, inner in values.items():
        if isinstance(inner, Mapping) and isinstance(defaults.get(name), Mapping):
            result[name] = _merged(defaults[name], inner)
    return result
