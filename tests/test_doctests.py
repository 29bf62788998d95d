"""The examples in the docstrings of the public names run as they are printed."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import echogen
from echogen.generators.video_generator import VideoGenerator

#: Names whose docstrings need no example: they are used in the examples of the others.
PLAIN = {"Beat", "InputError", "Study"}
#: The public names, and the class whose call every generator shares.
THINGS = {name: getattr(echogen, name) for name in echogen.__all__} | {"VideoGenerator": VideoGenerator}


@pytest.mark.parametrize("name", THINGS)
def test_the_example_of_a_public_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thing = THINGS[name]
    monkeypatch.chdir(tmp_path)  # examples write into the folder they run in
    # Methods may have examples, too; of a class all are run.
    found = [test for test in doctest.DocTestFinder(recurse=inspect.isclass(thing)).find(thing, name) if test.examples]
    assert found or name in PLAIN, f"the docstring of echogen.{name} has no example"
    for test in found:
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test)
        assert result.failed == 0, f"the example of {test.name} does not give what it says; see the output"


@pytest.mark.parametrize("module", ["echogen.records", "echogen.generators.video_generator"])
def test_the_examples_of_a_module_run(module: str) -> None:
    failed, tried = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0
