"""Reading DICOM ultrasound: grey frames with square pixels, their times and the pixel size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.dicom_opening import read_dataset
from echogen.cine.dicom_scale import pixel_size
from echogen.cine.dicom_times import frame_times
from echogen.cine.grey_depth import as_bytes
from echogen.cine.limits import check_size
from echogen.cine.stored import with_square_pixels
from echogen.cine.timing import ASK_FOR_RATE
from echogen.errors import InputError
from echogen.records import Cine, SecondsArray

#: Ultrasound, intravascular ultrasound, and what secondary captures call themselves.
_MODALITIES = ("US", "IVUS", "OT", "SC", "")
#: SNOMED CT codes, and those of SNOMED RT that older machines write (DICOM context group 12226).
_VIEW_CODES = {"A4C": {"399214001", "G-A19C"}, "A2C": {"399232001", "G-A19B"}}
#: Baseline and extended.
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
#: Lossless and near-lossless.
_JPEG_LS, _END_OF_JPEG = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), b"\xff\xd9"


def read_dicom(path: Path, fps: float | None = None) -> Cine:
    """Read a DICOM ultrasound still or cine as grey frames with square pixels.

    fps: frames per second in Hz, instead of the times that the file states. Notes tell what had to be guessed of its times,
    grey levels and pixel size. Raises `InputError` for anything that is no readable ultrasound.
    """
    name = path.name
    dataset = open_ultrasound(path)
    with _decoding(name):
        count, height, width = _shape(dataset, name)
        _check_ends(dataset, count)
        frames, notes = _grey_frames(dataset, count, height, width)
        times, more = frame_times(dataset, count, fps)
        size, view = pixel_size(dataset, frames), _view(dataset)
        notes += more + size.notes
        if size.width_mm:
            frames, scale = with_square_pixels(frames, size.width_mm, size.height_mm)
        else:
            frames, scale = with_square_pixels(frames, size.aspect, 1.0)[0], None
    if frames.shape[1:] != (height, width):
        notes += (f"Its pixels are {size.aspect:.4g} times as wide as high: the frames were stretched to square ones.",)
    return Cine(frames, _known(times, name, count), mm_per_pixel=scale, view=view, notes=notes)


def read_dicom_colour(path: Path, fps: float | None = None) -> tuple[ByteArray, SecondsArray, Any]:
    """RGB frames (T, height, width, 3) of a DICOM ultrasound still or cine, their times, and the dataset; as `read_dicom`.

    The pixels stay as they are stored, also where they are not square.
    """
    from pydicom.pixels import apply_color_lut, iter_pixels

    name = path.name
    dataset = open_ultrasound(path)
    with _decoding(name):
        count, height, width = _shape(dataset, name, 3)
        _check_ends(dataset, count)
        if _is_deep(dataset):
            grey, _ = _grey_frames(dataset, count, height, width)
            times, _ = frame_times(dataset, count, fps)
            return np.repeat(grey[..., None], 3, axis=-1), _known(times, name, count), dataset
        frames = np.empty((count, height, width, 3), dtype=np.uint8)
        number = 0
        for number, pixels in enumerate(iter_pixels(dataset), start=1):
            if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
                colours = np.asarray(apply_color_lut(pixels, dataset))
                pixels = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
            elif pixels.ndim == 2:
                pixels = _grey(pixels, dataset, str(dataset.PhotometricInterpretation))[..., None]
            frames[number - 1] = pixels[..., :3]
        if number != count:
            raise ValueError(f"{number} of {count} frames are there")
        times, _ = frame_times(dataset, count, fps)
    return frames, _known(times, name, count), dataset


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn anything that a decoder raises into one `InputError`; the panics of those written in Rust are no `Exception`."""
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise InputError(f"The pictures in {name} cannot be decoded ({_one_line(error)}); export the file again.") from error


def _known(times: SecondsArray | None, name: str, count: int) -> SecondsArray:
    """The times, where there are any. Raises `InputError` where there are none."""
    if times is None:
        raise InputError(f"{name} does not say how fast its {count} frames follow each other; {ASK_FOR_RATE}.")
    return times


def _shape(dataset: Any, name: str, samples: int = 1) -> tuple[int, int, int]:
    """Frames, height and width. Raises `InputError` where that many samples a pixel are too large."""
    count, height, width = int(dataset.get("NumberOfFrames", 1) or 1), int(dataset.Rows), int(dataset.Columns)
    check_size(name, count, height, width * max(samples, int(dataset.BitsAllocated) // 8))
    return count, height, width


def _check_ends(dataset: Any, count: int) -> None:
    """Refuse JPEG-LS frames without their end: the decoder runs on for seconds where there is nothing more to read."""
    from pydicom.encaps import generate_frames

    if dataset.file_meta.TransferSyntaxUID in _JPEG_LS:
        for number, encoded in enumerate(generate_frames(dataset.PixelData, number_of_frames=count), start=1):
            if not encoded.rstrip(b"\0").endswith(_END_OF_JPEG):
                raise ValueError(f"frame {number} is cut short")


def open_ultrasound(path: Path) -> Any:
    """The dataset of a DICOM ultrasound file. Raises `InputError` for one that is damaged, without pictures or of other kind."""
    name = path.name
    try:
        dataset = read_dataset(path)
        modality = _legible(dataset.get("Modality", "") or "")
    except Exception as error:
        raise InputError(f"{name} is a damaged DICOM file ({_one_line(error)}); export it again.") from error
    if "PixelData" not in dataset:
        raise InputError(
            f"{name} is a DICOM file without pictures (modality {modality or 'unknown'}); give an ultrasound cine or still."
        )
    if modality not in _MODALITIES:
        raise InputError(f"{name} is a DICOM file of modality {modality}, not an ultrasound; give an ultrasound cine or still.")
    return dataset


def _view(dataset: Any) -> str | None:
    """ "A4C" or "A2C" where the object's view code says so."""
    if "ViewCodeSequence" not in dataset:
        return None
    named = {str(code.get("CodeValue", "")) for code in dataset.get("ViewCodeSequence", None) or ()}
    return next((view for view, codes in _VIEW_CODES.items() if named & codes), None)


def _legible(value: Any, longest: int = 16) -> str:
    """A value of a file, shortened and printable, fit for a sentence: a damaged file may say anything."""
    return "".join(letter for letter in str(value)[:longest] if letter.isprintable())


def _one_line(error: BaseException) -> str:
    """The first sentence of an error without its full stop, or the name of its class."""
    return " ".join(str(error).split()).split(". ")[0][:120].rstrip(".") or type(error).__name__


def _grey_frames(dataset: Any, count: int, height: int, width: int) -> tuple[ByteArray, tuple[str, ...]]:
    """The frames (count, height, width) as grey, and notes on their depth. Raises ValueError where some are missing."""
    if _is_plain(dataset):
        plain = np.frombuffer(dataset.PixelData, np.uint8, count * height * width)
        return plain.reshape(count, height, width).copy(), ()
    deep = _is_deep(dataset)
    frames: np.ndarray = np.empty((count, height, width), dtype=np.uint8)
    number = 0
    for number, (pixels, photometric) in enumerate(_decoded(dataset, count), start=1):
        if deep and number == 1:
            frames = np.empty((count, height, width), dtype=pixels.dtype)
        grey = pixels if deep else _grey(pixels, dataset, photometric)
        if grey.shape != (height, width):
            raise ValueError(f"a frame of {grey.shape[0]} x {grey.shape[1]} pixels where {height} x {width} are announced")
        frames[number - 1] = grey
    if number != count:
        raise ValueError(f"{number} of {count} frames are there")
    if deep:
        grey, notes = as_bytes(frames, int(dataset.BitsStored), "The file")
        return 255 - grey if str(dataset.PhotometricInterpretation) == "MONOCHROME1" else grey, notes
    return frames, ()


def _is_deep(dataset: Any) -> bool:
    """True for grey pictures of more than 8 bits, whose used bits show only in all frames together."""
    return int(dataset.BitsAllocated) > 8 and str(dataset.PhotometricInterpretation).startswith("MONOCHROME")


def _is_plain(dataset: Any) -> bool:
    """True where the frames are stored as they are wanted: uncompressed, 8 bits, grey."""
    stored = (int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.PixelRepresentation))
    plain = stored == (8, 8, 0) and str(dataset.PhotometricInterpretation) == "MONOCHROME2"
    syntax = dataset.file_meta.TransferSyntaxUID
    return plain and syntax.is_little_endian and not syntax.is_encapsulated


def _decoded(dataset: Any, count: int) -> Iterator[tuple[np.ndarray, str]]:
    """The frames one by one as a decoder hands them out, and how their colours are stored then (photometric interpretation)."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels import get_decoder

    syntax, photometric = dataset.file_meta.TransferSyntaxUID, str(dataset.PhotometricInterpretation)
    if syntax in _JPEG and int(dataset.SamplesPerPixel) == 3 and int(dataset.BitsStored) == 8:
        for encoded in generate_frames(dataset.PixelData, number_of_frames=count):
            yield _grey_jpeg(encoded, photometric), "MONOCHROME2"
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # pydicom's word for a syntax that it does not know
        decoder = None
    if decoder is None or not decoder.is_available:
        raise InputError(
            f"These pictures are compressed as {_legible(syntax.name, 100)}, which cannot be decoded here; "
            "have them exported uncompressed or as JPEG 2000."
        )
    if not syntax.is_encapsulated:
        values, found = decoder.as_array(dataset, raw=True)
        for pixels in values if count > 1 else values[None]:
            yield pixels, str(found["photometric_interpretation"])
        return
    for pixels, found in decoder.iter_array(dataset, raw=True):
        yield pixels, str(found["photometric_interpretation"])


def _grey_jpeg(encoded: bytes, photometric: str) -> ByteArray:
    """The luminance of a colour JPEG frame, which says in its own markers how its colours are stored; if not, DICOM does."""
    image = Image.open(BytesIO(encoded), formats=("JPEG",))
    if photometric == "RGB" and not {"adobe_transform", "jfif"} & image.info.keys():
        # Asked for YCbCr, the decoder hands out what is stored as it is.
        image.draft("YCbCr", image.size)
        return np.asarray(Image.frombytes("RGB", image.size, image.tobytes()).convert("L"))
    image.draft("L", image.size)
    return np.asarray(image.convert("L"))


def _grey(pixels: np.ndarray, dataset: Any, photometric: str) -> ByteArray:
    """One decoded frame (H, W) or (H, W, 3) as grey; photometric: how its colours are stored now."""
    from pydicom.pixels import apply_color_lut

    if photometric == "PALETTE COLOR":
        pixels = np.asarray(apply_color_lut(pixels, dataset))
        pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    elif pixels.dtype != np.uint8:
        pixels = as_bytes(pixels, int(dataset.BitsStored), "The file")[0]
    if photometric == "MONOCHROME1":
        pixels = 255 - pixels
    if pixels.ndim == 2:
        return pixels
    if photometric.startswith("YBR"):
        return pixels[..., 0]
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))
