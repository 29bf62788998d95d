"""Reads one uploaded file in a process of its own that may use little memory and time, and may neither call out nor start others.

`python -m echogen.app.serve.file_reader KIND FILE OUTPUT OPTIONS` writes OUTPUT, an .npz with the text `facts` (JSON)
and arrays; what is wrong with the file is in the facts as `error`. The service reads nothing that was uploaded by itself.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from echogen.errors import InputError

#: Limits of the process: memory in bytes, CPU seconds, bytes of one written file, open files.
MOST_MEMORY, MOST_CPU_S, MOST_WRITTEN, MOST_FILES = 3 * 1024**3, 40, 1024**3, 128
#: Limits of a long ECG: length in s, sampling rate in Hz, number of leads.
LONGEST_ECG_S, FASTEST_HZ, MOST_LEADS = 60.0, 1000.0, 16
#: A video to measure is cut to this length.
LONGEST_VIDEO_S, MOST_FRAMES = 60.0, 4000
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "ctypes.dlopen")

Arrays = dict[str, np.ndarray]
Found = tuple[dict[str, Any], Arrays]


def confine() -> None:
    """Set the limits of this process for good, and forbid it the network and other programs."""
    limits = {
        resource.RLIMIT_AS: MOST_MEMORY,
        resource.RLIMIT_CPU: MOST_CPU_S,
        resource.RLIMIT_FSIZE: MOST_WRITTEN,
        resource.RLIMIT_NOFILE: MOST_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))

    def forbid(event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            raise PermissionError(f"{event} is not for a reader of uploads")

    sys.addaudithook(forbid)


def read_info(path: Path, options: Mapping[str, Any]) -> Found:
    """Describe the file as `echogen info` does."""
    from echogen.app.file_facts import describe

    return describe(path, options.get("rate_hz"), options.get("unit"), options.get("fps")), {}


def read_ecg(path: Path, options: Mapping[str, Any]) -> Found:
    """The first minute of an ECG, at most 1000 Hz and 16 leads: signal_mv, and what `echogen info` says of the file.

    summary: what `echogen ecg --json` says of it, and its lines as `said`; picture: the bytes of its picture, a PNG.
    """
    from echogen import ecg as ecg_module
    from echogen.app.file_facts import describe
    from echogen.ecg import summary_text
    from echogen.ecg.summary import summarise

    rate_hz, unit = options.get("rate_hz"), options.get("unit")
    length = ecg_module.ecg_info(path, rate_hz=rate_hz, unit=unit).duration_s
    ecg, _ = ecg_module.read_around_gaps(path, rate_hz=rate_hz, unit=unit, start_s=0.0, seconds=min(length, LONGEST_ECG_S))
    if ecg.rate_hz > FASTEST_HZ:
        ecg = ecg_module.resample(ecg, FASTEST_HZ)
    facts = describe(path, rate_hz, unit)
    facts |= {
        "lead_names": list(ecg.lead_names[:MOST_LEADS]),
        "rate_hz": ecg.rate_hz,
        "start_s": ecg.start_s,
        "taken_s": ecg.duration_s,
        "lead": ecg_module.choose_lead(ecg),
    }
    found = summarise(path, rate_hz=rate_hz, unit=unit, seconds=LONGEST_ECG_S)
    facts["summary"] = summary_text.document(found) | {"said": summary_text.all_lines(found)}
    picture = io.BytesIO()
    summary_text.chart(found, path, rate_hz=rate_hz, unit=unit, words=False).save(picture, format="PNG")
    return facts, {"signal_mv": ecg.signal_mv[:MOST_LEADS], "picture": np.frombuffer(picture.getvalue(), np.uint8)}


def read_first_frame(path: Path, options: Mapping[str, Any]) -> Found:
    """The first frame of a still or video in the canonical geometry: frame, (128, 128)."""
    from echogen.cine.stills import canonical_still

    frame = canonical_still(path)
    return {}, {"frame": frame}


def read_video(path: Path, options: Mapping[str, Any]) -> Found:
    """An echo video of at most a minute in the canonical geometry: frames and times_s; mm_per_pixel and view in the facts."""
    from dataclasses import replace

    from echogen.cine import read_cine, to_sector
    from echogen.cine.sector import CANONICAL_SIZE

    cine = read_cine(path, fps=options.get("fps"))
    count = min(MOST_FRAMES, int(np.searchsorted(cine.times_s, cine.times_s[0] + LONGEST_VIDEO_S)))
    cine = replace(cine, frames=cine.frames[:count], times_s=cine.times_s[:count])
    pixel, frames = cine.mm_per_pixel, cine.frames
    if frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
        to_sector(frames)  # refuses what is no echo
    else:
        frames, growth = to_sector(frames, CANONICAL_SIZE)
        pixel = None if pixel is None else pixel * growth
    return {"mm_per_pixel": pixel, "view": cine.view, "notes": cine.notes}, {"frames": frames, "times_s": cine.times_s}


KINDS: dict[str, Callable[[Path, Mapping[str, Any]], Found]] = {
    "info": read_info,
    "ecg": read_ecg,
    "first-frame": read_first_frame,
    "video": read_video,
}


def main(arguments: list[str]) -> int:
    """Read a file of a kind and write what was found; 0 also where the file is wrong, since the facts then say so."""
    kind, path, output, options = arguments
    confine()
    try:
        facts, arrays = KINDS[kind](Path(path), json.loads(options))
    except InputError as error:
        facts, arrays = {"error": str(error)}, {}
    np.savez(output, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
