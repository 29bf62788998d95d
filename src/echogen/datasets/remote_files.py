"""Files of a folder behind a URL (`s3://`, `gs://`, `hf://`, `https://`), copied to the local disk when they are wanted.

Whole files are copied, since a store answers one long request far faster than many short ones. Several are copied at once, by
threads that run ahead of the reader; processes of one machine share the copies, and a lock on each file keeps two of them from
copying the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from echogen.errors import InputError
from echogen.files import whole_file

#: Variable of the environment that names the folder of the copies.
CACHE_VARIABLE = "ECHOGEN_CACHE"
#: Bytes that one request asks for: long enough that the answer's delay counts little, short enough for a time limit on each.
BLOCK_BYTES = 8 << 20
#: Time in s after which a request that was not answered counts as failed.
ANSWER_S = 60.0
#: Number of files that are copied at the same time; more gain little on one network connection.
AT_ONCE = 4
#: Bytes of the copies of one folder above which those that were not used for longest are deleted.
KEPT_BYTES = 256 << 30
#: Largest file in bytes that is read into memory whole, such as a summary.
SMALL_BYTES = 256 << 20

#: Kinds of addresses that are read.
KINDS = ("s3", "gs", "hf", "https", "http")
#: Number of times that a bucket is asked before it counts as unreachable.
_ATTEMPTS = 2

_Result = TypeVar("_Result")


class UnreachableError(InputError):
    """Files behind a URL that cannot be had: no answer in time, a refusal, or a file that is not there."""


def is_url(place: str | Path) -> bool:
    """True for a place behind a URL rather than on a disk."""
    return "://" in str(place)


def cache_folder() -> Path:
    """Folder of the copies: that of the variable ECHOGEN_CACHE, else .cache/echogen in the user's home."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "echogen")


class RemoteFiles:
    """Files of one folder behind a URL.

    url: Address of the folder, such as s3://bucket/folder.
    answer_s: Time in s that a request may take.
    kept_bytes: Bytes of copies that are kept on the disk.

    Methods raise `UnreachableError` with the cause where the store does not answer in time, refuses, or lacks the file.
    """

    def __init__(self, url: str, *, answer_s: float = ANSWER_S, kept_bytes: int = KEPT_BYTES) -> None:
        self.url, self.answer_s, self.kept_bytes = url.rstrip("/"), answer_s, kept_bytes
        self.folder = cache_folder() / "remote"
        self._restart()

    def _restart(self) -> None:
        """Forget connections and threads, which belong to the process that made them."""
        self._process = os.getpid()
        self._store: Callable[[str], Any] | None = None
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._threads, self._guard = 0, threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("url", "answer_s", "kept_bytes", "folder")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._restart()

    def keep_under(self, content: bytes) -> None:
        """Keep the copies under a name that depends on the URL and on the content of a summary, so that none outlives it."""
        name = hashlib.sha256(self.url.encode() + b"\0" + content).hexdigest()[:32]
        self.folder = cache_folder() / "remote" / name

    def read(self, name: str) -> bytes | None:
        """Content of a small file; None where it is not there."""
        content = bytearray()
        try:
            for block in self._blocks(name):
                content += block
                if len(content) > SMALL_BYTES:
                    raise UnreachableError(f"{self.url}/{name} is larger than {SMALL_BYTES >> 20} MiB; it is no file of echogen.")
        except FileNotFoundError:
            return None
        return bytes(content)

    def open(self, name: str, size: int | None = None) -> io.BufferedReader:
        """Open the copy of a file, made now where there is none.

        size: Length in bytes that the file must have; None takes any.
        """
        with self._locked(name):
            path = self.folder / name
            if not path.is_file() or (size is not None and path.stat().st_size != size):
                self._copy(name, path, size)
            os.utime(path)
            file = path.open("rb")
        self._delete_oldest(name)
        return file

    def ahead(self, names: Iterable[str]) -> None:
        """Begin to copy files in the background, in this order; `open` waits for one that is on its way.

        A failure is not told here: `open` tries again and raises.
        """
        if self._process != os.getpid():
            self._restart()
        with self._guard:
            for name in names:
                if not (self.folder / name).is_file():
                    self._wanted[name] = None
            for _ in range(min(AT_ONCE - self._threads, len(self._wanted))):
                self._threads += 1
                threading.Thread(target=self._copy_wanted, daemon=True).start()

    def _copy_wanted(self) -> None:
        """Copy the files that are waited for until none is left."""
        while True:
            with self._guard:
                if not self._wanted:
                    self._threads -= 1
                    return
                name, _ = self._wanted.popitem(last=False)
            with suppress(UnreachableError, OSError):
                self.open(name).close()

    def _copy(self, name: str, path: Path, size: int | None) -> None:
        try:
            with whole_file(path) as unfinished, unfinished.open("wb") as file:
                for block in self._blocks(name):
                    file.write(block)
                if size is not None and file.tell() != size:
                    raise UnreachableError(f"{self.url}/{name} has {file.tell()} bytes in place of {size}; copy it there again.")
        except FileNotFoundError as error:
            raise UnreachableError(f"{self.url} lacks {name}; copy it there again.") from error

    def _blocks(self, name: str) -> Iterator[bytes]:
        """Content of a file, block by block, each asked for within the time limit. Raises `FileNotFoundError` where it lacks."""
        place = f"{self.url}/{name}"
        file = self._answer(lambda: self._open_there(place))
        with file:
            while block := self._answer(lambda: file.read(BLOCK_BYTES)):
                yield block

    def _open_there(self, place: str) -> Any:
        """Open a file of the store, by a connection of this process's own."""
        if self._process != os.getpid():
            self._restart()
        if self._store is None:
            self._store = _opener(self.url, self.answer_s)
        return self._store(place)

    def _answer(self, ask: Callable[[], _Result]) -> _Result:
        """Result of a request. `FileNotFoundError` passes; all else that a store raises becomes one sentence."""
        try:
            return _within(self.answer_s, ask)
        except UnreachableError:
            raise
        except TimeoutError as error:
            what = f"gave no answer within {self.answer_s:g} s; look at the address and the network."
            raise UnreachableError(f"{self.url} {what}") from error
        except Exception as error:
            # A web server that cannot be reached is reported as a file that is not there, with the true error as its cause.
            cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
            if cause is None or isinstance(cause, FileNotFoundError):
                raise
            if getattr(cause, "status", None) == HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(self.url) from error
            what = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
            raise UnreachableError(f"{self.url} cannot be read ({what}); look at the address and your rights.") from error

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold the lock of a file, which ends with the process at the latest."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f".{name}.lock"):
            yield

    def _delete_oldest(self, newest: str) -> None:
        """Delete the copies that were not used for longest until the rest fits; a reader that has one open keeps it."""
        copies = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        facts = []
        for path in copies:
            try:
                facts.append((path.stat().st_mtime, path.stat().st_size, path))
            except FileNotFoundError:
                continue
        total = sum(size for _, size, _ in facts)
        for _, size, path in sorted(facts):
            if total <= self.kept_bytes:
                return
            if path.name != newest:
                path.unlink(missing_ok=True)
                total -= size


def _opener(url: str, answer_s: float) -> Callable[[str], Any]:
    """Function that opens a file of a store for reading. Raises `UnreachableError` for an unknown kind or an absent package.

    Buckets are read by the file systems of pyarrow, whose requests take a time limit and work in a forked process.
    """
    kind = url.partition("://")[0]
    if kind not in KINDS:
        raise UnreachableError(f"{kind}:// is no kind of address that is read; take {', '.join(KINDS)}.")
    try:
        import fsspec
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow import fs as arrow

        if kind in ("s3", "gs"):
            if kind == "s3":
                # Stores beside Amazon's are named as its own tools do; arrow takes scheme and host apart.
                given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
                scheme, _, host = given.rpartition("://")
                store = arrow.S3FileSystem(
                    endpoint_override=host or None,
                    scheme=scheme or "https",
                    connect_timeout=answer_s,
                    request_timeout=answer_s,
                    retry_strategy=arrow.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
                )
            else:
                store = arrow.GcsFileSystem(retry_time_limit=timedelta(seconds=answer_s))
            bucket = ArrowFSWrapper(store)
            return lambda place: bucket.open(place.partition("://")[2], "rb")
        files = fsspec.filesystem(kind, skip_instance_cache=True)
    except ImportError as error:
        raise UnreachableError(
            f"Reading {kind}:// needs packages that are not installed; run: pip install 'echogen[remote]'."
        ) from error
    return lambda place: files.open(place, "rb", block_size=BLOCK_BYTES, cache_type="readahead")


def _within(seconds: float, ask: Callable[[], _Result]) -> _Result:
    """Result of a function that may take so many seconds. Raises `TimeoutError` after them, and what the function raises."""
    done: list[_Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(ask())
        except BaseException as error:  # handed to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError
    return done[0]
