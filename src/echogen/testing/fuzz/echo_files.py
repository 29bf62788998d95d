"""Small undamaged echo files of every format, and shards; the same bytes every time."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine import write
from echogen.records import Beat, Ecg, Study
from echogen.testing.fuzz.dicom_files import dicoms
from echogen.testing.fuzz.making import Files, written, zipped
from echogen.testing.fuzz.pictures import FPS, cine, colour_frames, drawn_frames, picture

#: Larger real files are left out: thousands of their copies are read.
LARGEST_REAL_BYTES = 300_000
#: Files of each folder of real files.
_PATIENTS = 3
#: Suffixes of the real files that are read as an echo.
_ECHO_SUFFIXES = (".dcm", ".avi", ".mp4", ".mkv", ".gif", ".png", ".jpg", ".tif", ".nii", ".gz", ".mhd", ".webp", ".npz")


def _video(name: str, codec: str, frames: ByteArray, pixels: str) -> bytes:
    """Video of RGB frames (T, H, W, 3)."""
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

    return written(name, make)


def videos() -> dict[str, Files]:
    """Files of AVI, MP4 and Matroska."""
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


def pictures() -> dict[str, Files]:
    """Files of pictures, still and moving."""
    frames, still = colour_frames(), colour_frames()[:1]
    palette = Image.fromarray(frames[0]).quantize(16)
    small = io.BytesIO()
    palette.save(small, "PNG")
    return {
        "GIF": {"x.gif": picture("GIF", frames)},
        "Drawn ECG, GIF": {"x.gif": picture("GIF", drawn_frames())},
        "PNG": {"x.png": picture("PNG", still)},
        "PNG, moving": {"x.png": picture("PNG", frames)},
        "PNG, palette": {"x.png": small.getvalue()},
        "WebP": {"x.webp": picture("WEBP", frames)},
        "JPEG": {"x.jpg": picture("JPEG", still)},
        "JPEG, progressive": {"x.jpg": picture("JPEG", still, progressive=True)},
        "TIFF": {"x.tif": picture("TIFF", still)},
        "TIFF, LZW": {"x.tif": picture("TIFF", still, compression="tiff_lzw")},
        "BMP": {"x.bmp": picture("BMP", still)},
    }


def _nifti(kind: str) -> bytes:
    import nibabel

    image: Any = getattr(nibabel, kind)(cine().frames.T[:, :, None, :], np.eye(4))
    image.header.set_zooms((0.4, 0.4, 1.0, 40.0))
    image.header.set_xyzt_units("mm", "msec")
    return bytes(image.to_bytes())


def research_formats() -> dict[str, Files]:
    """Files of NIfTI, MetaImage and NPZ."""
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
        "NPZ, deflated": {"x.npz": written("x.npz", lambda path: write(cine(), path))},
        "NPZ, stored": {"x.npz": stored.getvalue()},
    }
    with suppress(ImportError):
        own = written("x.nii", lambda path: write(cine(), path))
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
        found[f"Shards, {how}"] = {shard_name(0): written(shard_name(0), make), SUMMARY: json.dumps(summary).encode()}
    found["Shards, summary"] = dict(reversed(found["Shards, plain"].items()))
    return found


def echoxflow() -> dict[str, Files]:
    """A folder of EchoXFlow's form: its catalogue, and one Zarr store as a zip file."""
    import zarr

    fan = {"depth_start_m": 0.0, "depth_end_m": 0.1, "angle_start_rad": -0.6, "angle_end_rad": 0.6}
    arrays: dict[str, Any] = {
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
    """The echo files of $ECHOGEN_TEST_DATA that are small enough to be read a thousand times, long DICOM files by their start."""
    folder = os.environ.get("ECHOGEN_TEST_DATA")
    places = ("echo_*/*", "reported/*", "real/*/*")
    paths = [path for place in places for path in sorted(Path(folder).glob(place)) if path.is_file()] if folder else []
    found = {}
    for path in paths:
        if path.suffix.lower() not in _ECHO_SUFFIXES:
            continue
        content = path.read_bytes()
        if path.suffix == ".dcm" and len(content) > LARGEST_REAL_BYTES:
            content = _first_frames(path)
        if 0 < len(content) <= LARGEST_REAL_BYTES:
            found[f"{path.parent.name}/{path.name}"] = {path.name: content}
    # Of the many patients of one folder, who are alike, a few are enough.
    reported = [name for name in found if name.startswith("reported/")]
    folders = {name.split("/")[0] for name in found} - {"reported"}
    others = [name for folder in sorted(folders) for name in [one for one in found if one.startswith(f"{folder}/")][:_PATIENTS]]
    return {name: found[name] for name in [*reported, *others]}


def _first_frames(path: Path, most: int = 4) -> bytes:
    """Content of a plain DICOM file with its first frames only; empty for one that is compressed or holds no frames."""
    import pydicom

    data = pydicom.dcmread(path, force=True)
    if "PixelData" not in data or (data.file_meta and data.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2").is_compressed):
        return b""
    frames = int(data.get("NumberOfFrames", 1))
    data.PixelData = data.PixelData[: len(data.PixelData) // frames * min(frames, most)]
    data.NumberOfFrames = min(frames, most)
    if "FrameTimeVector" in data:
        data.FrameTimeVector = list(data.FrameTimeVector)[:most]
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


def corpus() -> dict[str, Files]:
    """All files of this module and of `dicom_files`, by name."""
    found = videos() | pictures() | dicoms() | research_formats() | shards() | real()
    with suppress(ImportError):
        found |= echoxflow()
    return found


def read(path: Path, **arguments: Any) -> None:
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
