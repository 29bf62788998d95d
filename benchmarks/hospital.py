"""A hospital's archive, from its files to generated video: python benchmarks/hospital.py -> docs/hospital.md.

500 simulated patients in two looks that no shipped network saw, as files without truth (`hospital_export.py`). From the folder of
400 of them alone networks are trained by the commands that a user would type; they are judged on the other 100, by ECGs and
videos as they are read from the files. Everything is kept in the work folder, so that a run that was stopped goes on where it
was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import echogen
from common import DOCS, arguments, save_picture
from echogen.benchmark.markdown import table, write_section
from echogen.cine.timing import resample_frames
from echogen.datasets.shards import Sample, ShardFolder
from echogen.ecg import Landmarks, find_landmarks
from echogen.errors import InputError
from echogen.files import write_json
from echogen.generators import Generator
from echogen.measurement.plain_values import expected_es_s, measured_ef_percent, measured_es_s
from echogen.metrics.heart.timing import chance_level, pooled_report, shuffled_beats
from echogen.metrics.sets.features import features_of, shipped_echo_features
from echogen.metrics.sets.frechet import frechet_distance, frechet_interval
from echogen.records import Cine
from hospital_export import LOOKS, SECONDS, export

FPS = 32.0
SHUFFLES = 20
#: Shortest part of a held-out recording in s that is judged.
LEAST_S = 1.5
#: Held-out patients of the pictures.
SHOWN = (0, 1)
TITLE = "From a hospital's files to generated hearts"
#: Words on the pictures by those who looked at them; look again after another training.
SEEN = (
    "The decoder that learned from the files draws tissue without its speckle (third row of each picture): the squared error "
    "prefers the mean of what it cannot know, and in an hour the adversarial loss stayed too weak against it. It is nearer to "
    "the hospital by the distance, not by eye; more steps, or a larger weight (`options.adversarial`), would be next. A training "
    "from nothing was not run.\n"
)


@dataclass(frozen=True)
class Held:
    """A held-out patient as read from the files: ECG with its landmarks, and the video in the canonical picture at `FPS`."""

    key: str
    ecg: echogen.Ecg
    marks: Landmarks
    cine: Cine
    ef_percent: float | None


class Commands:
    """Commands of echogen that were run, with their seconds; a command whose result is there is not run again."""

    def __init__(self, work: Path) -> None:
        self.log = work / "commands.json"
        self.seconds: dict[str, float] = json.loads(self.log.read_text()) if self.log.is_file() else {}

    def run(self, done: Path, *commands: Sequence[str]) -> None:
        """Run commands side by side unless `done` is there, each with one thread where there are several."""
        if done.exists():
            return
        threads = str(max(1, (os.cpu_count() or 1) // len(commands)))
        began = time.monotonic()
        running = [
            subprocess.Popen([sys.executable, "-m", "echogen", *command], env=os.environ | {"OMP_NUM_THREADS": threads})
            for command in commands
        ]
        failed = [command for command, process in zip(commands, running, strict=True) if process.wait()]
        if failed:
            raise SystemExit(f"This command failed: echogen {' '.join(failed[0])}")
        for command in commands:
            name = "echogen " + " ".join(command)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began
        write_json(self.log, self.seconds)


def prepare(commands: Commands, work: Path, part: str) -> Path:
    """Shards of a part of the export, with measured labels and drawn ECGs."""
    shards = work / f"{part}-shards"
    commands.run(
        shards / "shards.json",
        ["prepare", str(work / "export" / part), "-o", str(shards), "--labels", "measured", "--ecg", "drawn", "--canonical"],
    )
    return shards


def train(commands: Commands, work: Path, shards: Path, name: str, minutes: float) -> Path:
    """Generator trained on shards: a new decoder and a transformer side by side, on the shipped codes."""
    run, model = work / name, work / name / "model"
    shared = ["--set", f"data.source={shards}", "--set", f"minutes={minutes:g}", "--resume"]
    tokenizer = ["train", "clock-128-tokenizer", *shared, "-o", str(run / "tokenizer")]
    transformer = ["train", "clock-128-transformer", *shared, "-o", str(run / "transformer")]
    tokenizer += ["--set", "options.decoder_only=true"]
    shipped = Path(echogen.__file__).parent / "weights/phantom-128/tokenizer"
    transformer += ["--set", f"data.tokenizer={shipped}"]
    commands.run(model / "generator.json", tokenizer, transformer)
    commands.run(model / "generator.json", ["assemble", str(run / "tokenizer"), str(run / "transformer"), "-o", str(model)])
    commands.run(
        model / "calibrated", ["calibrate", str(model), "--hearts", "16", "--es-hearts", "16", "--processes", str(os.cpu_count())]
    )
    (model / "calibrated").touch()
    return model


def with_physics(model: Path) -> Path:
    """The same networks with speckle added by the phantom's physics, as the shipped generator adds it, beside the model."""
    folder = model.parent / "model-with-speckle"
    if not (folder / "generator.json").is_file():
        shutil.copytree(model, folder, dirs_exist_ok=True)
        settings = json.loads((folder / "generator.json").read_text())
        write_json(folder / "generator.json", {name: value for name, value in settings.items() if name != "speckle"})
    return folder


def at_usual_rate(sample: Sample) -> Cine:
    """The video of a sample at `FPS`."""
    assert sample.cine is not None
    return resample_frames(sample.cine, FPS)


def held_out(shards: Path) -> tuple[list[Held], list[str]]:
    """Held-out patients whose ECG covers enough of their video; and the reasons why others are left out."""
    folder = ShardFolder(shards)
    found, reasons = [], []
    for index in range(len(folder)):
        sample = folder[index]
        try:
            if sample.ecg is None:
                raise InputError("it has no ECG")
            cine, marks = at_usual_rate(sample), find_landmarks(sample.ecg)
            start = max(sample.ecg.start_s, float(cine.times_s[0]))
            end = min(sample.ecg.start_s + sample.ecg.duration_s, float(cine.times_s[-1]) + 1.0 / FPS)
            inside = (cine.times_s >= start - 1e-6) & (cine.times_s + 1.0 / FPS <= end + 1e-6)
            if end - start < LEAST_S or len(marks.r_s) < 2:
                raise InputError("its ECG covers too little of the video")
            cine = replace(cine, frames=cine.frames[inside], times_s=cine.times_s[inside])
            found.append(Held(sample.key, sample.ecg, marks, cine, sample.study.ef_percent))
        except InputError as error:
            reasons.append(str(error))
    lines = (shards / "manifest.jsonl").read_text().splitlines()
    reasons += [str(entry["rejected"]) for entry in map(json.loads, lines) if entry.get("rejected")]
    return found, reasons


def learned_cines(shards: Path, count: int) -> list[Cine]:
    """Videos of so many patients who were learned from."""
    folder = ShardFolder(shards)
    return [at_usual_rate(folder[index]) for index in range(min(count, len(folder)))]


def generated(model: str, patients: Sequence[Held], kept: Path) -> list[Cine]:
    """A video for each patient's ECG and measured EF, kept after the first time."""
    heart = Generator.from_pretrained(model)
    kept.mkdir(parents=True, exist_ok=True)
    made = []
    for seed, patient in enumerate(patients):
        path = kept / f"{seed:05d}.npz"
        if not path.is_file():
            asked: dict[str, Any] = {}
            if patient.ef_percent is not None:
                asked["ef_percent"] = float(np.clip(patient.ef_percent, *heart.ef_range))
            start = float(patient.cine.times_s[0])
            cine = heart(patient.ecg, start_s=start, seconds=len(patient.cine.times_s) / FPS, seed=seed, **asked)
            echogen.write(cine, path)
        with np.load(path, allow_pickle=False) as stored:
            made.append(Cine(stored["frames"], stored["times_s"]))
    return made


def control(patients: Sequence[Held], found: Sequence[NDArray[np.float64]]) -> float:
    """Share of beats that match when every ECG's beats come in another order and phase; mean over shuffles."""
    shares = []
    for seed in range(SHUFFLES):
        clips = []
        for patient, es in zip(patients, found, strict=True):
            beats = shuffled_beats(patient.marks.qrs_onset_s, seed)
            marks = replace(patient.marks, qrs_onset_s=beats, r_s=beats + (patient.marks.r_s - patient.marks.qrs_onset_s))
            clips.append((es, expected_es_s(marks, patient.cine)))
        shares.append(pooled_report(clips).matched_fraction)
    return float(np.mean(shares))


def row(
    name: str, cines: Sequence[Cine], patients: Sequence[Held], truth: NDArray[np.float32], features: Callable[..., Any]
) -> list[str]:
    """One line of the table: timing against the patients' ECGs, EF, and the distance to the patients' own videos."""
    es = [measured_es_s(cine) for cine in cines]
    report = pooled_report([(mine, expected_es_s(p.marks, p.cine)) for mine, p in zip(es, patients, strict=True)])
    ef = np.array([measured_ef_percent(cine) for cine in cines])
    asked = np.array([np.nan if p.ef_percent is None else p.ef_percent for p in patients])
    known = np.isfinite(ef) & np.isfinite(asked)
    own = features(cines)
    distance, (low, high) = frechet_distance(own, truth), frechet_interval(own, truth)
    line = [
        name,
        str(len(cines)),
        f"{100 * report.matched_fraction:.1f} % of {report.n_expected}",
        f"{report.median_abs_ms:.0f}",
        f"{100 * control(patients, es):.0f} %",
        f"{np.abs(ef - asked)[known].mean():.1f}",
        f"{distance:.1f} ({low:.1f} to {high:.1f})",
    ]
    print(" | ".join(line), flush=True)
    return line


def strips(rows: dict[str, list[Cine]], patients: Sequence[Held]) -> None:
    """Two patients: the recording, and each generator's video at the same moments, below one another."""
    for shown in SHOWN:
        bands = []
        for cines in rows.values():
            frames = cines[shown].frames
            at = np.linspace(0, min(len(frames) - 1, 28), 8).astype(int)
            bands.append(np.concatenate([frames[index] for index in at], axis=1))
        save_picture(np.concatenate(bands, axis=0), DOCS / "images" / f"hospital-{shown}.webp")


def main() -> None:
    options = arguments(__doc__ or "", work="runs/hospital", learned=400, held_out=100, minutes=50.0, processes=2, judge=1)
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    commands = Commands(work)
    if not (work / "export" / "done").exists():
        for done in export(work / "export", options.learned, options.held_out, options.processes):
            print(f"exported {done}", end="\r", flush=True)
        (work / "export" / "done").touch()
    learned, judged = prepare(commands, work, "train"), prepare(commands, work, "held_out")
    models = {"trained from the shipped weights": train(commands, work, learned, "from-shipped", options.minutes)}
    models["the same, with speckle by physics"] = with_physics(models["trained from the shipped weights"])
    if not options.judge:
        return
    torch.set_num_threads(options.processes)
    patients, reasons = held_out(judged)
    network = shipped_echo_features()

    def features(cines: Sequence[Cine]) -> NDArray[np.float32]:
        return features_of(network, cines)

    truth = features([patient.cine for patient in patients])
    others = features(learned_cines(learned, len(patients)))
    videos = {"the patients' own videos": [patient.cine for patient in patients]}
    videos[f"shipped ({options.model})"] = generated(options.model, patients, work / "made-shipped")
    for name, model in models.items():
        videos[name] = generated(str(model), patients, work / f"made-{model.parent.name}-{model.name}")
    rows = [row(name, cines, patients, truth, features) for name, cines in videos.items()]
    rows[0][-1] = f"{frechet_distance(others, truth):.1f} (patients learned from)"
    strips(videos, patients)
    chance = np.mean([chance_level(patient.marks.r_s) for patient in patients])
    steps = {name: _steps(model.parent) for name, model in models.items() if model.name == "model"}
    installed = f"{Path(echogen.__file__).parent}/"
    listed = "\n".join(f"{name.replace(installed, '')}   # {seconds / 60:.0f} min" for name, seconds in commands.seconds.items())
    text = (
        f"{options.learned} + {options.held_out} simulated patients in the looks {' and '.join(LOOKS)}, which no "
        f"training of the "
        f"shipped networks saw, {SECONDS:.0f} s each at 25 to 50 frames/s, written by `benchmarks/hospital_export.py` "
        f"as files without "
        "truth: half JPEG-coded DICOM of 640 x 480 with the ECG drawn into the picture, half mp4 with a WFDB or an "
        "Apple Watch file "
        "beside it. All that was learned came from the files of the first; the others are judged by the ECG and EF "
        "that echogen reads "
        f"from their files ({len(patients)} of {options.held_out}; left out: {len(reasons)}, because "
        f"{'; '.join(sorted(set(reasons))) or 'nothing'}).\n\n"
        f"```\n{listed}\n```\n\n"
        "Times are of the machine that wrote this, with other work beside it. "
        + "".join(f"Steps, {name}: {count}. " for name, count in steps.items())
        + "Each video has the ECG and is asked for the patient's measured EF. Beats: end-systole within 80 ms of the aortic "
        f"closure that the ECG lets expect, all beats; shuffled: against the beats in another order and phase (chance "
        f"{100 * chance:.0f} %). "
        f"EF error: measured in the video minus asked, in points. Distance: Fréchet echo distance to the held-out "
        f"patients' own videos "
        f"with its 95 % interval, n = {len(patients)}, so biased upwards alike in all rows; the first row is that of as "
        f"many patients "
        f"who were learned from. Command: `python benchmarks/hospital.py --minutes {options.minutes:g}`.\n\n"
    )
    head = ["video", "n", "beats matched", "median ES error, ms", "shuffled", "EF error, points", "Fréchet echo distance"]
    text += table(head, rows)
    for shown in SHOWN:
        text += f"\n![A held-out patient and the generated hearts](images/hospital-{shown}.webp)\n"
    text += f"\nFrom top to bottom: {', '.join(videos)}.\n\n{SEEN}"
    print(text)
    write_section(DOCS / "hospital.md", TITLE, text)


def _steps(run: Path) -> str:
    """Steps of the two networks of a run, as their metrics tell."""
    counts = []
    for part in ("tokenizer", "transformer"):
        last = (run / part / "metrics.csv").read_text().strip().splitlines()[-1]
        counts.append(f"{part} {int(float(last.split(',')[0])):,}")
    return ", ".join(counts)


if __name__ == "__main__":
    main()
