"""The one reader of settings: recipes, networks and generators are frozen dataclasses, on disk plain mappings.

A mapping is checked against the dataclass (by `cattrs`): unknown and missing names, and types. Whole numbers pass as
floating-point ones and the other way round where nothing is lost, lists as tuples, mappings as dataclasses; nothing else is
converted.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from cattrs import AttributeValidationNote, ClassValidationError, Converter, ForbiddenExtraKeysError

from echogen.errors import InputError

T = TypeVar("T")


def config_to_dict(config: Any) -> dict[str, Any]:
    """Fields of a config dataclass as values that JSON can hold: nested configs become dicts, tuples lists."""
    result: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return result


def config_from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "", source: str = "") -> T:
    """Make a config dataclass of plain values, as `config_to_dict` gives them; a missing field takes its default.

    kind: The dataclass.
    values: Plain values by field name.
    where: Dotted place of the mapping in its source, as in "network."; it precedes each name in messages.
    source: Subject of messages, as in "The recipe"; "" for a stored config, which then is called by the name of the dataclass.
    Raises `InputError` for an unknown field (naming the nearest known one), a missing one, or a value of the wrong type.
    """
    try:
        return _CONVERTER.structure(values, kind)
    except Exception as error:
        subject = source or f"The {kind.__name__}"
        _explain(error, where, subject, "" if source else " (or the file needs a newer version of echogen)")


def check_fields(kind: type[Any], values: Mapping[str, Any], *, where: str = "", source: str = "The recipe") -> None:
    """Raise `InputError` for values that are no fields of a dataclass or of the wrong type, as `config_from_dict` does.

    The dataclass is not made, so fields without a default may be missing.
    """
    hints = get_type_hints(kind)
    known = [entry.name for entry in fields(kind) if entry.init]
    for name, value in values.items():
        if name not in known:
            raise InputError(unknown_name(str(name), known, where, source))
        inner = nested_dataclass(hints[name])
        if inner is not None and isinstance(value, Mapping):
            check_fields(inner, value, where=f"{where}{name}.", source=source)
            continue
        try:
            _CONVERTER.structure(value, hints[name])
        except Exception as error:
            _explain(error, f"{where}{name}.", source)


def nested_dataclass(hint: Any) -> type[Any] | None:
    """The dataclass that a type hint stands for, also where None is allowed instead; None for any other hint."""
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)


def field_meanings(kind: type[Any]) -> dict[str, str]:
    """Meaning of each field of a dataclass, from the lines "name: Meaning." of its docstring and of those it inherits from.

    Indented lines go on with the meaning; "one, other: Meaning." serves two fields.
    """
    names = "|".join(re.escape(entry.name) for entry in fields(kind))
    start = re.compile(rf"((?:(?:{names}), )*(?:{names})): +(.*)")
    meanings: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if not is_dataclass(cls):
            continue
        current: list[str] = []
        for line in inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines():
            if found := start.fullmatch(line):
                current = found[1].split(", ")
                meanings |= dict.fromkeys(current, found[2])
            elif line.startswith(" "):
                meanings |= {name: f"{meanings[name]} {line.strip()}" for name in current}
            else:
                current = []
    return meanings


def unknown_name(name: str, known: Iterable[str], where: str = "", source: str = "The recipe", advice: str = "") -> str:
    """Sentence about an unknown setting: its name, its place, the nearest known one, and further advice."""
    return f"{source} has no setting {where}{name}; {nearest(name, known, where)}{advice}."


def nearest(name: str, known: Iterable[str], where: str = "") -> str:
    """Words that lead from a mistyped name to the nearest known one, or to all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {where}{close[0]}" if close else f"use one of {', '.join(names) or '(none)'}"


class _Misfit(Exception):
    """A value of the wrong type. wanted: the words for what it should be."""

    def __init__(self, wanted: str, value: Any) -> None:
        super().__init__(wanted)
        self.wanted, self.value = wanted, value


def _explain(error: BaseException, where: str, source: str, advice: str = "") -> NoReturn:
    """Raise the `InputError` that says in one sentence what cattrs found wrong first, and where."""
    if isinstance(error, ClassValidationError):
        inner = error.exceptions
        extra = next((each for each in inner if isinstance(each, ForbiddenExtraKeysError)), None)
        if extra is not None:
            known = [entry.name for entry in fields(extra.cl) if entry.init]
            raise InputError(unknown_name(min(map(str, extra.extra_fields)), known, where, source, advice)) from error
        missing = next((each for each in inner if isinstance(each, KeyError) and _field(each) in each.args), None)
        if missing is not None:
            raise InputError(f"{source} lacks the setting {where}{_field(missing)}; add it.") from error
        name = _field(inner[0])
        _explain(inner[0], f"{where}{name}." if name else where, source, advice)
    if isinstance(error, _Misfit):
        name = where.removesuffix(".")
        subject = f"{source}'s {name}" if name else source
        raise InputError(f"{subject} must be {error.wanted}, not {error.value!r}.") from error
    if isinstance(error, InputError):
        raise error
    if isinstance(error, TypeError | ValueError | KeyError | AssertionError):
        place = f"{source}'s {where.removesuffix('.')}" if where else source
        raise InputError(f"{place} cannot be made from these settings: {error}.") from error
    raise error


def _field(error: BaseException) -> str | None:
    """Name of the field whose value raised the error, as cattrs noted it."""
    notes = getattr(error, "__notes__", ())
    return next((note.name for note in notes if isinstance(note, AttributeValidationNote)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole_number(value: Any, _: Any) -> int:
    if _is_number(value) and value == int(value):
        return int(value)
    raise _Misfit("a whole number", value)


def _number(value: Any, _: Any) -> float:
    if _is_number(value):
        return float(value)
    raise _Misfit("a number", value)


def _text(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Misfit("text", value)


def _truth(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _Misfit("true or false", value)


def _choice(value: Any, kind: Any) -> Any:
    if value in (options := get_args(kind)):
        return value
    raise _Misfit(f"one of {', '.join(map(str, options))}", value)


def _mapping(value: Any, _: Any) -> Mapping[str, Any]:
    """A mapping as it is; a name without a value, as YAML has it, is an empty one."""
    if value is None or isinstance(value, dict):
        return value or {}
    raise _Misfit("a mapping of names to values", value)


def _tuple_hook(kind: Any, converter: Converter) -> Any:
    """Converter of a list to a tuple: of one type and any length, or of one type for each place."""
    kinds = get_args(kind)
    any_length = kinds[-1] is Ellipsis
    wanted = "a list" if any_length else f"a list of {len(kinds)} values"

    def convert(value: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not (any_length or len(value) == len(kinds)):
            raise _Misfit(wanted, value)
        return tuple(
            converter.structure(item, inner)
            for item, inner in zip(value, kinds[:1] * len(value) if any_length else kinds, strict=True)
        )

    return convert


def _dataclass_hook(kind: Any, converter: Converter) -> Any:
    """Converter of a mapping to a dataclass; one that is made already passes as it is."""
    from cattrs.gen import make_dict_structure_fn

    from_mapping = make_dict_structure_fn(kind, converter)

    def convert(value: Any, hint: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise _Misfit("a mapping of names to values", value)
        return from_mapping(value, hint)

    return convert


def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(int, _whole_number)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, _truth)
    converter.register_structure_hook_func(lambda kind: get_origin(kind) is Literal, _choice)
    converter.register_structure_hook_func(
        lambda kind: isinstance(origin := get_origin(kind), type) and issubclass(origin, Mapping), _mapping
    )
    converter.register_structure_hook_factory(lambda kind: get_origin(kind) is tuple, _tuple_hook)
    converter.register_structure_hook_factory(is_dataclass, _dataclass_hook)
    return converter


_CONVERTER = _converter()
