"""The examples in the docstrings of the public names run as they are printed."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

import echogen

#: Names whose docstrings need no example: records and the error; they are used in the examples of the others.
PLAIN = {"Beat", "Cine", "Conditions", "Ecg", "InputError", "Study"}


@pytest.mark.parametrize("name", echogen.__all__)
def test_the_example_of_a_public_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = getattr(echogen, name)
    monkeypatch.chdir(tmp_path)  # examples write into the folder they run in
    # Methods may have examples, too; of a class all are run.
    found = [test for test in doctest.DocTestFinder(recurse=inspect.isclass(thing)).find(thing, name) if test.examples]
    assert found or name in PLAIN, f"the docstring of echogen.{name} has no example"
    for test in found:
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
        assert result.failed == 0, f"the example of {test.name} does not give what it says; see the output"
