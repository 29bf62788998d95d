"""Arrays of numbers from untrusted Zarr stores (folders or zip files): no codec that could run code is used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.cine.limits import MAXIMUM_DECODED_BYTES
from echogen.errors import InputError

#: Names of codecs that only move and compress bytes; others, such as `pickle`, may run a program.
_CODECS = {
    *("bytes", "blosc", "gzip", "zstd", "transpose", "crc32c", "sharding_indexed"),
    *("zlib", "lz4", "bz2", "lzma", "shuffle", "delta", "bitround", "fixedscaleoffset"),
}


@contextmanager
def opened(path: Path, where: str) -> Iterator[Any]:
    """Open the root group of a store for reading; all errors of the library become one `InputError`.

    path: Folder or zip file of the store.
    where: Name of the store in messages.
    """
    try:
        import zarr
        from zarr.storage import ZipStore
    except ImportError as error:
        raise InputError(f"{where} needs the package zarr; install it with pip install 'echogen[datasets]'.") from error
    store = None
    try:
        store = ZipStore(path, mode="r") if path.is_file() else path
        yield zarr.open_group(store, mode="r")
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds for damaged stores
        raise InputError(f"{where} cannot be read; it is incomplete or damaged.") from error
    finally:
        if isinstance(store, ZipStore):
            # A store that is no zip file was never opened, and its close then fails.
            with suppress(AttributeError):
                store.close()


def attributes(group: Any) -> Mapping[str, Any]:
    """Attributes of a group, by name."""
    return dict(group.attrs)


def numbers(group: Any, path: str, where: str) -> NDArray[np.generic] | None:
    """Read the array of real numbers at a path below a group; None if there is no such path.

    where: Name of the store in messages.
    Raises `InputError` for another kind of data, a codec that is not merely compression, and more than 2 GB.
    """
    if path not in group:
        return None
    array = group[path]
    if not hasattr(array, "dtype") or array.dtype.kind not in "iuf":
        raise InputError(f"{where} holds something else than numbers as {path}; get it again.")
    metadata = array.metadata.to_dict()
    stated = [metadata.get(key) for key in ("codecs", "compressor", "filters")]
    if foreign := sorted(_codec_names(stated) - _CODECS):
        raise InputError(f"{where} stores {path} with the codec {foreign[0]!r}, which is not read; save it with gzip or blosc.")
    if max(math.prod(array.shape), math.prod(array.chunks)) * array.dtype.itemsize > MAXIMUM_DECODED_BYTES:
        raise InputError(f"{where} states more than {MAXIMUM_DECODED_BYTES >> 30} GB for {path}; it is damaged or too long.")
    return np.asarray(array[...])


def _codec_names(stated: Any) -> set[str]:
    """Names of all codecs in the metadata of an array, nested ones as well."""
    if isinstance(stated, Mapping):
        own = {str(stated[key]).removeprefix("numcodecs.").lower() for key in ("id", "name") if key in stated}
        inner = stated.get("configuration")
        nested = [inner.get(key) for key in ("codecs", "index_codecs")] if isinstance(inner, Mapping) else []
        return own | _codec_names(nested)
    if isinstance(stated, list | tuple):
        return set().union(*map(_codec_names, stated))
    return set()
