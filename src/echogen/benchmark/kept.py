"""Measurements of the benchmark's clips, kept in the work folder by the code and weights that made them."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import is_dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray
from echogen.benchmark.cases import Case
from echogen.benchmark.rows import Row, Work
from echogen.files import whole_file
from echogen.generators.base import hash_weights
from echogen.metrics.evaluation.clips import Clip, ClipFile
from echogen.metrics.memorisation.identity import HeartIdentity
from echogen.metrics.sets.features import FeatureNetwork

#: States of collectors, by metric.
States = dict[str, dict[str, Any]]

_PACKAGE = Path(__file__).parent.parent
#: Everything of numpy that stored states hold: arrays, their types, and single numbers.
_OF_NUMPY = (
    {("numpy", "ndarray"), ("numpy", "dtype")}
    | {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")}
    | {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}
)


@lru_cache(maxsize=1)
def _measured() -> str:
    """Name of the folder of measurements: another one for other code or weights that measure."""
    digest = hashlib.sha256(Path(__file__).with_name("scores.py").read_bytes())
    for part in ("metrics", "measurement"):
        for path in sorted((_PACKAGE / part).rglob("*.py")):
            digest.update(path.read_bytes())
    for network in ("segmenter", "ef-regressor", "echo-features", "identity"):
        digest.update(hash_weights(_PACKAGE / "weights" / network).encode())
    return f"measured-{digest.hexdigest()[:8]}"


class KeptClip(Clip):
    """Clip whose masks and features are read from a folder, or put there."""

    def __init__(self, file: ClipFile, kept: Path) -> None:
        super().__init__(file)
        self.kept = kept

    @cached_property
    def masks(self) -> ByteArray:
        """Structure at each pixel, (T, 128, 128)."""
        found = self._read("masks")
        if found is None:
            found = super().masks
            self._write("masks", found)
        return found

    def features(self, network: FeatureNetwork, *, at_random: bool) -> NDArray[np.float32] | None:
        """Features of a network, or None for a clip that is too short."""
        name = f"{network.name}-{network.frames}{'-anywhere' if at_random else ''}"
        found = self._read(name)
        if found is None:
            found = super().features(network, at_random=at_random)
            if found is not None:
                self._write(name, found)
        return found

    @cached_property
    def identity(self) -> NDArray[np.float32]:
        """Embedding (dims,) of the heart that is shown."""
        found = self._read("identity")
        if found is None:
            found = _identity()(replace(self.cine, frames=self.canonical))
            self._write("identity", found)
        return found

    def _read(self, name: str) -> NDArray[Any] | None:
        path = self.kept / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path) as stored:
            values: NDArray[Any] = stored["values"]
        return values

    def _write(self, name: str, values: NDArray[Any]) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        with whole_file(self.kept / f"{name}.npz") as unfinished:
            np.savez_compressed(unfinished, values=values)


@lru_cache(maxsize=1)
def _identity() -> HeartIdentity:
    return HeartIdentity()


def clip_of(work: Work, row: Row, case: Case) -> KeptClip | None:
    """Return the video of a row for a case, to be judged against the truth of that case; None where there is none."""
    video = row.video(work, case)
    if not video.is_file():
        return None
    return KeptClip(ClipFile(case.name, video, work.truth(case) / "truth.json"), work.root / _measured() / row.source(case))


class _StateReader(pickle.Unpickler):
    """Unpickler of plain values, numpy arrays and the dataclasses of metrics, which runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _OF_NUMPY:
            return super().find_class(module, name)
        if module.startswith("echogen.metrics.") and name.isidentifier():
            found = super().find_class(module, name)
            if isinstance(found, type) and is_dataclass(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a measurement")


def read_states(path: Path) -> States:
    """Read kept states of collectors; empty where there are none or the file is damaged."""
    try:
        states: States = _StateReader(io.BytesIO(path.read_bytes())).load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError):
        return {}
    return states


def write_states(path: Path, states: States) -> None:
    """Keep states of collectors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(pickle.dumps(states))
