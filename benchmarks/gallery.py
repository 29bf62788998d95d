"""The pictures of the page and of what it can be asked: python benchmarks/gallery.py -> docs/gallery.md, docs/images/.

Every strip is the same heart (one seed) with its own ECG; `--page 0` leaves the picture of the page as it is.
"""

from __future__ import annotations

import shutil
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import DOCS, Recording, arguments, recordings, save_picture
from echogen.app.serve.ecg_sources import EndlessEcg
from echogen.app.serve.requests import ClipRequest, clip_ecg, conditions_of, encoded
from echogen.cine import filmstrip
from echogen.ecg import ecg_info, find_landmarks, read_ecg
from echogen.errors import InputError
from echogen.generators import Generator
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import rhythm_from_landmarks
from echogen.records import Cine

IMAGES = DOCS / "images"
#: What is varied around a sinus rhythm of 72 bpm with an EF of 58 % in the four-chamber view: file name, caption, what is asked.
STRIPS: list[tuple[str, str, dict[str, Any]]] = [
    ("ef-25", "Ejection fraction 25 %", {"ef_percent": 25}),
    ("ef-58", "Ejection fraction 58 %", {}),
    ("ef-75", "Ejection fraction 75 %", {"ef_percent": 75}),
    ("af", "Atrial fibrillation, 95 bpm", {"rhythm": "af", "heart_rate_bpm": 95}),
    ("pvc", "Premature ventricular beats", {"rhythm": "pvc"}),
    ("pause", "A pause", {"rhythm": "pause"}),
    ("paced", "Paced", {"rhythm": "paced"}),
    ("a2c", "Two-chamber view", {"view": "A2C"}),
]
FRAMES = 7
SECONDS, LONGER_S = 1.9, 3.0


def asked(seed: int, changed: dict[str, Any], anatomy: str | None) -> ClipRequest:
    """A heart with one thing changed, of the anatomy of a frame; where beats are uneven, the most uneven place."""
    ecg = {"kind": "simulated"} | {name: changed[name] for name in ("rhythm", "heart_rate_bpm") if name in changed}
    heart = {"ef_percent": changed.get("ef_percent", 58), "view": changed.get("view", "A4C"), "seed": seed}
    query = {"ecg": ecg, **heart, "first_frame": anatomy if heart["view"] == "A4C" else None}
    if changed.get("rhythm") not in ("af", "pvc", "pause"):
        return ClipRequest.model_validate(query | {"start_s": 0.5, "seconds": SECONDS})
    signal = next(EndlessEcg(changed["rhythm"], changed.get("heart_rate_bpm", 72), seed))
    r_s = find_landmarks(signal).r_s
    rr = np.diff(r_s)
    inner = np.flatnonzero((r_s[1:-1] > 2.5) & (r_s[1:-1] < signal.end_s - 3))
    event = inner[np.abs(rr[inner] - np.median(rr)).argmax()]
    return ClipRequest.model_validate(query | {"start_s": float(r_s[event - 1]) - 0.05, "seconds": LONGER_S})


def strip(heart: Generator, seed: int, changed: dict[str, Any], anatomy: str | None) -> np.ndarray:
    """One filmstrip with its ECG."""
    query = asked(seed, changed, anatomy)
    ecg, start = clip_ecg(query, heart)
    cine: Cine = heart(ecg, conditions_of(query), start_s=start, seconds=query.seconds, seed=query.seed)
    return filmstrip(cine, ecg, count=FRAMES, r_s=find_landmarks(ecg).r_s, label="synthetic")


def anatomy_of(heart: Generator, seed: int) -> str:
    """An end-diastolic frame of the heart of a seed, by which every other question keeps its anatomy."""
    query = asked(seed, {}, None)
    ecg, start = clip_ecg(query, heart)
    cine = heart(ecg, conditions_of(query), start_s=start, seconds=query.seconds, seed=query.seed)
    r_s = find_landmarks(ecg).r_s
    return encoded(cine.frames[np.searchsorted(cine.times_s, r_s[r_s > start][0])])


def recording_strip(heart: Generator, recording: Recording, seed: int) -> np.ndarray:
    """A filmstrip from a real recording's ECG; of those that may not be shown, a simulated ECG with the same beats is."""
    ecg = read_ecg(recording.path, seconds=min(10.0, ecg_info(recording.path).duration_s))
    marks = find_landmarks(ecg)
    cine = heart(ecg, start_s=float(marks.r_s[1]) - 0.1, seconds=SECONDS, seed=seed)
    if not recording.shown:
        rhythm = rhythm_from_landmarks(marks.r_s, marks.qrs_onset_s, marks.p_onset_s, marks.wide_qrs)
        ecg = make_ecg(rhythm, ecg.start_s, ecg.end_s, np.random.default_rng(seed))
    return filmstrip(cine, ecg, count=FRAMES, r_s=marks.r_s, label="synthetic")


def page_picture(heart: Generator, path: Path) -> None:
    """The page with two hearts that differ in EF only, after three seconds, as a browser draws it."""
    import uvicorn
    from playwright.sync_api import sync_playwright

    from echogen.app.page import listen
    from echogen.app.serve.job_queue import JobQueue
    from echogen.app.serve.server import create_app
    from echogen.measurement import load_segmenter

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise InputError("There is no chromium to draw the page with; install it, or say --page 0.")
    app = create_app(JobQueue(heart, load_segmenter()))
    with listen("127.0.0.1", 0) as waiting, sync_playwright() as playwright:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [waiting]})
        thread.start()
        try:
            started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = started.new_page(viewport={"width": 1360, "height": 850})
            page.goto(f"http://127.0.0.1:{waiting.getsockname()[1]}/")
            page.locator("#compare").check()
            page.locator("#ef-b").fill("25")
            while min((shown["time"] or 0) for shown in page.evaluate("window.echogen?.shown() ?? [{time: 0}]")) < 3.2:
                page.wait_for_timeout(100)
            page.locator("#play").click()
            page.wait_for_timeout(300)
            page.evaluate("document.getElementById('state').textContent = 'phantom-128'")
            shot = page.screenshot()
            started.close()
        finally:
            server.should_exit = True
            thread.join()
    save_picture(np.asarray(Image.open(BytesIO(shot)).convert("RGB")), path)


def main() -> None:
    options = arguments(__doc__ or "", seed=8, page=1)
    heart = Generator.from_pretrained(options.model)
    IMAGES.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Gallery",
        "",
        f"One synthetic heart (seed {options.seed}, {heart.name}) and what it can be asked, with its ECG; made by",
        "`python benchmarks/gallery.py`. All four-chamber strips begin with one end-diastolic frame, so that the anatomy stays",
        "the same. Every strip says that it is synthetic; none shows a patient.",
        "",
    ]
    anatomy = anatomy_of(heart, options.seed)
    for name, caption, changed in STRIPS:
        save_picture(strip(heart, options.seed, changed, anatomy), IMAGES / f"gallery-{name}.webp")
        lines += [f"**{caption}**", "", f"![{caption}: frames of a synthetic echo and its ECG](images/gallery-{name}.webp)", ""]
    lines += [
        "## From real ECGs",
        "",
        "The same model, the ECG of a person, nothing else given. Under the frames lies the recording that the package `pydicom`",
        "brings; for the others, which are not ours to show, a simulated ECG with the same beats. How well beats match is in",
        "[timing](timing.md).",
        "",
    ]
    for number, recording in enumerate(recordings()):
        save_picture(recording_strip(heart, recording, options.seed), IMAGES / f"gallery-recording-{number}.webp")
        text = f"{recording.name}: frames of a synthetic echo, and the beats it follows"
        lines += [f"**{recording.name}**", "", f"![{text}](images/gallery-recording-{number}.webp)", ""]
    (DOCS / "gallery.md").write_text("\n".join(lines), encoding="utf-8")
    if options.page:
        page_picture(heart, IMAGES / "page.webp")


if __name__ == "__main__":
    main()
