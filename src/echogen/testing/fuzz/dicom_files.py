"""Small undamaged DICOM ultrasound files in every transfer syntax and colour space that can be written here."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine import write
from echogen.testing.fuzz.making import Files, written
from echogen.testing.fuzz.pictures import cine, colour_frames, drawn_frames, picture

#: Larger files of pydicom's own are left out.
LARGEST_OF_PYDICOM_BYTES = 30_000


def _dataset() -> Any:
    """DICOM dataset as `echogen.cine.write` makes it, with a region of an ECG and a heart rate as clinical files have them."""
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(written("x.dcm", lambda path: write(cine(), path))))
    region = pydicom.Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 3, 10, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 0, 24, 47, 31
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 4, 0
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.025, 1.0
    dataset.SequenceOfUltrasoundRegions.append(region)
    dataset.HeartRate = 75
    return dataset


def _saved(dataset: Any, syntax: str | None = None, **changes: Any) -> Files:
    """The file of a dataset, with some of its attributes changed and its frames in a transfer syntax."""
    import pydicom
    from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

    for name, value in changes.items():
        setattr(dataset, name, value)
    wanted = UID(syntax or dataset.file_meta.TransferSyntaxUID)
    if wanted.is_encapsulated and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.compress(wanted, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = wanted
    stream = io.BytesIO()
    how = {"implicit_vr": wanted == ImplicitVRLittleEndian, "little_endian": wanted != ExplicitVRBigEndian}
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True, **how)
    return {"x.dcm": stream.getvalue()}


def _coloured(frames: ByteArray, photometric: str = "RGB", **changes: Any) -> Any:
    dataset = _dataset()
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, photometric
    dataset.PixelData = frames.tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def _with_jpegs(frames: ByteArray) -> Any:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    dataset = _coloured(frames, "YBR_FULL_422")
    dataset.PixelData = encapsulate([picture("JPEG", frame[None]) for frame in frames])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return dataset


def _with_palette() -> Any:
    dataset, ramp = _dataset(), np.arange(256, dtype="<u2") * 257
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in (1, 2, 3):
        dataset.add_new(0x00281100 + colour, "US", [256, 0, 16])
        dataset.add_new(0x00281200 + colour, "OW", ramp.tobytes())
    return dataset


def dicoms() -> dict[str, Files]:
    """DICOM ultrasound in the transfer syntaxes and colours that can be written here, and small files of pydicom's."""
    from pydicom import uid
    from pydicom.data import get_testdata_file

    frames = colour_frames()
    wide = (frames[..., 1].astype("<u2") * 257).tobytes()
    vector = _dataset()
    del vector.FrameTime
    found = {
        "DICOM, explicit": _saved(_dataset()),
        "DICOM, implicit, RGB": _saved(_coloured(frames), uid.ImplicitVRLittleEndian),
        "DICOM, big endian": _saved(_dataset(), uid.ExplicitVRBigEndian),
        "DICOM, deflated": _saved(_dataset(), uid.DeflatedExplicitVRLittleEndian),
        "DICOM, planes": _saved(_coloured(frames.transpose(0, 3, 1, 2).reshape(frames.shape), PlanarConfiguration=1)),
        "DICOM, frame time vector": _saved(vector, FrameTimeVector=["0", "40", "30", "50"], FrameIncrementPointer=0x00181065),
        "DICOM, 16 bits": _saved(_dataset(), BitsAllocated=16, BitsStored=16, HighBit=15, PixelData=wide),
        "DICOM, palette": _saved(_with_palette()),
        "DICOM, JPEG": _saved(_with_jpegs(frames)),
        "Drawn ECG, DICOM": _saved(_with_jpegs(drawn_frames())),
    }
    for name, syntax in (("RLE", uid.RLELossless), ("JPEG 2000", uid.JPEG2000Lossless), ("JPEG-LS", uid.JPEGLSLossless)):
        # What packs them need not be installed.
        with suppress(ImportError, RuntimeError, NotImplementedError):
            found[f"DICOM, {name}"] = _saved(_coloured(frames), syntax)
    for path in sorted(Path(str(get_testdata_file("SC_rgb_rle.dcm"))).parent.glob("SC_*.dcm")):
        if path.stat().st_size <= LARGEST_OF_PYDICOM_BYTES:
            found[f"DICOM (pydicom)/{path.name}"] = {"x.dcm": path.read_bytes()}
    return found
