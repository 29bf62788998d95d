"""Damage to files: every number gives the same damaged file again."""

from __future__ import annotations

import re

import numpy as np

from echogen.testing.fuzz.making import Files

_NUMBERS = [*b"0 -1 1 65536 2147483648 4294967296 99999999999999999999 1e308 nan inf x".split(), b""]
_WORDS = tuple(
    int(value).to_bytes(size, order, signed=value < 0)
    for size in (1, 2, 4)
    for value in (0, 1, -1, 127, 2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1)))
    for order in ("little", "big")
)


def mutate(data: bytes, random: np.random.Generator, other: bytes) -> bytes:
    """Bytes with one to four faults: bits, bytes, cuts, numbers in text, repetitions, pieces of `other`."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        if not out:
            break
        at = int(random.integers(len(out)))
        length = int(min(2 ** random.uniform(0, 12), len(out) - at))
        kind = int(random.integers(9))
        if kind == 0:
            out[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            out[at : at + length] = random.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 2:
            word = _WORDS[int(random.integers(len(_WORDS)))]
            out[at : at + len(word)] = word
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = out[at : at + length] * int(random.integers(1, 20))
        elif kind == 6:
            start = int(random.integers(max(len(other), 1)))
            out[at : at + length] = other[start : start + length]
        else:
            # Headers are short and decide most; numbers are what they are made of.
            part = out[: 1 + int(2 ** random.uniform(4, 14))] if kind == 7 else out
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(part)))
            if numbers:
                found = numbers[int(random.integers(len(numbers)))]
                out[slice(*found.span())] = _NUMBERS[int(random.integers(len(_NUMBERS)))]
    return bytes(out)


def damaged(seeds: dict[str, Files], seed: int, index: int, stated: dict[str, float]) -> tuple[str, Files, dict[str, float]]:
    """Damaged file number `index` of a seed, always the same one.

    Returns the name of the undamaged files, the files with the first one damaged, and the arguments to read them with: none, or
    `stated`.
    """
    random = np.random.default_rng([seed, index])
    names = list(seeds)
    name = names[index % len(names)]
    other = next(iter(seeds[names[int(random.integers(len(names)))]].values()))
    first, *beside = seeds[name]
    files = {first: mutate(seeds[name][first], random, other)} | {one: seeds[name][one] for one in beside}
    return name, files, stated if random.random() < 0.5 else {}
