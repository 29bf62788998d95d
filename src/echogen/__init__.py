"""echogen: echocardiogram video from an electrocardiogram, and measurements of what was made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from echogen.errors import InputError
from echogen.records import Beat, Cine, Conditions, Ecg, Study

if TYPE_CHECKING:
    from echogen.cine import read_cine, read_image, write
    from echogen.datasets.drawn_ecg import read_study
    from echogen.datasets.registry import open_dataset
    from echogen.ecg import read_ecg
    from echogen.generators.base import Generator
    from echogen.measurement.video import measure
    from echogen.metrics.evaluation.run import evaluate
    from echogen.phantom.simulate import simulate
    from echogen.training.run import train

__version__ = "0.1.0"

__all__ = [
    "Beat",
    "Cine",
    "Conditions",
    "Ecg",
    "Generator",
    "InputError",
    "Study",
    "evaluate",
    "measure",
    "open_dataset",
    "read_cine",
    "read_ecg",
    "read_image",
    "read_study",
    "simulate",
    "train",
    "write",
]

#: Modules of the names that need torch, scipy or a codec; each is imported when its name is first used.
_HOME = {
    "Generator": "echogen.generators.base",
    "evaluate": "echogen.metrics.evaluation.run",
    "measure": "echogen.measurement.video",
    "open_dataset": "echogen.datasets.registry",
    "read_cine": "echogen.cine",
    "read_ecg": "echogen.ecg",
    "read_image": "echogen.cine",
    "read_study": "echogen.datasets.drawn_ecg",
    "simulate": "echogen.phantom.simulate",
    "train": "echogen.training.run",
    "write": "echogen.cine",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'echogen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
