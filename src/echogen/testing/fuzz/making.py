"""Bytes of files that are made on the fly, the same every time."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

#: A file to read first, and the files that lie beside it: {name: content}.
Files = dict[str, bytes]


def written(name: str, write: Callable[[Path], object]) -> bytes:
    """Content of the file that `write` makes at a path of this name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def zipped(names: dict[str, bytes], packed: bool = True) -> bytes:
    """ZIP archive of {name: content}, without times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in names.items():
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return out.getvalue()
