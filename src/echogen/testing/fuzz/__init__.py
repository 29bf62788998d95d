"""Files of every format, damage to them, and a check that readers read or refuse each damaged one and do nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType


@dataclass(frozen=True)
class Kind:
    """Kind of files.

    module: its `corpus()` gives the undamaged files by name, its `read(path, **arguments)` reads one.
    title: heading of their table.
    stated: arguments with which half of the damaged files are read.
    """

    module: str
    title: str
    stated: dict[str, float]


KINDS = {
    "ecg": Kind("echogen.testing.fuzz.ecg_files", "ECG files", {"rate_hz": 250.0}),
    "echo": Kind("echogen.testing.fuzz.echo_files", "Echo files and shards", {"fps": 25.0}),
}


def corpus_module(kind: str) -> ModuleType:
    """Module of a kind, imported when it is asked for: a worker of little memory imports one only."""
    return import_module(KINDS[kind].module)
