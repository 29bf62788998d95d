"""Whether the generator gives back what it learned from: python benchmarks/memorisation.py -> docs/memorisation.md.

--clips names the store of rendered clips that the generator was trained on (docs/training.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.cine.sector import CANONICAL_APEX_ROW
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, FPS, ClipStore, draw_recording
from echogen.ecg.leads import STANDARD_LEADS
from echogen.generators import EchoPulse
from echogen.generators.base import Generator
from echogen.generators.echopulse.frame_renderer import MOTION_SCALE
from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.evaluation.figures import Row, share_row
from echogen.metrics.memorisation.bank import FIRST_HELD_OUT_SEED, IdentityBank, copy_filter
from echogen.metrics.memorisation.identity import HeartIdentity
from echogen.metrics.memorisation.similarity import MemorisationReport, distance_ratio, memorisation_report, nearest
from echogen.phantom.simulate import render
from echogen.phantom.speckle import SpeckleLayer
from echogen.records import Cine, Ecg

FIRST_SEED = 90_000
#: Another speckle of the same heart.
OTHER_SPECKLE = 500_000
SECONDS = 3.0


def area_under_curve(same: np.ndarray, other: np.ndarray) -> float:
    """How often a pair of one heart is more similar than a pair of two (Mann and Whitney)."""
    below = np.searchsorted(np.sort(other), same, side="left") + np.searchsorted(np.sort(other), same, side="right")
    return float(below.mean() / (2 * len(other)))


def recordings_of(seed: int, fps: float) -> tuple[Cine, Cine]:
    """Two recordings of a held-out heart: other beats, other speckle."""
    heart, _ = draw_recording(seed, 2 * SECONDS)
    times = np.arange(round(SECONDS * fps)) / fps
    first = Cine(render(heart, times, seed).frames, times)
    return first, Cine(render(heart, times + SECONDS, seed + OTHER_SPECKLE).frames, times)


def generated(model: Generator, seed: int) -> Cine:
    """What the generator makes of a held-out heart's ECG, EF, view and sex."""
    heart, leads = draw_recording(seed, SECONDS)
    ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
    asked = {"ef_percent": heart.anatomy.ef_percent, "view": heart.anatomy.view, "sex": heart.sex}
    asked["ef_percent"] = float(np.clip(heart.anatomy.ef_percent, *model.ef_range))
    return model(ecg, start_s=0.0, seconds=SECONDS, seed=seed, **asked)


def as_mp4(cine: Cine) -> Cine:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.mp4"
        echogen.write(cine, path)
        return replace(cine, frames=echogen.read_cine(path).frames)


def brighter(cine: Cine) -> Cine:
    return replace(cine, frames=np.clip(cine.frames * 1.3, 0, 255).astype(np.uint8))


def shifted(cine: Cine) -> Cine:
    return replace(cine, frames=np.roll(cine.frames, (3, 3), (1, 2)))


def zoomed(cine: Cine) -> Cine:
    """Larger by 5 % around the tip of the sector."""
    size, apex = cine.frames.shape[-1], CANONICAL_APEX_ROW
    box = (size / 2 * (1 - 1 / 1.05), apex * (1 - 1 / 1.05), size / 2 * (1 + 1 / 1.05), apex + (size - apex) / 1.05)
    pictures = [Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC, box) for frame in cine.frames]
    return replace(cine, frames=np.stack([np.asarray(picture) for picture in pictures]))


def redrawn(model: EchoPulse, cine: Cine) -> Cine:
    """Through the generator's own tokenizer and speckle: as it would draw a clip that it knows by heart."""
    frames, times = cine.frames[:65], cine.times_s[:65]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ids = model.tokenizer.tokenize(torch.tensor(frames)[None].float() / 255.0)
        drawn = model.tokenizer.decode_ids(ids)[0].float()
    layer = SpeckleLayer(model.config.speckle, 0)
    moved = drawn[:, 1:3] * MOTION_SCALE
    picture = layer(drawn[:, 0].clamp(0, 1), moved, torch.tensor(times), torch.Generator().manual_seed(0))
    return Cine((picture * 255 + 0.5).byte().numpy(), times)


def part(cine: Cine, first: int, last: int) -> Cine:
    return Cine(cine.frames[first:last], cine.times_s[first:last])


def percent(row: Row) -> str:
    return f"{100 * row.value:.1f} % ({100 * row.low:.1f}..{100 * row.high:.1f})"


def planted(model: EchoPulse, identity: HeartIdentity, bank: IdentityBank, store: ClipStore, count: int) -> list[list[str]]:
    """Share of copies that are caught, and how often the clip that was copied is the nearest one, for every kind of copy."""
    chosen = np.linspace(0, len(store) - 1, count).astype(int)
    kinds: dict[str, Callable[[Cine], Cine]] = {
        "exact": lambda cine: cine,
        "re-encoded as MP4": as_mp4,
        "30 % brighter": brighter,
        "shifted by 3 pixels both ways": shifted,
        "zoomed by 5 %": zoomed,
        "mirrored": lambda cine: replace(cine, frames=cine.frames[:, :, ::-1].copy()),
        "redrawn by the generator's own tokenizer and speckle": lambda cine: redrawn(model, cine),
    }
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in kinds}
    halves, seconds = bank.vectors.copy(), []
    for index in chosen:
        frames = np.asarray(store[int(index)].frames)
        cine = Cine(frames, np.arange(len(frames)) / FPS)
        for name, copy in kinds.items():
            similarity, at = nearest(identity(copy(cine))[None], bank.vectors)
            found[name].append((float(similarity[0]), int(at[0]) == index))
        middle = len(frames) // 2
        halves[index] = identity(part(cine, 0, middle))
        seconds.append(identity(part(cine, middle, len(frames))))
    similarity, at = nearest(np.stack(seconds), halves)
    found["other beats (second half, where only the first half is known)"] = list(
        zip(similarity.tolist(), (at == chosen).tolist(), strict=True)
    )
    rows = []
    for name, values in found.items():
        caught = share_row([value > bank.threshold for value, _ in values])
        own = share_row([is_own for _, is_own in values])
        median = float(np.median([value for value, _ in values]))
        rows.append([name, str(len(values)), f"{median:.3f}", percent(caught), percent(own)])
    return rows


def clips_row(name: str, report: MemorisationReport, held_out: np.ndarray, with_cover: bool = True) -> list[str]:
    low, high = bootstrap_interval(distance_ratio, report.similarity, held_out, paired=False, resamples=500)
    return [
        name,
        str(len(report.similarity)),
        f"{np.median(report.similarity):.3f}",
        percent(share_row(report.copied)),
        f"{100 * report.covered_share:.2f} %" if with_cover else "",
        f"{distance_ratio(report.similarity, held_out):.2f} ({low:.2f}..{high:.2f})",
    ]


def main() -> None:
    options = arguments(__doc__ or "", clips="runs/clips", hearts=64, generated=64, copies=64)
    model = Generator.from_pretrained(options.model)
    assert isinstance(model, EchoPulse)
    bank, identity, store = copy_filter(model).bank, HeartIdentity(), ClipStore(options.clips)
    seeds = range(FIRST_SEED, FIRST_SEED + options.hearts)
    pairs = [[identity(cine) for cine in recordings_of(seed, identity.config.fps)] for seed in seeds]
    first, second = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    likeness = second @ first.T
    own, other = likeness.diagonal(), likeness[~np.eye(len(first), dtype=bool)]
    one_of_few = share_row(likeness.argmax(1) == np.arange(len(first)))
    everything = nearest(second, np.concatenate([first, bank.vectors]))[1]
    one_of_all = share_row(everything == np.arange(len(first)))
    note = (
        f"Network {identity.digest}; {options.hearts} held-out simulated hearts (seeds {FIRST_SEED}..), each recorded twice for "
        f"{SECONDS:g} s, with other beats and other speckle. Similarity: cosine of the two vectors, -1..1. Command: "
        "`python benchmarks/memorisation.py --clips runs/clips`.\n\n"
    )
    rows = [
        ["similarity, one heart: median (5th..95th percentile)", _spread(own)],
        ["similarity, two hearts: median (5th..95th percentile)", _spread(other)],
        ["AUC, one heart against two", f"{area_under_curve(own, other):.4f}"],
        [f"found again first among {len(first)} hearts", percent(one_of_few)],
        [f"found again first among {len(first)} + {len(bank.vectors)} training hearts", percent(one_of_all)],
        ["pairs of one heart above the threshold", percent(share_row(own > bank.threshold))],
        [
            f"threshold (95th percentile of {bank.held_out} held-out hearts, seeds {FIRST_HELD_OUT_SEED}..)",
            f"{bank.threshold:.3f}",
        ],
    ]
    text = table(["figure", "value"], rows)
    print(text, flush=True)
    write_section(DOCS / "memorisation.md", "Whose heart is it", note + text)

    rows = planted(model, identity, bank, store, options.copies)
    text = table(["copy", "n", "similarity, median", "above the threshold", "the copied clip is nearest"], rows)
    print(text, flush=True)
    note = (
        f"{options.copies} of the {len(store)} clips that {model.name} learned from, copied on purpose; 95 % intervals over "
        "clips. A memorised clip must come out above the threshold, or the table below means nothing.\n\n"
    )
    write_section(DOCS / "memorisation.md", "Planted copies", note + text)

    held_out = memorisation_report(first, bank.vectors, threshold=bank.threshold)
    made = np.stack([identity(generated(model, seed)) for seed in range(FIRST_SEED, FIRST_SEED + options.generated)])
    report = memorisation_report(made, bank.vectors, threshold=bank.threshold)
    rows = [
        clips_row(f"{model.name}", report, held_out.similarity),
        clips_row("control: held-out hearts, which cannot be copies", held_out, held_out.similarity),
    ]
    text = table(
        [
            "clips",
            "n",
            "similarity to the nearest training clip, median",
            "above the threshold",
            "of training clips nearest to one",
            "distance ratio",
        ],
        rows,
    )
    print(text, flush=True)
    note = (
        f"{options.generated} clips of {SECONDS:g} s by {model.name} ({model.weights_hash}) from ECG, EF, view and sex of "
        f"held-out hearts (seeds {FIRST_SEED}..), without a first frame, against the {len(store)} clips that it learned "
        "from. 5 % of clips that are no copies are above the threshold by its definition. Distance ratio: median distance "
        "sqrt(2 - 2 cos) to the nearest training clip over the same of held-out hearts; about 1 for new hearts, near 0 for "
        "copies.\n\n"
    )
    write_section(DOCS / "memorisation.md", "The shipped generator", note + text)


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{middle:.3f} ({low:.3f}..{high:.3f})"


if __name__ == "__main__":
    main()
