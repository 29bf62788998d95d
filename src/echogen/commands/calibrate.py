"""`echogen calibrate`: last step of training, which brings the EF and the end-systole of videos to those asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import progress_bar


def calibrate(
    generator: Annotated[Path, typer.Argument(metavar="GENERATOR", help="The folder of a generator that was trained.")],
    hearts: Annotated[
        int, typer.Option("--hearts", min=1, metavar="N", help="Simulated hearts whose EF is measured, at five EFs each.")
    ] = 96,
    es_hearts: Annotated[
        int,
        typer.Option(
            "--es-hearts", min=1, metavar="N", help="Simulated hearts whose end-systoles are timed, where there is an ECG."
        ),
    ] = 24,
    processes: Annotated[int, typer.Option("--processes", min=1, metavar="N", help="Of ECHOPulse alone.")] = 1,
) -> None:
    """Measure the EF of a generator's videos for each EF that it is given, and write the correction into its folder.

    The hearts are simulated ones of seeds 60,000 and up: no training uses them, and no figure of EF or timing is of them.
    """
    from echogen.calibration import calibrate as run

    with progress_bar("calibrating") as progress:
        found = run(generator, hearts=hearts, es_hearts=es_hearts, processes=processes, progress=progress)
    pairs = ", ".join(f"{measured:g} % for {given:g} %" for given, measured in found.ef_pairs)
    late = ""
    if found.ahead_s is not None:
        late = f"; end-systole came {abs(1000 * found.ahead_s):.0f} ms {'late' if found.ahead_s > 0 else 'early'}"
    typer.echo(f"Calibrated {generator}: its videos have an EF of {pairs} given{late}.")
