"""The papers' protocols on the data sets they were made for, a generator beside the published rows.

python benchmarks/protocols.py echonet-dynamic|camus --data DIR (--generated DIR | --model NAME) -> docs/protocols.md

The document is written only for the whole split of the real data set; anything less is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.progress import Progress, TaskID

import echogen
from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.datasets import camus, echonet_dynamic
from echogen.errors import InputError
from echogen.metrics.evaluation.figures import Row
from echogen.metrics.published.protocol_clips import FolderSource, ModelSource, Source
from echogen.metrics.published.protocols import Judged, judge, published_beside
from echogen.metrics.published.rows import CAMUS, ECHONET, Protocol, protocols_of, rows_of
from echogen.records import Study


class Data:
    """The clips of a protocol's split and view; whole: whether that is all of the real data set."""

    def __init__(self, folder: Path, protocol: Protocol, skip_missing: bool, limit: int | None) -> None:
        self.clips: echonet_dynamic.EchoNetDynamic | camus.Camus
        if protocol.dataset == ECHONET:
            self.clips = echonet_dynamic.EchoNetDynamic(folder, protocol.split, skip_missing=skip_missing)
            complete = echonet_dynamic.COMPLETE[protocol.split]
        else:
            self.clips = camus.Camus(folder, protocol.split, views=(protocol.view,), skip_missing=skip_missing)
            complete = camus.COMPLETE[protocol.split]
        self.count = min(limit or len(self.clips), len(self.clips))
        self.whole = self.count == complete

    def __iter__(self) -> Iterator[tuple[str, Study]]:
        return ((name, self.clips[index]) for index, name in enumerate(self.clips.names[: self.count]))


def number(value: float) -> str:
    return "" if value != value else f"{value:.4g}"


def cell(row: Row | None) -> str:
    if row is None or row.value != row.value:
        return ""
    return number(row.value) + ("" if row.low != row.low else f" ({number(row.low)}..{number(row.high)})")


def described(judged: Judged, who: str) -> str:
    """A table: the generator, truth and control, then the published rows; a column for each figure."""
    figures = judged.figures
    header = ["", "data", *(name if figure.unit == "1" else f"{name}, {figure.unit}" for name, figure in figures.items())]
    own = [f"{cell(f.generated)}, n {f.generated.n}" if cell(f.generated) else "not measured" for f in figures.values()]
    lines = [
        [f"**{who}**", judged.protocol.dataset, *own],
        ["truth (real clips)", judged.protocol.dataset, *(cell(figure.truth) for figure in figures.values())],
        ["control (another real clip)", judged.protocol.dataset, *(cell(figure.control) for figure in figures.values())],
    ]
    for row in rows_of(judged.protocol):
        values = published_beside(judged, row.values)
        method = f"{row.method}, {row.condition}" if row.condition else row.method
        lines.append([method, row.data, *(number(values.get(name, float("nan"))) for name in figures)])
    cut = judged.protocol.cut
    how = (
        f"Split {judged.protocol.split}, {judged.protocol.view}; {judged.n} clips, {len(judged.left_out)} left out (no generated "
        f"clip, or no sector found). {cut.frames} frames at {cut.fps or 'their own'} fps, {cut.size} x {cut.size} pixels"
        + (f", with a black border {cut.border} x {cut.border}" if cut.border else "")
        + (f"; {judged.protocol.samples} samples a clip" if judged.protocol.samples > 1 else "")
        + ("; as the paper's script does it." if judged.as_published else ".")
    )
    notes = [f"{name}: {figure.note}" for name, figure in figures.items() if figure.note]
    return table(header, lines) + "\n" + "\n\n".join(filter(None, [how, judged.protocol.unstated, *notes])) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=[ECHONET, CAMUS])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set as it was downloaded")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--generated", type=Path, help="folder of videos NAME.npz (.mp4 .avi .gif), NAME as in the data set")
    source.add_argument("--model", help="name or folder of a generator")
    parser.add_argument("--as-published", action="store_true", help="with what the papers' scripts do besides")
    parser.add_argument("--sam2", type=Path, help="folder of SAM 2 for EF by area")
    parser.add_argument("--only", help="protocols to run, by name, with commas between them")
    parser.add_argument("--limit", type=int, help="the first clips only")
    parser.add_argument("--skip-missing", action="store_true", help="leave out clips that the data set lists but does not hold")
    parser.add_argument("--keep", type=Path, help="folder in which --model keeps its clips, to go on from there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def _advance(progress: Progress, bar: TaskID, done: int) -> None:
    progress.update(bar, completed=done)


def run(options: argparse.Namespace, keep: Path) -> None:
    chosen = protocols_of(options.dataset)
    if options.only:
        names = options.only.split(",")
        if unknown := set(names) - {protocol.name for protocol in chosen}:
            known = ", ".join(protocol.name for protocol in chosen)
            raise InputError(f"There is no protocol {sorted(unknown)[0]!r} for {options.dataset}; known are {known}.")
        chosen = [protocol for protocol in chosen if protocol.name in names]
    documents = []
    for protocol in chosen:
        data = Data(options.data, protocol, options.skip_missing, options.limit)
        source: Source
        if options.generated:
            source, who = FolderSource(options.generated), options.generated.name
        else:
            generator = echogen.Generator.from_pretrained(options.model)
            source, who = ModelSource(generator, keep, options.seed), f"{generator.name} ({generator.weights_hash})"
            if protocol.task == "reconstruction":
                print(f"{protocol.table}: left out; it judges clips that a tokenizer made, name their folder with --generated.")
                continue
        with Progress(transient=True) as progress:
            bar = progress.add_task(protocol.name, total=data.count)
            judged = judge(
                protocol,
                data,
                source,
                as_published=options.as_published,
                sam2=options.sam2,
                progress=partial(_advance, progress, bar),
            )
        title = protocol.table + (", as published" if options.as_published else "")
        text = described(judged, who)
        if options.model:
            text += (
                "\nThe data set holds no ECG: the generator was given the first frame, the EF, and a simulated steady sinus "
                "rhythm of the real heart's rate and phase. Both clips are compared in the sector of the first frame.\n"
            )
        print(f"## {title}\n\n{text}")
        if data.whole:
            write_section(DOCS / "protocols.md", title, text + f"\nCommand: `python {' '.join(sys.argv)}`.\n")
        documents.append(judged.to_json())
    if options.json:
        options.json.write_text(json.dumps(documents, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    options = arguments()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.keep or Path(temporary))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
