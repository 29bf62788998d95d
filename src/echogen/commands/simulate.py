"""`echogen simulate`: recordings of the phantom, each with its truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from echogen.commands.common import (
    EcgRate,
    EcgUnit,
    Sex,
    View,
    check_folder,
    check_fps,
    check_input,
    check_seconds,
    progress_bar,
    read_part,
    write_json,
)
from echogen.errors import InputError
from echogen.files import whole_folder

if TYPE_CHECKING:
    from echogen.phantom.rhythm import Rhythm
    from echogen.records import Ecg, Study


def simulate(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder that gets one folder per clip.")],
    ecg: Annotated[Path | None, typer.Argument(metavar="ECG", help="An ECG whose beats the heart follows.")] = None,
    heart_rate: Annotated[float, typer.Option("--heart-rate", help="Beats per minute; without an ECG.")] = 72.0,
    rhythm: Annotated[
        Literal["sinus", "af", "pvc", "pause", "paced"], typer.Option("--rhythm", help="Without an ECG.")
    ] = "sinus",
    ef: Annotated[float, typer.Option("--ef", help="Ejection fraction in %.")] = 60.0,
    view: Annotated[View, typer.Option("--view", help="Apical four- or two-chamber view.")] = "A4C",
    sex: Annotated[Sex | None, typer.Option("--sex", help="Drawn from the seed unless stated.")] = None,
    look: Annotated[
        Literal["plain", "varied", "balanced", "soft", "grainy", "bright", "crisp", "dark"],
        typer.Option("--look", help="The plain phantom, a machine's pictures, or any machine's."),
    ] = "plain",
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each clip.")] = 4.0,
    fps: Annotated[float, typer.Option("--fps", help="Frames per second.")] = 32.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first clip; the next ones count on.")] = 0,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many clips.")] = 1,
    ecg_rate: EcgRate = None,
    ecg_unit: EcgUnit = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Simulate ECG and echo of a beating heart; every clip comes with its truth."""
    check_seconds(seconds)
    check_fps(fps)
    check_input(ecg)
    check_folder(output if output.is_dir() else output.parent)
    folders = [output / f"clip-{seed + index:05d}" for index in range(count)]
    for folder in folders:
        if folder.exists():
            raise InputError(f"The clip {folder} is there already; choose another --seed or another folder.")
    from echogen.generators.base import pick_device
    from echogen.phantom.simulate import simulate as simulate_study

    source: dict[str, Any] = {"rhythm": rhythm, "heart_rate_bpm": heart_rate}
    if ecg is not None:
        recorded, beats = _beats_of(ecg, seconds, ecg_rate, ecg_unit)
        source = {"ecg": recorded, "rhythm": beats}
    chosen = pick_device(device)
    with progress_bar("simulating") as progress:

        def advance(done: int, total: int) -> None:
            progress(index * total + done, count * total)

        for index, folder in enumerate(folders):
            study = simulate_study(
                **source,
                ef_percent=ef,
                view=view,
                sex=sex,
                look=look,
                seconds=seconds,
                fps=fps,
                seed=seed + index,
                device=chosen,
                progress=advance,
            )
            output.mkdir(exist_ok=True)
            name = "recorded" if ecg is not None else rhythm
            _save(study, folder, {"rhythm": name, "view": view, "look": look, "seed": seed + index, "fps": fps})
    typer.echo(f"Wrote {count} {'clip' if count == 1 else 'clips'} to {output}.")


def _beats_of(path: Path, seconds: float, rate_hz: float | None, unit: str | None) -> tuple[Ecg, Rhythm]:
    """Read the first `seconds` of a recorded ECG, with its beats up to a little beyond them."""
    from echogen.ecg import find_landmarks
    from echogen.phantom.rhythm import rhythm_from_landmarks

    ecg = read_part(path, 0.0, seconds, rate_hz, unit)
    found = find_landmarks(ecg)
    rhythm = rhythm_from_landmarks(found.r_s, found.qrs_onset_s, found.p_onset_s, found.wide_qrs)
    return ecg.between(0.0, seconds), rhythm


def _save(study: Study, folder: Path, facts: dict[str, Any]) -> None:
    """Write one clip's folder whole or not at all."""
    import numpy as np

    from echogen.cine import write

    ecg, cine = study.ecg, study.cine
    assert ecg is not None
    assert study.masks is not None
    r_s = [beat.r_s for beat in study.beats if beat.r_s is not None]
    with whole_folder(folder) as unfinished:
        write(cine, unfinished / "cine.npz")
        write(cine, unfinished / "cine.mp4", ecg=ecg, r_s=r_s, label="phantom")
        np.savez_compressed(
            unfinished / "ecg.npz",
            signal_mv=ecg.signal_mv,
            rate_hz=ecg.rate_hz,
            lead_names=np.array(ecg.lead_names),
            start_s=ecg.start_s,
        )
        np.savez_compressed(unfinished / "masks.npz", masks=study.masks)
        beats = [
            {"r_s": b.r_s, "ed_s": b.ed_s, "es_s": b.es_s, "edv_ml": b.edv_ml, "esv_ml": b.esv_ml, "ef_percent": b.ef_percent}
            for b in study.beats
        ]
        truth = facts | {"ef_percent": study.ef_percent, "sex": study.sex, "mm_per_pixel": cine.mm_per_pixel, "beats": beats}
        write_json(unfinished / "truth.json", truth)
