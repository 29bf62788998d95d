"""Published protocols run on the data sets that they were made for: the figures of a generator beside those of the papers.

`judge` takes the real clips of a data set, their generated ones, and a protocol of `published_rows`, and gives that protocol's
figures with truth and control beside them, as `evaluate` does; as_published adds what the papers' scripts do besides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.errors import InputError
from echogen.metrics.evaluation.collectors import Collector, Pair
from echogen.metrics.evaluation.figures import Figure, Row, mean_row
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.heart.area_ejection import AreaEjection, Sam2Masks
from echogen.metrics.pictures.likeness import StructuralSimilarity
from echogen.metrics.published.protocol_clips import HeldClip, ModelSource, Sample, Source, as_pictures, cut_clip, in_its_sector
from echogen.metrics.published.quirks import ROUND_TRIPS, BestPicture, ClipDistance, nearest_sample
from echogen.metrics.published.rows import Cut, Protocol
from echogen.metrics.sets.features import LearnedPerceptualDistance
from echogen.records import Cine, Study

#: Metrics of the papers' scripts, beside those of METRICS.
SCRIPT_METRICS: dict[str, Callable[[], Collector]] = {
    "fid_per_clip": lambda: ClipDistance("fid_per_clip"),
    "fvd_per_clip": lambda: ClipDistance("fvd_per_clip", video=True),
    "ssim_best": lambda: BestPicture("ssim_best", "1", StructuralSimilarity, max),
    "lpips_best": lambda: BestPicture("lpips_best", "1", LearnedPerceptualDistance, min),
}
#: Metrics of pictures as the protocol makes them; the others look at the heart, in the sector of the clip.
_OF_PICTURES = {"mse", "mae", "psnr", "ssim", "lpips", "fid", "fvd", *SCRIPT_METRICS}
#: Metrics of sets; a further sample brings no further real clip to them.
_OF_SETS = {"fid", "fvd"}
#: Metrics of one clip against a known EF; of a real clip, against its label, they are the truth's row.
_AGAINST_LABELS = {"ef", "ef_regressor"}


@dataclass(frozen=True)
class Judged:
    """Result of a protocol. figures: by name. n: real clips that have a generated one. left_out: by name, those without one,
    or whose sector a generator's first frame cannot be taken from. as_published, sam2: as they were asked for."""

    protocol: Protocol
    figures: dict[str, Figure]
    n: int
    left_out: tuple[str, ...]
    as_published: bool
    sam2: bool

    def name_of(self, published: str) -> str:
        """The figure here that a published one is compared with."""
        for own, other in self.protocol.published.items() if self.as_published else ():
            if published == own or published.startswith(f"{own}_"):
                published = other + published.removeprefix(own)
                break
        return published.replace("ef_area", "ef_sam2") if self.sam2 else published

    def to_json(self) -> dict[str, Any]:
        """One object per figure (see `Figure.to_json`), protocol, clips, left_out and as_published."""
        facts = {"protocol": self.protocol.name, "clips": self.n, "left_out": len(self.left_out)}
        return facts | {"as_published": self.as_published} | {name: figure.to_json() for name, figure in self.figures.items()}


def metrics_of(protocol: Protocol, *, as_published: bool = False, sam2: bool = False) -> list[str]:
    """The metrics of a protocol by name; as_published: those of its script; sam2: area EFs by SAM 2."""
    names = [protocol.published.get(name, name) if as_published else name for name in protocol.metrics]
    if sam2:
        names = ["ef_sam2" if name == "ef_area" else name for name in names]
    return list(dict.fromkeys(names))


def judge(
    protocol: Protocol,
    studies: Iterable[tuple[str, Study]],
    source: Source,
    *,
    as_published: bool = False,
    sam2: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Judged:
    """The figures of a protocol for the clips of a source.

    studies: (name, real clip) of the protocol's split and view. as_published: cut, metrics, round trips and choice of samples as
    in the script behind the paper; otherwise every sample counts. sam2: a folder of SAM 2 for EF by area; without it the shipped
    segmenter's. A metric whose weights are missing is given without a value and with a note. progress: called with the clips
    done. Raises `InputError` for a damaged clip, or where no real clip has a generated one.
    """
    cut = (protocol.published_cut or protocol.cut) if as_published else protocol.cut
    protocol = replace(protocol, cut=cut)
    names = metrics_of(protocol, as_published=as_published, sam2=sam2 is not None)
    collectors, missing = _collectors(names, sam2)
    real_collectors, _ = _collectors([name for name in collectors if name in _AGAINST_LABELS], sam2)
    trips = [ROUND_TRIPS[name] for name in protocol.round_trips] if as_published else []
    figures: dict[str, Figure] = {}
    left_out: list[str] = []
    before: _Case | None = None
    judged = 0
    for done, (name, study) in enumerate(studies, start=1):
        case = _case(name, study, source, protocol, trips, only_best=as_published)
        if case is None:
            left_out.append(name)
        else:
            judged += 1
            for metric, collector in collectors.items():
                _add(metric, collector, case, before)
            for collector in real_collectors.values():
                collector.add(Pair(None, case.real_heart))
            before = case
        if progress is not None:
            progress(done)
    if not judged:
        raise InputError(
            f"None of the real clips has a generated one; name the generated videos as the real clips (the first is "
            f"{left_out[0] if left_out else 'missing'})."
        )
    truth = {name: figure.generated for collector in real_collectors.values() for name, figure in collector.figures().items()}
    for metric in names:
        found = collectors[metric].figures() if metric in collectors else {metric: missing[metric]}
        figures |= {name: replace(figure, truth=truth.get(name, figure.truth)) for name, figure in found.items()}
    if isinstance(source, ModelSource):
        figures["sampling_s"] = Figure(mean_row(source.seconds), "s", note="Wall time of one clip, decoding included.")
        figures["parameters"] = Figure(Row(source.parameters, n=1), "million")
    return Judged(protocol, figures, judged, tuple(left_out), as_published, sam2 is not None)


def _collectors(names: list[str], sam2: str | Path | None) -> tuple[dict[str, Collector], dict[str, Figure]]:
    """(collectors, figures of those that cannot be had) by name."""
    collectors: dict[str, Collector] = {}
    missing: dict[str, Figure] = {}
    for name in names:
        try:
            if name == "ef_sam2" and sam2 is not None:
                collectors[name] = AreaEjection(name, partial(Sam2Masks, sam2))
            else:
                collectors[name] = SCRIPT_METRICS[name]() if name in SCRIPT_METRICS else METRICS[name].make()
        except InputError as error:
            missing[name] = Figure(Row(), "1", note=str(error))
    return collectors, missing


@dataclass(frozen=True)
class _Case:
    """A real clip and its samples, as pictures and as hearts. best: the one sample that counts, None for all of them."""

    real_pictures: HeldClip
    real_heart: HeldClip
    pictures: list[HeldClip]
    hearts: list[HeldClip]
    best: int | None

    def pairs(self, before: _Case | None, *, of_pictures: bool, every: bool) -> Iterator[Pair]:
        """One for each sample, or for the best one; each under a name of its own.

        One by one: what is found of the real clip with the first sample is known to its copies for the others.
        """
        real, generated = (self.real_pictures, self.pictures) if of_pictures else (self.real_heart, self.hearts)
        other = None if before is None else before.real_pictures if of_pictures else before.real_heart
        chosen = range(len(generated)) if every or self.best is None else [self.best]
        for k in chosen:
            yield Pair(_renamed(real, generated[k].file.name), generated[k], other)


def _renamed(clip: HeldClip, name: str) -> HeldClip:
    """The clip under another name, with all that is known of it; itself where that is its name."""
    if clip.file.name == name:
        return clip
    renamed = copy.copy(clip)
    renamed.file = replace(clip.file, name=name)
    return renamed


def _case(
    name: str,
    study: Study,
    source: Source,
    protocol: Protocol,
    trips: list[Callable[[ByteArray], ByteArray]],
    *,
    only_best: bool,
) -> _Case | None:
    """The clips of one name, or None where there is no generated one, or no sector for a generator to start from."""
    cut = protocol.cut
    real = cut_clip(study.cine, cut)
    if source.in_sector:
        try:
            real = in_its_sector(real)
        except InputError:
            return None
    heart = HeldClip(name, real, study.ef_percent)
    samples = source.samples(name, study, real, protocol)
    if not samples:
        return None
    names = [name, *(f"{name}_{k}" for k in range(2, len(samples) + 1))]
    cines = [_on_clock(sample, cut, real) for sample in samples]
    hearts = [HeldClip(own, cine, s.ef_percent) for own, cine, s in zip(names, cines, samples, strict=True)]
    best = None
    if only_best and len(samples) > 1:
        best = nearest_sample([clip.ef_percent for clip in hearts], [sample.ef_percent for sample in samples])

    def pictures(own: str, cine: Cine) -> HeldClip:
        made = as_pictures(cine, cut)
        for trip in trips:
            made = replace(made, frames=trip(made.frames))
        return HeldClip(own, made, as_it_is=True)

    generated = [pictures(own, cine) for own, cine in zip(names, cines, strict=True)]
    return _Case(pictures(name, real), heart, generated, hearts, best)


def _on_clock(sample: Sample, cut: Cut, real: Cine) -> Cine:
    """A sample's cut; where this leaves clips their own rate, at that of the real clip."""
    rate = cut.fps if cut.fps is not None or len(real.times_s) < 2 else real.fps
    return replace(cut_clip(sample.cine, replace(cut, fps=rate)), view=real.view)


def _add(metric: str, collector: Collector, case: _Case, before: _Case | None) -> None:
    pairs = case.pairs(before, of_pictures=metric in _OF_PICTURES, every=isinstance(collector, BestPicture))
    if isinstance(collector, BestPicture):
        collector.add_best(list(pairs))
        return
    for index, pair in enumerate(pairs):
        collector.add(Pair(None, pair.generated) if index and metric in _OF_SETS else pair)


def published_beside(judged: Judged, values: Mapping[str, float]) -> dict[str, float]:
    """Published figures by the names of those here that they are compared with; those without one are left out."""
    names = {judged.name_of(name): value for name, value in values.items()}
    return {name: value for name, value in names.items() if name in judged.figures and np.isfinite(value)}
