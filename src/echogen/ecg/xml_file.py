"""XML files of ECG carts: recognised by their root, and parsed within bounds of size and without entities."""

from __future__ import annotations

import base64
import binascii
import math
import warnings
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError

MAXIMUM_BYTES = 32_000_000
#: Elements and attributes together; depth; bytes of one tag.
_MAXIMUM_NODES = 200_000
_MAXIMUM_DEPTH = 100
_MAXIMUM_TAG_BYTES = 1 << 19
_CHUNK_BYTES = 1 << 16


def root_name(start: bytes) -> str | None:
    """The name of an XML file's root, without its namespace, from the first bytes of the file; None for anything else."""
    if start[:2] in (b"\xff\xfe", b"<\0"):
        text = start.decode("utf-16-le", errors="replace")
    elif start[:2] in (b"\xfe\xff", b"\0<"):
        text = start.decode("utf-16-be", errors="replace")
    else:
        text = start.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    text = text.removeprefix("\ufeff").lstrip()
    while text.startswith(("<?", "<!")):
        if text.startswith("<!--"):
            close = "-->"
        elif text.startswith("<?"):
            close = "?>"
        else:
            close = "]" if "[" in text.partition(">")[0] else ">"
        text = text.partition(close)[2].lstrip().removeprefix(">" if close == "]" else "").lstrip()
    if not text.startswith("<"):
        return None
    name = text[1:].replace("/", " ").replace(">", " ").partition(" ")[0].split()
    return name[0].rpartition(":")[2] if name else None


def _local(name: str) -> str:
    return name.rpartition("}")[2]


class _BoundedBuilder(TreeBuilder):
    """Builds a tree without namespaces, and stops where it grows beyond any ECG."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = self.depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self.nodes += 1 + len(attrs)
        self.depth += 1
        if self.nodes > _MAXIMUM_NODES or self.depth > _MAXIMUM_DEPTH:
            raise OverflowError
        return super().start(_local(tag), {_local(key): value for key, value in attrs.items()})

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(_local(tag))


def parse_xml(path: Path, where: str) -> Element:
    """The root of an XML file, all names without their namespaces.

    Raises `InputError` if the file is over 32 MB, declares entities, holds far more elements than an ECG, or is damaged.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    if path.stat().st_size > MAXIMUM_BYTES:
        raise InputError(f"{where} is over {MAXIMUM_BYTES // 1_000_000} MB; save long ECGs as EDF or WFDB.")
    parser = DefusedXMLParser(target=_BoundedBuilder())
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                parser.feed(chunk)
                if file.tell() - parser.parser.CurrentByteIndex > _MAXIMUM_TAG_BYTES:
                    raise OverflowError
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise InputError(f"{where} declares XML entities, which an ECG does not need and which are never expanded.") from error
    except OverflowError as error:
        raise InputError(f"{where} is no ECG: it holds too many XML elements.") from error
    except Exception as error:
        raise InputError(f"{where} cannot be read; its XML is cut short or damaged.") from error
    return root


def number(text: str | None, what: str, where: str) -> float:
    """A finite number with a decimal point or comma. Raises `InputError` naming `what` for anything else."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        shown = (text or "").strip()[:40]
        raise InputError(f"{where} states no usable {what}{f' ({shown!r})' if shown else ''}; it is cut short or damaged.")
    return value


def numbers(text: str, where: str) -> Floats:
    """The numbers of a text, separated by white space. Raises `InputError` if there is anything else in it."""
    try:
        with warnings.catch_warnings():
            # Older numpy releases stop with a warning where newer ones refuse.
            warnings.simplefilter("error")
            return np.fromstring(text, sep=" ", dtype=np.float64)
    except (ValueError, DeprecationWarning) as error:
        raise InputError(f"{where} cannot be read; the numbers of its waveform are damaged.") from error


def decode_base64(text: str, where: str) -> bytes:
    """The bytes of Base64 text that may be broken into lines. Raises `InputError` if it is damaged."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where} cannot be read; the Base64 text of its waveform is cut short or damaged.") from error
