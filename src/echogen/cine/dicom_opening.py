"""Opening DICOM files, also those that lack the 128 bytes and the mark before their data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Value representations of the elements with which a data set can begin.
_FIRST_VRS = (b"UL", b"CS", b"UI", b"OB", b"DA", b"DT", b"TM", b"SH", b"LO", b"SQ")
#: Groups of the first element, and of the one after it: file meta, identification, patient.
_FIRST_GROUPS, _NEXT_GROUPS = (0x0002, 0x0008), (0x0002, 0x0008, 0x0010)
#: First elements have lower numbers than this; longest value of one, in bytes.
_HIGHEST_FIRST, _LONGEST_FIRST = 0x0100, 256
#: Start of compressed pixels (an item tag), and of the frames of codecs that show themselves.
_ITEM = b"\xfe\xff\x00\xe0"
_CODECS = {b"\xff\xd8\xff": "1.2.840.10008.1.2.4.50", b"\xff\x4f\xff": "1.2.840.10008.1.2.4.90"}


def is_dicom(head: bytes) -> bool:
    """True for the first bytes (some 400) of a DICOM file, or of a data set that was saved without its preamble."""
    return head[128:132] == b"DICM" or _is_bare(head)


def _is_bare(head: bytes) -> bool:
    """True where a data set of low tags in ascending order begins at the first byte."""
    if len(head) < 16:
        return False
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if group not in _FIRST_GROUPS or element >= _HIGHEST_FIRST:
        return False
    explicit = head[4:6] in _FIRST_VRS
    if explicit and head[4:6] in (b"OB", b"SQ"):
        start, length = 12, int.from_bytes(head[8:12], "little")
    elif explicit:
        start, length = 8, int.from_bytes(head[6:8], "little")
    else:
        start, length = 8, int.from_bytes(head[4:8], "little")
    following = head[start + length : start + length + 4]
    if length > _LONGEST_FIRST or length % 2 or len(following) < 4:
        return False
    after = (int.from_bytes(following[:2], "little"), int.from_bytes(following[2:], "little"))
    return after[0] in _NEXT_GROUPS and after > (group, element)


def read_dataset(path: str | Path, **options: Any) -> Any:
    """The pydicom dataset of a file, with a transfer syntax also where the file names none.

    options: as of `pydicom.dcmread`. Raises what pydicom raises.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    with Path(path).open("rb") as file:
        bare = _is_bare(file.read(512))
        file.seek(0)
        dataset = pydicom.dcmread(file, force=bare, **options)
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = UID(_transfer_syntax(dataset))
    return dataset


def _transfer_syntax(dataset: Any) -> str:
    """The transfer syntax as the encoding of the data set and the first compressed frame show it."""
    from pydicom import uid

    implicit, little = dataset.original_encoding
    if implicit:
        return str(uid.ImplicitVRLittleEndian)
    if little is False:
        return str(uid.ExplicitVRBigEndian)
    pixels = dataset.get("PixelData", b"")
    if isinstance(pixels, bytes) and pixels[:4] == _ITEM:
        first = 8 + int.from_bytes(pixels[4:8], "little")
        frame = pixels[first + 8 : first + 11]
        return next((syntax for mark, syntax in _CODECS.items() if frame == mark), str(uid.RLELossless))
    return str(uid.ExplicitVRLittleEndian)
