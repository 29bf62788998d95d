"""Limits and sentences that the readers of echo files share."""

from __future__ import annotations

from pathlib import Path

from echogen.errors import InputError

#: Decoded grey pixels (bytes) of one file: what two copies of fit into the memory of a small machine.
MAXIMUM_DECODED_BYTES = 2 * 1024**3


def check_size(name: str, frames: int, height: int, width: int) -> None:
    """Refuse a file whose decoded frames would need more than `MAXIMUM_DECODED_BYTES`.

    name: how the message calls the file. Raises `InputError`.
    """
    if frames * height * width > MAXIMUM_DECODED_BYTES:
        raise InputError(
            f"{name} decodes to {frames * height * width / 1024**3:.1f} GB ({frames} or more frames of {height} x {width}), "
            f"more than the {MAXIMUM_DECODED_BYTES / 1024**3:.0f} GB limit; cut it into shorter or smaller files."
        )


def cut_short(path: Path, error: Exception) -> InputError:
    """The error to raise for a file on which a decoder failed: one sentence with the decoder's first one in brackets."""
    detail = " ".join(str(error).split()).split(". ")[0][:120].rstrip(".") or type(error).__name__
    return InputError(f"{path.name} is damaged or cut short ({detail}); give a complete file.")
