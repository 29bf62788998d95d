"""Right values of each echo file of the folder `reported`, and a check that the reader finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from echogen.cine import read_cine, read_image
from echogen.errors import InputError
from echogen.measurement.video import measure
from echogen.records import Cine

#: Pixel size in mm of the control and its copies.
CONTROL_MM = 1.3801
#: Relative tolerance of a pixel size.
MM_TOLERANCE = 0.01
#: Tolerance of a frame rate in Hz.
FPS_TOLERANCE_HZ = 0.05
#: True EDV in ml of the control's first beat.
CONTROL_EDV_ML = 132.0
#: Relative tolerance of a measured EDV: the error of measuring. A wrong scale is off by far more.
EDV_TOLERANCE = 0.12


@dataclass(frozen=True)
class Expected:
    """Right values of one echo file.

    frames: Number of frames.
    fps: Frames per second; None for a still.
    mm_per_pixel: Side of a pixel in mm; None where the file states none.
    shape: Height and width of a frame in pixels; None for that of the file's kind.
    measured: The first beat has the control's EDV. Its EF does not depend on how a file is read, so it is shown and not judged.
    refused: Words of the sentence, where it must be refused.
    """

    frames: int = 48
    fps: float | None = 32.0
    mm_per_pixel: float | None = CONTROL_MM
    shape: tuple[int, int] | None = None
    measured: bool = True
    refused: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Describe the right values in a few words."""
        if self.refused:
            return f"a refusal with {', '.join(self.refused)}"
        text = f"{self.frames} frames" + ("" if self.fps is None else f" at {self.fps:g} Hz")
        text += "" if self.mm_per_pixel is None else f", {self.mm_per_pixel:.4f} mm"
        return text + (f", EDV {CONTROL_EDV_ML:g} ml" if self.measured else "")


@dataclass(frozen=True)
class Result:
    """Reading of a file.

    cine: The frames, where it was read.
    edv_ml, ef_percent: EDV in ml and EF in % of the first beat that was measured; None without.
    said: The sentence of its refusal; empty where it was read.
    """

    cine: Cine | None = None
    edv_ml: float | None = None
    ef_percent: float | None = None
    said: str = ""


_ASK = Expected(refused=("--fps",))
ECHO: dict[str, Expected] = {
    "B0_right_as_it_is.dcm": Expected(),
    "B1_region_of_screen_1_6_times_larger.dcm": Expected(),
    "B2_frame_time_in_seconds.dcm": _ASK,
    "B2_increment_pointer_says_frame_time.dcm": Expected(),
    "B2_one_second_per_frame.nii": _ASK,
    "B3_30_s_per_frame.gif": _ASK,
    "B3_frame_time_in_microseconds.dcm": _ASK,
    "B4_pixel_aspect_ratio_4_5.dcm": Expected(mm_per_pixel=0.8 * CONTROL_MM),
    "B5_32_pages.tif": _ASK,
    "B6_exif_mirrored.jpg": Expected(1, None, None, measured=False),
    "B7_starts_at_3_s.mkv": Expected(mm_per_pixel=None, measured=False),
    "B8_30_fps.mkv": Expected(48, 30.0, None, measured=False),
    "B11_16_bits_stored_12_used.dcm": Expected(),
    "B12_inset_region_first.dcm": Expected(),
    "C1_no_frame_time.dcm": _ASK,
    "C7_without_preamble.dcm": Expected(),
    "C11_image_and_waveform.dcm": Expected(),
}


def read(folder: Path, name: str) -> Result:
    """Read a file and measure its first beat, where its pixel size is known."""
    path = folder / name
    try:
        if path.suffix == ".jpg":
            picture = read_image(path)
            return Result(read_cine(path) if picture.ndim == 2 else None)
        cine = read_cine(path)
    except InputError as error:
        return Result(said=str(error))
    if cine.mm_per_pixel is None:
        return Result(cine)
    try:
        reading = measure(cine)
    except InputError as error:
        return Result(cine, said=f"not measured: {error}")
    if not reading.beats:
        return Result(cine)
    return Result(cine, reading.beats[0].edv_ml, reading.beats[0].ef_percent)


def wrong(expected: Expected, result: Result) -> list[str]:
    """Name what is not right; nothing for a right reading, or a right refusal."""
    if expected.refused:
        return [] if all(word in result.said for word in expected.refused) else ["not refused in these words"]
    cine = result.cine
    if result.said or cine is None:
        return ["refused"]
    found = [] if len(cine.frames) == expected.frames else ["frames"]
    if expected.fps is not None and not abs(cine.fps - expected.fps) <= FPS_TOLERANCE_HZ:
        found.append("fps")
    wanted, given = expected.mm_per_pixel, cine.mm_per_pixel
    # Pixels that are not square may be widened or narrowed: either size is right.
    sizes = () if wanted is None else (wanted, wanted / 0.8) if wanted < CONTROL_MM else (wanted,)
    if wanted is not None and not any(given is not None and abs(given / size - 1) <= MM_TOLERANCE for size in sizes):
        found.append("mm per pixel")
    if expected.measured and (result.edv_ml is None or abs(result.edv_ml / CONTROL_EDV_ML - 1) > EDV_TOLERANCE):
        found.append("EDV")
    return found


def in_words(result: Result) -> str:
    """Describe a reading in a few words."""
    if result.said or result.cine is None:
        return result.said
    cine = result.cine
    text = f"{len(cine.frames)} frames" + (f" at {cine.fps:.2f} Hz" if len(cine.frames) > 1 else "")
    text += "" if cine.mm_per_pixel is None else f", {cine.mm_per_pixel:.4f} mm"
    if result.edv_ml is not None and result.ef_percent is not None:
        text += f", EDV {result.edv_ml:.0f} ml, EF {result.ef_percent:.0f} %"
    return text + "".join(f"; {note}" for note in cine.notes)
