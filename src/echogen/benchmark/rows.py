"""Rows of the open benchmark: the source of each one's videos, and their making and keeping."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from echogen.benchmark.cases import (
    FIRST_SEED,
    SECONDS,
    VERSION,
    Case,
    mean_heart,
    phantom_hash,
    recording,
    truth_cine,
    write_truth,
)
from echogen.cine import read_cine, write
from echogen.errors import InputError
from echogen.files import write_json
from echogen.generators.base import Generator
from echogen.generators.wrappers.best_of import BestOf, Scorer
from echogen.measurement.regression import load_regressor, regressed_ef_percent
from echogen.metrics.evaluation.clips import find_clips
from echogen.networks.ef_regressor import at_size
from echogen.records import ByteArray, Cine

#: Conditions that a generator may be given beside the ECG and the view, with their names in the tables.
GIVEN = {"ef_percent": "EF", "reference": "first frame"}


@dataclass(frozen=True)
class Work:
    """Folder in which truth, videos and measurements of one version of the benchmark and one phantom are kept."""

    root: Path

    @classmethod
    def below(cls, folder: str | Path) -> Work:
        """Return the work folder of this version and phantom below a folder."""
        return cls(Path(folder) / f"{VERSION}-{phantom_hash()}")

    @property
    def truths(self) -> Path:
        """Folder of the truth of all cases."""
        return self.root / "truth"

    def truth(self, case: Case) -> Path:
        """Return the folder of a case's truth."""
        return self.truths / case.name

    def made(self, source: str) -> Path:
        """Return the path of a video that was made, by its source."""
        return self.root / "made" / f"{source}.npz"


class Row(Protocol):
    """One line of the tables: videos of the cases, all from one source."""

    @property
    def title(self) -> str:
        """Name in the tables."""

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept; equal keys are equal videos."""

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case, whether it is there or not."""

    def make(self, work: Work, case: Case) -> None:
        """Make the video of a case unless it is there."""


def _write(cine: Cine, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(cine, path)


@dataclass(frozen=True)
class Truth:
    """Simulated clips themselves: the score of a perfect generator after measuring."""

    title: str = "truth"

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept."""
        return f"truth/{case.name}"

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case."""
        return work.truth(case) / "cine.npz"

    def make(self, work: Work, case: Case) -> None:
        """Make the video of a case unless it is there."""
        write_truth(case, work.truths)


@dataclass(frozen=True)
class Still:
    """First frame of the truth, shown as long as the clip lasts."""

    title: str = "still first frame"

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept."""
        return f"still/{case.name}"

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case."""
        return work.made(self.source(case))

    def make(self, work: Work, case: Case) -> None:
        """Make the video of a case unless it is there."""
        if not self.video(work, case).is_file():
            truth = read_cine(Truth().video(work, case))
            _write(replace(truth, frames=np.repeat(truth.frames[:1], len(truth.frames), axis=0)), self.video(work, case))


@dataclass(frozen=True)
class MeanHeart:
    """Mean heart of the view at its mean rate and EF, whatever the ECG says."""

    title: str = "a mean heart"

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept."""
        return f"mean/{case.view}"

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case."""
        return work.made(self.source(case))

    def make(self, work: Work, case: Case) -> None:
        """Make the video of a case unless it is there."""
        if not self.video(work, case).is_file():
            _write(truth_cine(mean_heart(case.view), FIRST_SEED), self.video(work, case))


@dataclass(frozen=True)
class Shuffled:
    """Videos of another row, each judged as the video of another case with the same view: the control."""

    title: str
    row: Row
    listed: tuple[Case, ...]

    def _other(self, case: Case) -> Case:
        alike = [other for other in self.listed if other.view == case.view]
        alike = alike if len(alike) > 1 else list(self.listed)
        return alike[(alike.index(case) + 1) % len(alike)]

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept."""
        return self.row.source(self._other(case))

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case."""
        return self.row.video(work, self._other(case))

    def make(self, work: Work, case: Case) -> None:
        """Make the video of a case unless it is there."""
        self.row.make(work, self._other(case))


@lru_cache(maxsize=1)
def _generator(model: str, device: str) -> Generator:
    return Generator.from_pretrained(model, device)


@dataclass(frozen=True)
class Generated:
    """Videos that a generator makes of a case's ECG and view, and of `given`.

    model: name or folder of the generator.
    name, weights_hash: that its folder states.
    folder: of its weights.
    given: further conditions, names in `GIVEN`.
    device: cpu or cuda.
    uses_ecg: False for a system that takes no ECG.
    best_of: number of videos of which the one with the closest EF is kept, as the regressor sees it.
    """

    model: str
    name: str
    weights_hash: str
    folder: Path
    given: tuple[str, ...]
    device: str = "cpu"
    uses_ecg: bool = True
    best_of: int = 1

    @property
    def title(self) -> str:
        """Name in the tables: the generator, and what it is given."""
        conditions = [*(["ECG"] if self.uses_ecg else []), *(GIVEN[name] for name in self.given)]
        kept = [f"best of {self.best_of} by the regressor"] if self.best_of > 1 else []
        return f"{self.name}: {', '.join([*conditions, *kept])}"

    @property
    def key(self) -> str:
        """Folder of the videos: the generator, its weights, and what it is given."""
        kept = [f"best-of-{self.best_of}"] if self.best_of > 1 else []
        return "+".join([f"{self.name}-{self.weights_hash}", *self.given, *kept])

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept."""
        return f"{self.key}/{case.name}"

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case."""
        return work.made(self.source(case))

    def facts(self, work: Work, case: Case) -> dict[str, Any]:
        """Read seconds (wall) and cpu_seconds that making the video took, or error, the reason why there is none."""
        path = self.video(work, case).with_suffix(".json")
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def make(self, work: Work, case: Case) -> None:
        """Make and keep the video and its cost; for a case that the generator refuses its sentence is kept instead."""
        if self.facts(work, case):
            return
        generator = _generator(self.model, self.device)
        draw = BestOf(generator, regressor_scorer(), self.best_of) if self.best_of > 1 else generator
        truth = read_cine(Truth().video(work, case))
        low, high = generator.ef_range
        # Each drawn clip of a choice has a seed of its own.
        seed = case.index * max(self.best_of, 1)
        seconds = min(SECONDS, generator.longest_s)
        asked: dict[str, Any] = {"view": case.view} if "view" in generator.takes else {}
        if "ef_percent" in self.given:
            asked["ef_percent"] = float(np.clip(case.ef_percent, low, high))
        if "reference" in self.given:
            asked["reference"] = Cine(truth.frames[:1], np.zeros(1), truth.mm_per_pixel, truth.view)
        ecg = recording(case)[1] if "ecg" in generator.takes else None
        began, cpu = time.perf_counter(), time.process_time()
        facts: dict[str, Any] = {"device": str(self.device), "threads": torch.get_num_threads()}
        path = self.video(work, case)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            cine = draw(ecg, start_s=0.0, seconds=seconds, seed=seed, **asked)
            facts |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
            frames = resized_frames(cine.frames, truth.frames.shape[-1])
            _write(replace(cine, frames=frames, mm_per_pixel=truth.mm_per_pixel), path)
        except InputError as error:
            facts["error"] = str(error)
        write_json(path.with_suffix(".json"), facts)


def generated_rows(model: str, device: str = "cpu", best_of: int = 1) -> list[Generated]:
    """Rows of a generator with and without the EF and the first frame, as far as it takes them; all that it takes last.

    best_of: above 1, of a system that takes no ECG all that it takes once more, with a choice among so many videos.
    """
    generator = _generator(model, device)
    name = Path(generator.name).name
    given: list[tuple[str, ...]] = [()]
    for part in GIVEN:
        if part in generator.takes:
            given += [(*others, part) for others in given]
    if generator.needs_reference:
        given = [parts for parts in given if "reference" in parts]
    folder = generator.folder or Path(model)
    facts = (model, name, generator.weights_hash, folder)
    uses_ecg = "ecg" in generator.takes
    rows = [Generated(*facts, parts, device, uses_ecg) for parts in sorted(given, key=len)]
    if best_of > 1 and not uses_ecg and "ef_percent" in rows[-1].given:
        rows.append(replace(rows[-1], best_of=best_of))
    return rows


def regressor_scorer() -> Scorer:
    """Return the scorer of a choice: EF in % by the shipped regressor, which may not score the chosen videos."""
    return lambda cine: regressed_ef_percent(cine, load_regressor())


def resized_frames(frames: ByteArray, size: int) -> ByteArray:
    """Interpolate frames (T, H, W) to (T, size, size); those of that size are returned as they are."""
    if frames.shape[1:] == (size, size):
        return frames
    grey = torch.from_numpy(np.ascontiguousarray(frames))[None].float()
    larger: ByteArray = at_size(grey, size)[0].round().clamp(0, 255).to(torch.uint8).numpy()
    return larger


@dataclass(frozen=True)
class Added:
    """Videos of others from a folder, named by case.

    title: in the tables.
    files: (case name, video, hash of its bytes) each.
    """

    title: str
    files: tuple[tuple[str, str, str], ...]

    @classmethod
    def read(cls, title: str, folder: str | Path, listed: list[Case]) -> Added:
        """Find the videos of the cases in a folder. Raises `InputError` where there is none."""
        found = find_clips(folder)
        names = [case.name for case in listed if case.name in found]
        if not names:
            raise InputError(
                f"No video in {folder} is named after a case (such as {listed[0].name}.mp4); --export tells their names."
            )
        paths = {name: found[name].video for name in names}
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in paths.items()}
        return cls(title, tuple((name, os.fspath(paths[name]), digests[name]) for name in names))

    def _file(self, case: Case) -> tuple[str, str, str]:
        return next((file for file in self.files if file[0] == case.name), (case.name, os.devnull, "missing"))

    def source(self, case: Case) -> str:
        """Return the key under which the video of a case is kept."""
        return f"added/{self._file(case)[2]}"

    def video(self, work: Work, case: Case) -> Path:
        """Return the path of the video of a case."""
        return Path(self._file(case)[1])

    def make(self, work: Work, case: Case) -> None:
        """Do nothing: the videos are there already."""
