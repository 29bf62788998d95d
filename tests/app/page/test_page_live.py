"""The page of `echogen serve` along with an ECG that is being recorded."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from echogen.app.serve.ecg_sources import EndlessEcg
from echogen.app.serve.job_queue import JobQueue

FRAME = 1 / 32


@pytest.fixture
def monitor(address: str) -> Iterator[Any]:
    """monitor(name, rate) sends an ECG as it is recorded, twelve seconds of which are there already; monitor.stop() ends it."""
    websockets = pytest.importorskip("websockets.sync.client")
    service, token = address.split("#")
    stopped, threads = threading.Event(), []

    def send(feeder: Any, pieces: Any) -> None:
        with feeder:
            for ecg in pieces:
                samples = np.ascontiguousarray(ecg.signal_mv[:2].T, "<f4")
                for at in range(0, len(samples), 25):
                    if stopped.wait(0.0 if ecg.start_s == 0 and at < 3000 else 0.1):
                        return
                    feeder.send(samples[at : at + 25].tobytes())

    def run(name: str, rate: float) -> None:
        path = service.replace("http", "ws") + f"api/feed/{name}?rate_hz=250&lead=II&lead=V1"
        feeder = websockets.connect(path, subprotocols=["echogen", f"token.{token}"])
        assert json.loads(feeder.recv()) == {"type": "ready", "feed": name}
        threads.append(threading.Thread(target=send, args=(feeder, EndlessEcg("sinus", rate, 2))))
        threads[-1].start()

    def stop() -> None:
        stopped.set()
        for thread in threads:
            thread.join()

    run.stop = stop  # type: ignore[attr-defined]
    yield run
    stop()


def test_a_live_ecg_makes_the_heart_beat(opened: Any, jobs: JobQueue, monitor: Any, settles: Any, faults: list[str]) -> None:
    page = opened(390, 844)
    page.plays()
    page.tab_to("[name=source]", "ArrowRight", "ArrowRight")
    page.get_by_text("No live ECG is being sent").wait_for()
    monitor("ward-1", 95)
    assert settles(lambda: jobs.feeds.find("ward-1").end_s >= 12)
    page.tab_to("#feeds", "Enter")
    page.wait_until("document.getElementById('feed').value === 'ward-1'")
    assert page.locator("#message").is_hidden()
    # It begins with what has just come, and goes on with what comes.
    page.wait_until("window.echogen.shown()[0].began > 9 && window.echogen.shown()[0].time > 9")
    began = page.evaluate("window.echogen.shown()[0].began")
    heard = jobs.feeds.find("ward-1").end_s
    page.wait_until(f"window.echogen.shown()[0].now > {max(began + 2, heard - 1.5)}")
    assert jobs.feeds.find("ward-1").end_s > heard
    page.wait_until(lambda: page.locator(".ecg-rate").inner_text() in ("94 bpm", "95 bpm", "96 bpm"))
    read = page.read(0)
    assert read["rows"][1:] == [8, 58]
    assert read["rows"][0] * FRAME == pytest.approx(read["shown"]["time"], abs=FRAME / 2)
    assert page.evaluate("window.echogen.measured()[0].most") <= 1.0
    # The trace and its R peaks are drawn.
    colours = page.evaluate("""() => {
      const strip = document.querySelector('.ecg');
      const { data } = strip.getContext('2d').getImageData(0, 0, strip.width, strip.height);
      const count = (wanted) => {
        let found = 0;
        for (let at = 0; at < data.length; at += 4) found += wanted(data[at], data[at + 1], data[at + 2]) ? 1 : 0;
        return found;
      };
      return [count((r, g, b) => g > 180 && r < 140), count((r, g, b) => r > 200 && g > 140 && g < 200 && b < 110)];
    }""")
    assert min(colours) > 20
    # Two questions about the same live heart show the same moment.
    page.watch_moments()
    page.locator("#compare").check()
    page.wait_until(lambda: page.read(1)["rows"][1:] == [8, 30])
    page.wait_until("window.apart.length > 20")
    assert page.evaluate("Math.max(...window.apart)") < FRAME / 2
    assert page.fits()
    page.wait_until("window.echogen.shown()[0].now > window.echogen.shown()[0].began + 2.5")
    with page.expect_download() as download:
        page.click("[data-format=json]")
    told = json.loads(Path(download.value.path()).read_text())
    assert told["synthetic"]
    assert told["frames"] > 32
    monitor.stop()
    assert settles(lambda: jobs.feeds.names == [])
    page.click("#feeds")
    page.get_by_text("No live ECG is being sent").wait_for()
    assert faults == []
