import multiprocessing
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from echogen.errors import InputError
from echogen.metrics.pictures import likeness as image


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    first = random.integers(0, 256, (3, 48, 40), dtype=np.uint8)
    second = np.clip(first + random.normal(0, 30, first.shape), 0, 255).astype(np.uint8)
    return first, second


def test_ssim_agrees_with_scikit_image(pair):
    first, second = pair
    theirs = [
        structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
        for a, b in zip(first, second, strict=True)
    ]
    assert image.ssim(first, second) == pytest.approx(np.mean(theirs), abs=1e-6)
    assert image.ssim(first[0], second[0]) == pytest.approx(theirs[0], abs=1e-6)
    assert image.ssim(first, first) == pytest.approx(1)


def test_pixel_errors(pair):
    first, second = pair
    difference = first / 255 - second / 255
    assert image.mse(first, second) == pytest.approx((difference**2).mean())
    assert image.mae(first, second) == pytest.approx(np.abs(difference).mean())
    assert image.psnr(first, second) == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255))
    assert image.psnr(first, first) == float("inf")
    assert image.mse(first / 255.0, second) == pytest.approx(image.mse(first, second))


METRICS = [image.MeanSquaredError, image.MeanAbsoluteError, image.PeakSignalToNoise, image.StructuralSimilarity]


def clips(count: int = 12):
    random = np.random.default_rng(1)
    for index in range(count):
        reference = ndimage.gaussian_filter(random.uniform(0, 1, (3, 24, 28)), (0, 1, 1))
        yield np.clip(reference + random.normal(0, 0.02 * (index + 1), reference.shape), 0, 1), reference


def scored(metric_class, pairs):
    metric = metric_class()
    for frames, reference in pairs:
        metric.update(frames, reference)
    return metric


def _process(job):
    metric_class, rank = job
    return scored(metric_class, list(clips())[rank::4]).state()


@pytest.mark.parametrize("metric_class", METRICS)
def test_a_stream_of_clips_gives_the_pure_functions_mean(metric_class):
    pure = {"MSE": image.mse, "MAE": image.mae, "PSNR": image.mse, "SSIM": image.ssim}[metric_class.name]
    metric = scored(metric_class, clips())
    mean = np.mean([pure(*pair) for pair in clips()])
    assert metric.compute() == pytest.approx(-10 * np.log10(mean) if metric_class.name == "PSNR" else mean, rel=1e-12)
    low, high = metric.interval(resamples=200)
    assert low < metric.compute() < high
    assert np.isnan(metric_class().compute())
    assert metric.n == 12


@pytest.mark.parametrize("metric_class", METRICS)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)), cuts=st.lists(st.integers(0, 12), min_size=3, max_size=3))
def test_parts_merged_in_any_order_give_the_very_same_number(metric_class, order, cuts):
    whole = scored(metric_class, clips())
    one_by_one = [scored(metric_class, [pair]) for pair in clips()]
    total = metric_class()
    edges = [0, *sorted(cuts), 12]
    for start, end in pairwise(edges):
        part = metric_class()
        for index in order[start:end]:
            part.merge(one_by_one[index])
        total.merge(metric_class.from_state(part.state()))
    assert total.compute() == whole.compute()
    assert total.interval(resamples=20) == whole.interval(resamples=20)


def test_four_processes_give_the_single_process_number():
    with multiprocessing.get_context("fork").Pool(4) as pool:
        states = pool.map(_process, [(metric_class, rank) for metric_class in METRICS for rank in range(4)])
    for index, metric_class in enumerate(METRICS):
        total = metric_class()
        for state in states[4 * index : 4 * index + 4]:
            total.merge(metric_class.from_state(state))
        assert total.compute() == scored(metric_class, clips()).compute()


@pytest.mark.parametrize("harm", ["blur", "noise"])
def test_growing_harm_moves_every_metric_one_way(harm):
    _, reference = next(clips(1))
    noise = np.random.default_rng(2).normal(0, 1, reference.shape)

    def harmed(amount):
        if harm == "blur":
            return ndimage.gaussian_filter(reference, (0, 2 * amount, 2 * amount))
        return reference + 0.1 * amount * noise

    grown = [harmed(amount) for amount in (0.0, 0.25, 0.5, 1.0)]
    for metric_class in METRICS:
        values = [scored(metric_class, [(frames, reference)]).compute() for frames in grown]
        steps = np.diff(values[1:]) if metric_class.name == "PSNR" else np.diff(values)
        assert (steps < 0).all() if metric_class.name in ("PSNR", "SSIM") else (steps > 0).all(), (metric_class.name, values)


def test_shuffling_both_videos_alike_changes_nothing():
    frames, reference = next(clips(1))
    order = [2, 0, 1]
    for metric_class in METRICS:
        same = scored(metric_class, [(frames[order], reference[order])]).compute()
        assert same == pytest.approx(scored(metric_class, [(frames, reference)]).compute(), rel=1e-12)


def test_unequal_shapes_and_tiny_pictures_are_one_sentence():
    with pytest.raises(InputError, match="cut both alike"):
        image.mse(np.zeros((2, 8, 8)), np.zeros((1, 8, 8)))
    with pytest.raises(InputError, match="at least 11 x 11"):
        image.ssim(np.zeros((2, 10, 20)), np.zeros((2, 10, 20)))


def test_the_recorded_similarity_of_a_published_evaluation():
    folder = os.environ.get("ECHOGEN_FIXTURES")
    if not folder:
        pytest.skip("needs ECHOGEN_FIXTURES")
    recorded = load_file(Path(folder) / "echodiffusion" / "ed_preproc_metrics.io.safetensors")
    value = image.ssim(recorded["ssim.pred"], recorded["ssim.target"])
    assert value == pytest.approx(float(recorded["ssim.value"]), abs=1e-5)
