"""A numpy array from a pickle file without running anything that the file asks for."""

from __future__ import annotations

import io
import math
import pickle
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError

#: Bytes of the largest pickle that is read.
LARGEST_FILE = 64 * 2**20

_NUMBER_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_HINT = "save the signal alone as a numpy array of numbers"


class _NumberType:
    """State of a pickled dtype: the kind, and later the byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """The type of plain numbers that is meant; raises `ValueError` for any other."""
        parts = _NUMBER_TYPE.fullmatch(self.name) if isinstance(self.name, str) else None
        if not parts or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"numbers of type {self.name}")
        return np.dtype(self.order + parts[1])


class _Array:
    """State of a pickled array: its shape, number type, order and bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.number_type, self.by_columns, self.content = self.state = tuple(state)

    def array(self) -> NDArray[Any]:
        """The array itself, copied out of the bytes; raises `ValueError` where the parts do not fit."""
        content = self.content.text if isinstance(self.content, _Latin1) else self.content
        content = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(self.number_type, _NumberType) or not isinstance(content, bytes | bytearray):
            raise ValueError("no plain numbers")
        dtype, shape = self.number_type.dtype(), tuple(int(side) for side in self.shape)
        if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError("another number of bytes than the shape needs")
        flat = np.frombuffer(bytes(content), dtype)
        return flat.reshape(shape, order="F" if self.by_columns else "C").copy(order="A")


class _Latin1:
    """Bytes as pickles before protocol 3 keep them: as text; they become bytes only where an array uses them."""

    def __init__(self, text: Any, encoding: Any) -> None:
        if not isinstance(text, str) or encoding != "latin1":
            raise ValueError("text in another encoding")
        self.text = text


def _from_buffer(content: Any, number_type: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, number_type, order == "F", content))
    return array


def _no_bytes() -> bytes:
    return b""


#: The only names that a pickle may mention, and what stands in for them here: none of them does more than keep its arguments.
_STANDINS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _Latin1,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _ArrayUnpickler(pickle._Unpickler):
    """Python's own unpickler, in which every name that is not one of the stand-ins is refused."""

    def find_class(self, module: str, name: str, /) -> Any:
        """The stand-in for a name."""
        if (module, name) not in _STANDINS:
            raise PermissionError(f"{module}.{name}")
        return _STANDINS[module, name]

    def _set_state(self) -> None:
        """Only the stand-ins' instances take a state; the usual way could change a function."""
        stack: list[Any] = getattr(self, "stack")  # noqa: B009
        state = stack.pop()
        if not isinstance(stack[-1], _Array | _NumberType):
            raise ValueError("a state for something else")
        stack[-1].__setstate__(state)

    def _bytes_that_are_there(self) -> None:
        """Read before memory is taken for as many bytes as the pickle promises."""
        read: Any = getattr(self, "read")  # noqa: B009
        count = int.from_bytes(read(8), "little")
        content = read(count)
        if len(content) != count:
            raise ValueError("fewer bytes than promised")
        getattr(self, "append")(content)  # noqa: B009

    dispatch: ClassVar[dict[int, Any]] = {
        **{
            code: load
            for code, load in pickle._Unpickler.dispatch.items()
            if bytes([code]) not in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID)
        },
        pickle.BUILD[0]: _set_state,
        pickle.BYTEARRAY8[0]: _bytes_that_are_there,
    }


def array_from_pickle(content: bytes, name: str = "The pickle") -> NDArray[Any]:
    """The numpy array of plain numbers that the bytes of a pickle hold, of any shape and byte order.

    Nothing that the pickle names is imported or called. name: of the file, for the message. Raises `InputError` for
    anything but one such array, for bytes that are cut short or no pickle, and for more than `LARGEST_FILE` of them.
    """
    if len(content) > LARGEST_FILE:
        raise InputError(f"{name} has {len(content) / 2**20:.0f} MiB; pickles of at most {LARGEST_FILE // 2**20} MiB are read.")
    try:
        found = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except PermissionError as error:
        raise InputError(f"{name} holds {error}, and loading that could run a program; {_HINT}.") from error
    except Exception as error:  # damaged or hostile bytes can raise anything
        raise InputError(f"{name} is damaged or no pickle of a numpy array; {_HINT}.") from error
    if not isinstance(found, _Array) or not found.state:
        raise InputError(f"{name} holds {_kind(found)} instead of a numpy array; {_HINT}.")
    try:
        return found.array()
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name} holds a damaged array or one of other things than numbers; {_HINT}.") from error


def read_array_pickle(path: str | Path) -> NDArray[Any]:
    """The numpy array in a pickle file; see `array_from_pickle`. Raises `InputError` also where the file cannot be read."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"The pickle {path} cannot be read: {error.strerror or error}.") from error
    return array_from_pickle(content, path.name)


def _kind(found: Any) -> str:
    name = type(found).__name__.lstrip("_")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
