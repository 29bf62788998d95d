"""Drawings of a PDF page: lines as points on the page and words with their places. Pictures are only counted."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError

Points = NDArray[np.float64]
Matrix = tuple[float, float, float, float, float, float]
Style = tuple[Any, ...]

POINTS_PER_MM = 72 / 25.4
_IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
_MAXIMUM_BYTES = 50 * 2**20
_MAXIMUM_CONTENT_BYTES = 4 * 2**20
_MAXIMUM_PAGES = 10
_MAXIMUM_DEPTH = 4
#: Filled bars thinner than this, in pt, stand for lines.
_THIN = 0.5
#: Weights of the four control points of a Bezier curve at the quarters of its way; the last is its end.
_CURVE = np.array([[(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3] for t in (0.25, 0.5, 0.75, 1.0)])
_STROKES, _FILLS = {b"S", b"s", b"B", b"B*", b"b", b"b*"}, {b"f", b"F", b"f*"}
_CLOSING = {b"s", b"b", b"b*"}


@dataclass(frozen=True)
class Line:
    """A connected line: points (n, 2) in pt, y upwards, and its style (what tells one pen from another)."""

    points: Points
    style: Style


@dataclass(frozen=True)
class Word:
    """A piece of text and where it begins, in pt."""

    text: str
    x: float
    y: float


@dataclass
class Page:
    """Lines and words of a page, in the order in which they were drawn."""

    lines: list[Line] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    pictures: int = 0


def times(first: Matrix, then: Matrix) -> Matrix:
    """The product of two transformations: `first` is applied first."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = then
    return a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + m


def transformed(points: Points, matrix: Matrix) -> Points:
    """Points (n, 2) moved by a transformation."""
    a, b, c, d, e, f = matrix
    return points @ np.array([[a, b], [c, d]]) + (e, f)


class _Painter:
    """Follows the operators of content streams and keeps the lines that they draw."""

    def __init__(self, where: str) -> None:
        self.where, self.pictures, self.content_bytes = where, 0, 0
        self.matrix: Matrix = _IDENTITY
        self.style: Style = (0.0,)
        self.stack: list[tuple[Matrix, Style]] = []
        self.path: list[list[tuple[float, float]]] = []
        self.drawn: list[tuple[Style, list[Points]]] = []

    def lines(self) -> list[Line]:
        """All that was drawn, connected pieces joined."""
        return [Line(np.concatenate(pieces), style) for style, pieces in self.drawn]

    def run(self, content: Any, resources: Any, depth: int = 0) -> None:
        """Draw a content stream, and the forms that it uses."""
        self.content_bytes += len(content.get_data())
        if self.content_bytes > _MAXIMUM_CONTENT_BYTES or depth > _MAXIMUM_DEPTH:
            raise InputError(f"{self.where} draws too much on a page; save the page with the ECG alone.")
        for operands, operator in content.operations:
            if operator == b"Do":
                self._use(resources["/XObject"][operands[0]].get_object(), resources, depth)
            elif operator == b"INLINE IMAGE":
                self.pictures += 1
            else:
                self._step(operator, operands)

    def _use(self, found: Any, resources: Any, depth: int) -> None:
        from pypdf.generic import ContentStream

        if found["/Subtype"] == "/Image":
            self.pictures += 1
        elif found["/Subtype"] == "/Form":
            kept = self.matrix, self.style, self.stack
            a, b, c, d, e, f = (float(value) for value in found.get("/Matrix", _IDENTITY))
            self.matrix, self.stack = times((a, b, c, d, e, f), self.matrix), []
            self.run(ContentStream(found, None), found.get("/Resources", resources), depth + 1)
            self.matrix, self.style, self.stack = kept

    def _step(self, operator: bytes, operands: list[Any]) -> None:
        if operator in (b"m", b"l", b"c", b"v", b"y", b"re", b"h"):
            self._extend(operator, [float(value) for value in operands])
        elif operator in _STROKES | _FILLS:
            self._paint(operator)
        elif operator == b"n":
            self.path = []
        elif operator == b"q":
            self.stack.append((self.matrix, self.style))
        elif operator == b"Q" and self.stack:
            self.matrix, self.style = self.stack.pop()
        elif operator == b"cm":
            a, b, c, d, e, f = (float(value) for value in operands)
            self.matrix = times((a, b, c, d, e, f), self.matrix)
        elif operator in (b"RG", b"G", b"K", b"SC", b"SCN"):
            self.style = (self.style[0], operator, *map(str, operands))
        elif operator == b"w":
            self.style = (float(operands[0]), *self.style[1:])

    def _extend(self, operator: bytes, numbers: list[float]) -> None:
        path = self.path
        if operator == b"m":
            path.append([(numbers[0], numbers[1])])
        elif operator == b"re":
            x, y, width, height = numbers
            path.append([(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)])
        elif not path:
            return
        elif operator == b"l":
            path[-1].append((numbers[0], numbers[1]))
        elif operator == b"h":
            path[-1].append(path[-1][0])
        else:
            here = path[-1][-1]
            control = [*here, *numbers] if operator == b"v" else [*numbers, *numbers[2:]] if operator == b"y" else numbers
            path[-1].extend(map(tuple, (_CURVE @ np.array([*here, *control]).reshape(4, 2)).tolist()))

    def _paint(self, operator: bytes) -> None:
        for part in self.path:
            points = transformed(np.array([*part, part[0]] if operator in _CLOSING else part), self.matrix)
            if operator in _STROKES:
                self._keep(points)
            elif len(part) <= 5 and (points.max(axis=0) - points.min(axis=0)).min() < _THIN:
                low, high = points.min(axis=0), points.max(axis=0)
                thin = int(np.argmin(high - low))
                low[thin] = high[thin] = (low[thin] + high[thin]) / 2
                self._keep(np.stack([low, high]))
        self.path = []

    def _keep(self, points: Points) -> None:
        """Add a line, or go on with the last one where this one begins at its end."""
        if len(points) < 2 or not np.isfinite(points).all():
            return
        if self.drawn and self.drawn[-1][0] == self.style and math.dist(self.drawn[-1][1][-1][-1], points[0]) < 1e-3:
            self.drawn[-1][1].append(points[1:])
        else:
            self.drawn.append((self.style, [points]))


def _upright(page: Page, quarter_turns: int) -> None:
    """Turn what a page shows as a viewer does, clockwise."""
    turn: Matrix = ((1, 0, 0, 1, 0, 0), (0, -1, 1, 0, 0, 0), (-1, 0, 0, -1, 0, 0), (0, 1, -1, 0, 0, 0))[quarter_turns % 4]
    if turn != _IDENTITY:
        page.lines = [Line(transformed(line.points, turn), line.style) for line in page.lines]
        places = [transformed(np.array([[word.x, word.y]]), turn)[0] for word in page.words]
        page.words = [Word(word.text, float(x), float(y)) for word, (x, y) in zip(page.words, places, strict=True)]


def read_pages(path: Path, where: str) -> list[Page]:
    """The pages of a PDF, the first ten at most. Raises `InputError` for one that is damaged, locked or too large."""
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise InputError(f"{where} needs the package pypdf; install it with pip install 'echogen[formats]'.") from error
    if path.stat().st_size > _MAXIMUM_BYTES:
        raise InputError(f"{where} is over {_MAXIMUM_BYTES // 2**20} MiB; save the page with the ECG alone.")
    pages: list[Page] = []
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it cannot mend is raised, and said in our words
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError(f"{where} is locked by a password; save it without one.")
        for source in reader.pages[:_MAXIMUM_PAGES]:
            painter = _Painter(where)
            content = source.get_contents()
            if content is not None:
                painter.run(content, source.get("/Resources", {}))
            page = Page(painter.lines(), [], painter.pictures)

            def keep(text: str, matrix: Any, text_matrix: Any, _font: Any, _size: float, page: Page = page) -> None:
                if text.strip():
                    *_, x, y = times(tuple(text_matrix), tuple(matrix))
                    page.words.append(Word(text.strip(), float(x), float(y)))

            source.extract_text(visitor_text=keep)
            _upright(page, round(source.rotation / 90))
            pages.append(page)
    except InputError:
        raise
    except Exception as error:  # damaged files raise many kinds
        raise InputError(f"{where} cannot be read; it is cut short or damaged.") from error
    return pages
