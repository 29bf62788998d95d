"""Recipes: everything that decides a training run, as one YAML file each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from echogen.config import config_from_dict, nearest, unknown_name
from echogen.errors import InputError

T = TypeVar("T")
#: Folder of the shipped recipes.
RECIPES = Path(__file__).parent / "recipes"
#: Subject of sentences about a setting that a recipe gives.
RECIPE = "The recipe"
#: Settings that may differ between a run and its continuation: they change how long it goes on, what it reports, and how the rows
#: of a step, whose number stays, are divided.
FREE_ON_RESUME = frozenset({"steps", "minutes", "save_every", "sample_every", "log_every", "workers", "batch_size", "accumulate"})
#: Numbers such as 3e-4, which YAML 1.1 reads as text for want of a point.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run. Raises `InputError` for values out of range.

    task: Name of the training task.
    steps: Number of optimizer steps.
    seed: Seed of the initial weights, the batches and all that is random in the losses.
    minutes: Wall time in min after which training stops if `steps` are not over by then; null for no limit.
    batch_size: Samples of one process in one go.
    accumulate: Goes of a step, one after the other: the gradient is that of all their samples, in the memory of one.
    learning_rate: Highest learning rate of AdamW, reached after warmup_steps.
    warmup_steps: Steps over which the learning rate rises linearly.
    schedule: Learning rate after the warm-up: constant, or half a cosine over the steps or minutes.
    final_learning_rate_share: Last learning rate of the cosine schedule over the highest.
    betas: Decay rates of AdamW's first and second moments.
    weight_decay: Weight decay of AdamW, on matrices only.
    clip_norm: Largest gradient norm; longer gradients are shortened to it. 0 for no limit.
    precision: Number format of the forward pass; auto is bf16 where the device has it.
    ema_decay: Decay rate of the averaged weights in one update.
    ema_every: Steps between updates of the averaged weights.
    save_every: Steps between checkpoints.
    sample_every: Steps between filmstrips to look at; 0 for none.
    log_every: Steps between rows of metrics.csv.
    workers: Processes that make batches; 0 for one thread of the main process.
    init_from: Folder of weights, or name of a shipped generator, to start from with a fresh optimizer.
    data: Settings of the task's data.
    network: Settings of the task's network.
    options: Further settings of the task.
    """

    task: str
    steps: int
    seed: int = 0
    minutes: float | None = None
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    final_learning_rate_share: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    ema_decay: float = 0.999
    ema_every: int = 1
    save_every: int = 1000
    sample_every: int = 1000
    log_every: int = 50
    workers: int = 0
    init_from: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least: dict[str, float] = dict.fromkeys(("steps", "batch_size", "accumulate", "ema_every", "save_every", "log_every"), 1)
        least |= dict.fromkeys(("seed", "warmup_steps", "weight_decay", "clip_norm", "sample_every", "workers"), 0)
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise InputError(f"The recipe's {name} must be at least {lowest}, not {getattr(self, name)}.")
        for name in ("learning_rate", "minutes"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"The recipe's {name} must be above 0, not {getattr(self, name)}.")
        for name, share in (("ema_decay", self.ema_decay), *(("betas", beta) for beta in self.betas)):
            if not 0 <= share < 1:
                raise InputError(f"The recipe's {name} must be at least 0 and below 1, not {share}.")
        if not 0 <= self.final_learning_rate_share <= 1:
            raise InputError(
                f"The recipe's final_learning_rate_share must lie between 0 and 1, not {self.final_learning_rate_share}."
            )


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or one from a YAML file, with `a.b=value` overrides (values in YAML).

    Raises `InputError` for an unknown recipe, broken YAML, an unknown or missing key, a value of the wrong type or an
    override that is not of that form.
    """
    values = _read(_find(name_or_path))
    for override in overrides:
        _override(values, override)
    return settings(Recipe, values)


def with_present_names(recipe: Recipe, former_names: Mapping[str, str]) -> Recipe:
    """Recipe in which former names of settings are replaced by the present ones, with a `FutureWarning`.

    former_names: Present names by former ones, both dotted, with one dot, as in {"data.way": "data.schedule"}; an empty present
        name is that of a setting that is no longer needed, and is dropped.
    """
    for former, present in former_names.items():
        part, _, name = former.partition(".")
        values = getattr(recipe, part)
        if name in values:
            now = f"is called {present} now" if present else "is no longer needed; leave it out"
            warnings.warn(f"The setting {former} of a recipe {now}.", FutureWarning, stacklevel=2)
            new_name = present.partition(".")[2]
            renamed = {new_name if key == name else key: value for key, value in values.items() if present or key != name}
            changed: dict[str, Any] = {part: renamed}
            recipe = replace(recipe, **changed)
    return recipe


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Plain values of a recipe, which YAML and a checkpoint can hold: tuples become lists."""
    plain: dict[str, Any] = _plain(asdict(recipe))
    return plain


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> str | None:
    """Dotted name of the first setting that differs between two `recipe_values`, `FREE_ON_RESUME` aside; None if none."""
    for key in sorted({*earlier, *now} - (FREE_ON_RESUME if not where else frozenset())):
        one, other = earlier.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = first_difference(one, other, f"{where}{key}.")
            if inner:
                return inner
        elif one != other or (key in earlier) != (key in now):
            return where + key
    return None


def settings(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a dataclass of the mapping of a recipe; `where` is its dotted place there, as in "network.".

    Raises `InputError` as `config_from_dict` does.
    """
    return config_from_dict(kind, values, where=where, source=RECIPE)


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = {file.stem: file for file in RECIPES.glob("*.yaml")}
    if str(name_or_path) not in shipped:
        raise InputError(f"There is no recipe {str(name_or_path)!r}; {nearest(str(name_or_path), shipped)}.")
    return shipped[str(name_or_path)]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read; check that it is a text file that exists.") from error
    except yaml.YAMLError as error:
        raise InputError(f"The recipe {path} is not valid YAML ({_first_line(error)}).") from error
    if not isinstance(values, dict):
        raise InputError(f"The recipe {path} must be a list of 'key: value' lines.")
    numbers: dict[str, Any] = _numbers(values)
    return numbers


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise InputError(f"The override {override!r} must have the form key=value or part.key=value.")
    known = [entry.name for entry in fields(Recipe)]
    if names[0] not in known:
        raise InputError(unknown_name(names[0], known))
    try:
        value = _numbers(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"The value of the override {override!r} is not valid YAML ({_first_line(error)}).") from error
    for depth, name in enumerate(names[:-1], start=1):
        if values.get(name) is None:
            values[name] = {}
        values = values[name]
        if not isinstance(values, dict):
            raise InputError(f"The override {override!r} goes into {'.'.join(names[:depth])}, which has no parts.")
    values[names[-1]] = value


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
