"""A shuffled order of any number of samples without keeping it in memory."""

from __future__ import annotations

import hashlib

#: Rounds of the Feistel network; three are enough to look random, a fourth costs nothing that counts.
ROUNDS = 4


def shuffled_place(place: int, count: int, seed: int) -> int:
    """The place 0..count-1 at which a seeded permutation of `count` places puts `place`.

    A Feistel network permutes the smallest square of a power of two that holds all places; a result past the end is permuted
    again until it lies inside (cycle walking), so the whole is a permutation. Memory does not grow with `count`.
    """
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = place >> half_bits, place & mask
        for turn in range(ROUNDS):
            digest = hashlib.blake2b(f"{seed} {turn} {right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        place = left << half_bits | right
        if place < count:
            return place
