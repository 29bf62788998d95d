"""How much decoded video a reader accepts, and the sentence for more."""

from __future__ import annotations

from echogen.errors import InputError

#: Decoded grey pixels (bytes) of one file.
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
