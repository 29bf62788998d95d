"""`echogen list`: generators, data sets, metrics, tasks, ECG readers, importers and recipes that can be used here."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import check_output, json_text, write_json
from echogen.errors import InputError
from echogen.registry import BUILT_IN, Listing, Registry

#: Registry of each kind, as "module:attribute", imported when it is listed.
REGISTRIES = {
    "generators": "echogen.generators.loading:GENERATORS",
    "datasets": "echogen.datasets.registry:DATASETS",
    "metrics": "echogen.metrics.evaluation.registry:METRICS",
    "tasks": "echogen.training.tasks:TASKS",
    "ecg-readers": "echogen.ecg.readers:ECG_READERS",
    "importers": "echogen.checkpoints.importers:IMPORTERS",
}


def list_known(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="generators, datasets, metrics, tasks, ecg-readers, importers, recipes or models; all unless stated.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the JSON to this .json file instead.")
    ] = None,
) -> None:
    """List what there is of a kind: names, one line of meaning each, and where it comes from.

    Where it comes from is echogen itself (built in) or an installed package, by name and version. Generators are systems;
    models are their shipped weights, as `generate --model` takes them. The JSON has one list a kind, of objects with name,
    meaning and source.
    """
    kinds: dict[str, Callable[[], list[Listing]]] = {name: _of_registry(place) for name, place in REGISTRIES.items()}
    kinds |= {"recipes": _recipes, "models": _models}
    if kind is not None and kind not in kinds:
        raise InputError(f"Nothing of the kind {kind!r} can be listed; it must be one of {', '.join(kinds)}.")
    if output is not None:
        check_output(output, (".json",))
    found = {name: listing() for name, listing in kinds.items() if kind in (None, name)}
    document = {name: [asdict(one) for one in listing] for name, listing in found.items()}
    if output is not None:
        write_json(output, document)
    elif json:
        typer.echo(json_text(document))
    else:
        _print(found)


def _of_registry(place: str) -> Callable[[], list[Listing]]:
    def listing() -> list[Listing]:
        module, attribute = place.split(":")
        registry: Registry[object] = getattr(import_module(module), attribute)
        return registry.listing()

    return listing


def _recipes() -> list[Listing]:
    """Shipped recipes, each with the first comment line of its file."""
    from echogen.training.recipe import RECIPES

    return [Listing(path.stem, _first_comment(path), BUILT_IN) for path in sorted(RECIPES.glob("*.yaml"))]


def _first_comment(path: Path) -> str:
    """Read the comment at the top of a recipe up to the end of its first sentence, or to a command that it announces."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
        if line.endswith(":"):
            break
    sentence, _, _ = " ".join(lines).partition(". ")
    return sentence.rstrip(".:") + "."


def _models() -> list[Listing]:
    """Shipped generators, each with the system that it is of."""
    from echogen.generators.loading import GENERATOR_FILE, SHIPPED, shipped_generators

    def system(name: str) -> str:
        text = (SHIPPED / name / GENERATOR_FILE).read_text(encoding="utf-8")
        return str(json_format.loads(text)["system"])

    return [Listing(name, f"weights of the generator {system(name)}", BUILT_IN) for name in shipped_generators()]


def _print(found: dict[str, list[Listing]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for kind, listing in found.items():
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column(kind, no_wrap=True)
        table.add_column("meaning")
        table.add_column("from", no_wrap=True)
        for one in listing:
            table.add_row(one.name, Text(one.meaning), one.source)
        console.print(table)
