"""Uploads: kept in a temporary folder while a process of its own reads them (`serve_reader`), and nowhere after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echogen.app.serve.limits import Refused
from echogen.errors import InputError

#: Bytes of all files of an upload, how many files, and seconds in which they must have arrived and must have been read.
MOST_BYTES, MOST_UPLOADED_FILES, ARRIVES_WITHIN_S, READ_WITHIN_S = 64 * 1024**2, 4, 120.0, 90.0
_MODULE = "echogen.app.serve.file_reader"
_SAFE = re.compile(r"[^A-Za-z0-9._-]")
_HURT = "This file could not be read within the limits for uploads; try a shorter or smaller one."


@dataclass(frozen=True)
class Upload:
    """One or several files of one request, which follow each other in its body.

    names: as on the user's disk. sizes: bytes of each, not needed for a single one. options: rate_hz, unit, fps where the file
    does not say them.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    options: dict[str, Any]


def safe_name(given: str) -> str:
    """A file name without folders or odd characters that keeps its suffix; 80 characters at most."""
    return _SAFE.sub("_", re.split(r"[/\\]", given)[-1])[-80:].lstrip(".-") or "upload"


async def read_upload(kind: str, upload: Upload, body: AsyncIterator[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays of an upload of a kind (see `serve_reader.KINDS`); the file is gone when this returns or raises.

    Raises `InputError` for what is wrong with it, `Refused` (413) where it is too large.
    """
    names = [safe_name(name) for name in upload.names]
    if not 1 <= len(names) <= MOST_UPLOADED_FILES or len(set(names)) < len(names):
        raise InputError(f"Send from one to {MOST_UPLOADED_FILES} files with different names.")
    sizes = list(upload.sizes)
    if len(names) > 1 and len(sizes) != len(names):
        raise InputError("Of several files the size of each must be given.")
    with tempfile.TemporaryDirectory(prefix="echogen-upload-") as folder:
        data = await _arrived(body)
        if not data:
            raise InputError("This upload is empty; choose a file.")
        if len(names) == 1:
            sizes = [len(data)]
        if sum(sizes) != len(data) or min(sizes) < 0:
            raise InputError("The upload does not have the size that it should have; send it again.")
        start = 0
        for name, size in zip(names, sizes, strict=True):
            (Path(folder) / name).write_bytes(data[start : start + size])
            start += size
        del data
        main = next((name for name in names if name.lower().endswith(".hea")), names[0])
        output = Path(folder) / "reading" / "found.npz"
        output.parent.mkdir()
        await _run([kind, str(Path(folder) / main), str(output), json.dumps(upload.options)], folder)
        if not output.is_file():
            raise InputError(_HURT)
        with np.load(output, allow_pickle=False) as found:
            facts: dict[str, Any] = json.loads(str(found["facts"]))
            arrays = {name: found[name] for name in found.files if name != "facts"}
    if "error" in facts:
        raise InputError(_as_named_by_the_user(facts["error"], folder, main, upload))
    return facts, arrays


def _as_named_by_the_user(sentence: str, folder: str, stored: str, upload: Upload) -> str:
    """A reader's sentence with the file's own name, and with what the page calls the options of the command line."""
    own = next((name for name in upload.names if safe_name(name) == stored), stored)
    sentence = sentence.replace(f"{folder}/", "").replace(stored, own[:80])
    for option, called in (("--ecg-rate", "the sampling rate"), ("--ecg-unit", "the unit"), ("--fps", "the frame rate")):
        sentence = sentence.replace(option, called)
    return sentence


async def _arrived(body: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(ARRIVES_WITHIN_S):
            async for chunk in body:
                data += chunk
                if len(data) > MOST_BYTES:
                    raise Refused(413, f"This upload is larger than {MOST_BYTES // 1024**2} MB; cut it into smaller files.", 0)
    except TimeoutError:
        raise InputError(f"The upload did not arrive within {ARRIVES_WITHIN_S:.0f} s; send it again.") from None
    return bytes(data)


async def _run(arguments: list[str], folder: str) -> None:
    """Run the reader to its end; it is killed with all that it started when it takes too long or the client has gone."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = kept | single | {"HOME": folder, "TMPDIR": folder}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        *arguments,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            await process.wait()
    except TimeoutError:
        raise InputError(_HURT) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
