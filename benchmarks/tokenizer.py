"""What the tokenizer keeps of 200 held-out clips: python benchmarks/tokenizer.py -> docs/tokenizer.md."""

from __future__ import annotations

import numpy as np

from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.held_out import held_out
from echogen.generators import EchoPulse, Generator
from echogen.measurement import measure
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.pictures.likeness import mae, mse, psnr, ssim
from echogen.metrics.pictures.speckle import speckle_statistics
from echogen.records import Cine
from redrawing import codes, decoded, ef_shifts, with_speckle

FRAMES = 65
FIRST_SEED = 30_000


def main() -> None:
    options = arguments(__doc__ or "", clips=200)
    model = Generator.from_pretrained(options.model)
    assert isinstance(model, EchoPulse)
    names = ("mse_structure", "mse", "mae", "psnr", "ssim", "ef_shift", "ef_shift_clip", "axial", "lateral", "contrast")
    values: dict[str, list[float]] = {name: [] for name in names}
    true_speckle: dict[str, list[float]] = {"axial": [], "lateral": [], "contrast": []}
    used = set()
    for clip in range(options.clips):
        case = held_out(FIRST_SEED + clip, FRAMES / 32.0)
        ids = codes(model.tokenizer, case)
        drawn = decoded(model.tokenizer, ids)
        used.update(ids.unique().tolist())
        frames = with_speckle(model, drawn, case)
        structure, plain = case.drawn.structure / 255.0, drawn[:, 0].clamp(0, 1).numpy()
        values["mse_structure"].append(mse(plain, structure))
        values["mse"].append(mse(frames, case.cine.frames))
        values["mae"].append(mae(frames, case.cine.frames))
        values["psnr"].append(psnr(frames, case.cine.frames))
        values["ssim"].append(ssim(frames[::8], case.cine.frames[::8]))
        raw = measure(case.cine, load_segmenter())
        again = measure(Cine(frames, case.cine.times_s, case.cine.mm_per_pixel), load_segmenter())
        if raw.ef_percent is not None and again.ef_percent is not None:
            values["ef_shift_clip"].append(again.ef_percent - raw.ef_percent)
        values["ef_shift"] += ef_shifts(again, raw)
        tissue = case.drawn.labels == 2
        for key, stats in (
            (values, speckle_statistics(frames[::8], tissue[::8])),
            (true_speckle, speckle_statistics(case.cine.frames[::8], tissue[::8])),
        ):
            key["axial"].append(stats.axial_px)
            key["lateral"].append(stats.lateral_px)
            key["contrast"].append(stats.contrast)
        if clip % 20 == 19:
            print(clip + 1, {k: round(float(np.nanmean(v)), 4) for k, v in values.items()}, flush=True)

    def mean(numbers: list[float]) -> float:
        return float(np.nanmean(numbers))

    def size(numbers: list[float]) -> float:
        return float(np.nanmean(np.abs(numbers)))

    rows = [
        ["MSE against the rendering without speckle", f"{mean(values['mse_structure']):.2e}", ""],
        ["MSE, MAE against the raw frames, with speckle added", f"{mean(values['mse']):.2e}, {mean(values['mae']):.3f}", ""],
        ["PSNR, SSIM against the raw frames", f"{mean(values['psnr']):.1f} dB, {mean(values['ssim']):.2f}", ""],
        [
            f"EF shift (drawn minus raw) of {len(values['ef_shift'])} beats: MAE, bias, points",
            f"{size(values['ef_shift']):.1f}, {mean(values['ef_shift']):+.1f}",
            "",
        ],
        [
            "EF shift of the clips' medians: MAE, bias, points",
            f"{size(values['ef_shift_clip']):.1f}, {mean(values['ef_shift_clip']):+.1f}",
            "",
        ],
        [
            "speckle width axial, lateral, px",
            f"{mean(values['axial']):.1f}, {mean(values['lateral']):.1f}",
            f"{mean(true_speckle['axial']):.1f}, {mean(true_speckle['lateral']):.1f}",
        ],
        ["speckle contrast in the myocardium", f"{mean(values['contrast']):.2f}", f"{mean(true_speckle['contrast']):.2f}"],
        ["codes used", f"{len(used)} of {model.tokenizer.quantizer.vocabulary}", ""],
    ]
    text = table(["figure", "through the tokenizer", "raw clips"], rows)
    print(text)
    note = (
        f"Tokenizer of {model.name} ({model.weights_hash}); {options.clips} held-out clips of {FRAMES} frames "
        f"(seeds {FIRST_SEED}..), {model.tokenizer.config.positions} tokens per 125 ms. Command: `python "
        "benchmarks/tokenizer.py`.\n\n"
    )
    write_section(DOCS / "tokenizer.md", "What the tokenizer keeps", note + text)


if __name__ == "__main__":
    main()
