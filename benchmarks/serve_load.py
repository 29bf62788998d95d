"""Many clients of one service: python benchmarks/serve_load.py -> "Load" in docs/serving.md.

Every client asks for its own heart (seed, ejection fraction, rhythm); every frame that it gets is compared with a direct call.
Some clients vanish in the middle. The service runs in a process of its own, whose memory is read when nobody is there: before,
and each time that all clients have come and gone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from common import DOCS
from echogen.app.serve.job_queue import TIDIED_AFTER_S
from echogen.app.serve.requests import StreamRequest
from echogen.app.serve.video_stream import VideoStream
from echogen.benchmark.markdown import table, write_section
from echogen.generators import Generator
from echogen.phantom.rhythm import RHYTHMS


def asked_of(client: int) -> dict[str, Any]:
    ecg = {"kind": "simulated", "rhythm": RHYTHMS[client % len(RHYTHMS)], "heart_rate_bpm": 60 + 3 * client}
    return {"ecg": ecg, "ef_percent": 20.0 + 2.5 * client, "view": ("A4C", "A2C")[client % 2], "seed": 1000 + client}


def watch(address: str, client: int, parts: int, vanishes: bool) -> dict[str, Any]:
    """What one client got: the digest of the frames of each part, whether every header had its own seed, and how long it took."""
    began = time.monotonic()
    got: dict[str, Any] = {"client": client, "digests": [], "own": True, "busy": False}
    with connect(address, max_size=None, ping_timeout=None, open_timeout=120) as stream:
        with contextlib.suppress(ConnectionClosed):  # one that is refused may be told so before it has asked
            stream.send(json.dumps({"type": "start", "question": client, "heart": asked_of(client)}))
        for index in range(parts):
            message = stream.recv(timeout=1800)
            if isinstance(message, str):
                told = json.loads(message)
                return got | {"busy": bool(told.get("busy")), "seconds": time.monotonic() - began}
            length = int.from_bytes(message[:4], "little")
            header = json.loads(message[4 : 4 + length])
            frames = message[4 + length : 4 + length + header["frames"] * header["height"] * header["width"]]
            got["digests"].append(hashlib.sha256(frames).hexdigest())
            got["own"] &= (header["seed"], header["question"], header["index"]) == (1000 + client, client, index)
            got["own"] &= header["sha256"] == got["digests"][-1]
            if vanishes:
                stream.socket.shutdown(socket.SHUT_RDWR)
                break
    return got | {"seconds": time.monotonic() - began}


def direct(heart: Generator, client: int, parts: int) -> list[str]:
    beating = VideoStream(StreamRequest.model_validate(asked_of(client)), heart, None)
    made = [beating.next_part() for _ in range(parts)]
    return [hashlib.sha256(part.cine.frames.tobytes()).hexdigest() for part in made if part is not None]


def memory_mb(process: int) -> float:
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def cpu_s(process: int) -> float:
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_at_rest_mb(process: int) -> float:
    """Memory when nobody is there and the service has tidied up: once it has done nothing for a while."""
    spent = -1.0
    while (now := cpu_s(process)) > spent + 0.05:
        spent = now
        time.sleep(2 * TIDIED_AFTER_S)
    return memory_mb(process)


def in_mb(*values: float) -> str:
    return ", ".join(f"{value:.0f}" for value in values) + " MB"


def status(address: str) -> dict[str, Any]:
    return dict(json.load(urllib.request.urlopen(address + "api/status", timeout=60)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="phantom-128")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="how often all clients come; memory is read after each")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    command = ["serve", "--port", "0", "--streams", str(options.clients), "--model", options.model]
    service = subprocess.Popen(
        [sys.executable, "-c", "from echogen.cli import main; main()", *command], stdout=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout is not None
        address = service.stdout.readline().split(" at ")[1].split()[0]
        beat = address.replace("http", "ws") + "api/beat"
        watch(beat, 0, 1, False)
        before = memory_at_rest_mb(service.pid)
        gone = {client for client in range(options.clients) if client % 7 == 3}
        peak, after = 0.0, []
        for _ in range(options.rounds):
            began = time.monotonic()
            with ThreadPoolExecutor(options.clients + 1) as pool:
                watching = [pool.submit(watch, beat, client, options.parts, client in gone) for client in range(options.clients)]
                while status(address)["streams"]["now"] < options.clients and time.monotonic() - began < 30:
                    time.sleep(0.05)
                one_more = watch(beat, options.clients, 1, False)
                answered = time.monotonic() - began
                while not all(one.done() for one in watching):
                    peak = max(peak, memory_mb(service.pid))
                    time.sleep(0.2)
                got = [one.result() for one in watching]
            wall = time.monotonic() - began
            while status(address)["streams"]["now"] and time.monotonic() - began < wall + 60:
                time.sleep(0.1)
            left = status(address)["streams"]["now"]
            after.append(memory_at_rest_mb(service.pid))
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(60)
    heart = Generator.from_pretrained(options.model)
    same = sum(one["digests"] == direct(heart, one["client"], len(one["digests"])) for one in got)
    frames = sum(len(one["digests"]) for one in got)
    rows = [
        ["clients, of which vanished in the middle", f"{options.clients}, {len(gone)}"],
        ["parts sent (about two seconds each)", str(frames)],
        ["clients whose every frame equals a direct call, bit for bit", f"{same} of {options.clients}"],
        ["clients whose every part had their own seed, question and number", f"{sum(one['own'] for one in got)}"],
        ["one client more", f"told that it is busy: {'yes' if one_more['busy'] else 'no'}, after {answered:.1f} s"],
        ["places taken when all have gone", str(left)],
        [f"memory of the service before, and after each of {options.rounds} times that all came", in_mb(before, *after)],
        ["most memory while they were there", in_mb(peak)],
        ["wall seconds for all", f"{wall:.0f}"],
    ]
    note = (
        f"{options.clients} clients at once, each with its own heart ({heart.name}, {heart.weights_hash}). Load average before: "
        f"{load:.2f}; times count on an idle machine only. Command: `python benchmarks/serve_load.py "
        f"--clients {options.clients} --parts {options.parts} --rounds {options.rounds}`.\n\n"
    )
    write_section(DOCS / "serving.md", "Load", note + table(["", ""], rows))


if __name__ == "__main__":
    main()
