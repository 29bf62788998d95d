"""`echogen blind-test`: readers tell real from generated clips on a page; the report says how well they could."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echogen.commands.common import check_folder, check_fps, check_output, progress_bar, write_json
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.app.blind_test.session import BlindTest, Plan


def blind_test(
    real: Annotated[Path | None, typer.Option("--real", metavar="DIR", help="Real clips.")] = None,
    generated: Annotated[Path | None, typer.Option("--generated", metavar="DIR", help="Generated clips.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="ANSWERS_DIR", help="Folder for the answers; a test in it is gone on with."),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Different clips, half of them real.")] = 40,
    repeats: Annotated[int, typer.Option("--repeats", help="How many of them are shown a second time, half of them real.")] = 4,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each clip.")] = 3.0,
    size: Annotated[int, typer.Option("--size", help="Rows and columns of each clip in pixels.")] = 128,
    whole: Annotated[bool, typer.Option("--whole", help="Show whole pictures, not only the sector.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses the clips and their order.")] = 0,
    fps: Annotated[
        float | None, typer.Option("--fps", metavar="HZ", help="Frames per second of the real clips, instead of what they state.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Any other than this machine needs --token.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option("--token", metavar="WORD", help="Only who opens the page with this word takes part.")
    ] = None,
    show_result: Annotated[bool, typer.Option("--show-result", help="Tell readers at the end how many they got right.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="ANSWERS_DIR", help="Report what readers answered; no page.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report to this .json file.")] = None,
) -> None:
    """Show real and generated clips to readers on a page of this machine, or report what they answered.

    The clips are made alike: same length, size, frame rate, encoding and number of bytes, names that tell nothing. A reader says
    real or generated, how sure (1..5) and grades the picture (1..5), by keys or touch, and can stop and come back.

    The report has accuracy, sensitivity (generated clips called generated), specificity, d', agreement between readers and of
    each with himself, confidence, quality and time, with 95 % intervals. Its JSON file has readers, pooled, between_readers and
    clips; figures have value, low, high and n.
    """
    if report is not None:
        if real is not None or generated is not None or output is not None:
            raise InputError("--report shows no clips; leave out --real, --generated and -o.")
        _report(report, json)
        return
    if real is None or generated is None or output is None:
        raise InputError("Give --real and --generated clips and a folder for the answers with -o, or --report with that folder.")
    if json is not None:
        raise InputError("--json belongs to --report; leave it out.")
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise InputError("The page needs fastapi and uvicorn, which are not installed; run: pip install 'echogen[serve]'.")
    check_fps(fps)
    from echogen.app.blind_test.session import Plan

    plan = Plan(str(real.resolve()), str(generated.resolve()), count, repeats, seconds, size, whole, seed, fps)
    _serve(plan, output, host, port, token, show_result)


def _serve(plan: Plan, output: Path, host: str, port: int, token: str | None, show_result: bool) -> None:
    check_folder(output if output.is_dir() else output.parent)
    from echogen.app.blind_test.server import Desk, create_app
    from echogen.app.page import address_of, allowed_hosts, listen, serve

    hosts = allowed_hosts(host, token)
    waiting = listen(host, port)
    with waiting:
        test, videos = _prepared(plan, output)
        address = address_of(waiting, host, token)
        app = create_app(Desk(test, videos, output, show_result=show_result), token=token, allowed_hosts=hosts)
        with contextlib.suppress(KeyboardInterrupt):
            serve(app, waiting, lambda: typer.echo(f"The blind test is at {address} until Ctrl-C; answers go to {output}."))


def _prepared(plan: Plan, output: Path) -> tuple[BlindTest, tuple[bytes, ...]]:
    """The test of the folder, set up now or earlier, and its clips as the page gets them."""
    from echogen.app.blind_test.clips import encoded_clips, set_up
    from echogen.app.blind_test.session import TEST_FILE, check_same_plan, read_test

    test = read_test(output)
    if test is not None:
        check_same_plan(test, plan)
    with progress_bar("preparing clips") as progress:
        notes: list[str] = []
        found = test
        if found is None:
            found, notes = set_up(plan, progress)
        videos = encoded_clips(found, progress)
    for note in notes:
        typer.echo(f"Note: {note}", err=True)
    if test is None:
        output.mkdir(exist_ok=True)
        write_json(output / TEST_FILE, found.to_json())
    return found, videos


def _report(folder: Path, json: Path | None) -> None:
    if json is not None:
        check_output(json, (".json",))
    from echogen.app.blind_test.report import read_all_answers
    from echogen.app.blind_test.report import report as figures_of

    found = figures_of(read_all_answers(folder))
    if json is not None:
        write_json(json, found)
    _print(found)


def _figure(row: dict[str, Any], percent: bool = True) -> str:
    """A figure with its interval, as a table shows it."""

    def number(value: float | None) -> str:
        return "-" if value is None or value != value else f"{100 * value:.0f}" if percent else f"{value:.2f}"

    interval = "" if row["low"] is None else f" ({number(row['low'])}..{number(row['high'])})"
    return number(row["value"]) + interval


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("reader", "clips", "accuracy %", "p", "sensitivity %", "specificity %", box=None, padding=(0, 2, 0, 0))
    for name, figures in [*found["readers"].items(), ("all", found["pooled"])]:
        p = figures["accuracy"].get("p_against_chance")
        p_text = "" if p is None else "-" if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"
        shares = [_figure(figures[key]) for key in ("accuracy", "sensitivity", "specificity")]
        table.add_row(name, str(figures["accuracy"]["n"]), shares[0], p_text, *shares[1:])
    console.print(table)
    for name, figures in found["readers"].items():
        own, prime = figures["with_oneself"]["kappa"], _figure(figures["d_prime"], percent=False)
        console.print(
            f"{name}: d' {prime}, kappa with oneself {_figure(own, percent=False)} on {own['n']} clips.", soft_wrap=True
        )
    pooled = found["pooled"]
    for pair in found["between_readers"]["pairs"]:
        one, other = pair["readers"]
        agreed = f"agree on {_figure(pair['agreement'])} % of {pair['agreement']['n']} clips"
        console.print(f"{one} and {other} {agreed}, kappa {_figure(pair['kappa'], False)}.", soft_wrap=True)
    if len(found["readers"]) > 2:
        fleiss = found["between_readers"]["fleiss_kappa"]
        console.print(f"All readers: Fleiss' kappa {_figure(fleiss, False)} on {fleiss['n']} clips.", soft_wrap=True)
    confidence, quality = pooled["confidence"], pooled["quality"]
    sure, unsure = (_figure(confidence[key], percent=False) for key in ("right", "wrong"))
    good, made = (_figure(quality[key], percent=False) for key in ("real", "generated"))
    console.print(f"Confidence (1..5) of right answers {sure}, of wrong ones {unsure}.", soft_wrap=True)
    console.print(f"Quality (1..5) of real clips {good}, of generated ones {made}.", soft_wrap=True)
    console.print(f"Seconds a clip: {_figure(pooled['seconds'], percent=False)}.")
    telling = [row["clip"] for row in found["clips"] if row["p_adjusted"] < 0.05]
    if telling:
        console.print(f"Told better or worse than by chance (Holm): {', '.join(telling)}.", soft_wrap=True)
