"""Proof of the metrics: python benchmarks/metric_agreement.py -> docs/metrics.md.

Differences from independent implementations on the same inputs, what identical sets give, and which metric notices which harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from skimage import metrics as skimage_metrics

from blindness import blindness, cases
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.heart import ejection
from echogen.metrics.heart.agreement import correlation
from echogen.metrics.pictures import likeness as image
from echogen.metrics.sets.frechet import frechet_distance
from echogen.metrics.sets.mmd import gaussian_mmd, polynomial_mmd

Floats = NDArray[np.float64]
Row = tuple[str, str, float, float]


def features(seed: int, n: int, dims: int) -> Floats:
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (n, dims)) @ random.normal(0, 1, (dims, dims)) / np.sqrt(dims) + random.normal(0, 0.3, dims)


def by_matrix_root(a: Floats, b: Floats, ddof: int = 1) -> float:
    """As published evaluations compute it."""
    one, other = np.cov(a, rowvar=False, ddof=ddof), np.cov(b, rowvar=False, ddof=ddof)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + other - 2 * np.real(sqrtm(one @ other))))


def by_torchmetrics(a: Floats, b: Floats) -> float:
    """The arithmetic of torchmetrics' FrechetInceptionDistance on given features, in float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Module):
        num_features = a.shape[1]

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.flatten(1)

    metric = FrechetInceptionDistance(feature=Given(), normalize=True, input_img_size=(1, 1, a.shape[1]))
    metric.set_dtype(torch.float64)
    for rows, real in ((a, True), (b, False)):
        metric.update(torch.from_numpy(rows)[:, None, None], real=real)
    return float(metric.compute())


def by_pairs(kernel: Callable[[Floats, Floats], float], a: Floats, b: Floats) -> float:
    """The unbiased discrepancy by its definition: one pair after the other."""

    def mean(left: Floats, right: Floats) -> float:
        return float(
            np.mean([kernel(x, y) for i, x in enumerate(left) for j, y in enumerate(right) if left is not right or i != j])
        )

    return mean(a, a) + mean(b, b) - 2 * mean(a, b)


def distances() -> list[Row]:
    rows: list[Row] = []
    for n, dims in ((500, 16), (500, 256), (100, 256)):
        a, b = features(1, n, dims), features(2, n + 30, dims)
        rows.append((f"Fréchet distance, {n} x {dims}", "scipy.linalg.sqrtm", frechet_distance(a, b), by_matrix_root(a, b)))
        rows.append((f"Fréchet distance, {n} x {dims}", "torchmetrics", frechet_distance(a, b), by_torchmetrics(a, b)))
    a, b = features(1, 500, 16), features(2, 530, 16)
    ours = frechet_distance(a, b, ddof=0)
    rows.append(("Fréchet distance, ddof 0 (FVD)", "scipy.linalg.sqrtm", ours, by_matrix_root(a, b, 0)))
    a, b = features(3, 60, 8), features(4, 50, 8)
    cubic = by_pairs(lambda x, y: (x @ y / 8 + 1) ** 3, a, b)
    rows.append(("MMD, polynomial kernel (KID)", "double loop", polynomial_mmd(a, b), cubic))
    gauss = by_pairs(lambda x, y: float(np.exp(-((x - y) ** 2).sum() / (2 * 1.5**2))), a, b)
    rows.append(("MMD, Gaussian kernel", "double loop", gaussian_mmd(a, b, bandwidth=1.5), gauss))
    return rows


def pictures() -> list[Row]:
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for kind, sides in (("uint8", (4, 112, 112)), ("uint8, odd sides", (2, 61, 43)), ("float", (3, 64, 64))):
        first = random.integers(0, 256, sides, dtype=np.uint8)
        second = np.clip(first + random.normal(0, 30, sides), 0, 255).astype(np.uint8)
        one, other, peak = (first / 255.0, second / 255.0, 1.0) if kind == "float" else (first, second, 255)
        theirs = [
            skimage_metrics.structural_similarity(
                a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=peak
            )
            for a, b in zip(one, other, strict=True)
        ]
        rows.append((f"SSIM, {kind}", "scikit-image", image.ssim(one, other), float(np.mean(theirs))))
        theirs_db = skimage_metrics.peak_signal_noise_ratio(one, other, data_range=peak)
        rows.append((f"PSNR, {kind}", "scikit-image", image.psnr(one, other), float(theirs_db)))
        difference = first / 255.0 - second / 255.0
        rows.append((f"MSE, {kind}", "numpy", image.mse(one, other), float(np.mean(difference**2))))
        rows.append((f"MAE, {kind}", "numpy", image.mae(one, other), float(np.mean(np.abs(difference)))))
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (random.uniform(0, 1, (3, 6, 40, 40)) for _ in range(2))
    ours = image.ssim(a, b)
    torch_pair = [torch.from_numpy(x) for x in (a, b)]
    # Newer versions average over the mirrored border too; the published definition, ours and older versions leave it out.
    _, full = structural_similarity_index_measure(*torch_pair, data_range=1.0, return_full_image=True)
    rows.append(("SSIM, frames as channels", "torchmetrics, border cut", ours, float(full[..., 5:-5, 5:-5].mean())))
    return rows


def recorded() -> list[Row]:
    """What a published evaluation (EchoDiffusion's) recorded."""
    folder = os.environ.get("ECHOGEN_FIXTURES")
    if not folder:
        return []
    from safetensors.numpy import load_file

    values = load_file(Path(folder) / "echodiffusion" / "ed_preproc_metrics.io.safetensors")
    ours = image.ssim(values["ssim.pred"], values["ssim.target"])
    return [("SSIM of a video", "EchoDiffusion's evaluation (recorded)", ours, float(values["ssim.value"]))]


def perceptual() -> list[Row]:
    """LPIPS arithmetic on the same random weights, since the published ones cannot be had without a download."""
    from echogen.metrics.sets.features import LearnedPerceptualDistance
    from perceptual_agreement import lpips_by_definition, random_lpips_weights

    frames = np.random.default_rng(5).integers(0, 256, (2, 2, 64, 64), dtype=np.uint8)
    with random_lpips_weights() as folder:
        ours = LearnedPerceptualDistance(folder).measure(frames[0], frames[1])
        return [("LPIPS (VGG16, random weights)", "its definition in float64", ours, lpips_by_definition(folder, *frames))]


def ejection_fractions() -> list[Row]:
    from scipy import stats

    random = np.random.default_rng(1)
    truth = random.uniform(15, 78, 200)
    seen = 0.9 * truth + random.normal(3, 4, 200)
    difference = seen - truth
    spread = 1.96 * np.sqrt(np.var(difference, ddof=1))
    low, high = ejection.limits_of_agreement(seen, truth)
    drawn = np.random.default_rng(2)
    boot = stats.bootstrap(
        (np.abs(difference),), np.mean, n_resamples=20000, method="percentile", rng=drawn, batch=1000
    ).confidence_interval
    own = ejection.ejection_report(seen, truth)
    return [
        ("EF R2 about identity", "numpy", ejection.r2(seen, truth), 1 - np.sum(difference**2) / (np.var(truth) * 200)),
        ("EF MAE", "numpy", ejection.mae(seen, truth), float(np.linalg.norm(difference, 1) / 200)),
        ("EF RMSE", "numpy", ejection.rmse(seen, truth), float(np.linalg.norm(difference) / np.sqrt(200))),
        ("EF limits of agreement, low", "numpy", low, float(difference.mean() - spread)),
        ("EF limits of agreement, high", "numpy", high, float(difference.mean() + spread)),
        ("correlation", "scipy.stats.pearsonr", correlation(seen, truth).value, float(stats.pearsonr(seen, truth).statistic)),
        (
            "its interval, low",
            "scipy.stats.pearsonr",
            correlation(seen, truth).low,
            float(stats.pearsonr(seen, truth).confidence_interval(0.95).low),
        ),
        ("EF MAE, 95 % interval, low", "scipy.stats.bootstrap (other draws)", own.mae_interval[0], float(boot.low)),
        ("EF MAE, 95 % interval, high", "scipy.stats.bootstrap (other draws)", own.mae_interval[1], float(boot.high)),
    ]


def identical() -> list[list[str]]:
    """What identical sets give, and the same set in another order."""
    rows = []
    for n, dims in ((400, 64), (50, 256)):
        a = features(6, n, dims)
        for name, distance in {
            "Fréchet distance": frechet_distance,
            "polynomial MMD, not unbiased": lambda x, y: polynomial_mmd(x, y, unbiased=False),
            "Gaussian MMD, not unbiased": lambda x, y: gaussian_mmd(x, y, unbiased=False),
        }.items():
            rows.append([f"{name}, {n} x {dims}", f"{distance(a, a):.1e}", f"{distance(a, a[::-1]):.1e}"])
    frames = np.random.default_rng(7).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    for name, metric, perfect in (("MSE", image.mse, 0.0), ("MAE", image.mae, 0.0), ("1 - SSIM", image.ssim, 1.0)):
        rows.append([name, f"{abs(metric(frames, frames) - perfect):.1e}", ""])
    return rows


def number(value: float) -> str:
    return f"{value:.6g}"


def main() -> None:
    options = arguments(__doc__ or "", clips=12, only="")
    torch.set_num_threads(1)
    if options.only != "blindness":
        known = [[name, metric.says, "clips of one name" if metric.paired else "sets"] for name, metric in METRICS.items()]
        note = (
            "What `echogen evaluate --metrics NAME,...` knows. Reconstruction FID is `fid` with the originals as `--real` and "
            "their reconstructions as `--generated`. Published weights are read from the folder that `ECHOGEN_WEIGHTS` names; "
            "without them the metric says in one sentence which file it needs.\n\n"
        )
        write_section(DOCS / "metrics.md", "The metrics", note + table(["name", "what it is", "compares"], known))
        rows = [*distances(), *pictures(), *recorded(), *perceptual(), *ejection_fractions()]
        listed = [[what, by, number(ours), number(theirs), f"{abs(ours - theirs):.1e}"] for what, by, ours, theirs in rows]
        text = table(["figure", "by", "echogen", "theirs", "difference"], listed)
        print(text)
        note = (
            "The same inputs through echogen's metrics and through independent implementations. Bootstrap intervals draw other "
            "samples, so they agree to the noise of drawing only. torchmetrics sums features in the type they have (float64 "
            "here). Command: `python benchmarks/metric_agreement.py`.\n\n"
        )
        write_section(DOCS / "metrics.md", "Agreement with other implementations", note + text)
        text = table(["figure", "identical", "in reverse order"], identical())
        print(text)
        note = "The unbiased discrepancies are about 0 for two draws of one population and below it for identical sets.\n\n"
        write_section(DOCS / "metrics.md", "Identical sets", note + text)
    if options.only != "agreement":
        write_section(DOCS / "metrics.md", "What each metric notices", blindness(list(cases(options.clips))))


if __name__ == "__main__":
    main()
