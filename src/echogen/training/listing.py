"""List of all settings of a recipe: type, default, value and meaning of each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from echogen.config import config_from_dict, config_to_dict, field_meanings, nested_dataclass
from echogen.errors import InputError
from echogen.training.recipe import RECIPE, Recipe, settings, with_present_names
from echogen.training.tasks import task_class

#: Parts of a recipe whose settings the task declares.
PARTS = ("data", "network", "options")
#: Value of a setting that is itself made of settings.
BELOW = "(see below)"
#: Value of a setting of a part that the recipe does without.
UNUSED = "(unused)"
#: Words for types.
_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: "null"}
#: Characters in a line of the list, as terminals usually have at least.
_WIDTH = 100


@dataclass(frozen=True)
class Setting:
    """One setting of a recipe.

    name: Dotted name, as `--set` takes it.
    type: Type in words.
    default: Value without the recipe, as YAML has it; None where there is none.
    value: Value with the recipe, as YAML has it, or words in brackets where files decide.
    meaning: Meaning in a sentence, from the docstring of the dataclass.
    """

    name: str
    type: str
    default: str | None
    value: str
    meaning: str


def recipe_settings(recipe: Recipe) -> list[Setting]:
    """Every setting of a recipe and of its task; no file but the recipe is read, and no task is made.

    Raises `InputError` for an unknown task, and for settings that the task does not have.
    """
    task = task_class(recipe.task)
    recipe = with_present_names(recipe, task.former_names)
    unread = "(as in init_from)" if recipe.init_from else "(follows from the files in data)"
    listed = list(_settings(Recipe, vars(recipe), {}, "", skipped=PARTS))
    listed += _settings(task.Data, vars(settings(task.Data, recipe.data, "data.")), {}, "data.")
    for setting in _settings(task.Network, vars(_network(recipe)), task.network_defaults(recipe), "network."):
        field = setting.name.split(".")[1]
        if field not in recipe.network and (recipe.init_from or field in task.network_from_files):
            setting = replace(setting, value=unread)
        listed.append(setting)
    listed += _settings(task.Options, vars(settings(task.Options, recipe.options, "options.")), {}, "options.")
    return listed


def settings_text(listed: list[Setting]) -> str:
    """The list as text: a line with name, value, type and default, and under it the meaning, for each setting."""
    lines = []
    for setting in listed:
        default = "no default" if setting.default is None else f"default {setting.default}"
        lines.append(f"{setting.name} = {setting.value}  [{setting.type}, {default}]")
        lines.append(textwrap.fill(setting.meaning, _WIDTH, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines)


def _network(recipe: Recipe) -> Any:
    """Config of the recipe's network; where that changes loaded weights, the task's defaults with those changes alone."""
    task = task_class(recipe.task)
    try:
        return task.network_config(recipe)
    except InputError:
        if recipe.init_from is None:
            raise
        return config_from_dict(task.Network, task.network_defaults(recipe), where="network.", source=RECIPE)


def _settings(
    kind: type[Any], values: Mapping[str, Any] | None, defaults: Mapping[str, Any], where: str, skipped: Sequence[str] = ()
) -> Iterator[Setting]:
    """Settings of a dataclass, each followed by those of a dataclass in it.

    values: Values by field name; None for a dataclass that the recipe does without.
    defaults: Plain values that stand before the defaults of the dataclass.
    """
    hints, meanings = get_type_hints(kind), field_meanings(kind)
    for entry in fields(kind):
        if entry.name in skipped or not entry.init:
            continue
        hint = hints[entry.name]
        default = defaults.get(entry.name, entry.default)
        factory: Any = entry.default_factory
        if default is MISSING and factory is not MISSING:
            default = factory()
        value = None if values is None else values[entry.name]
        inner = nested_dataclass(hint)
        yield Setting(
            where + entry.name,
            _words(hint),
            None if default is MISSING else _yaml(default),
            UNUSED if values is None else _yaml(value),
            _sentence(meanings.get(entry.name, "")),
        )
        if inner is not None:
            usual = config_to_dict(default) if is_dataclass(default) else default
            usual = usual if isinstance(usual, Mapping) else {}
            yield from _settings(inner, vars(value) if is_dataclass(value) else None, usual, f"{where}{entry.name}.")


def _sentence(meaning: str) -> str:
    """A meaning with a capital letter at its beginning."""
    return meaning[:1].upper() + meaning[1:]


def _words(hint: Any) -> str:
    """A type in words."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(str, arguments))
    if get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return f"list, each {_words(arguments[0])}"
        words = list(dict.fromkeys(map(_words, arguments)))
        return f"list of {len(arguments)}, each {words[0]}" if len(words) == 1 else f"list of {', '.join(words)}"
    if nested_dataclass(hint) is not None:
        return "settings or null" if arguments else "settings"
    if arguments:
        return " or ".join(map(_words, arguments))
    return _TYPES.get(hint, getattr(hint, "__name__", str(hint)))


def _yaml(value: Any) -> str:
    """A value as YAML writes it in one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping) or is_dataclass(value):
        return BELOW
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value)
