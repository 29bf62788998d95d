"""Reading the heart rate that a machine prints beside the picture, as in "54 BPM", "HR= 61bpm" or "77" above "HR"."""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.special import softmax

from echogen.arrays import ByteArray, Mask

#: Probabilities, in the precision of the network.
Shares = NDArray[np.float32]

#: Characters that are told apart; what is none of them, such as tissue or letters in touch, is a class of its own.
CHARACTERS = string.digits + string.ascii_letters
#: File of the weights of the network that tells them apart.
WEIGHTS = Path(__file__).with_name("printed_characters.npz")
#: Letters that look like a digit once they are as tall as it.
_LOOKALIKES = {"0": "OoQD", "1": "Ili", "2": "Zz", "5": "Ss", "6": "bG", "8": "B", "9": "gq"}
#: Words that stand beside a heart rate.
_WORDS = ("BPM", "bpm", "HR")
#: Heart rates in beats per minute that are believed.
_RATE_BPM = (25, 250)
#: Frames that are read; the rate is the one that most of them show.
_FRAMES = 5
#: Largest relative difference between the rates of one clip.
_SPREAD = 0.15
#: Brightness from which a pixel belongs to a letter: low for grey and coloured text, high where letters run into each other.
_INK = (110, 170, 215)
#: Least height of a letter in pixels, and largest as a share of the picture's height.
_LEAST_HEIGHT, _MOST_HEIGHT = 7, 0.08
#: Most pieces of ink in a picture that are compared with letters; more are no text but tissue.
_MOST_PIECES = 1500
#: Rows and columns to which a letter is brought before it is compared.
_SIDE = 16
#: Least probability of a letter of a word, of a digit with the letters that look like it, and of it among the digits.
_LEAST_LETTER, _LEAST_DIGIT, _CLEARLY = 0.15, 0.6, 0.8
#: Width of a piece, in heights, from which it may be two letters in touch.
_WIDE = 0.95


@dataclass(frozen=True)
class _Letter:
    """A piece of ink that may be a letter: its box in pixels, and the probability of each of `CHARACTERS` and of none."""

    top: int
    bottom: int
    left: int
    right: int
    shares: Shares

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.bottom - self.top

    def share(self, characters: str) -> float:
        """Probability that the letter is one of some characters."""
        return float(sum(self.shares[CHARACTERS.index(character)] for character in characters))

    @property
    def digit(self) -> str | None:
        """The digit that the letter is, None if it is none or unclear."""
        digit = str(self.shares[:10].argmax())
        clear = self.share(digit) >= _CLEARLY * self.share(string.digits)
        return digit if clear and self.share(digit + _LOOKALIKES.get(digit, "")) >= _LEAST_DIGIT else None


def printed_rates(frames: ByteArray) -> tuple[float, float, float] | None:
    """The lowest, middle and highest heart rate in beats per minute that the frames of a cine print; None where none is sure.

    frames: (T, H, W, 3) uint8. Read are two or three digits beside, above or below the word BPM or HR, bright on dark.
    """
    read: list[int] = []
    chosen = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))
    # Both ends first: where neither shows a rate, the frames between are not read.
    for tried, number in enumerate(np.roll(chosen, 1), start=1):
        rates = _rates(frames[number].max(axis=-1))
        if len(rates) == 1:
            read += rates
        if tried == 2 and not read:
            return None
    if 2 * len(read) < len(chosen):
        return None
    # A display follows the heart; one that is read as two far rates is not read for sure.
    sure = max(read) - min(read) <= _SPREAD * min(read)
    return (float(min(read)), float(np.median(read)), float(max(read))) if sure else None


def _rates(grey: ByteArray) -> set[int]:
    """All heart rates that are printed into one picture (H, W)."""
    found: set[int] = set()
    for ink in _INK:
        found |= _rates_in_lines(_lines(_letters(grey > ink)))
        if found:
            break
    return {rate for rate in found if _RATE_BPM[0] <= rate <= _RATE_BPM[1]}


def _letters(ink: Mask) -> list[_Letter]:
    """The pieces of ink that have the size of letters; a piece that is rather two letters in touch is cut."""
    labels, _ = ndimage.label(ink, structure=np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        if _LEAST_HEIGHT <= tall <= max(_MOST_HEIGHT * len(ink), 14) and wide <= 2.8 * tall:
            found.append((rows, columns, labels[rows, columns] == number))
    if not found or len(found) > _MOST_PIECES:
        return []
    letters = []
    for rows, columns, piece in found:
        ends = [0, piece.shape[1]] if piece.shape[1] < _WIDE * len(piece) else [0, _thinnest(piece), piece.shape[1]]
        parts = list(pairwise(ends))
        shares = character_shares([piece[:, first:last] for first, last in parts])
        if len(parts) > 1:
            whole = character_shares([piece])
            if whole[:, :-1].max() >= shares[:, :-1].max(axis=1).min():
                parts, shares = [(0, piece.shape[1])], whole
        letters += [
            _Letter(rows.start, rows.stop, columns.start + first, columns.start + last, own)
            for (first, last), own in zip(parts, shares, strict=True)
        ]
    return letters


def _thinnest(piece: Mask) -> int:
    """The column near the middle of a piece in which there is the least ink."""
    wide = piece.shape[1]
    middle = slice(round(0.35 * wide), round(0.65 * wide) + 1)
    return middle.start + int(piece.sum(axis=0)[middle].argmin())


def character_shares(pieces: list[Mask]) -> Shares:
    """(pieces, characters + 1): the probability that each piece is each of `CHARACTERS`, and last that it is none of them."""
    hidden_weights, hidden_offset, weights, offset = _weights()
    hidden = np.maximum(np.stack([normal_letter(piece) for piece in pieces]) @ hidden_weights + hidden_offset, 0.0)
    return np.asarray(softmax(hidden @ weights + offset, axis=1), dtype=np.float32)


def normal_letter(piece: Mask) -> Shares:
    """A letter as it is compared: in the middle of `_SIDE` x `_SIDE` pixels, as tall as these, with mean 0 and norm 1; flat.

    piece: the pixels of the letter within its box, bool (rows, columns).
    """
    tall, wide = piece.shape
    across = int(np.clip(round(_SIDE * wide / tall), 1, _SIDE))
    picture = Image.fromarray(np.uint8(255) * piece).resize((across, _SIDE), Image.Resampling.BILINEAR)
    square = np.zeros((_SIDE, _SIDE), dtype=np.float32)
    left = (_SIDE - across) // 2
    square[:, left : left + across] = np.asarray(picture, dtype=np.float32)
    flat = (ndimage.gaussian_filter(square, 0.8) - square.mean()).ravel()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), dtype=np.float32)


@lru_cache(maxsize=1)
def _weights() -> tuple[Shares, ...]:
    """Weights and offsets of the two layers of the network."""
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return tuple(stored[name].astype(np.float32) for name in ("weights_1", "offset_1", "weights_2", "offset_2"))


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    """Letters that follow each other from left to right at one height."""
    lines: list[list[_Letter]] = []
    for letter in sorted(letters, key=lambda one: one.left):
        for line in lines:
            last = line[-1]
            shared = min(last.bottom, letter.bottom) - max(last.top, letter.top)
            tallest = max(last.height, letter.height)
            # A sign such as "=" between two letters is no letter and leaves a gap.
            if shared > 0.5 * tallest and -0.2 * tallest <= letter.left - last.right < 2.5 * tallest:
                line.append(letter)
                break
        else:
            lines.append([letter])
    return lines


def _rates_in_lines(lines: list[list[_Letter]]) -> set[int]:
    """Rates beside a word of their line, and rates in the line above or below a word."""
    rates: set[int] = set()
    for line in lines:
        for word in _WORDS:
            for start in range(len(line) - len(word) + 1):
                own = line[start : start + len(word)]
                if not all(
                    letter.share(character) >= _LEAST_LETTER for letter, character in zip(own, word, strict=True)
                ) or not _close(own):
                    continue
                before, after = _digits(line[:start][::-1], own[0])[::-1], _digits(line[start + len(word) :], own[-1])
                texts = [before if word.upper() == "BPM" else after]
                if not texts[0]:
                    texts = [_number_near(own, other) for other in lines if other is not line]
                rates |= {int(text) for text in texts if len(text) in (2, 3)}
    return rates


def _spells(letters: list[_Letter], word: str) -> bool:
    """True for letters that may be those of a word."""
    return all(letter.share(character) >= _LEAST_LETTER for letter, character in zip(letters, word, strict=True))


def _close(letters: list[_Letter]) -> bool:
    """True for letters of one word: without gaps between them."""
    pairs = pairwise(letters)
    return all(later.left - first.right <= 0.5 * max(first.height, later.height) for first, later in pairs)


def _digits(letters: list[_Letter], beside: _Letter) -> str:
    """The digits at the start of a row of letters beside a word's end, in that order; "" where one of them is unclear."""
    text, last = "", beside
    for letter in letters:
        gap = max(letter.left - last.right, last.left - letter.right)
        if gap > (2.5 if last is beside else 0.5) * letter.height:
            break
        if letter.digit is None:
            # A number that runs into something unread may be cut short.
            return text if last is beside or gap > 0.6 * letter.height else ""
        text, last = text + letter.digit, letter
    return text


def _number_near(word: list[_Letter], line: list[_Letter]) -> str:
    """The number right above or below a word, "" where the line has none there."""
    tall, left, right = max(letter.height for letter in word), word[0].left, word[-1].right
    near = [letter for letter in line if letter.right > left - tall and letter.left < right + tall]
    if not near or not _close(near):
        return ""
    gap = max(near[0].top - word[0].bottom, word[0].top - near[0].bottom)
    digits = [letter.digit for letter in near]
    if not 0 <= gap < 1.2 * tall or not 0.6 < near[0].height / word[0].height < 1.7:
        return ""
    return "".join(digit for digit in digits if digit is not None) if None not in digits else ""
