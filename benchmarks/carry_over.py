"""What carries over to pictures of machines that no training saw: python benchmarks/carry_over.py -> docs/carry_over.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.held_out import HeldOut, held_out
from echogen.generators import EchoPulse, Generator
from echogen.measurement import measure
from echogen.measurement.plain_values import measured_ef_percent
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.heart.timing import pooled_report, within_video
from echogen.metrics.pictures.likeness import mse
from echogen.phantom.looks import HELD_OUT_MACHINES, MACHINES, PLAIN
from echogen.records import Cine

FIRST_SEED = 45_000
SECONDS = 2.0


@dataclass
class Seen:
    """Of the clips of one look: error of the tokenizer's picture, and EFs in % and end-systoles in s as they are seen."""

    error: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    made: list[float] = field(default_factory=list)
    beats: list[tuple[Any, Any]] = field(default_factory=list)

    def cells(self) -> list[str]:
        true, raw, kept, made = (np.array(values) for values in (self.true, self.measured, self.kept, self.made))
        timing = pooled_report(self.beats)

        def off(values: Any, against: Any) -> str:
            return f"{np.nanmean(np.abs(values - against)):.1f}"

        return [
            str(len(true)),
            f"{np.mean(self.error):.1e}",
            off(raw, true),
            off(kept, raw),
            off(made, true),
            f"{100 * timing.matched_fraction:.0f}",
            f"{timing.median_abs_ms:.0f}",
        ]


def add(seen: Seen, model: EchoPulse, case: HeldOut) -> None:
    """Take in a heart: its clip, its clip through the tokenizer, and the video that its first frame and ECG make."""
    shown = round(SECONDS * model.native_fps) + 1
    frames, times = case.cine.frames[:shown], case.cine.times_s[:shown]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ids = model.tokenizer.tokenize(torch.from_numpy(frames)[None].float() / 255.0)
        drawn = model.tokenizer.decode_ids(ids)[0, :, 0].float().clamp(0, 1).numpy()
    image, start = case.first_ed_frame()
    low, high = model.ef_range
    asked: dict[str, Any] = {"view": case.cine.view, "sex": case.heart.sex, "seed": case.seed, "reference": image}
    asked["ef_percent"] = float(np.clip(case.heart.anatomy.ef_percent, low, high))
    video = model(case.ecg, start_s=start, seconds=SECONDS, **asked)
    reading = measure(video, load_segmenter())
    seen.error.append(mse(drawn, case.drawn.structure[:shown] / 255.0))
    seen.true.append(case.heart.anatomy.ef_percent)
    seen.measured.append(measured_ef_percent(Cine(frames, times)))
    seen.kept.append(measured_ef_percent(Cine((255 * drawn + 0.5).astype(np.uint8), times)))
    seen.made.append(float("nan") if reading.ef_percent is None else reading.ef_percent)
    clock = case.heart.clock
    expected = clock.avc_s[within_video(clock, float(video.times_s[0]), float(video.times_s[-1]))]
    seen.beats.append((np.array([beat.es_s for beat in reading.beats]), expected))


def main() -> None:
    options = arguments(__doc__ or "", hearts=16)
    model = Generator.from_pretrained(options.model)
    assert isinstance(model, EchoPulse)
    rows = []
    for look in (PLAIN, *MACHINES):
        seen = Seen()
        for seed in range(FIRST_SEED, FIRST_SEED + options.hearts):
            add(seen, model, held_out(seed, SECONDS + 2.0, look))
        kind = "no" if look in HELD_OUT_MACHINES else "yes"
        rows.append([look, kind, *seen.cells()])
        print(" | ".join(rows[-1]), flush=True)
    header = ["look", "in training", "n", "tokenizer: MSE", "EF: read off the clip, error", "through the tokenizer, shift"]
    header += ["video from its first frame, error", "beats matched, %", "median ES error, ms"]
    text = table(header, rows)
    note = (
        f"Generator {model.name} ({model.weights_hash}); {options.hearts} held-out hearts (seeds {FIRST_SEED}..) as each "
        "machine shows them (`echogen simulate --look`). MSE of the tokenizer's picture against the rendering without speckle. "
        "EF in points, mean absolute: as the segmenter reads it off the clip against the true one; how far that moves through "
        f"the tokenizer; and in a video of {SECONDS:.0f} s that begins with the clip's end-diastolic frame and is asked for the "
        f"heart's own EF. Command: `python benchmarks/carry_over.py --hearts {options.hearts}`.\n\n"
    )
    print(text)
    write_section(DOCS / "carry_over.md", "Machines that no training saw", note + text)


if __name__ == "__main__":
    main()
