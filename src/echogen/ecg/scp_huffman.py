"""Huffman codes of SCP-ECG (EN 1064, section 2): the default table, tables of a file, and switching between them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError

Integers = NDArray[np.int64]

#: The number of tables that stands for the default one.
DEFAULT_TABLE = 19999
_MAXIMUM_TABLES = 16


@dataclass(frozen=True)
class Code:
    """One code structure.

    prefix_bits: length of the code; bits: with the value that follows it. switches: the code only selects table `value`.
    value: what the code stands for, or is added to the value that follows. code: the prefix, first bit lowest.
    """

    prefix_bits: int
    bits: int
    switches: bool
    value: int
    code: int


def default_codes() -> tuple[Code, ...]:
    """The default table: 0, then +-1 to +-8 by a run of ones, then 8-bit and 16-bit values as they are (EN 1064, C.3.7.6)."""
    codes = [Code(1, 1, False, 0, 0)]
    for size in range(1, 9):
        ones = (1 << size) - 1
        codes += [Code(size + 2, size + 2, False, size, ones), Code(size + 2, size + 2, False, -size, ones | 1 << (size + 1))]
    return (*codes, Code(10, 18, False, 0, 511), Code(10, 26, False, 0, 1023))


def read_tables(body: bytes, where: str) -> list[tuple[Code, ...]]:
    """The tables of section 2 without its header; none where the file does not use Huffman codes."""
    damaged = InputError(f"{where} cannot be read; its Huffman tables are cut short or damaged.")
    if len(body) < 2:
        raise damaged
    count = int.from_bytes(body[:2], "little")
    if count == DEFAULT_TABLE:
        return [default_codes()]
    if count > _MAXIMUM_TABLES:
        raise damaged
    tables, at = [], 2
    for _ in range(count):
        size = int.from_bytes(body[at : at + 2], "little")
        at += 2
        if not size or at + 9 * size > len(body):
            raise damaged
        entries = struct.iter_unpack("<BBBhI", body[at : at + 9 * size])
        tables.append(tuple(Code(prefix, bits, mode == 0, value, code) for prefix, bits, mode, value, code in entries))
        at += 9 * size
    return tables


class HuffmanTable:
    """One table as sorted ranges of the next 32 bits: what begins with a code lies in that code's range."""

    def __init__(self, codes: Sequence[Code], where: str) -> None:
        damaged = InputError(f"{where} cannot be read; its Huffman tables are damaged.")
        ranges = []
        for code in codes:
            if not (1 <= code.prefix_bits <= 32 and code.prefix_bits <= code.bits <= code.prefix_bits + 32):
                raise damaged
            low = int(f"{code.code & ((1 << code.prefix_bits) - 1):0{code.prefix_bits}b}"[::-1], 2) << (32 - code.prefix_bits)
            ranges.append((low, low + (1 << (32 - code.prefix_bits)), code))
        ranges.sort(key=lambda one: one[:2])
        if any(one[1] > two[0] for one, two in pairwise(ranges)):
            raise damaged
        self.low = np.array([low for low, _, _ in ranges], dtype=np.int64)
        self.high = np.array([high for _, high, _ in ranges], dtype=np.int64)
        self.prefix_bits = np.array([code.prefix_bits for _, _, code in ranges])
        self.bits = np.array([code.prefix_bits if code.switches else code.bits for _, _, code in ranges])
        self.value = np.array([code.value for _, _, code in ranges], dtype=np.int64)
        self.switches = np.array([code.switches for _, _, code in ranges])

    def find(self, windows: Integers) -> Integers:
        """Index of the code that each 32-bit window begins with, -1 for none."""
        index = np.searchsorted(self.low, windows, side="right") - 1
        return np.where((index >= 0) & (windows < self.high[index]), index, -1)


def _windows(data: bytes) -> Integers:
    """The 32 bits from every bit of the data on, highest bit first; zeros follow the end."""
    padded = np.frombuffer(data + b"\0" * 8, dtype=np.uint8).astype(np.int64)
    forty = np.zeros(len(data) + 4, dtype=np.int64)
    for k in range(5):
        forty |= padded[k : len(data) + 4 + k] << (32 - 8 * k)
    return np.asarray((forty[:, None] >> np.arange(8, 0, -1)) & 0xFFFFFFFF).ravel()


def decode(data: bytes, count: int, tables: Sequence[HuffmanTable], where: str) -> Integers:
    """At most `count` values of one lead; every lead begins with the first table. Fewer come back where the data end."""
    windows = _windows(data)
    end = 8 * len(data)
    found: dict[int, Integers] = {}
    steps: dict[int, list[int]] = {}

    def use(table: int) -> list[int]:
        if table not in steps:
            if not 0 <= table < len(tables):
                raise InputError(f"{where} cannot be read; it asks for a Huffman table that is not there.")
            index = found[table] = tables[table].find(windows[:end])
            # A jump beyond the end stands for no code, and a negative one for a change of table.
            bits = np.where(tables[table].switches[index], -tables[table].bits[index], tables[table].bits[index])
            steps[table] = np.where(index < 0, end + 1, bits).tolist()
        return steps[table]

    table, at = 0, 0
    step = use(table)
    places: list[int] = []
    runs: list[tuple[int, int]] = []
    while at < end and len(places) < count:
        bits = step[at]
        if bits > 0:
            if at + bits > end:
                break
            places.append(at)
            at += bits
        else:
            runs.append((table, len(places)))
            table, at = int(tables[table].value[found[table][at]]) - 1, at - bits
            step = use(table)
    runs.append((table, len(places)))
    values, done = [], 0
    for table, last in runs:
        at_bit = np.array(places[done:last], dtype=np.int64)
        index, book, done = found[table][at_bit], tables[table], last
        extra = book.bits[index] - book.prefix_bits[index]
        following = windows[at_bit + book.prefix_bits[index]]
        signed = np.where(following >= 1 << 31, following - (1 << 32), following) >> (32 - extra)
        values.append(book.value[index] + np.where(extra > 0, signed, 0))
    return np.concatenate(values)
