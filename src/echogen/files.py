"""Files and folders that are written whole or not at all, and JSON.

Each is made under another name beside its place, flushed to the disk, and renamed when it is complete: a stopped process or a
power cut leaves the earlier content or nothing, never half of the new one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: the block writes to the path it is given, which then takes the place of `path`.

    The given path lies in the same folder, which must exist, and has the same suffix, since many writers choose their format by
    it. When the block raises, the earlier file stays and the new one is removed.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield unfinished
        flush(unfinished)
        os.replace(unfinished, path)
        flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Write a folder whole or not at all: the block fills the folder it is given, which then takes the place of `path`.

    Missing parents are made. replace: put the new folder in the place of one that holds files; else only an absent or empty
    folder is replaced, and `OSError` is raised for another. When the block raises, the earlier folder stays as it was.
    """
    path = Path(path)
    unfinished, earlier = (path.with_name(f".{path.name}.{os.getpid()}.{word}") for word in ("unfinished", "earlier"))
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for part in (*unfinished.rglob("*"), unfinished):
            flush(part)
        if path.exists():
            if replace:
                os.replace(path, earlier)
            else:
                path.rmdir()
        os.replace(unfinished, path)
        flush(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def flush(path: str | Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut.

    Folders are flushed on POSIX only; elsewhere the file system decides when their names reach the disk.
    """
    path = Path(path)
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document whole or not at all; numbers that are not finite become null."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json_text(document) + "\n", encoding="utf-8")


def json_text(document: dict[str, Any]) -> str:
    """Return a document as JSON; numbers that are not finite become null, since JSON knows none."""
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Dicts, lists, text, finite numbers and None only; numbers keep six decimals."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
