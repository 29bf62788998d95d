"""Do generated clips help where weak hearts are rare? python benchmarks/rebalancing.py -> docs/rebalancing.md.

The downstream experiment of EchoDiffusion (its appendix, Table 4) on simulated hearts: an ejection-fraction regressor learns from
a small set whose ejection fractions are spread as in a hospital, or from as many clips that generated ones make even.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.commands.common import progress_bar
from echogen.datasets.clip_store import FPS, ClipStore
from echogen.datasets.held_out import held_out
from echogen.generators.base import Generator
from echogen.generators.echodiffusion.cascade import Cascade
from echogen.generators.echodiffusion.generator import EchoDiffusion
from echogen.metrics.heart.ejection import ejection_report
from echogen.networks.ef_regressor import EfRegressor, EfRegressorConfig, at_size
from echogen.samplers.edm import random_normal
from echogen.training.tasks.ef_regressor import shown_ef_percent

#: What the regressor looks at: as much as the small cascade's first stage makes.
SIZE, FRAMES, STEP = 32, 16, 4
WINDOW = FRAMES * STEP
FIRST_SEED = 120_000
#: Of the adults in EchoNet-Dynamic, nearly (Ouyang et al., Nature 2020): most hearts are healthy.
USUAL_EF, USUAL_SPREAD = 58.0, 10.0
LOWEST, HIGHEST = 15.0, 78.0


@dataclass(frozen=True)
class Clips:
    """videos: (N, FRAMES, SIZE, SIZE) in 0..1. ef: (N,) in %."""

    videos: Tensor
    ef: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ef)

    def chosen(self, which: NDArray[np.int64]) -> Clips:
        return Clips(self.videos[torch.from_numpy(which)], self.ef[which])

    def beside(self, other: Clips) -> Clips:
        return Clips(torch.cat([self.videos, other.videos]), np.concatenate([self.ef, other.ef]))


def small(frames: NDArray[np.uint8]) -> Tensor:
    """(WINDOW, 128, 128) -> (FRAMES, SIZE, SIZE) in 0..1."""
    return at_size(torch.from_numpy(np.ascontiguousarray(frames[::STEP]))[None].float() / 255.0, SIZE)[0]


def from_store(store: ClipStore, which: NDArray[np.int64]) -> tuple[Clips, Tensor]:
    """The beginnings of clips, and a frame of each at its first end-diastole, (N, 1, SIZE, SIZE)."""
    videos, frames, fractions = [], [], []
    for index in which:
        clip = store[int(index)]
        videos.append(small(clip.frames[:WINDOW]))
        fractions.append(shown_ef_percent(clip.heart, 0.0, WINDOW / FPS))
        ends = [round(each * FPS) for each in clip.heart["ed_s"] if each is not None and 0 <= each * FPS < WINDOW - 1]
        frames.append(at_size(torch.from_numpy(clip.frames[ends[:1] or [0]].copy())[None].float() / 255.0, SIZE)[0])
    return Clips(torch.stack(videos), np.array(fractions)), torch.stack(frames)


def usual_choice(store: ClipStore, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Clips whose ejection fractions are spread as in a hospital."""
    ef = np.array([shown_ef_percent(store[index].heart, 0.0, WINDOW / FPS) for index in range(len(store))])
    bins = np.digitize(ef, np.arange(LOWEST, HIGHEST, 3.0))
    usual = np.exp(-0.5 * ((ef - USUAL_EF) / USUAL_SPREAD) ** 2)
    weights = usual / np.bincount(bins, minlength=bins.max() + 1)[bins]
    return rng.choice(len(store), count, replace=False, p=weights / weights.sum())


def missing_ef(ef: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Ejection fractions that, added one by one, each fall where clips are rarest."""
    edges = np.linspace(LOWEST, HIGHEST, 22)
    have = np.histogram(ef, edges)[0].astype(float)
    middles = (edges[1:] + edges[:-1]) / 2
    added = []
    for _ in range(count):
        rarest = int(np.argmin(have))
        have[rarest] += 1
        added.append(middles[rarest])
    return np.array(added)


@torch.inference_mode()
def generated(model: EchoDiffusion, frames: Tensor, ef: NDArray[np.float64], steps: int, seed: int) -> Clips:
    """Videos of the first stage, one for each ejection fraction, of hearts of which a frame is given."""
    base = Cascade(replace(model.config.cascade, stages=model.config.cascade.stages[:1], steps=None), model.cascade.networks[:1])
    rng = np.random.default_rng(seed)
    normal = random_normal(torch.Generator().manual_seed(seed), torch.device("cpu"))
    videos = []
    with progress_bar("generating") as progress:
        for start in range(0, len(ef), 16):
            asked = torch.from_numpy(ef[start : start + 16]).float() / 100.0
            shown = frames[torch.from_numpy(rng.integers(0, len(frames), len(asked)))]
            videos.append(base.sample(shown, asked, normal, steps=steps)[-1][:, 0])
            progress(min(start + 16, len(ef)), len(ef))
    return Clips(torch.cat(videos), ef)


def learned(clips: Clips, seed: int, steps: int) -> EfRegressor:
    """A light R(2+1)D trained on the clips: mean squared error, shifts and gains at random, as many steps whatever the set."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shape = replace(EfRegressorConfig.small(), frames=FRAMES, fps=FPS / STEP, size=SIZE, stem_stride=(1, 2))
    network = EfRegressor(shape)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    targets = torch.from_numpy(clips.ef).float()
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(clips), 16))
        top, left = (int(v) for v in rng.integers(0, 5, 2))
        videos = functional.pad(clips.videos[rows], (2, 2, 2, 2))[..., top : top + SIZE, left : left + SIZE]
        videos = (videos.pow(float(rng.uniform(0.8, 1.25))) * float(rng.uniform(0.85, 1.15))).clamp(0.0, 1.0)
        loss = functional.mse_loss(network(videos), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 300.0)
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def judged(network: EfRegressor, clips: Clips) -> NDArray[np.float64]:
    return torch.cat([network(part) for part in clips.videos.split(50)]).double().numpy()


def test_hearts(count: int) -> Clips:
    """Held-out hearts of even ejection fractions, drawn as training hearts are."""
    edges = np.linspace(LOWEST, HIGHEST, 22)
    room = np.full(len(edges) - 1, -(-count // (len(edges) - 1)))
    videos, fractions, seed = [], [], FIRST_SEED
    while len(videos) < count:
        case = held_out(seed, WINDOW / FPS)
        seed += 1
        beats = case.heart
        ef = 100.0 * (1.0 - beats.esvs_ml / beats.edvs_ml)
        shown = (beats.clock.ed_s >= 0) & (beats.clock.avc_s <= WINDOW / FPS)
        if not shown.any():
            continue
        truth = float(np.median(ef[shown]))
        place = int(np.digitize(truth, edges)) - 1
        if 0 <= place < len(room) and room[place] > 0:
            room[place] -= 1
            videos.append(small(case.cine.frames))
            fractions.append(truth)
    return Clips(torch.stack(videos), np.array(fractions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("runs/clips"), help="folder of simulated clips")
    parser.add_argument("--model", default="echodiffusion-small")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--hearts", type=int, default=210, help="held-out hearts")
    parser.add_argument("--repeats", type=int, default=3, help="regressors of each row, whose answers are judged together")
    parser.add_argument("--steps", type=int, default=600, help="of training a regressor")
    parser.add_argument("--sampling-steps", type=int, default=10)
    options = parser.parse_args()
    model = Generator.from_pretrained(options.model)
    assert isinstance(model, EchoDiffusion)
    store, test = ClipStore(options.clips), test_hearts(options.hearts)
    rows = []
    for size in options.sizes:
        rng = np.random.default_rng(size)
        real, frames = from_store(store, usual_choice(store, size, rng))
        half = real.chosen(np.arange(size // 2))
        made = generated(model, frames, missing_ef(real.ef, size), options.sampling_steps, seed=size)
        rare = np.digitize(real.ef, np.linspace(LOWEST, HIGHEST, 22))
        even = rng.choice(size, size, p=(1 / np.bincount(rare)[rare]) / (1 / np.bincount(rare)[rare]).sum())
        few = missing_ef(half.ef, size - len(half))
        wanted = np.array([int(np.argmin(np.abs(made.ef - ef) + 1e3 * used)) for ef, used in _unused(few, made.ef)])
        arms = {
            f"{size} real": real,
            f"{size} real, rare ones repeated": real.chosen(even),
            f"{len(half)} real, {size - len(half)} generated": half.beside(made.chosen(wanted)),
            f"{size} real, {size} generated": real.beside(made),
            f"{size} generated": made,
        }
        for name, clips in arms.items():
            answers = [judged(learned(clips, seed, options.steps), test) for seed in range(options.repeats)]
            reports = [ejection_report(answer, test.ef) for answer in answers]
            low = test.ef < 35.0
            together = ejection_report(np.concatenate(answers), np.tile(test.ef, options.repeats))
            low_mae = np.mean([np.abs(answer - test.ef)[low].mean() for answer in answers])
            values = [f"{each.r2:.2f}" for each in reports]
            rows.append(
                [name, f"{together.r2:.2f}", ", ".join(values), f"{together.mae:.1f}", f"{together.rmse:.1f}", f"{low_mae:.1f}"]
            )
            print(rows[-1], flush=True)
    text = (
        f"A light R(2+1)D ({FRAMES} frames of {SIZE} x {SIZE} pixels over {WINDOW / FPS:g} s, {options.steps} steps whatever the "
        f"set, {options.repeats} seeds) learns ejection fraction from a few simulated clips spread as in a hospital (about "
        f"{USUAL_EF:g} +- {USUAL_SPREAD:g} %), and is judged on {len(test)} held-out hearts spread evenly from {LOWEST:g} to "
        f"{HIGHEST:g} % (seeds from {FIRST_SEED}). Generated: by the first stage of {model.name} ({model.weights_hash}), "
        f"{options.sampling_steps} steps, no selection, from end-diastolic frames of the real clips; its label is the ejection "
        "fraction asked for. The generator itself learned from clips of all ejection fractions, more than the regressor gets. "
        f"Command: `{shlex.join(['python', *sys.argv])}`.\n\n"
    )
    text += table(["trained on", "R2", "R2 of each seed", "MAE, points", "RMSE", "MAE below 35 %"], rows)
    print(text)
    write_section(DOCS / "rebalancing.md", "Weak hearts are rare", text)


def _unused(wanted: NDArray[np.float64], have: NDArray[np.float64]) -> list[tuple[float, NDArray[np.bool_]]]:
    """Each wanted value with what is taken before it, the nearest that is left being taken each time."""
    used = np.zeros(len(have), dtype=bool)
    found = []
    for value in wanted:
        found.append((float(value), used.copy()))
        used[int(np.argmin(np.abs(have - value) + 1e3 * used))] = True
    return found


if __name__ == "__main__":
    main()
