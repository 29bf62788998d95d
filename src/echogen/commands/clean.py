"""`echogen clean`: echo files without what tells whose heart they show."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from echogen.commands.common import EchoRate, check_folder, check_fps, progress_bar, write_json
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.app.cleaning import Cleaned, Plan

#: Files of a cleaned folder: the report as data and as a page to sign; and, until the end, how far the work has come.
REPORT, PAGE, UNFINISHED = "report.json", "report.md", ".unfinished.jsonl"


def clean(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="An echo file, or a folder of them, looked through to the end.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder that gets the cleaned files.")],
    format: Annotated[
        Literal["dcm", "npz", "mp4", "avi"], typer.Option("--format", help="dcm and npz keep the sector's pixels exactly.")
    ] = "dcm",
    keep_dates: Annotated[
        bool, typer.Option("--keep-dates", help="Keep the time between a patient's studies; all dates move by the same days.")
    ] = False,
    link: Annotated[
        Path | None,
        typer.Option("--link", metavar="FILE.json", help="Keep here, never beside the files, which source became which."),
    ] = None,
    fps: EchoRate = None,
) -> None:
    """Cut echo files to their sector and take out what tells whose heart they show.

    What is kept: the pixels of the sector, frame times, pixel size, view, the ECG on the same clock (a waveform, a file beside
    the video, or the one drawn into the picture), and the maker if it is a known one. The rest of the header is not copied. A run
    that was stopped goes on when it is started again. Look at the pictures before you share any: the report lists those in doubt.
    """
    check_fps(fps)
    if not study.exists():
        raise InputError(f"There is no file or folder {study}; check its name.")
    _check_places(study, output, link)
    from echogen.app.cleaning import Plan
    from echogen.cine.reading import holds_pictures

    files = _files(study, holds_pictures)
    state, done = _begin(output, link, {"format": format, "keep_dates": keep_dates, "fps": fps})
    plan = Plan(bytes.fromhex(state["secret"]), format, keep_dates, fps)
    with progress_bar("cleaning") as progress, (output / UNFINISHED).open("a", encoding="utf-8") as journal:
        for number, path in enumerate(files):
            name = plan.token("file", str(path.relative_to(study) if study.is_dir() else path.name))
            if name not in done:
                done[name] = _one(path, study, output, plan, name)
                journal.write(json.dumps({"name": name, "entry": done[name]}) + "\n")
                journal.flush()
            progress(number + 1, len(files))
    _finish(study, output, link, plan, files, done)


def _check_places(study: Path, output: Path, link: Path | None) -> None:
    """Raise `InputError` for an output inside the source, or a link file beside the cleaned files."""
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file; name a folder.")
    if not output.is_dir():
        check_folder(output.parent)
    source = study.resolve() if study.is_dir() else study.resolve().parent
    if output.resolve() == source or (output.resolve().is_relative_to(source) and study.is_dir()):
        raise InputError(f"The output {output} lies in the study; name a folder outside of it.")
    if link is not None:
        check_folder(link.parent)
        if link.resolve().is_relative_to(output.resolve()):
            raise InputError(f"The link file {link} would be shared with the cleaned files; put it outside of {output}.")


def _files(study: Path, holds_pictures: Any) -> list[Path]:
    """Files of a study that hold pictures, in the order of their names."""
    if not study.is_dir():
        return [study]
    files = [path for path in sorted(study.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    found = [path for path in files if path.suffix.lower() in (".dcm", ".mp4", ".avi") or holds_pictures(path)]
    if not found:
        raise InputError(f"There is no echo file in {study}; name a folder that holds some.")
    return found


def _begin(output: Path, link: Path | None, choices: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """State of the work, and what is done of it; a new one for a new folder.

    Raises `InputError` for a folder that holds other files, or was begun with other choices.
    """
    journal = output / UNFINISHED
    if journal.is_file():
        lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        if lines and lines[0]["choices"] == choices:
            return lines[0], {line["name"]: line["entry"] for line in lines[1:]}
        raise InputError(f"The work in {output} began with other options; go on with those, or clean into another folder.")
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"The folder {output} is not empty; name a new one for the cleaned files.")
    earlier = None if link is None or not link.is_file() else _secret_of(link)
    output.mkdir(exist_ok=True)
    state = {"secret": earlier or secrets.token_hex(32), "choices": choices}
    journal.write_text(json.dumps(state) + "\n", encoding="utf-8")
    return state, {}


def _secret_of(link: Path) -> str:
    """The key in a link file of an earlier cleaning. Raises `InputError` for another file."""
    try:
        secret = json.loads(link.read_text(encoding="utf-8"))["secret"]
        bytes.fromhex(secret)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{link} is no link file of an earlier cleaning; name that one, or a file that is not there.") from error
    return str(secret)


def _one(path: Path, study: Path, output: Path, plan: Plan, name: str) -> dict[str, Any]:
    """Clean a file and write it; gives its entry in the report, in which no name of the source stands."""
    from echogen.app.cleaning import clean as clean_file
    from echogen.app.cleaning import save, without_names

    below = path.relative_to(study) if study.is_dir() else Path(path.name)
    try:
        cleaned = clean_file(path, plan, str(below.parent if len(below.parts) > 1 else below))
    except InputError as error:
        names = [str(path), path.name, str(study), *(part for part in (path.stem, *below.parts) if len(part) > 2)]
        return {"file": None, "left_out": without_names(str(error), names)}
    target = output / cleaned.patient / f"{name[:12]}.{plan.format}"
    target.parent.mkdir(exist_ok=True)
    written = save(cleaned, target, plan)
    return {"file": target.relative_to(output).as_posix(), **_told(cleaned), "written": len(written)}


def _told(cleaned: Cleaned) -> dict[str, Any]:
    """Facts of a cleaned file for the report."""
    cine, picture = cleaned.cine, cleaned.picture
    return {
        "patient": cleaned.patient,
        "frames": len(cine.times_s),
        "fps": round(cine.fps, 3) if len(cine.times_s) > 1 else None,
        "height": cine.frames.shape[1],
        "width": cine.frames.shape[2],
        "mm_per_pixel": cine.mm_per_pixel,
        "view": cine.view,
        "doppler": cleaned.doppler,
        "colour": cleaned.coloured,
        "ecg": cleaned.ecg_from,
        "maker": cleaned.maker,
        "attributes_removed": cleaned.removed[0],
        "private_removed": cleaned.removed[1],
        "text_beside_removed": picture.letters_beside,
        "letters_removed_inside": picture.letters_inside,
        "look": list(cleaned.look),
    }


def _finish(study: Path, output: Path, link: Path | None, plan: Plan, files: list[Path], done: dict[str, Any]) -> None:
    """Write the report, and the link file where one is asked for; forget the secret."""
    entries = sorted(done.values(), key=lambda entry: entry["file"] or "~")
    kept = [entry for entry in entries if entry["file"]]
    document = {"format": plan.format, "dates": "moved" if plan.keep_dates else "removed", "files": entries}
    write_json(output / REPORT, document)
    (output / PAGE).write_text(_page(entries, plan), encoding="utf-8")
    if link is not None:
        names = {path: plan.token("file", str(path.relative_to(study) if study.is_dir() else path.name)) for path in files}
        sources = {str(path): done[name]["file"] for path, name in names.items()}
        write_json(link, {"secret": plan.secret.hex(), "files": sources})
    (output / UNFINISHED).unlink()
    if not kept:
        raise InputError(f"None of {len(entries)} files could be cleaned; {output / REPORT} says why.")
    doubtful = sum(bool(entry["look"]) for entry in kept)
    typer.echo(
        f"Cleaned {len(kept)} of {len(entries)} files into {output}; look at {doubtful} of them before you share any: "
        f"{output / PAGE} lists them."
    )


def _page(entries: list[dict[str, Any]], plan: Plan) -> str:
    """Report to sign, in markdown."""
    from importlib.metadata import version

    from echogen.benchmark.markdown import table

    rows = []
    for entry in entries:
        if entry["file"] is None:
            rows.append(["left out", "", "", "", "", "", entry["left_out"]])
        else:
            size = f"{entry['frames']} of {entry['width']} x {entry['height']}"
            removed = f"{entry['attributes_removed']} ({entry['private_removed']} private)"
            text = f"beside: {'yes' if entry['text_beside_removed'] else 'none seen'}, inside: {entry['letters_removed_inside']}"
            kind = "colour" if entry["doppler"] else entry["view"] or "not stated"
            rows.append([entry["file"], size, kind, entry["ecg"] or "none", removed, text, "; ".join(entry["look"]) or "-"])
    head = ["file", "frames", "view", "ECG from", "attributes not copied", "text taken out", "look at"]
    dates = "moved by a number of days for each patient" if plan.keep_dates else "removed"
    return (
        "# Report of a cleaning\n\n"
        f"Made by echogen {version('echogen')}. Pixels outside the sector are black, headers are made anew (DICOM PS3.15, basic "
        f"profile, clean pixel data), dates are {dates}, pseudonyms follow from a key that is "
        "in the link file alone, if there is one. Text in pixels is found by its shape, which is a guess: somebody must look.\n\n"
        + table(head, rows)
        + "\nI have looked at the pictures and found nobody's name or number in them.\n\nName, date:\n"
    )
