"""`echogen evaluate`: figures of generated videos against real ones, each beside the figure of real clips and a control."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echogen.commands.common import check_fps, check_output, progress_bar, write_json

if TYPE_CHECKING:
    from echogen.metrics.evaluation.figures import Row
    from echogen.metrics.evaluation.run import Evaluation


def evaluate(
    real: Annotated[Path, typer.Option("--real", metavar="DIR", help="Videos to compare with, or clips of `simulate`.")],
    generated: Annotated[
        Path, typer.Option("--generated", metavar="DIR", help="Videos to judge, with NAME.json where there is.")
    ],
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="NAME,...",
            help="For example ssim,ef,timing; an unknown name is answered with the list. All that can be had unless stated.",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", metavar="HZ", help="Frames per second of the real videos, if they state it wrongly."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this .json file.")] = None,
) -> None:
    """Judge a folder of generated videos against a folder of real ones.

    Clips of one name belong together; mse, mae, psnr, ssim, lpips, rlvef, ed, es and curve need such pairs, the others compare
    sets. fid between originals and reconstructions is what is called reconstruction FID. What was asked of a clip is read from
    NAME.json beside it: settings.ef_percent, r_s (R peaks in s) and video_start_s.

    The JSON file has one object per figure with value, low, high (95 %) and n; unit; truth (the real clips judged in the same
    way) and control (another clip, shuffled beats or EFs), each null or with value, low, high and n; measuring_error (what the
    segmenter itself gives on clips of known truth); and note. Beside these, clips counts real, generated and paired ones.
    """
    check_fps(fps)
    from echogen.metrics.evaluation.run import chosen_metrics
    from echogen.metrics.evaluation.run import evaluate as judge

    names = None if metrics is None else chosen_metrics(metrics)
    if json is not None:
        check_output(json, (".json",))
    with progress_bar("evaluating") as progress:
        found = judge(real, generated, names, progress, processes=os.cpu_count() or 1, fps=fps)
    if json is not None:
        write_json(json, found.to_json())
    _print(found)


def _print(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    def number(value: float) -> str:
        return "-" if value != value or abs(value) == float("inf") else f"{value:.3g}"

    def row(values: Row | None) -> str:
        return "-" if values is None else number(values.value)

    table = Table("figure", "value", "95 %", "n", "truth", "control", box=None, padding=(0, 2, 0, 0))
    for name, figure in found.figures.items():
        own = figure.generated
        interval = "-" if own.low != own.low else f"{number(own.low)}..{number(own.high)}"
        known_unit = figure.unit == "1" or name.endswith(f"_{figure.unit}")
        label = name if known_unit else f"{name}, {figure.unit}"
        table.add_row(label, number(own.value), interval, str(own.n), row(figure.truth), row(figure.control))
    console = Console()
    console.print(f"{found.n_real} real and {found.n_generated} generated clips, {found.n_paired} of one name.")
    console.print(table)
    for name, figure in found.figures.items():
        if figure.note is not None:
            console.print(f"{name}: {figure.note}", soft_wrap=True)
