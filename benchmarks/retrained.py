"""Networks trained otherwise, each for the same few minutes of one core: python benchmarks/retrained.py -> docs/ablations.md.

Simulates --clips clips, trains every row in --work (a row that is done is not trained again), then judges what each draws of
held-out hearts. --minutes: of training, a row. --drawn: clips that the decoders draw.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

import echogen
from common import DOCS, arguments, save_picture
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import render_clips
from echogen.datasets.held_out import held_out
from echogen.generators import EchoPulse
from echogen.networks.config import load_network, save_network
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.networks.video_tokenizer import VideoTokenizer
from redrawing import HEADER, Redrawn, redraw
from variants import FIRST_SEED, QUALITY, SECONDS, Cache, Variant, judged_by, quality_rows

LATENTS = 9
#: Of parallel decoding: without a student, whose changes fit one transformer only.
STEPS = 10
#: Of a clip that decoders draw: its seconds, which frame is shown, and of how many hearts.
DRAWN_S, SHOWN_FRAME, PICTURED = 65 / 32, 24, 2


@dataclass(frozen=True)
class Row:
    """One run: what the table calls it, its recipe and changes to it, and the folder of a run that must come before."""

    name: str
    title: str
    recipe: str
    changes: tuple[str, ...] = ()
    begins_with: str = ""


TRANSFORMER, TOKENIZER, DECODER = "phantom-128-transformer", "phantom-128-tokenizer", "phantom-128-decoder"
WIDTHS = [
    Row("width-128", "width 128", TRANSFORMER, ("network.dim=128", "network.heads=2")),
    Row("width-256", "width 256, as it ships", TRANSFORMER),
    Row("width-384", "width 384", TRANSFORMER, ("network.dim=384", "network.heads=6")),
]
GROUPS = [
    row
    for groups, said in ((1, "one group of codes"), (2, "two groups of codes"))
    for row in (
        Row(f"codes-{groups}", said, TOKENIZER, (f"init_from=WORK/start-{groups}",)),
        Row(
            f"groups-{groups}",
            said,
            TRANSFORMER,
            (
                f"init_from=WORK/start-{groups}",
                f"data.tokenizer=WORK/codes-{groups}/weights/tokenizer",
                f"data.cache=WORK/ids-{groups}",
            ),
            f"codes-{groups}",
        ),
    )
]

SPECKLED = ("data.frames=17", "options.speckle=true")
JUDGED = (
    "options.adversarial=1",
    "options.gradient_penalty=0",
    "options.looked_at=1",
    "options.discriminator={widths: [16, 32, 64, 64], attention_after: [], learning_rate_share: 1.0}",
)
DRAWINGS = [
    Row("speckle-plain", "the decoder draws speckle", DECODER, SPECKLED),
    Row("speckle-gan", "the same, with a GAN of frames", DECODER, (*SPECKLED, *JUDGED)),
    Row("speckle-noise-gan", "the same, with noise as an input, too", DECODER, (*SPECKLED, *JUDGED, "network.noise_channels=8")),
]


def generator(name: str = "phantom-128") -> EchoPulse:
    """The default generator, or one from a folder."""
    heart = echogen.Generator.from_pretrained(name, "cpu")
    assert isinstance(heart, EchoPulse)
    return heart


def fresh_codes(folder: Path, groups: int) -> None:
    """Write the shipped tokenizer and transformer with so many groups of codes, which nobody has learned yet."""
    heart = generator()
    codes = heart.tokenizer.config
    tokenizer = VideoTokenizer(replace(codes, quantizer=replace(codes.quantizer, groups=groups)))
    transformer = MaskedTransformer(replace(heart.transformer.config, groups=groups, max_latents=LATENTS))
    _take_over(tokenizer, heart.tokenizer, ("quantizer.",))
    _take_over(transformer, heart.transformer, ("embed.", "head."))
    save_network(tokenizer, folder / "tokenizer")
    save_network(transformer, folder / "transformer")


def _take_over(network: nn.Module, known: nn.Module, without: tuple[str, ...]) -> None:
    """Weights of a network that is known, but for some."""
    taken = {name: weight for name, weight in known.state_dict().items() if not name.startswith(without)}
    network.load_state_dict({**network.state_dict(), **taken})


def train(row: Row, work: Path, minutes: float) -> None:
    """Train a row on one core, unless it is done."""
    folder = work / row.name
    if (folder / "weights").is_dir():
        return
    settings = [f"minutes={minutes}", "warmup_steps=100", "sample_every=0", "save_every=100000", f"data.source={work / 'clips'}"]
    if row.recipe == TRANSFORMER:
        settings += [f"data.latents={LATENTS}", f"data.tokenizer={generator().folder}/tokenizer", f"data.cache={work / 'ids'}"]
    settings += [change.replace("WORK", str(work)) for change in row.changes]
    command = [sys.executable, "-c", "from echogen.cli import main; main()", "train", row.recipe, "-o", str(folder)]
    command += [part for setting in settings for part in ("--set", setting)]
    with (work / f"{row.name}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def chain(rows: Sequence[Row], work: Path, minutes: float) -> None:
    """Train rows one after the other, so that each finds what it begins with."""
    for row in rows:
        train(row, work, minutes)


def last_logged(row: Row, work: Path) -> dict[str, float]:
    """The last line of a run's log."""
    with (work / row.name / "metrics.csv").open() as file:
        return {name: float(value) for name, value in list(csv.DictReader(file))[-1].items() if value}


def joined(row: Row, work: Path) -> Path:
    """The folder of a generator with the row's transformer, and with its tokenizer where it has codes of its own."""
    heart, folder = generator(), work / "joined" / row.name
    transformer = load_network(MaskedTransformer, work / row.name / "weights" / "transformer")
    tokenizer = heart.tokenizer
    if row.begins_with:
        tokenizer = load_network(VideoTokenizer, work / row.begins_with / "weights" / "tokenizer")
    EchoPulse(replace(heart.config, latents=LATENTS, steps=STEPS), tokenizer, transformer, heart.device).save_pretrained(folder)
    return folder


def beating(rows: Sequence[Row], work: Path, hearts: int) -> str:
    """The table of generators: what each cost to train, and how its videos of held-out hearts are."""
    heart = generator()
    asked = replace(heart.config, latents=LATENTS, steps=STEPS)
    whole = Variant(("as shipped, trained for longer",), asked, without=("student",))
    cache = Cache(work / f"{heart.weights_hash}.jsonl")
    found = judged_by("phantom-128", [None, whole], hearts, cache, float("inf"), 2)
    cells = [[*row[:1], *[""] * 4, *row[1:]] for row in quality_rows({"truth": [], **found}, [whole])]
    cells[1][1] = million(heart.transformer)
    for row in rows:
        model = generator(str(joined(row, work)))
        variant = Variant((row.title,), asked)
        judged = judged_by(str(model.folder), [variant], hearts, Cache(work / f"{model.weights_hash}.jsonl"), float("inf"), 2)
        (line,) = quality_rows({"truth": [], **judged}, [variant])
        log, groups = last_logged(row, work), model.transformer.config.groups
        cost = [million(model.transformer), f"{log['step']:.0f}", f"{log['seconds'] / log['step']:.1f}"]
        cells.append([row.title, *cost, f"{groups * log['tokens']:.2f}", *line[1:]])
    return table(["generator", "million weights", "steps", "s a step", "loss, nats a position", *QUALITY], cells)


def million(network: nn.Module) -> str:
    """How many weights."""
    return f"{sum(weight.numel() for weight in network.parameters()) / 1e6:.1f}"


def drawing(rows: Sequence[Row], work: Path, clips: int) -> str:
    """The table of tokenizers, and a picture: the same frame of each, after the true one."""
    heart = generator()
    ways: dict[str, tuple[VideoTokenizer, bool]] = {"as shipped: speckle of its own layer": (heart.tokenizer, False)}
    for row in rows:
        ways[row.title] = load_network(VideoTokenizer, work / row.name / "weights" / "tokenizer").eval(), row in DRAWINGS
    told = {name: Redrawn() for name in ["truth", *ways]}
    strips = []
    for seed in range(FIRST_SEED, FIRST_SEED + clips):
        case = held_out(seed, DRAWN_S)
        told["truth"].add(case.cine.frames, case)
        shown = [case.cine.frames]
        for name, (tokenizer, own) in ways.items():
            shown.append(redraw(told[name], tokenizer, heart, case, own))
        if len(strips) < PICTURED:
            strips.append(np.hstack([frames[SHOWN_FRAME] for frames in shown]))
    save_picture(np.vstack(strips), DOCS / "images" / "drawn-speckle.webp")
    return table(["through", *HEADER], [[name, *redrawn.cells()] for name, redrawn in told.items()])


def main() -> None:
    options = arguments(__doc__ or "", minutes=15.0, clips=800, hearts=12, drawn=12, work="runs/retrained")
    work = Path(options.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "clips").is_dir():
        render_clips(work / "clips", options.clips)
    for groups in (1, 2):
        if not (work / f"start-{groups}").is_dir():
            fresh_codes(work / f"start-{groups}", groups)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(chain, (WIDTHS + DRAWINGS[:2], GROUPS + DRAWINGS[2:]), (work, work), (options.minutes, options.minutes)))
    command = f"`python benchmarks/retrained.py --minutes {options.minutes:g}`"
    same = f"Every row was trained for {options.minutes:g} minutes on one core, on the same {options.clips} clips"
    generators = beating([row for row in WIDTHS + GROUPS if row.recipe == TRANSFORMER], work, options.hearts)
    note = (
        f"{same}: far less than the shipped weights had, so rows compare with one another only. Width: of the transformer, "
        "from nothing, on the shipped codes. Groups: tokenizer and transformer, each for that time, from the shipped weights but "
        f"for the codes, which are new. Windows of {LATENTS} latents, {STEPS} steps, no student; {options.hearts} held-out "
        f"hearts (seeds {FIRST_SEED}..) of {SECONDS:g} s; columns as above. The loss compares rows with the same codes only. "
        f"Command: {command}.\n\n"
    )
    write_section(DOCS / "ablations.md", "Networks trained otherwise", note + generators)
    decoders = drawing([row for row in GROUPS if row.recipe == TOKENIZER] + DRAWINGS, work, options.drawn)
    note = (
        f"{same}: with new codes, or the shipped decoder on the shipped codes, which then draws speckle itself; {options.drawn} "
        f"held-out clips (seeds {FIRST_SEED}..) of {DRAWN_S:.0f} s through codes and back. Speckle: width of its autocorrelation "
        f"and contrast in the myocardium, and its correlation from frame to frame. Command: {command}.\n\n"
    )
    picture = (
        f"![A frame, drawn]({Path('images') / 'drawn-speckle.webp'})\n\nA frame of two hearts: true, then as in the table.\n"
    )
    write_section(DOCS / "ablations.md", "Other codes, and decoders that draw speckle", f"{note}{decoders}\n{picture}")
    print(generators, decoders, sep="\n")


if __name__ == "__main__":
    main()
