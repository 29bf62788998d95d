"""Arrays of numbers out of HDF5 files that nobody vouches for: no link leaves the file, no plug-in filter is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from echogen.errors import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: The filters that are part of the library itself: deflate, shuffle, Fletcher's checksum, scale-offset, LZF.
_FILTERS = {1, 2, 3, 6, 32000}
_MAXIMUM_CHUNK_BYTES = 64 * 2**20
#: More than deflate can compress.
_LARGEST_RATIO = 1100


@contextmanager
def opened(path: Path, where: str) -> Iterator[Any]:
    """The file as an `h5py.File` for reading; what the library raises becomes one `InputError`."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{where} needs the package h5py; install it with pip install 'echogen[formats]'.") from error
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds for damaged files
        raise InputError(f"{where} cannot be read; it is cut short or damaged.") from error


def member(group: Any, name: str, where: str) -> Any:
    """The object of that name within a group, or None; raises `InputError` for a link that leads elsewhere."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{where} points to another place for {name!r}, which is not followed; save the data within the file.")
    return group[name]


def numbers(group: Any, name: str, where: str) -> Any:
    """The dataset of real numbers of that name, from which any part can be read, or None if there is none.

    Raises `InputError` where its values lie outside the file or behind a filter that is not the library's own.
    """
    import h5py

    found = member(group, name, where)
    if not isinstance(found, h5py.Dataset) or found.shape is None or found.dtype.kind not in "iuf" or found.dtype.shape:
        return None
    layout = found.id.get_create_plist()
    if found.is_virtual or found.external:
        raise InputError(f"{where} keeps {name!r} in another file, which is not followed; save the data within the file.")
    if any(layout.get_filter(n)[0] not in _FILTERS for n in range(layout.get_nfilters())):
        raise InputError(f"{where} stores {name!r} with a compression that is not read; save it again with gzip.")
    if found.nbytes > _LARGEST_RATIO * Path(found.file.filename).stat().st_size:
        raise InputError(f"{where} is damaged: it states more data for {name!r} than it can hold.")
    chunk = found.dtype.itemsize * math.prod(found.chunks or ())
    if found.chunks and chunk > _MAXIMUM_CHUNK_BYTES:
        raise InputError(f"{where} stores {name!r} in pieces of {chunk >> 20} MiB; save it again in smaller chunks.")
    return found
