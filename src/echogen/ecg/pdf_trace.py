"""ECGs out of PDFs that draw them as lines: the grid gives the scale, the words near a trace its lead.

A page may hold one lead in rows that go on from one another (a watch's half minute), rows of leads, or columns of leads that
follow each other (3 x 4). The leads that run longest are read: with a rhythm strip, that strip. Scanned pages are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.leads import STANDARD_LEADS, canonical_lead
from echogen.ecg.pdf_paths import POINTS_PER_MM, Line, Page, Points, Word, read_pages
from echogen.ecg.source import Source
from echogen.errors import InputError

RATE_HZ = 500.0
_LABELS = {*STANDARD_LEADS, "V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R"}
_FEWEST_POINTS, _SHORTEST_TRACE_MM = 60, 20.0
_LEAST_GRID_LINES = 6
_LONGEST_S = 600.0
_NAMED = re.compile(r"(?:lead|ableitung|d[ée]rivation|derivaci[óo]n)\s*(III|II|I|aV[RLF]|V[1-6])(?![a-z0-9IV])", re.IGNORECASE)


@dataclass(frozen=True)
class Scale:
    """Scales of time and voltage on paper: pt per mm along and up the grid, mm per s, and mm per mV of limb and chest leads."""

    x_pt: float
    y_pt: float
    mm_per_s: float
    limb_mm_per_mv: float
    chest_mm_per_mv: float


@dataclass(frozen=True)
class Trace:
    """A stretch of one lead, "" where no word names it: its page and its points in mm."""

    lead: str
    page: int
    points: Points

    @property
    def begin(self) -> float:
        """Begin of the trace, in mm from the left."""
        return float(self.points[0, 0])

    @property
    def length(self) -> float:
        """Length of the trace, in mm."""
        return float(self.points[-1, 0] - self.points[0, 0])

    @property
    def height(self) -> float:
        """Height of the baseline of the trace, in mm upwards."""
        return float(np.median(self.points[:, 1]))


def spacing(places: NDArray[np.float64]) -> float | None:
    """The commonest distance between neighbours of some places, or None if they are too few or follow no rule."""
    places = np.sort(places)
    steps = np.diff(places[np.concatenate([[True], np.diff(places) > 0.3])]) if places.size else places
    if steps.size < _LEAST_GRID_LINES - 1:
        return None
    near = np.abs(steps[:, None] - steps) < 0.03 * steps
    fitting = steps[near[int(np.argmax(near.sum(axis=1)))]]
    return float(np.mean(fitting)) if fitting.size >= max(0.5 * steps.size, _LEAST_GRID_LINES - 1) else None


def _straight(lines: list[Line], axis: int) -> dict[tuple[object, ...], NDArray[np.float64]]:
    """Places of the straight lines across an axis (0: upright, 1: level), by style; only those of 10 mm or more."""
    found: dict[tuple[object, ...], list[float]] = {}
    for line in lines:
        if len(line.points) == 2:
            size = np.abs(line.points[1] - line.points[0])
            if size[axis] < 0.1 and size[1 - axis] >= 10 * POINTS_PER_MM:
                found.setdefault(line.style, []).append(float(line.points[0, axis]))
    return {style: np.array(places) for style, places in found.items()}


def box_pt(lines: list[Line], axis: int) -> float | None:
    """The pt of one mm of the grid along an axis, or None without a grid.

    A grid with lines five times as far apart in another style has boxes of 1 mm; else 1 or 5 mm, whichever is nearer on paper.
    """
    styles = _straight(lines, axis)
    finest = spacing(np.concatenate(list(styles.values()))) if styles else None
    if finest is None:
        return None
    coarse = [step for places in styles.values() if (step := spacing(places)) is not None]
    if any(4.8 < step / finest < 5.2 for step in coarse) or finest < np.sqrt(5) * POINTS_PER_MM:
        return finest
    return finest / 5


def page_scale(page: Page) -> Scale | None:
    """The scale of a page, 25 mm/s and 10 mm/mV unless its words say otherwise, or None where nothing tells it."""
    text = " ".join(word.text for word in sorted(page.words, key=lambda word: (-round(word.y), word.x)))
    speeds = [float(found.replace(",", ".")) for found in re.findall(r"(\d+(?:[.,]\d+)?)\s*mm\s*/\s*s", text)]
    gains = [float(found.replace(",", ".")) for found in re.findall(r"(\d+(?:[.,]\d+)?)\s*mm\s*/\s*m\s*V", text)]
    x_pt, y_pt = box_pt(page.lines, 0), box_pt(page.lines, 1)
    if x_pt is None or y_pt is None:
        if not speeds:
            return None
        x_pt = y_pt = POINTS_PER_MM
    speed = speeds[0] if speeds else 25.0
    limb = gains[0] if gains else 10.0
    chest = gains[1] if len(gains) > 1 and re.search(r"chest|brust|precord", text, re.IGNORECASE) else limb
    if not (5 <= speed <= 200 and 1 <= limb <= 100 and 1 <= chest <= 100):
        return None
    return Scale(x_pt, y_pt, speed, limb, chest)


def _without_pulse(points: Points, gain: float) -> Points:
    """A trace in mm without the calibration pulse that it may begin with: straight up and down by 1 mV within 15 mm."""
    steps = np.diff(points[points[:, 0] <= points[0, 0] + 15], axis=0)
    jumps = np.flatnonzero((np.abs(steps[:, 0]) < 0.05) & (np.abs(np.abs(steps[:, 1]) - gain) < 0.2 * gain))
    if len(jumps) >= 2 and steps[jumps[0], 1] * steps[jumps[-1], 1] < 0:
        return points[jumps[-1] + 1 :]
    return points


def _drawn_traces(page: Page, scale: Scale) -> list[Points]:
    """The lines of a page that run to the right as a trace does, in mm."""
    found: list[Points] = []
    for line in page.lines:
        points = line.points / (scale.x_pt, scale.y_pt)
        points = points[::-1] if points[-1, 0] < points[0, 0] else points
        steps = np.diff(points[:, 0])
        if len(points) >= _FEWEST_POINTS and np.ptp(points[:, 0]) >= _SHORTEST_TRACE_MM and (steps >= -0.02).mean() > 0.99:
            points = _without_pulse(points, scale.limb_mm_per_mv)
            points = points[np.argsort(points[:, 0], kind="stable")]
            # Some programs draw a trace twice, with two pens.
            if not any(np.abs(points[[0, -1]] - other[[0, -1]]).max() < 0.2 for other in found):
                found.append(points)
    return found


def _labels(words: list[Word], scale: Scale) -> list[tuple[str, float, float]]:
    """The words that name a lead and stand alone, with their places in mm."""
    found = []
    for word in words:
        lead = canonical_lead(word.text)
        reach = 9 + 6 * len(word.text)
        alone = not any(other is not word and abs(other.y - word.y) < 1 and abs(other.x - word.x) < reach for other in words)
        if lead in _LABELS and alone:
            found.append((lead, word.x / scale.x_pt, word.y / scale.y_pt))
    return found


def _named(drawn: list[Points], labels: list[tuple[str, float, float]], page: int) -> list[Trace]:
    """The traces with the leads that the labels name, cut where a trace runs on from one lead into the next."""
    traces = [Trace("", page, points) for points in drawn]
    own: dict[int, list[tuple[float, str]]] = {}
    for lead, x, y in labels:
        beside = [n for n, one in enumerate(traces) if one.begin - 20 <= x <= one.begin + one.length]
        distance = {n: y - traces[n].height for n in beside}
        # A label stands above its own trace rather than below it.
        near = min(beside, key=lambda n: max(distance[n], -2 * distance[n]), default=None)
        if near is not None and abs(distance[near]) < 30:
            own.setdefault(near, []).append((x, lead))
    named = []
    for n, trace in enumerate(traces):
        names = sorted(own.get(n, []))
        indent = max(names[0][0] - trace.begin, 0.0) if names else 0.0
        edges = [trace.begin, *(x - indent for x, _ in names[1:]), trace.begin + trace.length + 1e-6]
        for (_, lead), low, high in zip(names or [(0.0, "")], edges, edges[1:], strict=False):
            part = trace.points[(trace.points[:, 0] >= low) & (trace.points[:, 0] < high)]
            if len(part) > 1:
                named.append(replace(trace, lead=lead, points=part))
    return sorted(named, key=lambda one: (-one.height, one.begin))


def _rows(traces: list[Trace]) -> list[Trace]:
    """The stretches of one lead that go on from one another: rows of the longest length, and a shorter one at the end."""
    longest = max(one.length for one in traces)
    rows = [one for n, one in enumerate(traces) if one.length > 0.97 * longest or n == len(traces) - 1]
    return [one for one in rows if abs(one.begin - rows[0].begin) < 5]


def _signal(rows: list[Trace], scales: dict[int, Scale], rate_hz: float) -> Floats:
    """(samples,) the rows of a lead one after the other, in mV about the median of each."""
    parts = []
    for one in rows:
        scale = scales[one.page]
        gain = scale.chest_mm_per_mv if one.lead.startswith("V") else scale.limb_mm_per_mv
        samples = int(round(one.length / scale.mm_per_s * rate_hz, 6))
        at = one.begin + np.arange(samples) * scale.mm_per_s / rate_hz
        parts.append((np.interp(at, one.points[:, 0], one.points[:, 1]) - one.height) / gain)
    return np.concatenate(parts)


def _leads(pages: list[Page], where: str, rate_hz: float) -> dict[str, Floats]:
    """The longest leads of a document, of equal length, by name."""
    scales: dict[int, Scale] = {}
    traces: list[Trace] = []
    for number, page in enumerate(pages):
        scale = page_scale(page)
        if scale is not None:
            scales[number] = scale
            traces += _named(_drawn_traces(page, scale), _labels(page.words, scale), number)
    if not traces:
        if any(page.pictures for page in pages):
            raise InputError(f"{where} shows its ECG as a picture, which is not read; export it with the trace drawn as lines.")
        raise InputError(f"{where} holds no ECG that is drawn as a line over a grid or with its mm/s; export it as data instead.")
    if sum(one.length / scales[one.page].mm_per_s for one in traces) > 16 * _LONGEST_S:
        raise InputError(f"{where} draws more than {_LONGEST_S:g} s of ECG; export it as data instead.")
    by_lead = {
        lead: _rows(list(group)) for lead, group in groupby(sorted(traces, key=lambda one: one.lead), key=lambda one: one.lead)
    }
    lasting = {lead: sum(row.length for row in rows) for lead, rows in by_lead.items()}
    full = [lead for lead in by_lead if lasting[lead] > 0.97 * max(lasting.values())]
    left = min(by_lead[lead][0].begin for lead in full)
    leads = {lead: _signal(by_lead[lead], scales, rate_hz) for lead in full if by_lead[lead][0].begin < left + 5}
    samples = min(signal.size for signal in leads.values())
    return {lead: signal[:samples] for lead, signal in leads.items()}


def open_pdf(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a PDF whose ECG is drawn as lines; it is sampled at 500 Hz unless another rate is asked for.

    Zero is the median of each row. Raises `InputError` for a scanned page, for one without grid or mm/s, and for a stated unit.
    """
    where = f"The PDF {path.name}"
    if mv_of_unit is not None:
        raise InputError(f"{where} states its own scale; leave out the unit.")
    rate = float(rate_hz or RATE_HZ)
    pages = read_pages(path, where)
    leads = _leads(pages, where, rate)
    if "" in leads:
        found = _NAMED.search("".join(word.text for page in pages for word in page.words))
        name = (canonical_lead(found[1]) if found else None) or "ECG"
        leads = {(lead or name): signal for lead, signal in leads.items() if lead or name not in leads}
    names = tuple(sorted(leads, key=lambda lead: STANDARD_LEADS.index(lead) if lead in STANDARD_LEADS else 99))
    table = np.stack([leads[name] for name in names])
    return Source("PDF trace", names, rate, table.shape[1], lambda first, last: table[:, first:last])
