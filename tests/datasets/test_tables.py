"""The tables of data sets: any file gives rows or one sentence, and a cell is a number, nothing, or one sentence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echogen import InputError
from echogen.datasets.tables import Row, Source, read_rows

SOURCE = Source("Hearts", "the data are at https://example.org")
CELLS = st.one_of(
    st.floats().map(str),
    st.sampled_from(["", " ", "NaN", "n/a", "None", "-inf", "1e999", "0x1A", "1,5", "No Systolic"]),
    st.text(),
)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: b"name,value\n" + tail)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_rows_or_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    said = ""
    try:
        for row in read_rows(path, ("name", "value"), SOURCE):
            assert isinstance(row.text("name"), str)
            row.number_if_any("value")
    except InputError as error:
        said = str(error)
    assert not said or ("\n" not in said and said.endswith("(the data are at https://example.org)."))


@given(CELLS)
def test_a_cell_is_a_number_nothing_or_one_sentence(cell: str) -> None:
    row = Row({"value": cell}, Path("list.csv"), 7, SOURCE)
    value: float | None = None
    said = ""
    try:
        value = row.number_if_any("value")
    except InputError as error:
        said = str(error)
    if value is None:
        with pytest.raises(InputError, match=r"Line 7 of list\.csv has no number for value; ") as caught:
            row.number("value")
        assert said in ("", str(caught.value))
    else:
        assert math.isfinite(value)
        assert row.number("value") == value


def test_rows_that_are_too_short_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("\ufeffname,value\na\nb,2,3,4\n\nc, 5 \n", encoding="utf-8")
    rows = list(read_rows(path, ("name", "value"), SOURCE))
    assert [(row.text("name"), row.number_if_any("value"), row.line) for row in rows] == [
        ("a", None, 2),
        ("b", 2.0, 3),
        ("c", 5.0, 5),
    ]
    with pytest.raises(InputError, match=r"lacks the column Frame, X"):
        next(read_rows(path, ("name", "Frame", "X"), SOURCE))
    with pytest.raises(InputError, match=r"no other\.csv in .*; name the folder of Hearts \(the data are at"):
        next(read_rows(tmp_path / "other.csv", ("name",), SOURCE))
