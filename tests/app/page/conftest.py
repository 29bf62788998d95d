"""The page of `echogen serve` in a real browser, and what its tests do with it again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: Seconds in which the page does what it is asked on the slowest machine.
PATIENCE_S = 120
#: The shown frame's squares, the column of the cursor and the width of the strip, read from the canvases of one heart.
READ = """(index) => {
  const pane = document.querySelectorAll('.pane')[index];
  const echo = pane.querySelector('.echo'), strip = pane.querySelector('.ecg');
  const scale = echo.width / 128, pen = echo.getContext('2d'), rows = [];
  for (const row of [0, 1, 2]) {
    let value = 0;
    for (let bit = 0; bit < 16; bit += 1) {
      const x = Math.floor((8 * bit + 4) * scale), y = Math.floor((108 + 8 * row) * scale);
      value += pen.getImageData(x, y, 1, 1).data[0] > 127 ? 2 ** bit : 0;
    }
    rows.push(value);
  }
  const line = strip.getContext('2d').getImageData(0, strip.height - 2, strip.width, 1).data;
  const bright = [...Array(strip.width).keys()].filter((x) => line[4 * x] > 225 && line[4 * x + 2] > 225);
  const shown = window.echogen.shown()[index];
  return { rows, cursor: bright.length ? bright[0] / strip.width : null, width: strip.clientWidth, shown };
}"""
#: Notes, as often as the page draws, how far two hearts are apart in s.
WATCH = """() => {
  window.apart = [];
  const look = () => {
    const [left, right] = window.echogen.shown();
    if (right && right.time !== null) window.apart.push(Math.abs(left.time - right.time));
    requestAnimationFrame(look);
  };
  look();
}"""


class OpenPage:
    """A page of the browser; what is not here is playwright's."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def wait_until(self, condition: str | Callable[[], object]) -> None:
        """Wait for a condition: JavaScript, or what says so here."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.page.evaluate(condition) if isinstance(condition, str) else condition():
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"the page never came to {condition}")

    def plays(self, index: int = 0, beyond_s: float = 0.2) -> None:
        """Wait until a heart has gone on."""
        before = self.page.evaluate("window.echogen?.shown()[0]?.time ?? 0")
        self.wait_until(f"(window.echogen?.shown()[{index}]?.time ?? -1) > {before + beyond_s}")

    def read(self, index: int) -> Any:
        """rows: number, seed and EF that the shown frame of a heart tells; cursor and width of its strip; shown: what it says."""
        return self.page.evaluate(READ, index)

    def watch_moments(self) -> None:
        """From now on window.apart notes how far two hearts are apart."""
        self.page.evaluate(WATCH)

    def tab_to(self, selector: str, *keys: str) -> None:
        """Go to an element by the Tab key, and press keys there."""
        for _ in range(60):
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                break
            self.page.keyboard.press("Tab")
        else:
            raise AssertionError(f"the Tab key does not come to {selector}")
        for key in keys:
            self.page.keyboard.press(key)

    def fits(self) -> bool:
        """Whether nothing of the page lies beside the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.fixture(scope="module")
def jobs(telltale: Any) -> Any:
    from echogen.app.serve.job_queue import JobQueue, Limits

    return JobQueue(telltale, None, Limits(streams=4, per_minute=10_000, burst=10_000))


@pytest.fixture(scope="module")
def address(jobs: Any, serving: Any) -> Iterator[str]:
    from echogen.app.serve.server import create_app

    with serving(create_app(jobs, token="letmein42")) as running:
        yield f"{running}#letmein42"


@pytest.fixture
def faults() -> list[str]:
    """What the page complained of, or asked of others."""
    return []


@pytest.fixture
def settles() -> Callable[[Callable[[], object]], bool]:
    """settles(condition) waits for a condition of the service, and says whether it came."""

    def wait(condition: Callable[[], object]) -> bool:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.02)
        return False

    return wait


@pytest.fixture
def plain(browser: Any) -> Callable[[str], OpenPage]:
    """plain(address) is a page of which nothing is checked."""

    def open_page(address: str) -> OpenPage:
        page = browser.new_page()
        page.goto(address)
        return OpenPage(page)

    return open_page


@pytest.fixture
def opened(browser: Any, address: str, jobs: Any, faults: list[str], settles: Any) -> Iterator[Any]:
    """opened(width, height) is the page, which may ask nobody else and report no error; when it closes, its streams end."""
    contexts = []

    def open_page(width: int = 1280, height: int = 800, **settings: Any) -> OpenPage:
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE_S)
        page = context.new_page()
        # Warnings are the browser's own remarks, such as on how often this test reads a canvas.
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request", lambda asked: None if asked.url.startswith(("http://127.", "data:", "blob:")) else faults.append(asked.url)
        )
        page.goto(address)
        return OpenPage(page)

    yield open_page
    for context in contexts:
        context.close()
    assert settles(lambda: jobs.streams.taken == 0)
