"""Report of a blind test: accuracy, sensitivity, d', agreement within and between readers, with 95 % intervals.

A figure is a `Row`: value, low, high, n. "Generated" is what there is to detect: sensitivity is the share of generated clips
that were called generated, specificity the share of real clips that were called real. Repeated clips count for the agreement
of a reader with himself only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm

from echogen.app.blind_test.session import ANSWERS_GLOB, GRADES, WORDS, Answer, read_answers
from echogen.errors import InputError
from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.evaluation.figures import Row, mean_row, ratio_row, share_row

_NAN = float("nan")
LEVEL = 0.95


def chance_p(successes: int, n: int) -> float:
    """Two-sided exact binomial test of a share against one half; nan for n 0."""
    return float(binomtest(successes, n, 0.5).pvalue) if n else _NAN


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for having tested all of them (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted.tolist()


def d_prime(called_generated: ArrayLike, called_generated_though_real: ArrayLike) -> float:
    """d' = z(hit rate) - z(false alarm rate), each rate as (count + 0.5) / (n + 1) (Hautus 1995); nan without both kinds.

    called_generated: (generated clips,) 1 where the reader said so; called_generated_though_real: (real clips,).
    """
    hits, alarms = np.asarray(called_generated, dtype=np.float64), np.asarray(called_generated_though_real, dtype=np.float64)
    if not len(hits) or not len(alarms):
        return _NAN
    return float(norm.ppf((hits.sum() + 0.5) / (len(hits) + 1)) - norm.ppf((alarms.sum() + 0.5) / (len(alarms) + 1)))


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Agreement of two (n,) ratings beyond chance, (po - pe) / (1 - pe) (Cohen 1960); nan where chance agrees always."""
    one, other = np.asarray(first), np.asarray(second)
    if not len(one):
        return _NAN
    expected = sum(float((one == value).mean() * (other == value).mean()) for value in np.union1d(one, other))
    return (float((one == other).mean()) - expected) / (1.0 - expected) if expected < 1.0 else _NAN


def fleiss_kappa(counts: ArrayLike) -> float:
    """Agreement of m >= 2 readers beyond chance (Fleiss 1971); nan where all answers are the same.

    counts: (clips, categories), how many readers chose each category; m the same for all clips.
    """
    table = np.asarray(counts, dtype=np.float64)
    if not len(table):
        return _NAN
    readers = table.sum(axis=1)[0]
    expected = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    observed = float(((table**2).sum(axis=1) - readers).mean() / (readers * (readers - 1)))
    return (observed - expected) / (1.0 - expected) if expected < 1.0 else _NAN


def _kappa_row(kappa: Any, *ratings: ArrayLike) -> Row:
    """A kappa with its interval, which draws clips; without one where there are too few or kappa is undefined."""
    n, value = len(np.asarray(ratings[0])), kappa(*ratings)
    if n < 2 or not np.isfinite(value):
        return Row(value, n=n)
    return Row(value, *bootstrap_interval(kappa, *ratings), n)


def read_all_answers(folder: Path) -> list[Answer]:
    """The answers of all readers in a test's folder. Raises `InputError` where there are none."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; name the one that a blind test wrote its answers to.")
    found = [answer for path in sorted(folder.glob(ANSWERS_GLOB)) for answer in read_answers(path)]
    if not found:
        raise InputError(f"There are no answers in {folder}; name the folder of a blind test that somebody took.")
    once = {(answer.reader, answer.position): answer for answer in reversed(found)}
    return [once[key] for key in sorted(once)]


def report(answers: Sequence[Answer]) -> dict[str, Any]:
    """All figures of a blind test, as plain values for JSON: readers (one object each), pooled, between_readers, clips."""
    by_reader: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_reader[answer.reader].append(answer)
    first = [answer for answer in answers if not answer.repeat]
    return {
        "readers": {name: _reader(given) for name, given in sorted(by_reader.items())},
        "pooled": _pooled(first),
        "between_readers": _between(first),
        "clips": _clips(first),
    }


def _reader(given: Sequence[Answer]) -> dict[str, Any]:
    first = [answer for answer in given if not answer.repeat]
    generated, real = ([a for a in first if a.real is kind] for kind in (False, True))
    right = sum(answer.right for answer in first)
    detected, alarms = ([float(not a.said_real) for a in kind] for kind in (generated, real))
    prime = Row(d_prime(detected, alarms), n=len(first))
    if len(generated) > 1 and len(real) > 1:
        prime = Row(prime.value, *bootstrap_interval(d_prime, detected, alarms, paired=False), len(first))
    return {
        "accuracy": share_row([answer.right for answer in first]).to_json() | {"p_against_chance": chance_p(right, len(first))},
        "sensitivity": share_row(detected).to_json(),
        "specificity": share_row([not alarm for alarm in alarms]).to_json(),
        "d_prime": prime.to_json(),
        "with_oneself": _within(given),
    } | _grades(first)


def _within(given: Sequence[Answer]) -> dict[str, Any]:
    """Agreement of a reader with himself on the clips shown twice."""
    said = {answer.clip: answer.said_real for answer in given if not answer.repeat}
    pairs = [(said[a.clip], a.said_real) for a in given if a.repeat and a.clip in said]
    first, second = np.array(pairs, dtype=float).reshape(-1, 2).T
    agreed = share_row(first == second)
    return {"agreement": agreed.to_json(), "kappa": _kappa_row(cohen_kappa, first, second).to_json()}


def _grades(first: Sequence[Answer]) -> dict[str, Any]:
    """Confidence, quality and time of answers; accuracy at each degree of confidence."""

    def of(what: str, chosen: Sequence[Answer]) -> dict[str, Any]:
        return mean_row([getattr(answer, what) for answer in chosen]).to_json()

    right, wrong = ([a for a in first if a.right is kind] for kind in (True, False))
    real, generated = ([a for a in first if a.real is kind] for kind in (True, False))
    levels = range(GRADES[0], GRADES[1] + 1)
    accuracy = {str(level): share_row([a.right for a in first if a.confidence == level]) for level in levels}
    return {
        "confidence": {"right": of("confidence", right), "wrong": of("confidence", wrong)},
        "accuracy_by_confidence": {level: row.to_json() for level, row in accuracy.items()},
        "quality": {"real": of("quality", real), "generated": of("quality", generated)},
        "seconds": of("seconds", first),
    }


def _pooled(first: Sequence[Answer]) -> dict[str, Any]:
    """All readers together; intervals draw clips, since answers about one clip belong together."""
    by_clip: dict[str, list[Answer]] = defaultdict(list)
    for answer in first:
        by_clip[answer.clip].append(answer)

    def share(clips: Sequence[list[Answer]]) -> dict[str, Any]:
        return ratio_row([sum(a.right for a in clip) for clip in clips], [len(clip) for clip in clips]).to_json()

    clips = list(by_clip.values())
    pooled = {
        "accuracy": share(clips),
        "sensitivity": share([clip for clip in clips if not clip[0].real]),
        "specificity": share([clip for clip in clips if clip[0].real]),
    }
    return pooled | _grades(first)


def _between(first: Sequence[Answer]) -> dict[str, Any]:
    """Agreement between readers: kappa of each pair on the clips both saw, Fleiss' kappa on those that all saw."""
    said: dict[str, dict[str, float]] = defaultdict(dict)
    for answer in first:
        said[answer.reader][answer.clip] = float(answer.said_real)
    pairs = []
    for one, other in combinations(sorted(said), 2):
        both = sorted(said[one].keys() & said[other].keys())
        ratings = [np.array([said[name][clip] for clip in both]) for name in (one, other)]
        agreed = share_row(ratings[0] == ratings[1])
        pairs.append(
            {"readers": [one, other], "agreement": agreed.to_json(), "kappa": _kappa_row(cohen_kappa, *ratings).to_json()}
        )
    fleiss = Row()
    if len(said) > 1:
        common = sorted(set.intersection(*(set(clips) for clips in said.values())))
        real = np.array([sum(clips[name] for clips in said.values()) for name in common])
        fleiss = _kappa_row(fleiss_kappa, np.stack([real, len(said) - real], axis=1))
    return {"pairs": pairs, "fleiss_kappa": fleiss.to_json()}


def _clips(first: Sequence[Answer]) -> list[dict[str, Any]]:
    """Each clip: how many readers told its kind, and whether that differs from chance, alone and among all clips (Holm)."""
    by_clip: dict[str, list[Answer]] = defaultdict(list)
    for answer in first:
        by_clip[answer.clip].append(answer)
    names, right = sorted(by_clip), {name: sum(a.right for a in given) for name, given in by_clip.items()}
    p_values = [chance_p(right[name], len(by_clip[name])) for name in names]
    return [
        {
            "clip": name,
            "truth": WORDS[by_clip[name][0].real],
            "n": len(by_clip[name]),
            "right": right[name],
            "p_against_chance": p,
            "p_adjusted": adjusted,
        }
        for name, p, adjusted in zip(names, p_values, holm(p_values), strict=True)
    ]
