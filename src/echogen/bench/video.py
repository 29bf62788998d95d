"""Speed of one video: seconds and FLOPs part by part, compared with the rate of the machine's matrix products."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.generators import EchoPulsePublished, EchoPulsePublishedConfig, Generator
from echogen.networks.published_tokenizer import PublishedTokenizer, PublishedTokenizerConfig
from echogen.networks.published_transformer import PublishedTransformer, PublishedTransformerConfig
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.phantom.speckle import SpeckleLayer
from echogen.records import Cine, Ecg

#: Load average of the last minute from which on other programs disturb the times.
IDLE_LOAD = 0.3
#: Rows and columns of the matrices whose product gives the machine's rate; large enough to reach its full rate.
MATMUL_SIZE = 2048
#: Parts in the order in which a window passes through them; the last is all the remaining time.
PARTS = ("ECG", "encode", "first frame", "guessing tokens", "decode", "speckle", "rest")
#: Methods that belong to a part, as (attribute of the generator that has it, method, part); "" is the generator itself.
_METHODS = (
    ("", "analysed_ecg", "ECG"),
    ("token_guesser", "encode_conditions", "ECG"),
    ("cavity_sizer", "size", "ECG"),
    ("", "condition_tokens", "ECG"),
    ("", "encode_conditions", "ECG"),
    ("", "encode_beat", "ECG"),
    ("tokenizer", "tokenize", "encode"),
    ("first_frame", "guess", "first frame"),
    ("token_guesser", "guess", "guessing tokens"),
    ("", "guess_tokens", "guessing tokens"),
    ("renderer", "draw", "decode"),
    ("tokenizer", "decode_ids", "decode"),
)

PublishedNetworks = tuple[PublishedTokenizer, PublishedTransformer, StMem]


@dataclass(frozen=True)
class Machine:
    """Machine that was measured.

    device: Name of the device.
    processor: Name of the processor.
    threads: Number of threads of a computation.
    load_before: Load average of the minute before, nan where unknown.
    torch: Version of torch.
    matmul_tflops: Rate of matrix products in TFLOP/s, by the name of the type.
    """

    device: str
    processor: str
    threads: int
    load_before: float
    torch: str
    matmul_tflops: dict[str, float]

    @property
    def idle(self) -> bool:
        """True if the machine was idle enough for its times to count."""
        return self.load_before < IDLE_LOAD


@dataclass(frozen=True)
class Part:
    """Cost of one part of a video.

    part: Name in `PARTS`.
    seconds: Wall time in s.
    share: Share of the wall time of the video, 0..1.
    gflop: GFLOP of matrix products and convolutions.
    matmul_share: Share of the machine's matmul rate, 0..1; None for a part without such products.
    """

    part: str
    seconds: float
    share: float
    gflop: float
    matmul_share: float | None


@dataclass(frozen=True)
class Run:
    """Cost of one video by one generator, decoded, batch 1: the fastest of `repeats` runs, after one that warms up.

    model: Name of the generator.
    weights_hash: Hash of its weights; None for random weights.
    parameters: Number of parameters of all its networks.
    dtype: Type of its weights, for instance bfloat16.
    frames: Number of frames.
    height, width: Rows and columns of a frame in pixels.
    fps: Frames per second.
    steps: Decoding steps.
    first_frame: True if the video began with a given frame.
    repeats: Number of runs.
    seconds: Wall time in s.
    cpu_seconds: CPU time of all threads in s.
    seconds_per_video_second: Wall time in s for one second of video.
    seconds_per_beat: Wall time in s for one beat, by the rate of the ECG.
    heart_rate_bpm: Heart rate of the ECG in beats per minute.
    gflop: GFLOP of matrix products and convolutions.
    seconds_at_matmul_rate: Time in s for `gflop` at the machine's full matmul rate in this type; no run can be faster.
    matmul_share: Share of the machine's matmul rate, 0..1.
    parts: Cost of each part.
    """

    model: str
    weights_hash: str | None
    parameters: int
    dtype: str
    frames: int
    height: int
    width: int
    fps: float
    steps: int
    first_frame: bool
    repeats: int
    seconds: float
    cpu_seconds: float
    seconds_per_video_second: float
    seconds_per_beat: float
    heart_rate_bpm: float
    gflop: float
    seconds_at_matmul_rate: float
    matmul_share: float
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields for JSON, parts as a list of objects."""
        return asdict(self)


def load_average() -> float:
    """Load average of the last minute; nan where the system does not state it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def matmul_tflops(dtype: torch.dtype, device: torch.device, size: int = MATMUL_SIZE, repeats: int = 5) -> float:
    """Rate of a square matrix product in TFLOP/s, the best of `repeats` runs after one that warms up."""
    square = torch.randn(size, size, device=device).to(dtype)

    def seconds() -> float:
        begin = now(device)
        square @ square
        return now(device) - begin

    seconds()
    return 2 * size**3 / min(seconds() for _ in range(repeats)) / 1e12


def measure_machine(device: torch.device, size: int = MATMUL_SIZE) -> Machine:
    """Measure the load average, then the matmul rate in float32 and bfloat16."""
    load = load_average()
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    rates = {name_of(dtype): matmul_tflops(dtype, device, size) for dtype in (torch.float32, torch.bfloat16)}
    return Machine(str(device), processor, torch.get_num_threads(), load, torch.__version__, rates)


@contextmanager
def metered(generator: Generator, reading: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Add up the rise of a reading in each part of a generator; the yielded dictionary holds the sums by name of the part.

    generator: Generator whose parts are measured while the context is open.
    reading: Clock or counter that never falls.

    A part inside another one counts for itself only. The methods are wrapped from outside and put back at the end.
    """
    spent: dict[str, float] = {}
    inside = [0.0]

    def around(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapped(*args: Any, **options: Any) -> Any:
            begin = reading()
            inside.append(0.0)
            try:
                return method(*args, **options)
            finally:
                rise = reading() - begin
                spent[part] = spent.get(part, 0.0) + rise - inside.pop()
                inside[-1] += rise

        return wrapped

    owners = {name: getattr(generator, name, None) if name else generator for name, _, _ in _METHODS}
    targets: list[tuple[Any, str, str]] = [(owners[name], method, part) for name, method, part in _METHODS]
    targets.append((SpeckleLayer, "__call__", "speckle"))
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in targets if hasattr(owner, name)]
    for owner, name, part in targets:
        if hasattr(owner, name):
            setattr(owner, name, around(part, getattr(owner, name)))
    try:
        yield spent
    finally:
        for owner, name, own in before:
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)


def measure(
    generator: Generator,
    ecg: Ecg,
    machine: Machine,
    *,
    frames: int = 64,
    steps: int | None = None,
    first_frame: Cine | None = None,
    repeats: int = 3,
    progress: Callable[[float, float], None] | None = None,
) -> Run:
    """Measure the cost of a video: the FLOPs in one run, then the time in `repeats` runs.

    generator: Generator to measure.
    ecg: ECG at least as long as the video.
    machine: Machine as `measure_machine` found it.
    frames: Number of frames.
    steps: Decoding steps; None takes the generator's own.
    first_frame: Frame to begin with; None without one.
    repeats: Number of timed runs.
    progress: Called with the runs done and the runs in all.
    Raises `InputError` as the generator does, for an ECG that is shorter than the video, and for less than one frame or repeat.
    """
    if frames < 1 or repeats < 1:
        raise InputError("A measurement needs at least one frame and one repeat.")
    device = torch.device(machine.device)
    seconds = frames / generator.native_fps

    def video(run: int) -> Cine:
        def made(done: float, asked: float) -> None:
            if progress is not None:
                progress(run + min(done / asked, 1.0), repeats + 1)

        return generator(ecg, seconds=seconds, steps=steps, reference=first_frame, progress=made)

    custom = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with (
        FlopCounterMode(display=False, custom_mapping=custom) as counter,
        metered(generator, lambda: float(counter.get_total_flops())) as flops,
    ):
        cine = video(0)
        flops[PARTS[-1]] = counter.get_total_flops() - sum(flops.values())
    runs = []
    for repeat in range(repeats):
        with metered(generator, lambda: now(device)) as spent:
            cpu, begin = time.process_time(), now(device)
            video(repeat + 1)
            wall, cpu = now(device) - begin, time.process_time() - cpu
        spent[PARTS[-1]] = wall - sum(spent.values())
        runs.append((wall, cpu, spent))
    wall, cpu, spent = min(runs, key=lambda run: run[0])
    dtype = name_of(getattr(generator, "dtype", torch.float32))
    rate = machine.matmul_tflops[dtype] * 1e12
    parts = tuple(
        Part(
            name,
            spent[name],
            spent[name] / wall,
            flops.get(name, 0.0) / 1e9,
            flops[name] / spent[name] / rate if flops.get(name) else None,
        )
        for name in PARTS
        if name in spent
    )
    total = sum(flops.values())
    rate_bpm = 60.0 / float(np.median(np.diff(find_landmarks(ecg).r_s)))
    own_steps: int = getattr(getattr(generator, "config", None), "steps", 1)
    return Run(
        model=generator.name,
        weights_hash=generator.weights_hash or None,
        parameters=sum(
            weights.numel()
            for network in {id(part): part for part in vars(generator).values() if isinstance(part, torch.nn.Module)}.values()
            for weights in network.parameters()
        ),
        dtype=dtype,
        frames=len(cine.frames),
        height=cine.frames.shape[1],
        width=cine.frames.shape[2],
        fps=generator.native_fps,
        steps=own_steps if steps is None else steps,
        first_frame=first_frame is not None,
        repeats=repeats,
        seconds=wall,
        cpu_seconds=cpu,
        seconds_per_video_second=wall / seconds,
        seconds_per_beat=wall / (seconds * rate_bpm / 60.0),
        heart_rate_bpm=rate_bpm,
        gflop=total / 1e9,
        seconds_at_matmul_rate=total / rate,
        matmul_share=total / wall / rate,
        parts=parts,
    )


def published_networks(seed: int = 0) -> PublishedNetworks:
    """Make ECHOPulse's networks at the sizes of its paper, with random weights, since speed does not depend on the weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            PublishedTokenizer(PublishedTokenizerConfig.published()),
            PublishedTransformer(PublishedTransformerConfig.published()),
            StMem(StMemConfig.paper()),
        )


def published_generator(networks: PublishedNetworks, dtype: str, device: torch.device) -> EchoPulsePublished:
    """Make a generator in the published configuration: 18 steps, windows of 11 frames that share 3.

    networks: Tokenizer, transformer and ECG encoder. dtype: "bfloat16" or "float32". device: Device of the networks.
    """
    generator = EchoPulsePublished(EchoPulsePublishedConfig(dtype=dtype), *networks, device)
    generator.name = "ECHOPulse at the paper's size"
    return generator


def grey_image(height: int, width: int) -> Cine:
    """First frame of grey levels that rise from left to right."""
    return Cine(np.linspace(0, 255, width).astype(np.uint8)[None, None].repeat(height, axis=1), np.zeros(1))


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, **options: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def now(device: torch.device) -> float:
    """Time in s on a clock, read when all work of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def name_of(dtype: torch.dtype) -> str:
    """Short name of a type, for instance bfloat16."""
    return str(dtype).removeprefix("torch.")
