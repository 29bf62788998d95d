"""Clips as files, and readings as JSON: what the service answers to `generate` and `measure`."""

from __future__ import annotations

import io
import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from echogen.app.serve.requests import ClipRequest
from echogen.arrays import ByteArray
from echogen.cine.writing import ecg_path, write
from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.measurement import load_segmenter, measure, truth_error
from echogen.measurement.apical import apical_doubt
from echogen.measurement.known_errors import measuring_error
from echogen.measurement.regression import load_regressor, regressed_ef_percent
from echogen.measurement.shipped import DEFAULT
from echogen.records import Cine, Ecg

LABEL = "SYNTHETIC"


def plain(value: Any) -> Any:
    """Values for JSON, which knows no nan, infinity or array."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def labelled(frames: ByteArray) -> ByteArray:
    """The frames with the word SYNTHETIC in their upper left corner, which lies outside the sector."""
    height, width = frames.shape[1:]
    word = Image.new("L", (width, height))
    pen = ImageDraw.Draw(word)
    pen.text((2, 1), LABEL[:5], fill=200, font=ImageFont.load_default(size=max(8, height // 14)))
    pen.text((2, 1 + max(8, height // 14)), LABEL[5:], fill=200, font=ImageFont.load_default(size=max(8, height // 14)))
    return np.maximum(frames, np.asarray(word)[None])


def document(asked: ClipRequest, generator: Generator, cine: Cine, ecg: Ecg) -> dict[str, Any]:
    """Describe a clip and its measurements as `echogen generate` does beside a video, with `synthetic`: true."""
    landmarks = None
    try:
        landmarks = find_landmarks(ecg)
        reading = measure(cine, load_segmenter(), ecg, landmarks).to_json()
    except InputError:
        reading = {"ef_percent": None, "heart_rate_bpm": None, "beats": []}
    end = float(cine.times_s[0]) + cine.duration_s
    r_s = [] if landmarks is None else [float(r) for r in landmarks.r_s if cine.times_s[0] <= r < end]
    ecg_facts = {"kind": asked.ecg.kind, "rhythm": getattr(asked.ecg, "rhythm", None)}
    ecg_facts |= {"heart_rate_bpm": getattr(asked.ecg, "heart_rate_bpm", None)}
    settings = {"ef_percent": asked.ef_percent, "view": asked.view, "sex": asked.sex, "seconds": asked.seconds}
    return {
        "synthetic": True,
        "model": generator.name,
        "weights_hash": generator.weights_hash,
        "seed": asked.seed,
        "ecg": ecg_facts,
        "settings": settings | {"first_frame": asked.first_frame is not None},
        "video_start_s": float(cine.times_s[0]),
        "frames": len(cine.frames),
        "fps": cine.fps,
        "r_s": r_s,
        **reading,
        "measuring_error": truth_error(),
    }


def clip_file(asked: ClipRequest, cine: Cine, ecg: Ecg, facts: dict[str, Any]) -> bytes:
    """The bytes of a clip in the format that was asked for; every picture says that it is synthetic.

    dcm: a ZIP of image and ECG. npz: the frames as they were made, with the document inside as `about`.
    """
    if asked.format == "json":
        return json.dumps(plain(facts), indent=2).encode()
    if asked.format == "npz":
        stream = io.BytesIO()
        about = np.array(json.dumps(plain(facts)))
        np.savez_compressed(stream, frames=cine.frames, times_s=cine.times_s, about=about)
        return stream.getvalue()
    shown = Cine(labelled(cine.frames), cine.times_s, cine.mm_per_pixel, cine.view)
    with tempfile.TemporaryDirectory(prefix="echogen-clip-") as folder:
        path = Path(folder) / f"synthetic.{asked.format}"
        scale = 4 if asked.format in ("mp4", "gif", "avi") else None
        write(shown, path, ecg=ecg, r_s=facts["r_s"], label="synthetic", scale=scale)
        if asked.format != "dcm":
            return path.read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in (path, ecg_path(path)):
                archive.write(file, file.name)
            archive.writestr("synthetic.json", json.dumps(plain(facts), indent=2))
        return packed.getvalue()


def measured(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Measure an uploaded video as `echogen measure` does. Raises `InputError` where no ventricle is seen."""
    cine = Cine(arrays["frames"], arrays["times_s"], facts["mm_per_pixel"], facts["view"])
    segmenter = load_segmenter()
    found = measure(cine, segmenter).to_json()
    doubt = apical_doubt(cine.frames, segmenter)
    error = measuring_error(DEFAULT, generated=False)
    second = regressed_ef_percent(cine, load_regressor())
    return found | {"ef_regressor_percent": second, "doubt": doubt, "measuring_error": error, "notes": facts.get("notes", [])}
