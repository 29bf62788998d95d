"""Comparison of echogen's networks with recorded outputs of the released ones.

Usage: python -m echogen.checkpoints.verify DIR [--only PREFIX ...]. DIR holds manifest.json, the weights (*.safetensors),
one .npz file for each recorded component, and lists of the names in whole released files (full_keys_*.json).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from echogen.checkpoints.comparison import Check, Comparison
from echogen.errors import InputError

#: File that describes the recorded components and the weights.
MANIFEST = "manifest.json"
#: Modules beside this one that hold `CHECKS`, one a system.
SYSTEMS = ("echopulse", "st_mem", "ef_regressor", "echodiffusion", "full_keys")
#: Patterns of the names of recorded components; all other files in the folder are weights or descriptions.
RECORDED = ("*.npz", "*.io.safetensors", "full_keys_*.json")


@dataclass(frozen=True)
class Verified:
    """Outcome of one recorded file.

    file: Name of the file.
    comparisons: Comparison of each output; empty where the check failed to run.
    error: Sentence about the failure; None without one.
    """

    file: str
    comparisons: tuple[Comparison, ...] = ()
    error: str | None = None

    @property
    def passes(self) -> bool:
        """True if something was compared and all of it is within its tolerance."""
        return self.error is None and bool(self.comparisons) and all(each.passes for each in self.comparisons)


def known_checks() -> dict[str, Check]:
    """Checks of all systems, by the prefix of the file names that each one reads."""
    checks: dict[str, Check] = {}
    for system in SYSTEMS:
        checks |= import_module(f"echogen.checkpoints.{system}").CHECKS
    return checks


def check_for(file: str, checks: Mapping[str, Check]) -> Check | None:
    """Check with the longest prefix of a file's name; None without one."""
    fitting = [prefix for prefix in checks if file.startswith(prefix)]
    return checks[max(fitting, key=len)] if fitting else None


def verify(folder: str | Path, only: Sequence[str] = (), checks: Mapping[str, Check] | None = None) -> list[Verified]:
    """Compare every recorded component of a folder with echogen's network, in the order of their names.

    folder: Folder of records; if they are .io.safetensors files, it has a description beside each instead of manifest.json.
    only: Beginnings of the names of files to keep; empty keeps all.
    checks: Check by prefix of the file name; None takes `known_checks`.

    A component that fails to run has an error sentence as its outcome and does not stop the others.
    Raises `InputError` for a folder that is missing or holds no recorded components.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give one with recorded components and their {MANIFEST}.")
    files = sorted(path for pattern in RECORDED for path in folder.glob(pattern) if path.is_file())
    if not any(path.suffix == ".safetensors" for path in files):
        _read_manifest(folder)
    checks = known_checks() if checks is None else checks
    return [_run(path, check_for(path.name, checks)) for path in files if not only or path.name.startswith(tuple(only))]


def _read_manifest(folder: Path) -> None:
    """Raise `InputError` for a folder whose manifest.json is missing or no JSON."""
    try:
        json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The folder {folder} has no {MANIFEST} that can be read; give one with recorded components.") from error
    except ValueError as error:
        raise InputError(f"{folder / MANIFEST} is not valid JSON; get the folder again.") from error


def _run(path: Path, check: Check | None) -> Verified:
    if check is None:
        return Verified(path.name, error="components of this kind are not supported")
    try:
        comparisons = tuple(check(path))
    except InputError as error:
        return Verified(path.name, error=str(error))
    except Exception as error:  # a damaged or foreign file can raise anything; the other checks still run
        return Verified(path.name, error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return Verified(path.name, comparisons, None if comparisons else "nothing was compared")


def table(results: Sequence[Verified]) -> str:
    """Make a table with a line for each output of each component: largest error, tolerance and verdict."""
    rows = [("component", "output", "error", "tolerance", "")]
    for result in results:
        rows += [
            (result.file, each.name, f"{each.error:.3g}", f"{each.tolerance:.3g}", "ok" if each.passes else "ABOVE TOLERANCE")
            for each in result.comparisons
        ]
        if result.error is not None:
            rows.append((result.file, "", "", "", f"FAILED: {result.error}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a folder and print the table; 0 if all is within tolerance, 1 if not, 2 for a folder that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m echogen.checkpoints.verify", description="Our networks on recorded outputs.")
    parser.add_argument("folder", metavar="DIR", help="folder with manifest.json, weights and recorded .npz components")
    parser.add_argument(
        "--only", metavar="PREFIX", nargs="+", action="extend", default=[], help="only files whose names begin so"
    )
    asked = parser.parse_args(arguments)
    try:
        results = verify(asked.folder, asked.only)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not results:
        sys.stderr.write(f"Nothing in {asked.folder} was there to check.\n")
        return 1
    failed = [result.file for result in results if not result.passes]
    outputs = sum(len(result.comparisons) for result in results)
    sys.stdout.write(f"{table(results)}\n\n{len(results)} components, {outputs} outputs: ")
    sys.stdout.write(f"{len(failed)} failed ({', '.join(failed)}).\n" if failed else "all within tolerance.\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
