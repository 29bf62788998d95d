"""A still that keeps its own pixels, on patients: python benchmarks/own_pixels.py -> docs/own_pixels.md.

Needs $ECHOGEN_TEST_DATA/real.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from scipy import ndimage

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.cine.reading import read_cine
from echogen.cine.sector import canonical_view
from echogen.ecg_window.beats import find_beats
from echogen.errors import InputError
from echogen.generators import Generator
from echogen.generators.own_pixels.generator import OwnPixels
from echogen.measurement import load_segmenter, measure, read_masks, segment
from echogen.measurement.view_check import other_view
from echogen.metrics.pictures.likeness import psnr, ssim
from echogen.records import Cine, Ecg, FrameMap

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

CINES = (
    "echocv3_Image-43_A4C.dcm",
    "fodicom_DIRW0007_A4C.dcm",
    "echonetdocs_Example1_A4C.mp4",
    "echonet3d_A4C.mp4",
    "echonet3d_A2C.mp4",
    "godicom_I_000009_A4C.dcm",
    "godicom_I_000010_A2C.dcm",
    "godicom_I_000021_A4C.dcm",
    "godicom_I_000022_A2C.dcm",
)
#: Patients whose labelled EF comes out near 0.
NO_EF = {"patient0052", "patient0113", "patient0286"}
ASKED = (25.0, 40.0, 55.0, 70.0)
#: Gaussian widths in pixels between which structure of about 1 to 2, 2 to 6 and 6 to 15 pixels lies.
BANDS = {"1 to 2 px": (0.42, 0.85), "2 to 6 px": (0.85, 2.5), "6 to 15 px": (2.5, 6.0)}
#: Share of systole before which a frame is still nearly the given one.
FROM_PHASE = 0.25
MOST_FRAMES = 120
READER = load_segmenter("reader")
#: Grey level of 2 % of white.
BLACK = 5


def distance(drawn: Bytes, real: Bytes) -> float:
    """Perceptual distance of two pictures (128, 128): LPIPS's formula on the encoder of the plain segmenter, unweighted."""
    maps = []
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([drawn, real])).float()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1.0
        for block in load_segmenter("segmenter").down:
            x = block(x)
            a, b = F.normalize(x, dim=1, eps=1e-6)
            maps.append(float((a - b).square().sum(0).mean()))
    return float(np.mean(maps))


def lv_dice(one: Bytes, other: Bytes) -> float:
    """Dice overlap of the left ventricle in two masks (rows, columns)."""
    a, b = one == 1, other == 1
    return 2.0 * float((a & b).sum()) / max(int(a.sum() + b.sum()), 1)


def bands(picture: Bytes, tissue: NDArray[np.bool_]) -> Floats:
    """Deviation of a band-passed picture (rows, columns) over a region, for each of `BANDS`."""
    grey = picture.astype(np.float64) / 255.0
    return np.array(
        [(ndimage.gaussian_filter(grey, a) - ndimage.gaussian_filter(grey, b))[tissue].std() for a, b in BANDS.values()]
    )


@dataclass(frozen=True)
class Beat:
    """A beat of a video: ED, ES and the next ED, in s; a phase runs from 0 at ED to 1 at ES and 2 at the next ED."""

    ed: float
    es: float
    next_ed: float

    def phase(self, time_s: Floats) -> Floats:
        return np.interp(time_s, [self.ed, self.es, self.next_ed], [0.0, 1.0, 2.0], left=-1.0, right=9.0)

    def time(self, phase: Floats) -> Floats:
        return np.interp(phase, [0.0, 1.0, 2.0], [self.ed, self.es, self.next_ed])


@dataclass(frozen=True)
class Clip:
    """A real clip in the canonical geometry, its masks by the reader, its beats, and the EF of the first of them in %."""

    name: str
    frames: Bytes
    times_s: Floats
    masks: Bytes
    beats: list[Beat]
    ef_percent: float

    def at(self, time_s: float) -> int:
        return int(np.argmin(np.abs(self.times_s - time_s)))


def clips(folder: Path, gifs: int) -> Iterator[Clip]:
    """Whole clips with at least one beat that the reader sees."""
    paths = [folder / "cines" / name for name in CINES] + sorted((folder / "echodiffusion_gif").glob("*.gif"))[:gifs]
    for path in paths:
        try:
            cine = read_cine(path)
            shown = canonical_view(cine.frames[:MOST_FRAMES]).frames(cine.frames[:MOST_FRAMES])
            times = cine.times_s[:MOST_FRAMES]
            masks = segment(shown, READER)
            reading = read_masks(masks, times)
        except InputError as error:
            print("left out:", path.name, error, flush=True)
            continue
        found = reading.beats
        beats = []
        for index, beat in enumerate(found):
            following = found[index + 1].ed_s if index + 1 < len(found) else float(times[-1])
            if following > beat.es_s + 0.1 and beat.es_s > beat.ed_s + 0.1:
                beats.append(Beat(beat.ed_s, beat.es_s, following))
        if not beats or other_view(shown, READER):
            print("left out:", path.name, "no whole beat, or no apical view", flush=True)
            continue
        yield Clip(path.stem, shown, times, masks, beats, float(np.clip(reading.beat_ef_percent[0], 15.0, 80.0)))


@dataclass(frozen=True)
class Heart:
    """An ECG and its first whole beat, with which all videos are made."""

    ecg: Ecg
    start_s: float

    @classmethod
    def recorded(cls) -> Heart:
        ecg = echogen.read_ecg(str(get_testdata_file("waveform_ecg.dcm")))
        return cls(ecg, float(find_beats(ecg).r_s[0]))

    def beat(self, ef_percent: float) -> Beat:
        clock = find_beats(self.ecg).clock(None, ef_percent)
        return Beat(self.start_s, float(clock.avc_s[0]), float(clock.ed_s[1]))


def own(heart: Heart, still: Bytes, ef_percent: float, seconds: float, seed: int = 0) -> Cine:
    """Video of a still's own pixels."""
    mask = {"mask": FrameMap(segment(still[None], READER), np.zeros(1))}
    reference = Cine(still[None], np.zeros(1))
    return OwnPixels()(
        heart.ecg, start_s=heart.start_s, seconds=seconds, reference=reference, maps=mask, ef_percent=ef_percent, seed=seed
    )


def drawn(model: Generator, heart: Heart, still: Bytes, ef_percent: float, seconds: float) -> Cine:
    """Video of a still that a model draws anew."""
    reference = Cine(still[None], np.zeros(1))
    ef = float(np.clip(ef_percent, *model.ef_range))
    return model(heart.ecg, start_s=heart.start_s, seconds=seconds, reference=reference, ef_percent=ef, seed=0)


@dataclass
class Row:
    """Figures of one way to make later frames, each a list over frames."""

    ssim: list[float]
    psnr: list[float]
    lpips: list[float]
    dice: list[float]
    area: list[float]

    @classmethod
    def empty(cls) -> Row:
        return cls([], [], [], [], [])

    def add(self, made: Bytes, real: Bytes, made_mask: Bytes, real_mask: Bytes, full_area: float) -> None:
        self.ssim.append(ssim(made, real))
        self.psnr.append(psnr(made, real))
        self.lpips.append(distance(made, real))
        self.dice.append(lv_dice(made_mask, real_mask))
        self.area.append(100.0 * abs(int((made_mask == 1).sum()) - int((real_mask == 1).sum())) / full_area)

    def cells(self) -> list[str]:
        values = [np.mean(each) if each else np.nan for each in (self.ssim, self.psnr, self.lpips, self.dice, self.area)]
        digits = (3, 2, 4, 3, 1)
        return ["-" if np.isnan(value) else f"{value:.{places}f}" for value, places in zip(values, digits, strict=True)]


def same_phase(clip: Clip, model: Generator, heart: Heart) -> dict[str, Row]:
    """Rows of one clip: its first ED frame is given, its later frames of that beat are the truth."""
    rows: dict[str, Row] = defaultdict(Row.empty)
    beat, ours = clip.beats[0], heart.beat(clip.ef_percent)
    given = clip.at(beat.ed)
    still = clip.frames[given]
    seconds = ours.next_ed - ours.ed + 0.1
    videos = {
        "drawn by phantom-128": drawn(model, heart, still, clip.ef_percent, seconds),
        "own pixels": own(heart, still, clip.ef_percent, seconds),
    }
    masks = {name: segment(video.frames, READER) for name, video in videos.items()}
    full = float((clip.masks[given] == 1).sum())
    phases = beat.phase(clip.times_s)
    for index in np.flatnonzero((phases > FROM_PHASE) & (phases <= 2.0)):
        real, real_mask = clip.frames[index], clip.masks[index]
        rows["still repeated"].add(still, real, clip.masks[given], real_mask, full)
        for name, video in videos.items():
            at = int(np.argmin(np.abs(video.times_s - ours.time(phases[index]))))
            rows[name].add(video.frames[at], real, masks[name][at], real_mask, full)
        if len(clip.beats) > 1:
            at = clip.at(float(clip.beats[1].time(phases[index])))
            rows["the recording a beat later"].add(clip.frames[at], real, clip.masks[at], real_mask, full)
    return rows


def stills(folder: Path, count: int) -> Iterator[tuple[str, Bytes, Bytes, Bytes, float]]:
    """CAMUS patients: name, ED still, ES still, human outline at ES, EF in %; evenly chosen."""
    labels = {entry["id"]: entry for entry in json.loads((folder / "labels.json").read_text(encoding="utf-8"))["camus_a4c"]}
    names = [name for name in sorted(labels) if name not in NO_EF]
    for name in [names[index] for index in np.linspace(0, len(names) - 1, count).astype(int)]:
        with np.load(folder / labels[name]["file"]) as held:
            try:
                view = canonical_view(held["ED"])
            except InputError:
                print("left out:", name, flush=True)
                continue
            ed, es, outline = view.frames(held["ED"]), view.frames(held["ES"]), view.masks(held["ES_gt"])
        yield name, ed, es, outline, float(np.clip(labels[name]["EF_a4c"], 15.0, 80.0))


def systole(patients: list[tuple[str, Bytes, Bytes, Bytes, float]], model: Generator, heart: Heart) -> dict[str, Row]:
    """Rows of CAMUS: the ED still is given, the ES still is the truth; outlines against the human one."""
    rows: dict[str, Row] = defaultdict(Row.empty)
    for _, ed, es, outline, ef in patients:
        beat = heart.beat(ef)
        seconds = beat.es - beat.ed + 0.2
        videos = {"drawn by phantom-128": drawn(model, heart, ed, ef, seconds), "own pixels": own(heart, ed, ef, seconds)}
        first = segment(ed[None], READER)[0]
        full = float((first == 1).sum())
        rows["the reader on the real ES"].add(es, es, segment(es[None], READER)[0], outline, full)
        rows["still repeated"].add(ed, es, first, outline, full)
        for name, video in videos.items():
            at = int(np.argmin(np.abs(video.times_s - beat.es)))
            rows[name].add(video.frames[at], es, segment(video.frames, READER)[at], outline, full)
    rows["the reader on the real ES"].ssim = []
    rows["the reader on the real ES"].psnr = []
    rows["the reader on the real ES"].lpips = []
    return rows


def asked(patients: list[tuple[str, Bytes, Bytes, Bytes, float]], heart: Heart) -> tuple[list[list[str]], list[str]]:
    """Rows of EF asked against EF read, and sentences on sharpness and black of the same videos."""
    read: dict[float, list[list[float]]] = {ef: [] for ef in ASKED}
    matched, ratios, brightest = [], [], []
    for _, ed, *_ in patients:
        tissue = ndimage.binary_erosion(ndimage.gaussian_filter(ed.astype(float), 1.0) > BLACK, iterations=3)
        dark = ndimage.binary_erosion(ndimage.maximum_filter(ed, 3) == 0, iterations=1)
        own_bands = bands(ed, tissue)
        for ef in ASKED:
            pair = []
            for seed in (0, 1):
                video = own(heart, ed, ef, 3.0, seed)
                reading = measure(video, READER, heart.ecg)
                pair.append(np.nan if reading.ef_percent is None else reading.ef_percent)
                matched.append(reading.matched_fraction or 0.0)
            read[ef].append(pair)
            ratios.append(np.array([bands(frame, tissue) for frame in video.frames[1::8]]) / own_bands)
            brightest.append(int(video.frames[:, dark].max()) if dark.any() else 0)
    rows = []
    for ef in ASKED:
        values = np.array(read[ef])
        error = values.mean(1) - ef
        within = 100.0 * np.nanmean(np.abs(error) <= 5.0)
        rows.append(
            [
                f"{ef:.0f}",
                str(len(values)),
                f"{np.nanmean(values):.1f}",
                f"{np.nanmean(np.abs(error)):.1f}",
                f"{within:.0f}",
                f"{np.nanmean(np.abs(values[:, 0] - values[:, 1])):.1f}",
            ]
        )
    every = np.concatenate(ratios)
    told = [
        f"{name}: mean {every[:, index].mean():.2f} of the still's, 5th to 95th percentile "
        f"{np.percentile(every[:, index], 5):.2f} to {np.percentile(every[:, index], 95):.2f}"
        for index, name in enumerate(BANDS)
    ]
    notes = [
        f"Beats of the ECG that the reader sees in these videos at their time: {100 * np.mean(matched):.0f} %.",
        "Band-passed contrast of frames over the still's own, in lit parts: " + "; ".join(told) + ".",
        f"Brightest grey in any frame where the still and its neighbourhood are black: {max(brightest)} of 255.",
    ]
    return rows, notes


def merged(rows: list[dict[str, Row]]) -> dict[str, Row]:
    """Rows of many clips, in which each clip counts once: lists of the clips' means."""
    whole: dict[str, Row] = defaultdict(Row.empty)
    for clip in rows:
        for name, row in clip.items():
            for field, values in vars(row).items():
                getattr(whole[name], field).append(float(np.mean(values)))
    return whole


def main() -> None:
    options = arguments(__doc__ or "", gifs=12, patients=24, hearts=8)
    torch.set_num_threads(1)
    folder = Path(os.environ["ECHOGEN_TEST_DATA"]) / "real"
    model = Generator.from_pretrained(options.model, device="cpu")
    heart = Heart.recorded()
    chosen = list(clips(folder, options.gifs))
    each = [same_phase(clip, model, heart) for clip in chosen]
    whole = merged(each)
    later = [clip for clip in chosen if len(clip.beats) > 1]
    whole_later = merged([rows for rows in each if "the recording a beat later" in rows])
    head = ["later frames", "n", "SSIM", "PSNR, dB", "perceptual distance", "LV Dice", "LV area off, % of ED"]
    order = ("the recording a beat later", "own pixels", "still repeated", "drawn by phantom-128")
    same = table(head, [[name, str(len(chosen)), *whole[name].cells()] for name in order[1:]])
    two = table(head, [[name, str(len(later)), *whole_later[name].cells()] for name in order])
    patients = list(stills(folder, options.patients))
    camus = systole(patients, model, heart)
    camus_order = ("the reader on the real ES", *order[1:])
    ed_es = table(head, [[name, str(len(patients)), *camus[name].cells()] for name in camus_order])
    rows, notes = asked(patients[:: max(1, len(patients) // options.hearts)][: options.hearts], heart)
    efs = table(["EF asked, %", "n", "EF read, %", "mean error, points", "within 5 points, %", "between seeds, points"], rows)
    command = f"`python benchmarks/own_pixels.py --gifs {options.gifs} --patients {options.patients} --hearts {options.hearts}`"
    text = (
        "A still of a patient is given and its own pixels are moved (`generate --image`, system own-pixels), beside the still "
        f"repeated (the control) and what {model.name} ({model.weights_hash}) draws of it (`--texture drawn`). All pictures in "
        "the canonical 128 x 128; outlines of the left ventricle by the shipped reader, which also outlined the given stills; "
        "perceptual distance: LPIPS's formula, unweighted, on the encoder of the plain segmenter. The ECG is the recording "
        f"inside pydicom. No weights were learned from these patients, but the life of speckle and the fading of the motion "
        "through the wall were set after a look at five of the cines and some twenty of the stills, which are among those "
        f"judged. Command: {command}.\n\n"
        f"Whole clips ({len(chosen)}): the ED frame of the first beat is given, the later frames of that beat are the truth, "
        "compared at the same phase (ED to ES and ES to ED stretched apart); the EF asked is the one that the reader finds in "
        "the clip. Each clip counts once.\n\n" + same + f"\nThose of them that show a second beat ({len(later)}), with the "
        "recording itself a beat later as the ceiling:\n\n" + two + f"\nCAMUS, {len(patients)} patients evenly chosen: the ED "
        "still is given with its EF by human outlines, the ES still is the truth, and outlines are compared with the human "
        "one.\n\n" + ed_es + f"\nEF asked of {min(options.hearts, len(patients))} of these patients, two seeds, "
        "3 s each, read by the reader:\n\n" + efs + "\n" + "\n".join(f"- {note}" for note in notes) + "\n"
    )
    print(text)
    write_section(DOCS / "own_pixels.md", "Stills of patients", text)


if __name__ == "__main__":
    main()
