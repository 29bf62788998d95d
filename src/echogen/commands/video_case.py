"""Steps of one video by the options of `echogen generate`: reading of its ECG, generation, measurement and description."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from echogen.commands.common import FromPhase, Sex, Size, Texture, View, read_part
from echogen.commands.own_still import StillVideo, still_video
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.ecg import Landmarks
    from echogen.generators.sampling import Sampling
    from echogen.generators.video_generator import VideoGenerator
    from echogen.generators.wrappers.refined import Refiner
    from echogen.records import Cine, Conditions, Ecg

#: Length of a video in s unless another is given: some four beats, and a short wait on a laptop.
DEFAULT_SECONDS = 4.0
#: Length of the ECG in s that is searched for the R peak at which a video with a reference image starts.
FIRST_BEAT_WITHIN_S = 10.0


@dataclass(frozen=True)
class Case:
    """Options of `echogen generate` for one video; None where an option is left out.

    ecg: File of the ECG.
    image: File of an echo still or video whose first frame is the reference.
    ef: Ejection fraction in %.
    view: Apical four- or two-chamber view.
    sex: Sex of the patient.
    text: Sentence about the echo.
    ecg_start: Start of the video on the clock of the ECG, in s.
    seconds: Length of the video in s.
    fps: Frames per second of the file.
    ecg_rate: Sampling rate in Hz of an ECG file that does not state it.
    ecg_unit: Unit of an ECG file that does not state it.
    allow_flat: True treats a flat line as an absent ECG.
    guidance: Guidance scale.
    steps: Decoding steps.
    seed: Seed of the video; the same seed makes the same video.
    texture: Pixels of a video with an image: "own", the still's; "drawn", the model's; "auto", own where that can be done.
    from_phase: Moment of the beat that the image shows; "auto" takes it for end-diastole.
    size: "128" for the canonical picture, "native" for the image's own.
    """

    ecg: Path | None = None
    image: Path | None = None
    ef: float | None = None
    view: View | None = None
    sex: Sex | None = None
    text: str | None = None
    ecg_start: float | None = None
    seconds: float | None = None
    fps: float | None = None
    ecg_rate: float | None = None
    ecg_unit: str | None = None
    allow_flat: bool = False
    guidance: float | None = None
    steps: int | None = None
    seed: int = 0
    texture: Texture = "auto"
    from_phase: FromPhase = "auto"
    size: Size = "128"

    def conditions(self, reference: Cine | None = None) -> Conditions:
        """Conditions besides the ECG. Raises `InputError` for values out of range."""
        from echogen.records import Conditions

        return Conditions(reference=reference, ef_percent=self.ef, view=self.view, sex=self.sex, text=self.text)

    def sampling(self) -> Sampling:
        """Settings of the sampler. Raises `InputError` for values out of range."""
        from echogen.generators.sampling import Sampling

        return Sampling(self.guidance, self.steps, self.seed)

    def settings(self, seconds: float) -> dict[str, Any]:
        """Options in the form of the JSON file, for a video of `seconds` s."""
        return {
            "ef_percent": self.ef,
            "view": self.view,
            "sex": self.sex,
            "text": self.text,
            "image": self.image and self.image.name,
            "seconds": seconds,
            "allow_flat": self.allow_flat,
            "ecg_rate_hz": self.ecg_rate,
            "ecg_unit": self.ecg_unit,
            "guidance": self.guidance,
            "steps": self.steps,
            "texture": self.texture,
            "from_phase": self.from_phase,
            "size": self.size,
        }


@dataclass(frozen=True)
class Video:
    """A finished video.

    cine: Frames and their times.
    ecg: Recorded ECG around the video; None without one.
    r_s: R peaks during the video, in s.
    document: Content of its JSON file.
    """

    cine: Cine
    ecg: Ecg | None
    r_s: list[float]
    document: dict[str, Any]


@dataclass(frozen=True)
class VideoEcg:
    """The ECG of one video; all but the start is None for a generator that takes no ECG.

    start_s: Start of the video on the clock of the ECG, in s.
    recorded: Recording around the video.
    ecg: Recording that the generator receives; None for a flat line.
    landmarks: Waves of the recording; None for a flat line.
    """

    start_s: float
    recorded: Ecg | None = None
    ecg: Ecg | None = None
    landmarks: Landmarks | None = None

    def r_s(self, seconds: float) -> list[float]:
        """R peaks in a video of `seconds` s, in s on the clock of the ECG."""
        if self.landmarks is None:
            return []
        return [float(r) for r in self.landmarks.r_s if self.start_s <= r < self.start_s + seconds]


def load_generator(
    model: str, device: str, adapter: str | None = None, *, private: bool = False, refine: Sequence[str] = ()
) -> VideoGenerator:
    """Load a generator with its wrappers.

    model: Shipped generator, or a folder.
    device: auto, cpu or cuda.
    adapter: Adapter of the generator; None without one.
    private: True draws anew a video that resembles a training clip.
    refine: Kinds of refinement, or folders of refiners.
    Raises `InputError` for a missing model, adapter or refiner, and for one kind of refinement twice.
    """
    from echogen.generators.base import Generator
    from echogen.generators.wrappers.private import Private
    from echogen.generators.wrappers.refined import Refined
    from echogen.metrics.memorisation.bank import copy_filter

    system = Generator.from_pretrained(model, device, adapter)
    generator: VideoGenerator = Private(system, copy_filter(system)) if private else system
    for refiner in _refiners(refine, device):
        generator = Refined(generator, refiner)
    return generator


def make_video(generator: VideoGenerator, case: Case, progress: Callable[[float, float], None] | None = None) -> Video:
    """Make one video and measure it, before any refinement.

    generator: Generator with its wrappers.
    case: Options of the video.
    progress: See `VideoGenerator.__call__`.
    Raises `InputError` for a file that cannot be read, and for conditions that the generator does not take.
    """
    from echogen.cine import resample_frames
    from echogen.generators.sampling import Span
    from echogen.measurement import truth_error

    shown_still = still_video(generator, case)
    generator = shown_still.generator
    system = generator.core
    seconds = min(DEFAULT_SECONDS, generator.longest_s) if case.seconds is None else case.seconds
    path = case.ecg or (_recording_in_pydicom() if "ecg" in generator.takes else None)
    ecg = VideoEcg(case.ecg_start or 0.0) if path is None else read_video_ecg(path, case, shown_still, seconds)
    conditions = replace(shown_still.conditions, ecg=ecg.ecg)
    generator.check(conditions)
    made = generator.make(ecg.ecg, conditions, case.sampling(), Span(ecg.start_s, seconds), progress)
    network = "reader" if shown_still.own else "segmenter"
    measured = _measure(made.unrefined, ecg, network)
    is_resampled = case.fps is not None and not math.isclose(case.fps, generator.native_fps)
    shown = resample_frames(made.cine, case.fps) if is_resampled and case.fps is not None else made.cine
    r_s = ecg.r_s(seconds)
    document = {
        "model": system.name,
        "weights_hash": system.weights_hash,
        "adapter": system.adapter and system.adapter.name,
        "adapter_hash": system.adapter and system.adapter.digest,
        "seed": case.seed,
        "privacy": made.notes.get("privacy"),
        "ecg": path and path.name,
        "settings": case.settings(seconds),
        "video_start_s": ecg.start_s,
        "frames": len(shown.frames),
        "fps": shown.fps if len(shown.frames) > 1 else None,
        "native_fps": system.native_fps,
        "refined": made.notes.get("refined", []),
        "resampled": is_resampled,
        "r_s": r_s,
        **measured,
        "measuring_error": truth_error(network),
    }
    if shown_still.facts:
        document["still"] = dict(shown_still.facts)
    return Video(shown, ecg.recorded, r_s, document)


def read_video_ecg(path: Path, case: Case, still: StillVideo, seconds: float) -> VideoEcg:
    """Read the part of an ECG that a video needs, with the signal around it that its first and last window use.

    still: How the image of the case becomes a video.
    The video starts at case.ecg_start, else with an image at the moment that it shows, usually the first R peak, else where the
    ECG begins.
    Raises `InputError` for a flat line, unless the case allows it.
    """
    from echogen.ecg import ecg_info, find_landmarks, signal_quality

    rate_hz, unit, start_s = case.ecg_rate, case.ecg_unit, case.ecg_start
    if start_s is None and case.image is not None:
        beginning = min(FIRST_BEAT_WITHIN_S, ecg_info(path, rate_hz=rate_hz, unit=unit).duration_s)
        first = read_part(path, 0.0, beginning, rate_hz, unit)
        is_flat = signal_quality(first).verdict == "flat"
        start_s = 0.0 if is_flat else still.start_s(find_landmarks(first))
    start_s = start_s or 0.0
    generator = still.generator
    after_s = generator.window_s + generator.ecg_future_s
    recorded = read_part(path, start_s, seconds, rate_hz, unit, before_s=generator.ecg_past_s, after_s=after_s)
    quality = signal_quality(recorded)
    if quality.verdict == "flat":
        if not case.allow_flat:
            reason = " ".join(quality.reasons)
            raise InputError(f"{reason} Choose another part with --ecg-start, or say --allow-flat for a video without ECG.")
        return VideoEcg(start_s, recorded)
    landmarks = find_landmarks(recorded)
    if quality.verdict == "poor":
        typer.echo(f"Note: the ECG is poor. {' '.join(quality.reasons)}", err=True)
    return VideoEcg(start_s, recorded, recorded, landmarks)


def _refiners(names: Sequence[str], device: str) -> list[Refiner]:
    """Load refiners by name or from folders, sorted: doubling of the frame rate comes first, as it is trained on plain frames."""
    from echogen.generators.wrappers.refined import REFINEMENTS, REFINER_FILE, Refiner

    named = [each if (Path(each) / REFINER_FILE).is_file() else f"refine-{each}" for each in names]
    found = [Refiner.from_pretrained(name, device) for name in named]
    kinds = [refiner.config.refine for refiner in found]
    if len(set(kinds)) < len(kinds):
        raise InputError("The same --refine can be given only once.")
    return sorted(found, key=lambda refiner: REFINEMENTS.index(refiner.config.refine))


def _recording_in_pydicom() -> Path:
    """Path of the real 12-lead recording of 10 s inside the pydicom package."""
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("waveform_ecg.dcm")))


def _measure(cine: Cine, ecg: VideoEcg, network: str) -> dict[str, Any]:
    """Measure EF, heart rate and beats of a video, and their agreement with the ECG; None where it shows none.

    network: Shipped network that outlines: "reader" for a patient's own pixels, else "segmenter".
    """
    from echogen.cine.sector import resize_canonical
    from echogen.measurement import load_segmenter, measure

    # Drawn frames have the canonical geometry at any size: no sector is searched for.
    canonical = network == "segmenter" and cine.frames.shape[1] == cine.frames.shape[2]
    frames = resize_canonical(cine.frames) if canonical else cine.frames
    scale = frames.shape[1] / cine.frames.shape[1]
    cine = replace(cine, frames=frames, mm_per_pixel=None if cine.mm_per_pixel is None else cine.mm_per_pixel / scale)
    try:
        return measure(cine, load_segmenter(network), ecg.ecg, ecg.landmarks).to_json()
    except InputError:
        return {"ef_percent": None, "heart_rate_bpm": None, "beats": []}
