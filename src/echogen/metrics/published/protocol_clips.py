"""Clips as a protocol wants them: cut from a data set, found in a folder of generated videos, or asked of a generator."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray

from echogen.arrays import ByteArray
from echogen.cine.sector import CANONICAL_SIZE, to_sector
from echogen.cine.timing import resample_frames
from echogen.cine.writing import write
from echogen.datasets.paired_folder import resize
from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.measurement.reading import Reading, measure
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.evaluation.clips import Clip, ClipFile, find_clips
from echogen.metrics.published.rows import Cut, Protocol
from echogen.networks.text import ef_sentence
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import CONTEXT_S, rhythm_from_landmarks
from echogen.physiology import MITRAL_CLOSURE_S, QRS_ONSET_BEFORE_R_S, systolic_intervals
from echogen.records import Cine, Ecg, Study

#: Heart rates in bpm that an interval from end-diastole to end-systole may stand for, and the rate where nothing is known.
_RATES = np.arange(40.0, 151.0)
_USUAL_BPM = 70.0
#: From the P wave to the R peak of the simulated ECG, in s.
_P_BEFORE_R_S = 0.20
#: EFs in % that are asked for at random (EchoDiffusion, section 3).
_RANDOM_EF = (15.0, 85.0)


class HeldClip(Clip):
    """A clip that is in memory already. ef_percent: asked for, in %. as_it_is: its frames are not cropped to a sector."""

    def __init__(self, name: str, cine: Cine, ef_percent: float | None = None, *, as_it_is: bool = False) -> None:
        super().__init__(ClipFile(name, Path(name), None))
        self.cine = cine
        self._facts = {"settings": {"ef_percent": ef_percent}}
        self._as_it_is = as_it_is

    @cached_property
    def canonical(self) -> ByteArray:
        """(T, 128, 128) frames cropped to their sector, or the whole picture where none is found: a bad clip counts as well."""
        if self._as_it_is:
            return self.cine.frames
        try:
            return in_its_sector(self.cine).frames
        except InputError:
            return resize(self.cine.frames, CANONICAL_SIZE)


def cut_clip(cine: Cine, cut: Cut) -> Cine:
    """The part of a clip that is judged, from 0 s, at the cut's rate; a shorter clip stays shorter."""
    cine = replace(cine, times_s=cine.times_s - cine.times_s[0])
    if cut.fps is not None:
        cine = resample_frames(cine, cut.fps)
    return replace(cine, frames=cine.frames[: cut.frames], times_s=cine.times_s[: cut.frames])


def as_pictures(cine: Cine, cut: Cut) -> Cine:
    """A cut clip in the size of the protocol, with its black border, and filled up with black frames where it asks for that."""
    frames = resize(cine.frames, cut.size)
    if cut.border:
        before = (cut.border - cut.size) // 2
        frames = np.pad(frames, ((0, 0), *2 * ((before, cut.border - cut.size - before),)))
    times, lacking = cine.times_s, cut.frames - len(frames)
    if cut.fill and lacking > 0 and cut.fps:
        frames = np.pad(frames, ((0, lacking), (0, 0), (0, 0)))
        times = np.arange(cut.frames) / cut.fps
    return Cine(frames, times, view=cine.view)


@dataclass(frozen=True)
class Sample:
    """A generated clip on a clock that starts with the real one's cut, and the EF in % that it was asked for."""

    cine: Cine
    ef_percent: float | None


class Source(Interface):
    """Source of generated clips. in_sector: they show the sector alone, so real clips are cropped to theirs."""

    in_sector: bool

    def samples(self, name: str, study: Study, cut: Cine, protocol: Protocol) -> list[Sample]:
        """Those of a real clip, of which `cut` is judged; none where there is none."""


class FolderSource:
    """Generated clips of a folder: NAME.npz (.mp4 .avi .gif ...), or NAME_1, NAME_2 ... where a protocol takes several.

    A clip begins with the first frame of the real one's cut. The EF that was asked for is read from NAME.json beside it
    (`settings.ef_percent`); without that file it is the real clip's. Raises `InputError` for a folder without videos.
    """

    in_sector = False

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files = find_clips(folder)

    def samples(self, name: str, study: Study, cut: Cine, protocol: Protocol) -> list[Sample]:
        """Yield the samples of a clip. Raises `InputError` for a damaged file."""
        names = [name] if name in self._files else [f"{name}_{k}" for k in range(1, protocol.samples + 1)]
        found = []
        for file in (self._files[own] for own in names if own in self._files):
            clip = Clip(file)
            asked = clip.known_ef_percent
            found.append(Sample(clip.cine, study.ef_percent if asked is None else asked))
        return found


@dataclass
class ModelSource:
    """Clips that a generator makes: of the first frame of the real clip, its EF (or a random one), and a simulated ECG.

    The data sets hold no ECG: a generator that takes one gets a steady sinus rhythm of the real heart's rate (`heart_clock`).
    A generator that takes no EF but a sentence is told the EF in words. keep: a folder in which clips are kept for protocols
    that ask for the same; seconds: wall time of each clip, decoding included.
    """

    generator: Generator
    keep: Path
    seed: int = 0
    in_sector: bool = True
    seconds: list[float] = field(default_factory=list)

    @property
    def parameters(self) -> float:
        """Weights of the generator's networks, in millions."""
        networks = [part for part in vars(self.generator).values() if isinstance(part, torch.nn.Module)]
        return sum({id(p): p.numel() for network in networks for p in network.parameters()}.values()) / 1e6

    def samples(self, name: str, study: Study, cut: Cine, protocol: Protocol) -> list[Sample]:
        """Yield a clip's samples. Raises `InputError` for a reconstruction, or for a generator that does not fit the clips."""
        if protocol.task == "reconstruction":
            raise InputError("A reconstruction is judged from clips that a tokenizer made of the real ones; name their folder.")
        rate = protocol.cut.fps
        seconds = cut.duration_s if rate is None else protocol.cut.frames / rate
        folder = self.keep / f"{protocol.dataset}_{protocol.task}_{self.generator.weights_hash}_{self.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        ecg: Ecg | None = None
        made = []
        for sample in range(1, protocol.samples + 1):
            rng = np.random.default_rng([self.seed, *name.encode()])
            drawn = float(rng.uniform(*_RANDOM_EF))
            ef = study.ef_percent if protocol.task == "generation" else drawn
            ef = None if ef is None else float(np.clip(ef, *self.generator.ef_range))
            path = folder / f"{name}_{seconds:.3f}_{sample}.npz"
            facts = path.with_suffix(".json")
            if not (path.is_file() and facts.is_file()):
                if ecg is None and "ecg" in self.generator.takes:
                    ecg = simulated_ecg(study, seconds, self.generator)
                start = time.perf_counter()
                cine = self._make(ecg, seconds, ef, cut, int(rng.integers(2**31)) + sample)
                elapsed = time.perf_counter() - start
                write(cine, path)
                facts.write_text(json.dumps({"settings": {"ef_percent": ef}, "wall_s": elapsed}) + "\n", encoding="utf-8")
            clip = Clip(ClipFile(path.stem, path, facts))
            self.seconds.append(json.loads(facts.read_text(encoding="utf-8"))["wall_s"])
            made.append(Sample(clip.cine, clip.known_ef_percent))
        return made

    def _make(self, ecg: Ecg | None, seconds: float, ef_percent: float | None, cut: Cine, seed: int) -> Cine:
        takes = self.generator.takes
        by_text = ef_percent is not None and "text" in takes and "ef_percent" not in takes
        return self.generator(
            ecg,
            seconds=seconds,
            start_s=None if ecg is None else 0.0,
            ef_percent=ef_percent if "ef_percent" in takes else None,
            text=ef_sentence(ef_percent) if by_text and ef_percent is not None else None,
            view=cut.view if "view" in takes else None,
            reference=Cine(cut.frames[:1], np.zeros(1), cut.mm_per_pixel, cut.view) if "reference" in takes else None,
            seed=seed,
        )


@dataclass(frozen=True)
class HeartClock:
    """The rate of a real heart in bpm and one of its end-diastoles in s from the first frame; how: where both are from."""

    rate_bpm: float
    ed_s: float
    how: str


def heart_clock(study: Study) -> HeartClock:
    """The rate and phase of a heart without ECG: as its video shows it, else by its labels, else 70 bpm from the first frame.

    By labels, the rate is the one at which Weissler's regressions give the interval from end-diastole to end-systole.
    """
    start = float(study.cine.times_s[0])
    reading: Reading | None = None
    try:
        reading = measure(replace(study.cine, mm_per_pixel=None), load_segmenter())
    except InputError:  # half a beat, or no ventricle to be seen
        reading = None
    if reading is not None and reading.heart_rate_bpm is not None and reading.beats:
        return HeartClock(float(np.clip(reading.heart_rate_bpm, 40, 150)), reading.beats[0].ed_s - start, "measured")
    if study.beats:
        beat = study.beats[0]
        pep, lvet = systolic_intervals(_RATES, study.sex)
        best = int(np.argmin(np.abs(pep + lvet - MITRAL_CLOSURE_S - (beat.es_s - beat.ed_s))))
        return HeartClock(float(_RATES[best]), beat.ed_s - start, "labelled")
    return HeartClock(_USUAL_BPM, 0.0, "assumed")


def simulated_ecg(study: Study, seconds: float, generator: Generator) -> Ecg:
    """A steady 12-lead sinus rhythm whose end-diastoles are those of `heart_clock`, as long as a generator looks at one."""
    clock = heart_clock(study)
    rr = 60.0 / clock.rate_bpm
    r = clock.ed_s - MITRAL_CLOSURE_S + QRS_ONSET_BEFORE_R_S
    start, end = -generator.ecg_past_s, seconds + generator.ecg_future_s
    before, after = np.ceil((r - start + CONTEXT_S) / rr), np.ceil((end - r + CONTEXT_S) / rr)
    r_s: NDArray[np.float64] = r + rr * np.arange(-before, after + 1)
    rhythm = rhythm_from_landmarks(r_s, p_onset_s=r_s - min(_P_BEFORE_R_S, 0.45 * rr))
    return make_ecg(rhythm, start, end, np.random.default_rng(0))


def in_its_sector(cine: Cine) -> Cine:
    """A clip cropped to its sector, 128 x 128. Raises `InputError` for one that shows none."""
    if cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        return cine
    frames, growth = to_sector(cine.frames, CANONICAL_SIZE)
    return replace(cine, frames=frames, mm_per_pixel=None if cine.mm_per_pixel is None else cine.mm_per_pixel * growth)
