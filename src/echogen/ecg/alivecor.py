"""AliveCor (Kardia) ATC recordings, after the ATC file format specification 1.7: checked blocks, one of int16 for each lead."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.source import Source
from echogen.errors import InputError

SIGNATURE = b"ALIVE\0\0\0"
#: Block name of each lead: `ecg ` for I, `ecg2` for II ... `ecgc` for V6.
LEAD_BLOCKS = {f"ecg{mark}".encode(): name for mark, name in zip(" 23456789abc", STANDARD_LEADS, strict=True)}
_MAXIMUM_BYTES = 64 * 2**20
#: Bits of the flags: mains of 60 Hz rather than 50, and the filters that the samples have passed.
_SIXTY_HZ = 2
_FILTERS = {4: "mains", 16: "baseline", 32: "notch", 64: "enhanced"}


def block_checksum(block: bytes) -> int:
    """The sum of all bytes of a block (name, length and content), modulo 2 to the 32."""
    return int(np.frombuffer(block, dtype=np.uint8).sum(dtype=np.uint64)) & 0xFFFFFFFF


def read_blocks(content: bytes, where: str) -> dict[bytes, bytes]:
    """The content of every block by its name, the first of each. Raises `InputError` where one is cut short or altered."""
    blocks: dict[bytes, bytes] = {}
    at = len(SIGNATURE) + 4
    while at < len(content):
        end = at + 8 + int.from_bytes(content[at + 4 : at + 8], "little")
        if end + 4 > len(content):
            raise InputError(f"{where} is cut short or damaged within block {len(blocks) + 1}.")
        name = content[at : at + 4]
        if block_checksum(content[at:end]) != int.from_bytes(content[end : end + 4], "little"):
            raise InputError(f"{where} is damaged: the checksum of its block {name.decode('latin-1').strip()!r} does not match.")
        blocks.setdefault(name, content[at + 8 : end])
        at = end + 4
    return blocks


def mains_and_filters(flags: int) -> str:
    """Describe in words the mains and filters that the flags of a recording state."""
    names = [name for bit, name in _FILTERS.items() if flags & bit]
    return f"mains {60 if flags & _SIXTY_HZ else 50} Hz, {' and '.join(names) + ' filtered' if names else 'unfiltered'}"


def open_atc(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open an ATC file of 1, 6 or 12 leads. Raises `InputError` where a checksum or a length does not match."""
    where = f"The AliveCor file {path.name}"
    if path.stat().st_size > _MAXIMUM_BYTES:
        raise InputError(f"{where} is over {_MAXIMUM_BYTES // 2**20} MiB, more than any such recording.")
    blocks = read_blocks(path.read_bytes(), where)
    if len(blocks.get(b"fmt ", b"")) < 6:
        raise InputError(f"{where} is damaged: it does not state the format of its samples.")
    kind, rate, resolution_nv, flags = struct.unpack_from("<BHHB", blocks[b"fmt "])
    if kind != 1:
        raise InputError(f"{where} stores its samples in an unknown form ({kind}); export it again as 16-bit ATC.")
    stored = {name: blocks[block] for block, name in LEAD_BLOCKS.items() if blocks.get(block)}
    leads = {name: np.frombuffer(content, dtype="<i2", count=len(content) // 2) for name, content in stored.items()}
    if not leads:
        raise InputError(f"{where} holds no ECG.")
    if len({lead.size for lead in leads.values()}) > 1:
        raise InputError(f"{where} is damaged: its leads differ in length.")
    if not (mv_of_unit or resolution_nv):
        raise InputError(f"{where} does not state the size of its counts; give it as unit (--ecg-unit), such as '0.0005 mV'.")
    counts = np.stack(list(leads.values()))
    scale = mv_of_unit or resolution_nv * 1e-6

    def read(first: int, last: int) -> Floats:
        return counts[:, first:last].astype(np.float64) * scale

    return Source(f"AliveCor ATC ({mains_and_filters(flags)})", tuple(leads), float(rate_hz or rate), counts.shape[1], read)
