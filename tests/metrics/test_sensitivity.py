"""What harm each metric notices on simulated clips, a light form of docs/metrics.md; and four processes against one."""

import contextlib
import multiprocessing
import sys
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import distributed

from echogen.errors import InputError
from echogen.metrics.evaluation.clips import Clip
from echogen.metrics.evaluation.collectors import Pair
from echogen.metrics.evaluation.processes import reduce_across_processes
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.memorisation.similarity import Memorisation
from echogen.metrics.pictures import likeness as image
from echogen.metrics.sets import features
from echogen.metrics.sets.collectors import SetDiscrepancy, SetDistance
from echogen.metrics.sets.frechet import FrechetDistance
from echogen.metrics.sets.mmd import MaximumMeanDiscrepancy
from echogen.networks.config import save_network
from echogen.networks.echo_features import EchoFeatures, EchoFeaturesConfig
from echogen.phantom.simulate import simulate
from echogen.records import Study

NAMES = ("mse", "mae", "psnr", "ssim", "speckle", "ef", "rlvef", "timing", "ed", "es", "curve")
#: As many frames as the echo features span.
FPS, FRAMES, BEFORE = 32.0, 62, 4


def draw(seed: int, ef_percent: float) -> Study:
    """A heart of 2 s, with four frames before the clip."""
    seconds = (FRAMES + BEFORE) / FPS
    return simulate(heart_rate_bpm=72.0 + 15 * seed, ef_percent=ef_percent, seconds=seconds, fps=FPS, seed=seed)


def part(study: Study, late: int = 0) -> Study:
    """The study without the frames before; late: what is seen lags by so many frames."""
    shown = study.cine.frames[BEFORE - late : len(study.cine.frames) - late]
    return replace(study, cine=replace(study.cine, frames=shown, times_s=study.cine.times_s[BEFORE:]), masks=None)


def echo_network(folder: Path) -> features.EchoClipFeatures:
    torch.manual_seed(0)
    config = EchoFeaturesConfig(fps=FPS, steps=5, stride=4, image_size=32, widths=(8, 16, 16), dims=16)
    save_network(EchoFeatures(config), folder)
    return features.EchoClipFeatures(folder)


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processes that are forked from this one cannot use threads that it has started
    yield [draw(seed, 40.0 + 18 * seed) for seed in range(2)]
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def real(studies: list[Study]) -> list[Clip]:
    return [Clip.of(f"{number}", part(study)) for number, study in enumerate(studies)]


def changed_clip(study: Study, number: int, change) -> Clip:
    """change takes a whole study and its number, and returns a part of it."""
    return Clip.of(f"{number}", replace(part(study), cine=change(study, number).cine))


def frames_changed(change):
    def changed(study: Study, number: int) -> Study:
        clip = part(study)
        frames = np.clip(change(clip.cine.frames.astype(np.float32), np.random.default_rng(number)), 0, 255)
        return replace(clip, cine=replace(clip.cine, frames=frames.astype(np.uint8)))

    return changed


CHANGES = {
    "none": lambda study, number: part(study),
    "blur": frames_changed(lambda f, random: gaussian_filter(f, (0, 1.5, 1.5))),
    "noise": frames_changed(lambda f, random: f + random.normal(0, 15, f.shape)),
    "shuffled": frames_changed(lambda f, random: random.permutation(f)),
    "late": lambda study, number: part(study, late=4),
    "other EF": lambda study, number: part(draw(number, study.ef_percent - 18)),
}


@pytest.fixture(scope="module")
def values(studies: list[Study], real: list[Clip]) -> dict[str, dict[str, float]]:
    """change -> figure -> value."""
    names = [*NAMES, "echo"] if (features._SHIPPED / "config.json").is_file() else NAMES
    found = {}
    for change, made in CHANGES.items():
        collectors = [METRICS[name].make() for name in names]
        for number, study in enumerate(studies):
            pair = Pair(real[number], changed_clip(study, number, made))
            for collector in collectors:
                collector.add(pair)
        found[change] = {k: figure.generated.value for c in collectors for k, figure in c.figures().items()}
    return found


@pytest.mark.parametrize("change", ["blur", "noise", "shuffled", "late", "other EF"])
def test_pictures_that_differ_are_noticed(values, change):
    before, after = values["none"], values[change]
    assert (before["mse"], before["mae"], before["ssim"], before["psnr"]) == (0, 0, pytest.approx(1), float("inf"))
    assert after["mse"] > 1e-4
    assert after["mae"] > 1e-3
    assert after["ssim"] < 0.97
    assert after["psnr"] < 40


@pytest.mark.parametrize("change", ["blur", "noise", "shuffled"])
def test_a_distance_of_clip_features_notices_spoilt_pictures_and_spoilt_order(values, change):
    assert values["none"]["echo"] == pytest.approx(0, abs=1e-6)
    assert values[change]["echo"] > 1


def test_speckle_notices_blur_and_noise(values):
    before = values["none"]
    assert values["blur"]["speckle_axial_px"] > 1.2 * before["speckle_axial_px"]
    assert values["blur"]["speckle"] < 0.9 * before["speckle"]
    assert values["noise"]["speckle_frame_correlation"] < before["speckle_frame_correlation"] - 0.05


def test_a_shift_in_time_is_noticed_by_timing_and_not_by_ef(values):
    before, after = values["none"], values["late"]
    lag_ms = 4 / FPS * 1000
    assert before["timing"] > 0.8
    assert after["timing"] < 0.3
    assert after["es"] == pytest.approx(lag_ms, abs=25)
    assert after["ed"] == pytest.approx(lag_ms, abs=40)
    assert after["r_to_es_ms"] - before["r_to_es_ms"] == pytest.approx(lag_ms, abs=25)
    assert after["curve"] < before["curve"] - 0.1
    assert after["rlvef_points"] < 5


def test_another_ef_is_noticed_by_ef_and_not_by_timing(values):
    before, after = values["none"], values["other EF"]
    assert before["ef"] < 5
    assert after["ef"] == pytest.approx(18, abs=6)
    assert after["rlvef_points"] == pytest.approx(18, abs=6)
    assert after["timing"] > 0.7


def test_shuffled_frames_are_noticed_by_what_looks_at_hearts(values):
    assert values["shuffled"]["curve"] < 0.7
    assert values["shuffled"]["timing"] < values["none"]["timing"] - 0.2


PROCESSES = 4


def streams() -> dict[str, object]:
    """One of each streaming class."""
    return {
        **{c.name: c() for c in (image.MeanSquaredError, image.MeanAbsoluteError, image.PeakSignalToNoise)},
        "SSIM": image.StructuralSimilarity(),
        "Fréchet": FrechetDistance(),
        "polynomial": MaximumMeanDiscrepancy(limit=60),
        "gaussian": MaximumMeanDiscrepancy("gaussian", limit=60),
        "copies": Memorisation(),
    }


def feed(metrics: dict, rank: int, world: int) -> None:
    random = np.random.default_rng(0)
    pictures = random.uniform(0, 1, (12, 2, 2, 16, 16))
    rows = random.normal(0, 1, (3, 101, 6)) + np.array([0.0, 0.3, 0.1])[:, None, None]
    for index in range(rank, 12, world):
        for name in ("MSE", "MAE", "PSNR", "SSIM"):
            metrics[name].update(*pictures[index])
    for name in ("Fréchet", "polynomial", "gaussian"):
        metrics[name].update(rows[0, rank::world], reference=True)
        metrics[name].update(rows[1, rank::world])
    for kind, values in zip(("training", "generated", "held_out"), rows, strict=True):
        metrics["copies"].update(values[rank::world], kind)


def outcome(metrics: dict) -> dict[str, float]:
    values = {name: metric.compute() for name, metric in metrics.items()}
    report = values.pop("copies")
    return values | {"copied": report.copied_share, "covered": report.covered_share, "ratio": report.distance_ratio}


def collected(studies: list[Study], network: features.EchoClipFeatures, rank: int, world: int) -> list:
    """Every collector that can be had here, fed with the share of one process."""
    collectors = [SetDistance("own", lambda: network), SetDiscrepancy("own_mmd", lambda: network)]
    for metric in METRICS.values():
        with contextlib.suppress(InputError):  # weights that are not here
            collectors.append(metric.make())
    other = None
    for number, study in enumerate(studies):
        real = Clip.of(f"{number}", part(study))
        if number % world == rank:
            pair = Pair(real, changed_clip(study, number, CHANGES["noise"]), other)
            for collector in collectors:
                collector.add(pair)
        other = real
    return collectors


def _rank(rank: int, folder: str, studies: list[Study]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    metrics = streams()
    feed(metrics, rank, PROCESSES)
    collectors = collected(studies, echo_network(Path(folder) / f"{rank}"), rank, PROCESSES)
    for metric in [*metrics.values(), *collectors]:
        reduce_across_processes(metric)
    figures = {name: figure for c in collectors if rank == 1 for name, figure in c.figures().items()}
    torch.save((outcome(metrics), figures), f"{folder}/found-{rank}")
    distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32" or not distributed.is_gloo_available(), reason="needs gloo and fork")
def test_four_processes_give_what_one_gives(studies, tmp_path):
    alone = streams()
    feed(alone, 0, 1)
    expected = outcome(alone)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_rank, args=(rank, str(tmp_path), studies)) for rank in range(PROCESSES)]
    for worker in workers:
        worker.start()
    collectors = collected(studies, echo_network(tmp_path / "own"), 0, 1)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    for rank in range(PROCESSES):
        found, figures = torch.load(tmp_path / f"found-{rank}", weights_only=False)
        assert found == pytest.approx(expected, rel=1e-9)
        if rank != 1:
            continue
        own = {name: figure for collector in collectors for name, figure in collector.figures().items()}
        assert {"mse", "ssim", "speckle", "ef", "rlvef", "timing", "ed", "es", "curve", "own", "own_mmd"} <= set(own)
        assert set(figures) == set(own)
        for name, figure in figures.items():
            for row in ("generated", "truth", "control"):
                theirs, ours = getattr(figure, row), getattr(own[name], row)
                assert (theirs is None) == (ours is None)
                assert theirs is None or astuple(theirs) == pytest.approx(astuple(ours), rel=1e-9, nan_ok=True), name
