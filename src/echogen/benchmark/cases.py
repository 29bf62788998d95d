"""Hearts of the open benchmark: a frozen list of cases, and the truth and the ECG that follow from each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from echogen.cine import write
from echogen.errors import InputError
from echogen.files import whole_folder, write_json
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.phantom.simulate import Heart, draw_heart, render
from echogen.physiology import beat_clock, beat_volumes
from echogen.records import Cine, Ecg

VERSION = "phantom-bench-1"
#: Numbers of cases that make a tier: the first so many of the list.
TIERS = (50, 500, 2048)
#: Seed of the first heart.
FIRST_SEED = 200_000
#: Frames per second and number of frames of a video.
FPS, FRAMES = 32.0, 96
#: Length of a video in s; it begins at 0 s.
SECONDS = FRAMES / FPS
#: ECG in s before and after the video: about two beats each.
ECG_BEFORE_S, ECG_AFTER_S = 2.0, 2.0
#: Sampling rate of the ECG in Hz, as clinical recorders have it.
ECG_RATE_HZ = 500.0
#: Premature beats and pauses begin early enough for their end-systole to be in the video.
_EVENTS_UNTIL_S = SECONDS - 0.3

#: Every other heart is in sinus rhythm; the pattern repeats.
_OTHERS = ("af", "pvc", "paced", "af", "pvc", "pause", "af", "pvc", "af", "pvc", "pause", "af")
_PATTERN = [rhythm for other in _OTHERS for rhythm in ("sinus", other)] + ["paced"]
#: Slowest and fastest heart rate of each rhythm in beats per minute.
_RATES_BPM = {"sinus": (42.0, 160.0), "af": (65.0, 150.0), "pvc": (58.0, 100.0), "pause": (65.0, 95.0), "paced": (55.0, 95.0)}
#: Lowest and highest EF in %.
_EF_PERCENT = (15.0, 80.0)
#: Qualities of the picture, each as often as it stands here.
_QUALITIES = ("usual", "good", "usual", "poor")
#: Settings of the probe at the ends of what training draws.
PROBES: dict[str, dict[str, Any]] = {
    "usual": {},
    "good": {"haze": -32.0, "noise": -60.0, "edge": 4.0, "shadows": ()},
    "poor": {"haze": -18.0, "noise": -44.0, "edge": 18.0, "gain": -8.0, "shadows": ((-0.55, 0.14, 12.0), (0.6, 0.16, 14.0))},
}
#: Steps of a sequence that fills a cube of four dimensions evenly, however many of its points are taken (Roberts 2018).
_STEPS = (0.8566748838545029, 0.733891856627126, 0.6287067210378087, 0.5385972572236101)


@dataclass(frozen=True)
class Case:
    """One heart to show: everything follows from these values.

    index: place in the list, from 0.
    rhythm: of `phantom.rhythm.make_rhythm`.
    heart_rate_bpm: mean, in beats per minute.
    ef_percent: of a normal beat, in %.
    view: A4C or A2C.
    quality: of the picture, a key of `PROBES`.
    """

    index: int
    rhythm: str
    heart_rate_bpm: float
    ef_percent: float
    view: str
    quality: str

    @property
    def seed(self) -> int:
        """Seed of the heart; no other part of the project uses it."""
        return FIRST_SEED + self.index

    @property
    def name(self) -> str:
        """Name of the files of its videos, without suffix."""
        return f"heart-{self.index:04d}"


def cases(count: int) -> list[Case]:
    """Return the first `count` cases. Raises `InputError` for a count beyond the largest tier, or below two."""
    if not 2 <= count <= TIERS[-1]:
        raise InputError(f"The benchmark has 2 to {TIERS[-1]} hearts, not {count}; its tiers are {', '.join(map(str, TIERS))}.")
    return [_case(index) for index in range(count)]


def _case(index: int) -> Case:
    turn, place = divmod(index, len(_PATTERN))
    rhythm = _PATTERN[place]
    # Every rhythm has an even spread of its own, by how many hearts of it come before.
    earlier = turn * _PATTERN.count(rhythm) + _PATTERN[:place].count(rhythm)
    start = list(_RATES_BPM).index(rhythm) / len(_RATES_BPM)
    ef, rate, quality, view = ((start + (earlier + 1) * step) % 1.0 for step in _STEPS)
    slowest, fastest = _RATES_BPM[rhythm]
    return Case(
        index=index,
        rhythm=rhythm,
        heart_rate_bpm=round(slowest + (fastest - slowest) * rate, 1),
        ef_percent=round(_EF_PERCENT[0] + (_EF_PERCENT[1] - _EF_PERCENT[0]) * ef, 1),
        view="A4C" if view < 0.5 else "A2C",
        quality=_QUALITIES[int(len(_QUALITIES) * quality)],
    )


def list_hash(listed: list[Case]) -> str:
    """16 hex digits of the SHA-256 over the version and what the cases say."""
    lines = [VERSION, *(",".join(str(getattr(case, part.name)) for part in fields(Case)) for case in listed)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def phantom_hash() -> str:
    """8 hex digits of the SHA-256 over the phantom's sources: truth that other sources drew is not used."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in [*sorted((package / "phantom").glob("*.py")), package / "physiology.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def recording(case: Case) -> tuple[Heart, Ecg]:
    """Simulate the heart of a case, on a clock on which the video starts at 0 s, and its 12-lead ECG."""
    rng = np.random.default_rng(case.seed)
    rhythm = make_rhythm(case.rhythm, case.heart_rate_bpm, 0.0, _EVENTS_UNTIL_S, rng)
    ecg = make_ecg(rhythm, -ECG_BEFORE_S, SECONDS + ECG_AFTER_S, rng, rate_hz=ECG_RATE_HZ)
    heart = draw_heart(rhythm, rng, ef_percent=case.ef_percent, view=case.view)
    return replace(heart, probe=replace(heart.probe, **PROBES[case.quality])), ecg


def truth_cine(heart: Heart, seed: int) -> Cine:
    """Render the `FRAMES` frames of a heart from 0 s on."""
    times = np.arange(FRAMES) / FPS
    return Cine(render(heart, times, seed).frames, times, heart.probe.mm_per_pixel, heart.anatomy.view)


def write_truth(case: Case, folder: Path) -> None:
    """Write cine.npz and truth.json of a case as `echogen simulate` lays them out, with all beats, also those outside the video.

    What is there already stays; a folder is written whole or not at all.
    """
    final = folder / case.name
    if final.is_dir():
        return
    heart, _ = recording(case)
    columns = {
        "r_s": heart.rhythm.r_s,
        "kind": heart.rhythm.kind,
        "ed_s": heart.clock.ed_s,
        "es_s": heart.clock.avc_s,
        "edv_ml": heart.edvs_ml,
        "esv_ml": heart.esvs_ml,
        "ef_percent": 100.0 * (1.0 - heart.esvs_ml / heart.edvs_ml),
    }
    beats = [dict(zip(columns, values, strict=True)) for values in zip(*(c.tolist() for c in columns.values()), strict=True)]
    facts = {part.name: getattr(case, part.name) for part in fields(Case)}
    facts |= {"version": VERSION, "seed": case.seed, "fps": FPS, "sex": heart.sex, "mm_per_pixel": heart.probe.mm_per_pixel}
    with whole_folder(final) as unfinished:
        write(truth_cine(heart, case.seed), unfinished / "cine.npz")
        write_json(unfinished / "truth.json", facts | {"beats": beats})


Record = TypeVar("Record")


def _mean(records: list[Record], **rest: Any) -> Record:
    """A frozen record whose numbers are the means of those of many; what is no number is taken from `rest`, else the first."""
    numbers = {
        part.name: float(np.mean([getattr(record, part.name) for record in records]))
        for part in fields(records[0])  # type: ignore[arg-type]
        if isinstance(getattr(records[0], part.name), float)
    }
    return replace(records[0], **numbers | rest)  # type: ignore[type-var]


def mean_heart(view: str) -> Heart:
    """Average the hearts of the smallest tier in a view into one that beats steadily at their mean rate whatever an ECG says."""
    chosen = [case for case in cases(TIERS[0]) if case.view == view]
    hearts = [recording(case)[0] for case in chosen]
    rate = float(np.mean([case.heart_rate_bpm for case in chosen]))
    rhythm = make_rhythm("sinus", rate, 0.0, SECONDS, np.random.default_rng(FIRST_SEED), variability=0.0)
    anatomy = _mean([heart.anatomy for heart in hearts])
    filling = _mean([heart.filling for heart in hearts])
    clock = beat_clock(rhythm.qrs_onset_s, rhythm.p_onset_s, ef_percent=anatomy.ef_percent)
    edvs, esvs = beat_volumes(clock, anatomy.edv_ml, anatomy.edv_ml * (1 - anatomy.ef_percent / 100), filling)
    probe = _mean([heart.probe for heart in hearts], shadows=())
    return Heart(rhythm, clock, edvs, esvs, filling, anatomy, probe, _mean([heart.levels for heart in hearts]), "m")
