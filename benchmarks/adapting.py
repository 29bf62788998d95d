"""What LoRA adapters do for the tokenizer: python benchmarks/adapting.py -> docs/adapting.md (ECHOPulse, Table 1).

Phantom style A (what the tokenizer was trained on) to style B, judged on held-out clips; and the phantom to the two real cines
at hand, one learned from and the other, whole, held out, in both directions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.data import get_testdata_file

from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import FPS, draw_recording
from echogen.generators import Generator
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.phantom.simulate import Heart, render
from echogen.training.adaptation import (
    Adapted,
    AdapterClip,
    AdapterPlan,
    adapt,
    check_tokenizer,
    read_clip,
    reconstruction_error,
    smoothed,
)

FIRST_LEARNED, FIRST_JUDGED = 50_000, 60_000
LEARNED_FRAMES, JUDGED_FRAMES = 97, 65


def style_b(heart: Heart) -> Heart:
    """The same heart through another scanner: each setting lies outside what training draws (see `draw_probe`)."""
    return replace(
        heart, probe=replace(heart.probe, curve=1.6, dynamic_range=44.0, axial=1.6, lateral=2.0, speckle=1.0, haze=-36.0)
    )


def phantom_clips(first_seed: int, count: int, frames: int, other: bool) -> tuple[list[AdapterClip], list[AdapterClip]]:
    """Clips with the rendering without speckle as target, and the same clips with their smoothed frames as target."""
    true, smooth = [], []
    for seed in range(first_seed, first_seed + count):
        heart, _ = draw_recording(seed, frames / FPS)
        drawn = render(style_b(heart) if other else heart, np.arange(frames) / FPS, seed)
        facts = {"seed": seed, "grey": float(drawn.frames[drawn.frames > 0].mean())}
        true.append(AdapterClip(drawn.frames, drawn.structure, facts))
        smooth.append(AdapterClip(drawn.frames, smoothed(drawn.frames), facts))
    return true, smooth


def real_cines(tokenizer: VideoTokenizer) -> dict[str, AdapterClip]:
    """The real cines at hand: pydicom's, and another where $ECHOGEN_TEST_DATA is set."""
    paths = {"pydicom": Path(str(get_testdata_file("examples_ybr_color.dcm")))}
    folder = os.environ.get("ECHOGEN_TEST_DATA")
    if folder:
        paths["video"] = Path(folder) / "echo_video/echotracker_input.mp4"
    return {name: read_clip(path, tokenizer) for name, path in paths.items()}


def row(name: str, judged: str, clips: Sequence[AdapterClip], base: VideoTokenizer, adapted: Adapted) -> list[str]:
    """One line of the table; printed as it is made."""
    (before, ids), (after, new_ids) = (reconstruction_error(network, clips) for network in (base, adapted.tokenizer))
    figures = [f"{before.mse:.2e}", f"{after.mse:.2e}", f"{before.mae:.4f}", f"{after.mae:.4f}"]
    line = [name, judged, str(len(clips)), *figures, f"{float((ids == new_ids).float().mean()):.0%}"]
    print(*line, sep=" | ", flush=True)
    return line


def main() -> None:
    options = arguments(__doc__ or "", clips=200, learned=8, steps=AdapterPlan.steps, output=str(DOCS))
    heart = Generator.from_pretrained(options.model)
    base = check_tokenizer(heart.adaptable)
    plan = AdapterPlan(steps=options.steps)
    rows, minutes = [], []

    _, learned = phantom_clips(FIRST_LEARNED, options.learned, LEARNED_FRAMES, other=True)
    both = adapt(base, learned, plan)
    decoder = adapt(base, learned, replace(plan, decoder_only=True))
    minutes += [both.seconds / 60, decoder.seconds / 60]
    true_b, smooth_b = phantom_clips(FIRST_JUDGED, options.clips, JUDGED_FRAMES, other=True)
    true_a, smooth_a = phantom_clips(FIRST_JUDGED, options.clips, JUDGED_FRAMES, other=False)
    grey_a, grey_b = (np.mean([clip.facts["grey"] for clip in clips]) for clips in (true_a, true_b))
    for name, adapted in ((f"{options.learned} clips of B", both), (f"{options.learned} clips of B, decoder only", decoder)):
        rows.append(row(name, "B, rendering without speckle", true_b, base, adapted))
        rows.append(row(name, "B, smoothed frames", smooth_b, base, adapted))
        rows.append(row(name, "A (forgetting), rendering without speckle", true_a, base, adapted))
        rows.append(row(name, "A (forgetting), smoothed frames", smooth_a, base, adapted))

    real = real_cines(base)
    for name, clip in real.items():
        adapted = adapt(base, [clip], plan)
        minutes.append(adapted.seconds / 60)
        rows.append(row(f"real cine {name}", f"itself ({name}), smoothed frames", [clip], base, adapted))
        for other in real:
            if other != name:
                rows.append(
                    row(f"real cine {name}", f"real cine {other}, held out whole, smoothed frames", [real[other]], base, adapted)
                )

    header = ["learned from", "judged on", "n", "MSE before", "MSE after", "MAE before", "MAE after", "ids kept"]
    command = "python benchmarks/adapting.py" + ("" if options.clips == 200 else f" --clips {options.clips}")
    note = (
        f"Tokenizer of {heart.name} ({heart.weights_hash}), adapted with LoRA of rank {plan.rank} in {plan.steps} steps of "
        f"{plan.batch_size} windows (seed {plan.seed}). Style B of the phantom is darker (mean grey {grey_b:.0f} instead of "
        f"{grey_a:.0f} in the sector), with another grey curve, and speckle about twice as wide: every setting lies outside what "
        f"training draws. Learned: seeds {FIRST_LEARNED}.., {LEARNED_FRAMES} frames; judged: held-out seeds {FIRST_JUDGED}.., "
        f"{JUDGED_FRAMES} frames, the same hearts in both styles. Learning sees smoothed frames only, never the rendering "
        "without speckle. Errors of the drawn picture over all pixels, grey 0 to 1; ids kept: share of the clips' ids that the "
        f"adapter leaves as they were. One adaptation took {min(minutes):.1f} to {max(minutes):.1f} min on the machine that "
        f"wrote this. The real cines are {len(real)} clips of one patient each, so n = {len(real)}: they show that it works on "
        f"real pictures, not how well it does in general. Command: `{command}`.\n\n"
    )
    text = note + table(header, rows)
    print(text)
    write_section(Path(options.output) / "adapting.md", "Domain transfer of the tokenizer", text)


if __name__ == "__main__":
    main()
