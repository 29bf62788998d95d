"""Shards behind a URL: the same samples in the same order as on a disk, copied once; one sentence where there are none."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from echogen import Cine, InputError
from echogen.datasets.remote_files import CACHE_VARIABLE, RemoteFiles
from echogen.datasets.shard_stream import ShardStream
from echogen.datasets.shard_writing import Origin, begin, finish, plan_for, write_shard
from echogen.datasets.shards import Sample, ShardFolder

#: The S3 server of the package moto, which wants an older python-dateutil than constraints.txt and so an environment of its own.
MOTO = os.environ.get("ECHOGEN_MOTO") or shutil.which("moto_server")


class Numbered:
    """Twelve samples that are told apart by their label."""

    names = tuple(f"clip {index}.avi" for index in range(12))

    def origin(self, index: int) -> Origin:
        return Origin(self.names[index], f"{index:064x}")

    def sample(self, index: int, key: str) -> Sample:
        frames = np.full((2, 8, 8), index, dtype=np.uint8)
        return Sample(key, Cine(frames, np.arange(2) / 25), labels={"number": index})


def number(sample: Sample) -> int:
    assert sample.cine is not None
    assert (sample.cine.frames == sample.labels["number"]).all()
    return sample.labels["number"]


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder, samples = tmp_path / "site" / "shards", Numbered()
    plan = plan_for({}, samples.names, 3)
    for shard in begin(folder, plan):
        write_shard(folder, plan, samples, shard)
    finish(folder, plan)
    return folder


class Counting(SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path.rpartition("/")[2])
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Counting,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_a_url_is_that_from_the_disk(shards: Path, site: tuple[str, list[str]], workers: int):
    url = f"{site[0]}/shards"
    expected = list(ShardStream(shards, seed=3, epochs=2, mixed_shards=2, transform=number))
    assert list(ShardStream(url, seed=3, epochs=2, mixed_shards=2, transform=number, workers=workers)) == expected


def test_a_shard_is_copied_once(shards: Path, site: tuple[str, list[str]]):
    for _ in range(2):
        folder = pickle.loads(pickle.dumps(ShardFolder(f"{site[0]}/shards/")))
        assert [number(folder[index]) for index in range(12)] == list(range(12))
    asked = [name for name in site[1] if name.endswith(".tar")]
    assert sorted(asked) == sorted(path.name for path in shards.glob("*.tar"))


def test_the_next_shards_are_copied_while_the_first_are_read(shards: Path, site: tuple[str, list[str]]):
    stream = ShardStream(f"{site[0]}/shards", seed=None, mixed_shards=1, transform=number)
    assert next(iter(stream)) == 0
    second = sorted(shards.glob("*.tar"))[1].name
    for _ in range(600):
        if second in site[1]:
            return
        time.sleep(0.1)
    pytest.fail("The second shard was not asked for though the first was being read.")


def test_other_shards_at_the_same_url_are_copied_anew(shards: Path, site: tuple[str, list[str]]):
    assert number(ShardFolder(f"{site[0]}/shards")[5]) == 5
    shutil.rmtree(shards)
    samples = Numbered()
    plan = plan_for({}, samples.names[:6], 3)
    for shard in begin(shards, plan):
        write_shard(shards, plan, samples, shard)
    finish(shards, plan)
    assert len(ShardFolder(f"{site[0]}/shards")) == 6


def test_only_so_many_bytes_are_kept(shards: Path, site: tuple[str, list[str]], tmp_path: Path):
    names = sorted(path.name for path in shards.glob("*.tar"))
    sizes = [(shards / name).stat().st_size for name in names]
    files = RemoteFiles(f"{site[0]}/shards", kept_bytes=max(sizes) * 2)
    files.keep_under(b"")
    for name in names:
        with files.open(name) as file:
            assert file.read() == (shards / name).read_bytes()
    kept = [path for path in files.folder.iterdir() if path.suffix == ".tar"]
    assert names[-1] in {path.name for path in kept}
    assert sum(path.stat().st_size for path in kept) <= max(sizes) * 2


def test_what_is_not_there_is_told_in_a_sentence(shards: Path, site: tuple[str, list[str]]):
    first, second, *_ = sorted(shards.glob("*.tar"))
    folder = ShardFolder(f"{site[0]}/shards")
    second.unlink()
    with pytest.raises(InputError, match=f"lacks {second.name}"):
        folder[3]
    first.write_bytes(first.read_bytes()[:1024])
    with pytest.raises(InputError, match="1024 bytes in place of"):
        folder[0]
    assert number(folder[11]) == 11
    with pytest.raises(InputError, match="no finished shards"):
        ShardFolder(f"{site[0]}/nowhere")
    with pytest.raises(InputError, match="no kind of address"):
        ShardFolder("gopher://host/shards")


def test_a_store_that_does_not_answer_is_given_up(shards: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(InputError, match=r"no answer within 0.5 s"):
            RemoteFiles(f"http://127.0.0.1:{port}/shards", answer_s=0.5).read("shards.json")
    with pytest.raises(InputError, match="cannot be read"):
        ShardFolder(f"http://127.0.0.1:{port}/shards")


@pytest.mark.skipif(MOTO is None, reason="needs the S3 server moto: name its moto_server in ECHOGEN_MOTO")
def test_shards_in_a_bucket(shards: Path, monkeypatch: pytest.MonkeyPatch):
    from pyarrow import fs

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            monkeypatch.setenv(name, value)
        for _ in range(600):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        bucket = fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=f"127.0.0.1:{port}", scheme="http")
        bucket.create_dir("hearts")
        for path in shards.glob("*.*"):
            # In one request: moto at times fails to join the parts of an upload by Arrow.
            url = f"http://127.0.0.1:{port}/hearts/shards/{path.name}"
            head = {"Content-Type": "application/octet-stream"}
            urllib.request.urlopen(urllib.request.Request(url, path.read_bytes(), head, method="PUT"), timeout=30).close()
        expected = list(ShardStream(shards, seed=1, transform=number, mixed_shards=2))
        for workers in (0, 2):
            stream = ShardStream("s3://hearts/shards", seed=1, transform=number, mixed_shards=2, workers=workers)
            assert list(stream) == expected
            shutil.rmtree(Path(os.environ[CACHE_VARIABLE]))
        with pytest.raises(InputError, match="no finished shards"):
            ShardFolder("s3://hearts/nowhere")
    finally:
        server.terminate()
        server.wait()
    with pytest.raises(InputError, match="cannot be read"):
        ShardFolder("s3://hearts/shards")
