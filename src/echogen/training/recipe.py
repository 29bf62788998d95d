"""Recipes: everything that decides a training run, as one YAML file."""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from echogen.errors import InputError

T = TypeVar("T")
RECIPES = Path(__file__).parent / "recipes"
#: What may differ between a run and its continuation.
FREE_ON_RESUME = frozenset({"steps", "minutes", "save_every", "sample_every", "log_every", "workers"})
# YAML 1.1 reads 3e-4 (no point) as text.
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how.

    task: name of the training task. steps: optimizer steps. minutes: stop after that wall time, if it comes before `steps`.
    batch_size: samples a step and process. learning_rate: reached after warmup_steps; with the cosine schedule it falls to
    final_learning_rate_share of that at the end of the steps or minutes. weight_decay: on matrices only. clip_norm: largest
    gradient norm, 0 for none. precision: auto is bf16 where the device has it. ema_decay: of one update, made every
    ema_every steps. save_every, sample_every, log_every: in steps; sample_every 0 for never. workers: processes that make
    batches, 0 for one thread. init_from: folder of weights to start from with a fresh optimizer. data, network, options:
    settings of the task. Raises `InputError` for values out of range.
    """

    task: str
    steps: int
    seed: int = 0
    minutes: float | None = None
    batch_size: int = 8
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
        least: dict[str, float] = dict.fromkeys(("steps", "batch_size", "ema_every", "save_every", "log_every"), 1)
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
    """A shipped recipe by name, or one from a YAML file, with `a.b=value` overrides (values in YAML).

    Raises `InputError` for an unknown recipe, broken YAML, an unknown or missing key, a value of the wrong type or an
    override that is not of that form.
    """
    values = _read(_find(name_or_path))
    for override in overrides:
        _override(values, override)
    return settings(Recipe, values)


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values that YAML and a checkpoint can hold: tuples become lists."""
    plain: dict[str, Any] = _plain(asdict(recipe))
    return plain


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> str | None:
    """The dotted name of the first setting that differs between two `recipe_values`, `FREE_ON_RESUME` aside; None if none."""
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
    """A dataclass made from the mapping of a recipe; `where` is its dotted place there, as in "network.".

    Types are checked (an int passes as a float, a list as a tuple, a mapping as a dataclass).
    Raises `InputError` naming the nearest valid key for an unknown one, and for missing keys and wrong types.
    """
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind) if entry.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise InputError(f"The recipe has no setting {where}{key}; {_nearest(str(key), known, where)}.")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise InputError(f"The recipe lacks the setting {where}{name}; add it.")
    return kind(**{key: _fit(value, hints[key], where + key) for key, value in values.items()})


def _nearest(key: str, known: Iterable[str], where: str = "") -> str:
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"did you mean {where}{close[0]}" if close else f"use one of {', '.join(names) or '(none)'}"


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = {file.stem: file for file in RECIPES.glob("*.yaml")}
    if str(name_or_path) not in shipped:
        raise InputError(f"There is no recipe {str(name_or_path)!r}; {_nearest(str(name_or_path), shipped)}.")
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
        raise InputError(f"The recipe has no setting {names[0]}; {_nearest(names[0], known)}.")
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


def _fit(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint` wants it, or `InputError`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _fit(value, next(inner for inner in arguments if inner is not type(None)), name)
    if origin is Literal:
        if value in arguments:
            return value
        raise InputError(f"The recipe's {name} must be one of {', '.join(map(str, arguments))}, not {value!r}.")
    if is_dataclass(hint) and isinstance(value, Mapping):
        return settings(hint, value, name + ".")  # type: ignore[arg-type]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is float and number:
        return float(value)
    if hint is int and number and value == int(value):
        return int(value)
    if (hint is bool and isinstance(value, bool)) or (hint is str and isinstance(value, str)):
        return value
    if origin is tuple and isinstance(value, list | tuple):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(value):
            return tuple(_fit(one, kind, name) for one, kind in zip(value, inner, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping) and (value is None or isinstance(value, dict)):
        return value or {}
    if hint is Any:
        return value
    wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint)
    if wanted is None:
        wanted = f"a list of {len(arguments)} values" if origin is tuple and arguments[-1] is not Ellipsis else "a list"
        wanted = wanted if origin is tuple else "a mapping of names to values"
    raise InputError(f"The recipe's {name} must be {wanted}, not {value!r}.")
