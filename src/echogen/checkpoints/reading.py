"""Reader of released weights of several file formats as named tensors, and a strict loader that puts them into a network."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from echogen.errors import InputError

#: Largest file that is read, in bytes, on the disk and unpacked: more than any released network takes.
LARGEST_FILE = 8 * 2**30
#: Keys under which training runs save the network; averaged weights (EMA) come first, so that they win.
EMA_KEYS = ("ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "model_state_dict_ema")
NETWORK_KEYS = ("state_dict", "model", "model_state_dict", "network", "net", "weights", "module")
#: Prefixes that wrappers (averaging, several devices, compilation) write before every name.
EMA_PREFIX, WRAPPER_PREFIXES = "ema_model.", ("module.", "online_model.", "_orig_mod.")
#: Single numbers that such wrappers keep beside the weights.
COUNTERS = frozenset({"step", "steps", "initted", "n_averaged"})
#: Number of levels of nested dicts that are searched.
DEEPEST = 4
#: Number of names that a message lists.
NAMES_SHOWN = 3

#: First bytes of a ZIP archive.
_ZIP = b"PK\x03\x04"
#: First bytes of a torch file that is no ZIP archive: a pickled number.
_OLDER_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: Names of picture formats by their first bytes.
_PICTURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}
#: Types besides tensors that a torch file may hold.
_PLAIN_VALUES = [
    argparse.Namespace,
    np.dtype,
    *(getattr(np.dtypes, f"{name}DType") for name in ("Float32", "Float64", "Int32", "Int64", "Bool")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file (.safetensors, .bin, .pt, .pth) by name, on the CPU.

    The content decides on the format, not the suffix; a torch file, zipped or of the older kind, may hold tensors and plain
    values only. Everything around the network is removed: nested dicts ('model', 'state_dict', 'ema' ...), the prefixes
    'module.' and 'ema_model.', entries that are no tensors, and step counters. Where averaged weights (EMA) lie beside the
    plain ones, only the averaged ones are returned. Raises `InputError` for a file that is missing, empty, cut short, larger
    than `LARGEST_FILE`, not a weights file, without tensors, or that would run a program when loaded.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give a weights file (.safetensors, .bin, .pt or .pth).")
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise InputError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    if not head:
        raise InputError(f"The weights file {path} is empty; download it again.")
    if size > LARGEST_FILE:
        raise InputError(f"The weights file {path} has {size / 2**30:.1f} GiB; at most {LARGEST_FILE / 2**30:g} GiB are read.")
    if head[5:9] == b"\0\0\0{":  # the length of the header in 8 bytes, then the header in JSON
        found: Any = _read_safetensors(path)
    elif head.startswith((_ZIP, _OLDER_TORCH)):
        found = _read_torch(path, zipped=head.startswith(_ZIP))
    else:
        raise InputError(f"{path} is not a weights file but {_what_else(head)}; give a .safetensors, .bin, .pt or .pth file.")
    tensors = _without_wrappers(_network_in(found))
    if not tensors:
        raise InputError(f"{path} holds no tensors by name; give the file with the network's weights.")
    return tensors


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Put tensors into a network, cast to its types, if their names and shapes are exactly those of the network.

    network: Network to fill.
    tensors: Tensors by the network's own names.
    what: Name of the weights in messages.
    Raises `InputError` naming the first missing, unknown and wrongly shaped tensors
    and how many there are; the network is then unchanged.
    """
    own = network.state_dict()
    shapes = {
        name: f"{name} is {_shape(tensors[name])} instead of {_shape(tensor)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    }
    faults = [
        f"{len(names)} {kind} ({', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''})"
        for kind, names in (
            ("missing", [name for name in own if name not in tensors]),
            ("unknown", [name for name in tensors if name not in own]),
            ("of another shape", list(shapes.values())),
        )
        if names
    ]
    if faults:
        raise InputError(f"The tensors of the {what} do not fit the network: {'; '.join(faults)}; give the weights made for it.")
    network.load_state_dict(dict(tensors), strict=True)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file; download it again.") from error


def _read_torch(path: Path, *, zipped: bool) -> Any:
    """Read a torch file; only tensors and plain values can result from it."""
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > LARGEST_FILE:
                raise InputError(f"{path} unpacks to {unpacked / 2**30:.1f} GiB; at most {LARGEST_FILE / 2**30:g} GiB are read.")
        # A stream, since torch would choose the format of a path by its suffix.
        with torch.serialization.safe_globals(_PLAIN_VALUES), path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile file can raise anything
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and forbidden:
            raise InputError(
                f"{path} holds more than tensors ({forbidden[1]}), and loading that could run a program; "
                "give a file with tensors only."
            ) from error
        raise InputError(f"{path} is damaged or not a torch weights file; download it again, or give another file.") from error


def _what_else(head: bytes) -> str:
    """Name the kind of a file that holds no weights, from its first bytes."""
    for mark, name in _PICTURES.items():
        if head.startswith(mark):
            return f"a {name} picture"
    if head.startswith(b"\x80"):
        return "a plain pickle, which could run a program when loaded"
    if head.startswith(b"version https://git-lfs"):
        return "only a pointer to one (Git LFS), so download the file itself"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page"
    return "some other file"


def _network_in(found: Any, depth: int = 0) -> dict[str, Tensor]:
    """Find the named tensors of the network in the content of a training run's file; {} without any."""
    if not isinstance(found, Mapping) or depth > DEEPEST:
        return {}
    for key in (*EMA_KEYS, *NETWORK_KEYS):
        inside = _network_in(found.get(key), depth + 1)
        if inside:
            return inside
    here = {name: value.detach() for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if any(name not in COUNTERS for name in here):
        return here
    nested = [inside for value in found.values() if (inside := _network_in(value, depth + 1))]
    return nested[0] if len(nested) == 1 else {}


def _without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of wrappers from all names; where some tensors are averaged weights, keep only those."""
    tensors = {name: value for name, value in tensors.items() if not (name in COUNTERS and value.numel() == 1)}
    averaged = {name.removeprefix(EMA_PREFIX): value for name, value in tensors.items() if name.startswith(EMA_PREFIX)}
    if averaged:
        return _without_wrappers(averaged)
    for prefix in WRAPPER_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _without_wrappers({name.removeprefix(prefix): value for name, value in tensors.items()})
    return tensors
