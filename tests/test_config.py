"""The reader of settings: what becomes of plain values, and how mistakes are answered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen.config import check_fields, config_from_dict, config_to_dict, field_meanings
from echogen.errors import InputError


@dataclass(frozen=True)
class Inner:
    """Inner settings.

    width: Width in pixels; no other rate_hz: is here.
    rate_hz: Sampling rate in Hz, which may
        take two lines.
    """

    width: int
    rate_hz: float = 2.0


@dataclass(frozen=True)
class Outer:
    """Outer settings, with a colon: this is none.

    name: Name.
    inner, other: Inner settings.

    A paragraph of its own is no part of a meaning.
    """

    name: str
    inner: Inner
    other: Inner | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[Inner, ...] = ()
    on: bool = False
    least: float | None = None
    free: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise InputError("The name must not be bad.")


INNERS = st.builds(Inner, st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
OUTERS = st.builds(
    Outer,
    st.text(max_size=5).filter(lambda text: text != "bad"),
    INNERS,
    st.none() | INNERS,
    st.sampled_from(["a", "b"]),
    st.tuples(st.integers(-9, 9), st.floats(-1, 1)),
    st.lists(INNERS, max_size=3).map(tuple),
    st.booleans(),
    st.none() | st.floats(-1, 1),
    st.dictionaries(st.text(max_size=3), st.integers() | st.none()),
)


@given(OUTERS)
def test_a_config_survives_json(config: Outer) -> None:
    assert config_from_dict(Outer, json.loads(json.dumps(config_to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"nam": "x", "inner": {"width": 1}},
            "The Outer has no setting nam; did you mean name (or the file needs a newer",
        ),
        ({"name": "x"}, "The Outer lacks the setting inner; add it."),
        ({"name": "x", "inner": {}}, "The Outer lacks the setting inner.width; add it."),
        ({"name": "x", "inner": {"width": 1, "rate": 2}}, "The Outer has no setting inner.rate; did you mean inner.rate_hz"),
        ({"name": "x", "inner": {"width": 1.5}}, "The Outer's inner.width must be a whole number, not 1.5."),
        ({"name": "x", "inner": {"width": True}}, "The Outer's inner.width must be a whole number, not True."),
        ({"name": "x", "inner": {"width": "1"}}, "The Outer's inner.width must be a whole number, not '1'."),
        ({"name": "x", "inner": {"width": 1, "rate_hz": math.nan}}, "The Outer's inner.rate_hz must be a number, not nan."),
        ({"name": "x", "inner": 3}, "The Outer's inner must be a mapping of names to values, not 3."),
        ({"name": 1, "inner": {"width": 1}}, "The Outer's name must be text, not 1."),
        ({"name": "x", "inner": {"width": 1}, "kind": "c"}, "The Outer's kind must be one of a, b, not 'c'."),
        ({"name": "x", "inner": {"width": 1}, "pair": [1]}, "The Outer's pair must be a list of 2 values, not [1]."),
        ({"name": "x", "inner": {"width": 1}, "many": "ab"}, "The Outer's many must be a list, not 'ab'."),
        (
            {"name": "x", "inner": {"width": 1}, "many": [{"widt": 1}]},
            "The Outer has no setting many.widt; did you mean many.",
        ),
        ({"name": "x", "inner": {"width": 1}, "on": 1}, "The Outer's on must be true or false, not 1."),
        ({"name": "x", "inner": {"width": 1}, "free": [1]}, "The Outer's free must be a mapping of names to values, not [1]."),
        ({"name": "bad", "inner": {"width": 1}}, "The name must not be bad."),
        (3, "The Outer must be a mapping of names to values, not 3."),
    ],
)
def test_mistakes_are_one_sentence(values: Any, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        config_from_dict(Outer, values)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_the_source_and_the_place_are_named() -> None:
    with pytest.raises(InputError, match=r"^The recipe has no setting n\.inner\.widht; did you mean n\.inner\.width\.$"):
        config_from_dict(Outer, {"name": "x", "inner": {"widht": 1}}, where="n.", source="The recipe")


def test_some_fields_can_be_checked_alone() -> None:
    check_fields(Outer, {"inner": {"rate_hz": 3}, "other": None, "pair": [1, 2]})
    with pytest.raises(InputError, match=r"^The recipe has no setting o\.inner\.rate; did you mean o\.inner\.rate_hz\.$"):
        check_fields(Outer, {"inner": {"rate": 3}}, where="o.")
    with pytest.raises(InputError, match=r"^The recipe's options\.pair must be a whole number, not 1\.5\.$"):
        check_fields(Outer, {"pair": [1.5, 2]}, where="options.")


def test_meanings_come_from_the_docstring() -> None:
    assert field_meanings(Inner) == {
        "width": "Width in pixels; no other rate_hz: is here.",
        "rate_hz": "Sampling rate in Hz, which may take two lines.",
    }
    assert field_meanings(Outer) == {"name": "Name.", "inner": "Inner settings.", "other": "Inner settings."}


def test_a_dataclass_without_docstring_has_no_meanings() -> None:
    @dataclass
    class Bare:
        width: int = 3

    assert field_meanings(Bare) == {}
