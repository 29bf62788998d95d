"""The command line: one verb a file in `commands`; here they are joined, and a user's mistake becomes one sentence."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from echogen.commands.adapt import adapt
from echogen.commands.assemble import assemble
from echogen.commands.bench import bench
from echogen.commands.benchmark import benchmark
from echogen.commands.blind_test import blind_test
from echogen.commands.calibrate import calibrate
from echogen.commands.clean import clean
from echogen.commands.ecg import ecg
from echogen.commands.evaluate import evaluate
from echogen.commands.generate import generate
from echogen.commands.import_weights import import_weights
from echogen.commands.info import info
from echogen.commands.list import list_known
from echogen.commands.measure import measure
from echogen.commands.pair import pair
from echogen.commands.prepare import prepare
from echogen.commands.render import render
from echogen.commands.serve import serve
from echogen.commands.simulate import simulate
from echogen.commands.train import train
from echogen.errors import InputError

app = typer.Typer(
    name="echogen",
    help="Echocardiogram video from an electrocardiogram, and measurements of what was made. Not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _verb in (generate, simulate, measure, evaluate, blind_test, serve, info, ecg, prepare, pair, train, adapt):
    app.command()(_verb)
app.command()(import_weights)
app.command()(bench)
app.command("list")(list_known)
app.command()(render)
app.command()(assemble)
app.command()(calibrate)
app.command()(clean)
app.command()(benchmark)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"echogen {version('echogen')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Only there to hold the options that come before a verb."""


def main() -> None:
    """Run the command line; exit code 2 and one plain sentence for a user's mistake, ECHOGEN_DEBUG=1 for a traceback."""
    debug = bool(os.environ.get("ECHOGEN_DEBUG"))
    if not debug:
        warnings.simplefilter("ignore")
        logging.basicConfig(level=logging.ERROR, format="%(message)s")
        logging.getLogger("echogen").setLevel(logging.INFO)
    try:
        app()
    except Exception as error:
        if debug:
            raise
        sentence, code = _explain(error)
        sys.stderr.write(sentence + "\n")
        sys.exit(code)


def _explain(error: Exception) -> tuple[str, int]:
    """The sentence for an exception, and the exit code: 2 for a user's mistake, 1 for ours."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.", 2
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"Something went wrong inside echogen ({what}); run it again with ECHOGEN_DEBUG=1 to see where, and report that.", 1
