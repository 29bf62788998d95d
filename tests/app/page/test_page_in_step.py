"""The page of `echogen serve` plays picture and ECG in step, one heart or two, and does what it is asked meanwhile."""

import copy
import time
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from echogen.app.serve.job_queue import JobQueue
from echogen.app.serve.server import create_app

FRAME = 1 / 32


def test_picture_and_cursor_are_in_step(opened: Any, faults: list[str]) -> None:
    page = opened()
    page.plays(beyond_s=1.5)
    page.wait_until("window.echogen.measured()[0].drawn > 20")
    assert page.evaluate("window.echogen.measured()[0].most") <= 1.0
    times = set()
    for _ in range(4):
        # Where the picture stands still, what both canvases show is read from their pixels.
        page.click("#play")
        assert page.locator("#play").inner_text() == "Play"
        read = page.read(0)
        shown, (number, seed, ef) = read["shown"], read["rows"]
        span = min(6.0, max(3.0, read["width"] / 150))
        cursor = shown["now"] + (read["cursor"] - 0.72) * span
        assert abs(cursor - number * FRAME) <= FRAME
        assert (number * FRAME, seed, ef) == (pytest.approx(shown["time"]), 8, 58)
        times.add(number)
        page.click("#play")
        page.wait_until(f"window.echogen.shown()[0].now > {shown['now'] + 2 * FRAME}")
    assert len(times) == 4
    assert faults == []


def test_the_ejection_fraction_moves_while_the_heart_goes_on(opened: Any, faults: list[str]) -> None:
    page = opened()
    page.plays()
    before = page.evaluate("window.echogen.shown()[0].now")
    page.locator("#ef").fill("33")
    page.wait_until(lambda: page.read(0)["rows"][1:] == [8, 33])
    now = page.evaluate("window.echogen.shown()[0].now")
    assert now > before
    page.select_option("#rhythm", "af")
    page.locator("#seed").fill("77")
    page.wait_until(lambda: page.read(0)["rows"][1] == 77)
    assert page.evaluate("window.echogen.shown()[0].now") > now
    assert page.locator(".asked").inner_text() == "33 %"
    assert faults == []


def test_two_hearts_beat_side_by_side(opened: Any, jobs: JobQueue, settles: Any, faults: list[str]) -> None:
    page = opened()
    page.plays()
    page.check("#compare")
    page.plays(1)
    page.locator("#ef-b").fill("20")
    page.wait_until(lambda: page.read(1)["rows"][1:] == [8, 20])
    page.click("#play")
    left, right = (page.read(index)["rows"] for index in (0, 1))
    assert (left[0], left[1:], right[1:]) == (right[0], [8, 58], [8, 20])
    assert jobs.streams.taken == 2
    # One that is added while time stands still is seen at once.
    page.uncheck("#compare")
    page.wait_until(lambda: jobs.streams.taken == 1)
    page.check("#compare")
    page.wait_until(lambda: page.read(1)["rows"][1:] == [8, 20])
    assert page.read(0)["rows"][0] == page.read(1)["rows"][0]
    page.context.close()
    assert settles(lambda: jobs.streams.taken == 0)
    assert faults == []


@pytest.fixture
def slow(telltale: Any) -> Any:
    """Makes the frames of two hearts more slowly than they are shown."""

    def window(*given: Any) -> Any:
        time.sleep(0.7)
        return telltale.window(*given)

    generator = copy.copy(telltale)
    generator.window = window
    return generator


def test_two_hearts_show_the_same_moment_where_frames_are_made_slowly(plain: Any, slow: Any, serving: Any) -> None:
    with serving(create_app(JobQueue(slow, None))) as running:
        page = plain(running)
        page.plays()
        page.watch_moments()
        page.check("#compare")
        page.locator("#ef-b").fill("20")
        page.wait_until(lambda: page.read(1)["rows"][1:] == [8, 20])
        # Asked in haste, while what was asked before is not made.
        for rate in (60, 90):
            page.locator("#rate").fill(str(rate))
            page.wait_for_timeout(300)
        page.locator("#ef").fill("44")
        page.wait_until(lambda: page.read(0)["rows"][1:] == [8, 44])
        apart, measured = page.evaluate("[window.apart, window.echogen.measured()]")
        assert len(apart) > 20
        assert max(apart) < FRAME / 2
        assert max(heart["most"] for heart in measured) <= 1.0
        page.close()
