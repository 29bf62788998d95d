"""A beating heart with its ECG, its echocardiogram and the truth about both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.phantom.anatomy import Anatomy, Pose, draw_anatomy, pose_heart
from echogen.phantom.details import Details
from echogen.phantom.electrical import make_ecg
from echogen.phantom.looks import PLAIN, draw_look
from echogen.phantom.rhythm import Rhythm, make_rhythm
from echogen.phantom.tissue import Levels, locate_tissue
from echogen.phantom.ultrasound import Probe, Scanner, Scatterers, draw_probe
from echogen.physiology import BeatClock, Filling, beat_clock, beat_volumes, volume_curve
from echogen.records import SEXES, VIEWS, Beat, Cine, Ecg, Study

CHUNK = 16


@dataclass(frozen=True)
class Heart:
    """One simulated heart: rhythm, clock, volumes per beat (ml), anatomy, filling, the probe that images it, and details."""

    rhythm: Rhythm
    clock: BeatClock
    edvs_ml: Floats
    esvs_ml: Floats
    filling: Filling
    anatomy: Anatomy
    probe: Probe
    levels: Levels
    sex: str
    details: Details = field(default_factory=Details)


@dataclass(frozen=True)
class Rendering:
    """Frames of a simulated heart, all (frames, size, size).

    frames, structure: uint8 grey with speckle and without; labels: uint8 ids of `records.STRUCTURES`;
    displacement: float32 (frames, 2, size, size), from each pixel to where its tissue was at end-diastole, (x, y) in pixels.
    """

    frames: NDArray[np.uint8]
    structure: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    displacement: NDArray[np.float32]


def draw_heart(
    rhythm: Rhythm,
    rng: np.random.Generator,
    *,
    ef_percent: float | None = None,
    view: str = "A4C",
    sex: str | None = None,
    look: str = PLAIN,
) -> Heart:
    """A random subject with this rhythm; ef_percent None draws one.

    look: one of `looks.LOOKS`, which changes the picture only.
    """
    sex = sex or str(rng.choice(SEXES))
    anatomy = draw_anatomy(rng, view=view, ef_percent=ef_percent, sex=sex)
    probe = draw_probe(rng, heart_length_mm=anatomy.apex_y + anatomy.length_ed + anatomy.wall + anatomy.la_length)
    mean_rr = float(np.median(np.diff(rhythm.r_s)))
    e_to_a = float(np.clip(rng.normal(1.3, 0.4), 0.6, 2.2))
    filling = Filling(
        e_duration_s=float(rng.uniform(0.19, 0.26)),
        a_share=float(np.clip(1.0 / (1.0 + e_to_a) + 0.05 * (mean_rr < 0.7), 0.15, 0.5)),
        time_constant_s=float(rng.uniform(0.12, 0.2)),
    )
    clock = beat_clock(
        rhythm.qrs_onset_s,
        rhythm.p_onset_s,
        sex=sex,
        ef_percent=anatomy.ef_percent,
        wide_qrs=rhythm.wide_qrs,
        ivrt_s=float(rng.uniform(0.06, 0.10)),
        atrial_delay_s=float(rng.uniform(0.07, 0.09)),
    )
    edvs, esvs = beat_volumes(clock, anatomy.edv_ml, anatomy.edv_ml * (1 - anatomy.ef_percent / 100), filling)
    shift = float(rng.normal(0, 2.0))
    levels = Levels(
        blood=float(rng.uniform(-56, -38)),
        myocardium=-16.0 + shift + float(rng.normal(0, 1.5)),
        atrial_wall=-15.0 + shift,
        outside=float(rng.uniform(-27, -16)),
        pericardium=float(rng.uniform(-13, -6)),
        fade_per_mm=float(rng.uniform(0.3, 1.3)),
        anisotropy=float(rng.uniform(5, 14)),
        border=float(rng.uniform(2, 8)),
    )
    details, probe, levels = draw_look(look, rng, view, probe, levels)
    return Heart(rhythm, clock, edvs, esvs, filling, anatomy, probe, levels, sex, details)


def _valve_openness(times_s: Floats, volume_ml: Floats, clock: BeatClock) -> Floats:
    """Openness of the atrioventricular valves (0..1): with the inflow, half shut in diastasis, shut in systole."""
    flow = np.clip(np.gradient(volume_ml, times_s), 0.0, None)
    peak = max(float(np.percentile(flow, 98)), 1e-6)
    diastole = np.zeros_like(times_s)
    closing = np.append(clock.ed_s[1:], clock.ed_s[-1] + 2.0)
    for opens, closes in zip(clock.mvo_s, closing, strict=True):
        ramp = np.clip((times_s - opens) / 0.03, 0, 1) * np.clip((closes - times_s) / 0.03, 0, 1)
        diastole = np.maximum(diastole, ramp)
    first = clock.ed_s[0]
    diastole = np.where(times_s < first, np.clip((first - times_s) / 0.03, 0, 1), diastole)
    return np.asarray(diastole * np.clip(0.38 + 0.62 * np.minimum(1.0, 1.5 * flow / peak), 0.0, 1.0))


def _rate(times_s: Floats) -> float:
    """Frames per second."""
    return 1.0 / float(np.median(np.diff(times_s))) if len(times_s) > 1 else 32.0


def _breathing(pose: Pose, times_s: Floats, details: Details) -> Pose:
    """The pose moved to and fro by breathing."""
    if details.breath_mm == 0:
        return pose
    phase = 2 * np.pi * times_s / details.breath_s + details.breath_phase
    moved = torch.tensor(details.breath_mm * np.sin(phase), dtype=torch.float32, device=pose.apex_x.device)[:, None]
    return replace(pose, apex_x=pose.apex_x + 0.6 * moved, apex_y=pose.apex_y + moved)


def heart_volume_ml(heart: Heart, times_s: Floats) -> Floats:
    """Left ventricular volume of this heart at each time in ml."""
    return volume_curve(times_s, heart.clock, heart.edvs_ml, heart.esvs_ml, heart.filling)


def render(
    heart: Heart,
    times_s: Floats,
    seed: int,
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    finer: int = 1,
) -> Rendering:
    """Draw the heart at the times (s), in the canonical 128 x 128 picture; the speckle comes from the seed.

    finer: the same picture with so many times as many pixels a side (the speckle is another).
    """
    dense = np.arange(times_s[0] - 0.1, times_s[-1] + 0.1, 0.004)
    openness = np.interp(times_s, dense, _valve_openness(dense, heart_volume_ml(heart, dense), heart.clock))
    details = heart.details
    shape, pose = pose_heart(heart.anatomy, times_s, heart_volume_ml(heart, times_s), openness, device)
    pose = _breathing(pose, times_s, details)
    scanner = Scanner(heart.probe, device, finer)
    scatterers = Scatterers(scanner, torch.Generator(device).manual_seed(seed))
    pixel_x, pixel_y = scanner.picture_points()
    clock = torch.tensor(times_s, dtype=torch.float32, device=device)[:, None]
    count, size = len(times_s), scanner.size
    frames = np.zeros((count, size, size), np.uint8)
    structure, labels = np.zeros_like(frames), np.zeros_like(frames)
    displacement = np.zeros((count, 2, size, size), np.float32)
    inside, mm_per_pixel = scanner.inside.cpu().numpy(), heart.probe.mm_per_pixel / finer

    def grey(picture: Tensor) -> NDArray[np.uint8]:
        return (picture * 255.0 + 0.5).to(torch.uint8).cpu().numpy()

    keep, before = details.persistence ** (32.0 / _rate(times_s)), None
    with torch.inference_mode():
        for start in range(0, count, CHUNK):
            part = slice(start, min(start + CHUNK, count))
            now = pose.at(part)
            beams = locate_tissue(heart.anatomy, shape, now, scanner.x, scanner.y, heart.levels, details)
            picture = scatterers.image(beams.level_db, beams.blood, beams.reference_x, beams.reference_y, clock[part], details)
            if keep:
                for frame in picture[:, 0]:
                    before = frame if before is None else frame.lerp_(before, keep)
            frames[part], structure[part] = grey(picture[:, 0]), grey(picture[:, 1])
            pixels = locate_tissue(heart.anatomy, shape, now, pixel_x, pixel_y, heart.levels, details)
            labels[part, inside] = pixels.label.cpu().numpy()
            still = 1.0 - pixels.blood
            moved_x = (pixels.reference_x - pixel_x) * still / mm_per_pixel
            moved_y = (pixels.reference_y - pixel_y) * still / mm_per_pixel
            displacement[part, 0][:, inside] = moved_x.cpu().numpy()
            displacement[part, 1][:, inside] = moved_y.cpu().numpy()
            if progress:
                progress(part.stop, count)
    return Rendering(frames, structure, labels, displacement)


def true_beats(heart: Heart, start_s: float, end_s: float) -> tuple[Beat, ...]:
    """The beats whose end-diastole and end-systole both lie between start and end."""
    clock = heart.clock
    return tuple(
        Beat(
            float(clock.ed_s[k]),
            float(clock.avc_s[k]),
            float(heart.edvs_ml[k]),
            float(heart.esvs_ml[k]),
            float(heart.rhythm.r_s[k]),
        )
        for k in range(len(clock))
        if start_s <= clock.ed_s[k] and clock.avc_s[k] <= end_s
    )


def simulate(
    *,
    ecg: Ecg | None = None,
    rhythm: str | Rhythm = "sinus",
    heart_rate_bpm: float = 72.0,
    ef_percent: float | None = 60.0,
    view: str = "A4C",
    sex: str | None = None,
    look: str = PLAIN,
    seconds: float = 4.0,
    fps: float = 32.0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """A simulated recording: 12-lead ECG, cine (128 x 128), beats and masks on one clock that starts at 0 s.

    With `rhythm` a `Rhythm` (for example the beats of a real ECG, whose `ecg` is then passed through), the heart follows
    those beats. heart_rate_bpm: 30..220; ef_percent: 10..85, None draws one; seconds > 0; fps 5..240.
    look: one of `looks.LOOKS`, the plain phantom or a machine's. Everything follows from the seed.
    Raises `InputError` for values out of range.

    >>> import echogen
    >>> study = echogen.simulate(heart_rate_bpm=75.0, ef_percent=40.0, seconds=2.0, seed=1)
    >>> study.cine.frames.shape, len(study.ecg.lead_names), len(study.beats)
    ((64, 128, 128), 12, 2)
    """
    if view not in VIEWS:
        raise InputError(f"The view must be one of {', '.join(VIEWS)}, not {view!r}.")
    if sex is not None and sex not in SEXES:
        raise InputError(f"The sex must be m or f, not {sex!r}.")
    if ef_percent is not None and not 10 <= ef_percent <= 85:
        raise InputError(f"The phantom's ejection fraction must lie between 10 and 85 %, not {ef_percent}.")
    if not 0 < seconds <= 3600:
        raise InputError(f"The length must be between 0 and 3600 seconds, not {seconds}.")
    if not 5 <= fps <= 240:
        raise InputError(f"The frame rate must be between 5 and 240 per second, not {fps}.")
    rng = np.random.default_rng(seed)
    start = 0.0 if ecg is None else ecg.start_s
    if isinstance(rhythm, str):
        rhythm = make_rhythm(rhythm, heart_rate_bpm, start, start + seconds, rng)
    if ecg is None:
        ecg = make_ecg(rhythm, start, start + seconds, rng)
    heart = draw_heart(rhythm, rng, ef_percent=ef_percent, view=view, sex=sex, look=look)
    times = start + np.arange(max(1, round(seconds * fps))) / fps
    drawn = render(heart, times, seed, device=device, progress=progress)
    cine = Cine(drawn.frames, times, mm_per_pixel=heart.probe.mm_per_pixel, view=view)
    return Study(ecg, cine, heart.anatomy.ef_percent, heart.sex, true_beats(heart, times[0], times[-1]), drawn.labels)


def with_ef(heart: Heart, ef_percent: float) -> Heart:
    """The same heart, rhythm and picture with another ejection fraction in %; its end-diastolic volume stays."""
    old = heart.anatomy
    anatomy = replace(old, ef_percent=ef_percent, mapse=old.mapse * ef_percent / old.ef_percent)
    rhythm = heart.rhythm
    clock = beat_clock(rhythm.qrs_onset_s, rhythm.p_onset_s, sex=heart.sex, ef_percent=ef_percent, wide_qrs=rhythm.wide_qrs)
    edvs, esvs = beat_volumes(clock, anatomy.edv_ml, anatomy.edv_ml * (1 - ef_percent / 100), heart.filling)
    return replace(heart, anatomy=anatomy, clock=clock, edvs_ml=edvs, esvs_ml=esvs)
