"""echogen: echocardiogram video from an electrocardiogram, and measurements of what was made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from echogen.errors import InputError
from echogen.records import Beat, Cine, Conditions, Ecg, Study

if TYPE_CHECKING:
    from echogen.cine import read_cine, read_image, write
    from echogen.datasets.drawn_ecg import read_study
    from echogen.ecg import read_ecg
    from echogen.generators.base import Generator
    from echogen.phantom.simulate import simulate

__version__ = "0.1.0"

__all__ = [
    "Beat",
    "Cine",
    "Conditions",
    "Ecg",
    "Generator",
    "InputError",
    "Study",
    "read_cine",
    "read_ecg",
    "read_image",
    "read_study",
    "simulate",
    "write",
]

#: Where the names live that need torch, scipy or a codec; each is imported when it is first asked for.
_HOME = {
    "Generator": "echogen.generators.base",
    "read_cine": "echogen.cine",
    "read_ecg": "echogen.ecg",
    "read_image": "echogen.cine",
    "read_study": "echogen.datasets.drawn_ecg",
    "simulate": "echogen.phantom.simulate",
    "write": "echogen.cine",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'echogen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
