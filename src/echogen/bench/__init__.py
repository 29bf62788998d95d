"""Speed of a generator on this machine: a video part by part (`video`), and along with a live ECG (`live`)."""

from echogen.bench.live import LiveRun, looped, measure_live, memory_mb
from echogen.bench.video import (
    IDLE_LOAD,
    Machine,
    Part,
    Run,
    grey_image,
    load_average,
    matmul_tflops,
    measure,
    measure_machine,
    metered,
    published_generator,
    published_networks,
)

__all__ = [
    "IDLE_LOAD",
    "LiveRun",
    "Machine",
    "Part",
    "Run",
    "grey_image",
    "load_average",
    "looped",
    "matmul_tflops",
    "measure",
    "measure_live",
    "measure_machine",
    "memory_mb",
    "metered",
    "published_generator",
    "published_networks",
]
