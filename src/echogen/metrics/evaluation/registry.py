"""The metrics of an evaluation by name; each gives one figure under its own name and, where it says more, further ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from echogen.metrics.evaluation.collectors import Collector, Picture, Speckle
from echogen.metrics.heart.area_ejection import AreaEjection, OurMasks, Sam2Masks
from echogen.metrics.heart.collectors import Curve, Ejection, Phases, Reconstruction, Timing
from echogen.metrics.heart.regressed_ef import RegressedEjection
from echogen.metrics.memorisation.copies import Copies
from echogen.metrics.pictures.likeness import MeanAbsoluteError, MeanSquaredError, PeakSignalToNoise, StructuralSimilarity
from echogen.metrics.sets.collectors import SetDiscrepancy, SetDistance
from echogen.metrics.sets.features import I3dFeatures, InceptionFeatures, LearnedPerceptualDistance, shipped_echo_features
from echogen.metrics.sets.video_mae import VideoMaeFeatures
from echogen.registry import Registry


@dataclass(frozen=True)
class Metric:
    """A metric that `evaluate` can compute.

    make: gives a new collector, which takes in one pair of clips after the other; raises `InputError` where weights are missing.
    paired: True if it compares clips of one name; False if it compares the two folders as sets.
    says: one line for people.
    """

    make: Callable[[], Collector]
    paired: bool
    says: str


_BUILT_IN: dict[str, Metric] = {
    "mse": Metric(lambda: Picture("mse", "1", MeanSquaredError), True, "mean squared error of grey values 0..1"),
    "mae": Metric(lambda: Picture("mae", "1", MeanAbsoluteError), True, "mean absolute error of grey values 0..1"),
    "psnr": Metric(lambda: Picture("psnr", "dB", PeakSignalToNoise), True, "peak signal-to-noise ratio"),
    "ssim": Metric(lambda: Picture("ssim", "1", StructuralSimilarity), True, "structural similarity"),
    "lpips": Metric(lambda: Picture("lpips", "1", LearnedPerceptualDistance), True, "perceptual distance (published weights)"),
    "fid": Metric(lambda: SetDistance("fid", InceptionFeatures), False, "Fréchet distance of frames (published weights)"),
    "fvd": Metric(lambda: SetDistance("fvd", I3dFeatures, 0), False, "Fréchet distance of 16-frame videos (published weights)"),
    "fvd64": Metric(
        lambda: SetDistance("fvd64", partial(I3dFeatures, frames=64), 0),
        False,
        "Fréchet distance of 64-frame videos (published weights)",
    ),
    "fvd_cd": Metric(lambda: SetDistance("fvd_cd", VideoMaeFeatures, 0), False, "content-debiased FVD (published weights)"),
    "echo": Metric(lambda: SetDistance("echo", shipped_echo_features), False, "Fréchet echo distance, on echogen's features"),
    "echo_mmd": Metric(
        lambda: SetDiscrepancy("echo_mmd", shipped_echo_features), False, "kernel distance, on echogen's features"
    ),
    "memorisation": Metric(Copies, False, "share of copies, where the real clips are those that were trained on"),
    "speckle": Metric(Speckle, False, "speckle of the myocardium"),
    "ef": Metric(Ejection, False, "EF measured in the video against the EF asked for"),
    "ef_regressor": Metric(RegressedEjection, False, "EF by a regression network (no segmentation) against the EF asked for"),
    "ef_area": Metric(lambda: AreaEjection("ef_area", OurMasks), True, "EF by area against that of the real clip"),
    "ef_sam2": Metric(
        lambda: AreaEjection("ef_sam2", Sam2Masks),
        True,
        "the same figure as ef_area with outlines of SAM 2 (published weights)",
    ),
    "rlvef": Metric(Reconstruction, True, "EF against that of the real clip"),
    "timing": Metric(Timing, False, "beats of the video against the ECG's"),
    "ed": Metric(lambda: Phases("ed"), True, "error of end-diastole"),
    "es": Metric(lambda: Phases("es"), True, "error of end-systole"),
    "curve": Metric(Curve, True, "correlation of the ventricle's area with that of the real clip"),
}

#: The metrics by name; a package adds its own by an entry point of `echogen.metrics`.
METRICS: Registry[Metric] = Registry(
    "metric",
    "echogen.metrics",
    "echogen.metrics.evaluation.registry:Metric",
    _BUILT_IN,
    meaning=lambda metric: metric.says,
)
