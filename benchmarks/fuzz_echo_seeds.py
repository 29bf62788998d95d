"""Small echo files of every format, and shards, for the fuzzing benchmark; the same bytes every time."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echogen.cine import write
from echogen.records import Beat, Cine, Ecg, Study
from fuzz_seeds import Files, zipped

Bytes = NDArray[np.uint8]
LARGEST_OF_PYDICOM_BYTES, LARGEST_REAL_BYTES = 30_000, 300_000
FPS = 25.0


@cache
def colour_frames() -> Bytes:
    """(4, 32, 48, 3): a moving, tinted texture."""
    rows, columns = np.indices((32, 48))
    grey = [128 + 100 * np.sin((rows + 3 * k) / 5) * np.cos(columns / 7) for k in range(4)]
    return np.stack([np.stack([one, 0.8 * one, 0.6 * one], axis=-1) for one in grey]).astype(np.uint8)


def cine() -> Cine:
    """The same in grey, with all that a cine may say."""
    return Cine(colour_frames()[..., 1], np.arange(4) / FPS, 0.4, "A4C")


@cache
def drawn_frames() -> Bytes:
    """(40, 64, 80, 3): a fan of texture with an ECG of 75 beats a minute scrolling under it."""
    rows, columns = np.indices((64, 80))
    fan = (np.abs(columns - 40) < 0.7 * rows) & (rows < 45)
    frames = np.zeros((40, 64, 80, 3), np.uint8)
    for frame, time in zip(frames, np.arange(40) / FPS, strict=True):
        frame[:] = ((90 + 60 * np.sin(rows / 5 + 3 * np.sin(6 * time)) * np.cos(columns / 7)) * fan)[..., None]
        phase = (time - np.arange(80)[::-1] / 40) % 0.8 - 0.4
        mv = np.exp(-0.5 * (phase / 0.02) ** 2) - 0.2 * np.exp(-0.5 * ((phase - 0.03) / 0.015) ** 2)
        height = 58 - 13 * (mv + 0.2 * np.exp(-0.5 * ((phase - 0.25) / 0.05) ** 2))
        before = np.concatenate([height[:1], height[:-1]])
        line = (rows >= np.floor(np.minimum(height, before))) & (rows <= np.ceil(np.maximum(height, before)))
        frame[line] = (60, 230, 90)
    return frames


def _written(name: str, make: Callable[[Path], object]) -> bytes:
    """What `make` writes at a path of this name."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _video(name: str, codec: str, frames: Bytes, pixels: str) -> bytes:
    """A video of these RGB frames."""
    import av

    # Several threads do not always write the same.
    options = {"qp": "20", "x264-params": "threads=1:sync-lookahead=0"} if codec == "libx264" else {}

    def make(path: Path) -> None:
        # Matroska numbers its files at random otherwise.
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt, stream.thread_count = pixels, 1
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    return _written(name, make)


def videos() -> dict[str, Files]:
    """AVI, MP4 and Matroska."""
    frames, drawn = colour_frames(), drawn_frames()
    return {
        "AVI, Motion JPEG": {"x.avi": _video("x.avi", "mjpeg", frames, "yuvj420p")},
        "AVI, raw": {"x.avi": _video("x.avi", "rawvideo", frames, "bgr24")},
        "AVI, MPEG-4": {"x.avi": _video("x.avi", "mpeg4", frames, "yuv420p")},
        "MP4": {"x.mp4": _video("x.mp4", "libx264", frames, "yuv420p")},
        "MKV": {"x.mkv": _video("x.mkv", "ffv1", frames, "bgr0")},
        "Drawn ECG, AVI": {"x.avi": _video("x.avi", "mjpeg", drawn, "yuvj444p")},
        "Drawn ECG, MP4": {"x.mp4": _video("x.mp4", "libx264", drawn, "yuv420p")},
    }


def _picture(kind: str, frames: Bytes, **options: Any) -> bytes:
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(frame) for frame in frames]
    moving: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": 40} if rest else {}
    first.save(stream, kind, **moving, **options)
    return stream.getvalue()


def pictures() -> dict[str, Files]:
    """Stills, and those that move."""
    frames, still = colour_frames(), colour_frames()[:1]
    palette = Image.fromarray(frames[0]).quantize(16)
    small = io.BytesIO()
    palette.save(small, "PNG")
    return {
        "GIF": {"x.gif": _picture("GIF", frames)},
        "Drawn ECG, GIF": {"x.gif": _picture("GIF", drawn_frames())},
        "PNG": {"x.png": _picture("PNG", still)},
        "PNG, moving": {"x.png": _picture("PNG", frames)},
        "PNG, palette": {"x.png": small.getvalue()},
        "WebP": {"x.webp": _picture("WEBP", frames)},
        "JPEG": {"x.jpg": _picture("JPEG", still)},
        "JPEG, progressive": {"x.jpg": _picture("JPEG", still, progressive=True)},
        "TIFF": {"x.tif": _picture("TIFF", still)},
        "TIFF, LZW": {"x.tif": _picture("TIFF", still, compression="tiff_lzw")},
        "BMP": {"x.bmp": _picture("BMP", still)},
    }


def _dataset() -> Any:
    """What `write` makes as DICOM, with a region of an ECG and a heart rate as clinical files have them."""
    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(_written("x.dcm", lambda path: write(cine(), path))))
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


def _coloured(frames: Bytes, photometric: str = "RGB", **changes: Any) -> Any:
    dataset = _dataset()
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, photometric
    dataset.PixelData = frames.tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def _with_jpegs(frames: Bytes) -> Any:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    dataset = _coloured(frames, "YBR_FULL_422")
    dataset.PixelData = encapsulate([_picture("JPEG", frame[None]) for frame in frames])
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


def _nifti(kind: str) -> bytes:
    import nibabel

    image: Any = getattr(nibabel, kind)(cine().frames.T[:, :, None, :], np.eye(4))
    image.header.set_zooms((0.4, 0.4, 1.0, 40.0))
    image.header.set_xyzt_units("mm", "msec")
    return bytes(image.to_bytes())


def research_formats() -> dict[str, Files]:
    """NIfTI, MetaImage and NPZ."""
    frames = cine().frames
    stamps = {f"Seq_Frame{k:04d}_Timestamp": k / FPS for k in range(4)}
    header = {"ObjectType": "Image", "NDims": 3, "DimSize": "48 32 4", "ElementSpacing": "0.4 0.4 1", "ElementType": "MET_UCHAR"}

    def text(data: str, **more: Any) -> bytes:
        lines = header | stamps | more | {"ElementDataFile": data}
        return "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()

    stored = io.BytesIO()
    np.savez(stored, frames=frames, times_s=cine().times_s)
    packed = text("LOCAL", CompressedData="True") + zlib.compress(frames.tobytes())
    found = {
        "MHD": {"x.mhd": text("x.raw"), "x.raw": frames.tobytes()},
        "MHD, its data": {"x.zraw": zlib.compress(frames.tobytes()), "x.mhd": text("x.zraw", CompressedData="True")},
        "MHA": {"x.mha": packed},
        "NPZ, deflated": {"x.npz": _written("x.npz", lambda path: write(cine(), path))},
        "NPZ, stored": {"x.npz": stored.getvalue()},
    }
    with suppress(ImportError):
        own = _written("x.nii", lambda path: write(cine(), path))
        found["NIfTI-1"] = {"x.nii": _nifti("Nifti1Image")}
        found["NIfTI-2"] = {"x.nii": _nifti("Nifti2Image")}
        found["NIfTI, as written here"] = {"x.nii": own}
        found["NIfTI, gzip"] = {"x.nii.gz": gzip.compress(own, mtime=0)}
    return found


def shards() -> dict[str, Files]:
    """Folders of shards: a tar of deflated and of plain arrays, and their summary."""
    from echogen.datasets.shard_writing import Origin, plan_for, shard_name, write_shard
    from echogen.datasets.shards import FORMAT, SUMMARY, Sample, sample_of

    ecg = Ecg(np.linspace(-1, 1, 400, dtype=np.float32).reshape(2, 200), 250.0, ("I", "II"), -0.1)
    study = Study(ecg, cine(), 55.0, "f", (Beat(0.02, 0.1, 100.0, 45.0),), cine().frames % 6)

    class Two:
        names = ("a", "b")

        def origin(self, index: int) -> Origin:
            return Origin(self.names[index])

        def sample(self, index: int, key: str) -> Sample:
            return sample_of(key, study)

    found = {}
    for how, compress in (("deflated", True), ("plain", False)):
        plan = plan_for({}, Two.names, 2, compress)

        def make(path: Path, plan: Any = plan) -> None:
            (path.parent / "unfinished").mkdir()
            write_shard(path.parent, plan, Two(), 0)

        summary = {"format": FORMAT, "samples": 2, "rejected": 0, "shards": [{"file": shard_name(0), "samples": 2}]}
        found[f"Shards, {how}"] = {shard_name(0): _written(shard_name(0), make), SUMMARY: json.dumps(summary).encode()}
    found["Shards, summary"] = dict(reversed(found["Shards, plain"].items()))
    return found


def echoxflow() -> dict[str, Files]:
    """A folder of EchoXFlow's form: its catalogue, and one Zarr store as a zip file."""
    import zarr

    fan = {"depth_start_m": 0.0, "depth_end_m": 0.1, "angle_start_rad": -0.6, "angle_end_rad": 0.6}
    arrays = {
        "data/2d_brightness_mode": 1 + colour_frames()[..., 1] // 2,
        "timestamps/2d_brightness_mode": 3.0 + np.arange(4) / FPS,
        "data/ecg": np.sin(np.arange(80) / 9.0),
        "timestamps/ecg": 2.9 + np.arange(80) / 200.0,
    }
    rows = {"exam_id": "e", "recording_id": "r", "zarr_path": "r.zarr", "array_paths": list(arrays)}
    catalogue = json.dumps({"recordSet": [{"@id": "recordings", "data": [rows]}]}).encode()
    found = {}
    for version in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            group = zarr.open_group(Path(folder), mode="w", zarr_format=version)
            for name, values in arrays.items():
                group.create_array(name, data=values)
            group.attrs["recording_manifest"] = {"sectors": [{"semantic_id": "bmode", "geometry": fan}]}
            paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            inside = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        store = zipped(inside, packed=False)
        found[f"EchoXFlow, Zarr {version}"] = {"r.zarr": store, "croissant.json": catalogue}
    found["EchoXFlow, catalogue"] = dict(reversed(found["EchoXFlow, Zarr 2"].items()))
    return found


def real() -> dict[str, Files]:
    """The echo files of $ECHOGEN_TEST_DATA that are small enough to be read a thousand times."""
    folder = os.environ.get("ECHOGEN_TEST_DATA")
    paths = [path for path in sorted(Path(folder).glob("echo_*/*")) if path.is_file()] if folder else []
    small = [path for path in paths if path.stat().st_size <= LARGEST_REAL_BYTES]
    return {f"{path.parent.name}/{path.name}": {path.name: path.read_bytes()} for path in small}


def corpus() -> dict[str, Files]:
    """All of them, by name."""
    found = videos() | pictures() | dicoms() | research_formats() | shards() | real()
    with suppress(ImportError):
        found |= echoxflow()
    return found


def read(path: Path, **arguments: float) -> None:
    """Read a file of `corpus` as a user would: with the ECG that is drawn into it; all samples of a folder of shards."""
    beside = {one.name for one in path.parent.iterdir()}
    if "shards.json" in beside:
        from echogen.datasets.shards import ShardFolder

        samples = ShardFolder(path.parent)
        for index in range(len(samples)):
            _ = samples[index].study
    elif "croissant.json" in beside:
        from echogen.datasets.echoxflow import EchoXFlow

        _ = EchoXFlow(path.parent, mm_per_pixel=1.0)[0]
    else:
        from echogen.datasets.drawn_ecg import read_study

        header = path.with_suffix(".mhd")
        read_study(header if header.name in beside else path, **arguments)
