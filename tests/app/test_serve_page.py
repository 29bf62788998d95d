"""The page of `echogen serve` in a real browser: it plays in step, asks, uploads, compares, exports, and says what goes wrong."""

import copy
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from echogen.app.serve_ecg import EndlessEcg
from echogen.app.serve_server import create_app
from echogen.app.serve_studio import Limits, Studio

FRAME = 1 / 32
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


@pytest.fixture(scope="module")
def studio(telltale: Any) -> Studio:
    return Studio(telltale, None, Limits(streams=4, per_minute=10_000, burst=10_000))


@pytest.fixture(scope="module")
def address(studio: Studio, serving: Any) -> Iterator[str]:
    with serving(create_app(studio, token="letmein42")) as running:
        yield f"{running}#letmein42"


@pytest.fixture
def faults() -> list[str]:
    return []


def settles(condition: Any) -> bool:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def opened(browser: Any, address: str, studio: Studio, faults: list[str]) -> Iterator[Any]:
    """opened(width, height) is the page, which may ask nobody else and report no error; when it closes, its streams end."""
    contexts = []

    def open_page(width: int = 1280, height: int = 800, **settings: Any) -> Any:
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
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert settles(lambda: studio.streams.taken == 0)


def wait_until(page: Any, condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if page.evaluate(condition) if isinstance(condition, str) else condition():
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"the page never came to {condition}")


def plays(page: Any, index: int = 0, beyond_s: float = 0.2) -> None:
    before = page.evaluate("window.echogen?.shown()[0]?.time ?? 0")
    wait_until(page, f"(window.echogen?.shown()[{index}]?.time ?? -1) > {before + beyond_s}")


def test_picture_and_cursor_are_in_step(opened: Any, faults: list[str]) -> None:
    page = opened()
    plays(page, beyond_s=1.5)
    wait_until(page, "window.echogen.measured()[0].drawn > 20")
    assert page.evaluate("window.echogen.measured()[0].most") <= 1.0
    times = set()
    for _ in range(4):
        # Where the picture stands still, what both canvases show is read from their pixels.
        page.click("#play")
        assert page.locator("#play").inner_text() == "Play"
        read = page.evaluate(READ, 0)
        shown, (number, seed, ef) = read["shown"], read["rows"]
        span = min(6.0, max(3.0, read["width"] / 150))
        cursor = shown["now"] + (read["cursor"] - 0.72) * span
        assert abs(cursor - number * FRAME) <= FRAME
        assert (number * FRAME, seed, ef) == (pytest.approx(shown["time"]), 8, 58)
        times.add(number)
        page.click("#play")
        wait_until(page, f"window.echogen.shown()[0].now > {shown['now'] + 2 * FRAME}")
    assert len(times) == 4
    assert faults == []


def test_the_ejection_fraction_moves_while_the_heart_goes_on(opened: Any, faults: list[str]) -> None:
    page = opened()
    plays(page)
    before = page.evaluate("window.echogen.shown()[0].now")
    page.locator("#ef").fill("33")
    wait_until(page, lambda: page.evaluate(READ, 0)["rows"][1:] == [8, 33])
    now = page.evaluate("window.echogen.shown()[0].now")
    assert now > before
    page.select_option("#rhythm", "af")
    page.locator("#seed").fill("77")
    wait_until(page, lambda: page.evaluate(READ, 0)["rows"][1] == 77)
    assert page.evaluate("window.echogen.shown()[0].now") > now
    assert page.locator(".asked").inner_text() == "33 %"
    assert faults == []


def test_two_hearts_beat_side_by_side(opened: Any, studio: Studio, faults: list[str]) -> None:
    page = opened()
    plays(page)
    page.check("#compare")
    plays(page, 1)
    page.locator("#ef-b").fill("20")
    wait_until(page, lambda: page.evaluate(READ, 1)["rows"][1:] == [8, 20])
    page.click("#play")
    left, right = (page.evaluate(READ, index)["rows"] for index in (0, 1))
    assert (left[0], left[1:], right[1:]) == (right[0], [8, 58], [8, 20])
    assert studio.streams.taken == 2
    # One that is added while time stands still is seen at once.
    page.uncheck("#compare")
    wait_until(page, lambda: studio.streams.taken == 1)
    page.check("#compare")
    wait_until(page, lambda: page.evaluate(READ, 1)["rows"][1:] == [8, 20])
    assert page.evaluate(READ, 0)["rows"][0] == page.evaluate(READ, 1)["rows"][0]
    page.context.close()
    assert settles(lambda: studio.streams.taken == 0)
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


def test_two_hearts_show_the_same_moment_where_frames_are_made_slowly(browser: Any, slow: Any, serving: Any) -> None:
    page = browser.new_page()
    with serving(create_app(Studio(slow, None))) as running:
        page.goto(running)
        plays(page)
        page.evaluate(WATCH)
        page.check("#compare")
        page.locator("#ef-b").fill("20")
        wait_until(page, lambda: page.evaluate(READ, 1)["rows"][1:] == [8, 20])
        # Asked in haste, while what was asked before is not made.
        for rate in (60, 90):
            page.locator("#rate").fill(str(rate))
            page.wait_for_timeout(300)
        page.locator("#ef").fill("44")
        wait_until(page, lambda: page.evaluate(READ, 0)["rows"][1:] == [8, 44])
        apart, measured = page.evaluate("[window.apart, window.echogen.measured()]")
        assert len(apart) > 20
        assert max(apart) < FRAME / 2
        assert max(heart["most"] for heart in measured) <= 1.0
        page.close()


def test_an_ecg_is_uploaded_and_a_bad_one_is_explained(
    opened: Any, dicom_ecg_path: Path, tmp_path: Path, faults: list[str]
) -> None:
    page = opened()
    plays(page)
    page.locator("input[value=recorded]").check()
    bad = tmp_path / "notes.csv"
    bad.write_text("these are only words\n" * 30)
    page.set_input_files("#ecg", bad)
    wait_until(page, "document.getElementById('message').textContent.includes('notes.csv')")
    page.set_input_files("#ecg", dicom_ecg_path)
    page.get_by_text("Quality: good.").wait_for()
    assert "DICOM, 12 leads, 10 s, 61 bpm" in page.locator("#facts").inner_text()
    assert page.locator("#message").is_hidden()
    wait_until(page, "window.echogen.shown()[0].time > 0.2 && window.echogen.shown()[0].time < 9")
    wait_until(page, "document.querySelector('.ecg-rate').textContent === '61 bpm'")
    # A recording starts anew at its end.
    wait_until(page, "window.echogen.measured()[0].frames === 320 || window.echogen.measured()[0].ended !== null")
    assert [fault for fault in faults if "400" not in fault] == []


def test_a_first_frame_is_taken(opened: Any, fan: Any, tmp_path: Path) -> None:
    from echogen.cine import write

    write(fan(3, 20.0, 0.5, 160), tmp_path / "still.npz")
    page = opened()
    plays(page)
    page.set_input_files("#frame", tmp_path / "still.npz")
    page.locator("#frame-remove").wait_for()
    # It begins at an R peak, since a still is usually end-diastolic.
    wait_until(page, "window.echogen.shown()[0].began > 0 && window.echogen.shown()[0].time < 9")
    page.click("#frame-remove")
    assert page.locator("#frame-remove").is_hidden()


@pytest.mark.parametrize("kind", ["mp4", "gif", "dcm", "json"])
def test_what_is_seen_is_exported(kind: str, opened: Any, tmp_path: Path) -> None:
    page = opened()
    plays(page)
    page.select_option("#length", "2")
    with page.expect_download() as download:
        page.click(f"[data-format={kind}]")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == f"echogen-synthetic-8.{'zip' if kind == 'dcm' else kind}"
    if kind == "json":
        told = json.loads(path.read_text())
        assert (told["synthetic"], told["seed"], told["frames"], told["settings"]["ef_percent"]) == (True, 8, 64, 58)
    elif kind == "dcm":
        assert len(zipfile.ZipFile(path).namelist()) == 3
    else:
        from echogen.cine import read_cine

        assert read_cine(path).duration_s == pytest.approx(2.0, abs=0.05)
    page.get_by_text("it says that it is synthetic").wait_for()


def test_a_service_that_ends_or_is_busy_is_explained(browser: Any, telltale: Any, serving: Any) -> None:
    page = browser.new_page()
    with serving(create_app(Studio(telltale, None, Limits(streams=1)))) as running:
        page.goto(running)
        plays(page)
        other = browser.new_page()
        other.goto(running)
        other.get_by_text("busy with 1 streams").wait_for()
        other.close()
        # A second heart that has to wait does not stop the first.
        page.check("#compare")
        page.get_by_text("busy with 1 streams").wait_for()
        plays(page)
    page.get_by_text("connection to the service was lost").wait_for()
    page.click("text=MP4")
    page.get_by_text("cannot be reached").wait_for()
    page.close()


@pytest.mark.parametrize("size", [(390, 844), (320, 568)])
def test_it_is_worked_by_keyboard_in_a_phone_sized_window(size: tuple[int, int], opened: Any, faults: list[str]) -> None:
    page = opened(*size)
    plays(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("canvas.echo").bounding_box()
    assert box["width"] >= 200
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Play"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.evaluate("[document.activeElement].map((on) => on.id || on.name || on.dataset.format)[0]")
        reached.append(focused)
        if focused == "play":
            page.keyboard.press("Enter")
        if focused == "ef":
            page.keyboard.press("ArrowLeft")
        if focused == "source":
            assert page.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle") == "solid"
        if focused == "rhythm":
            page.keyboard.press("a")
        if focused == "json":
            break
    wanted = ["play", "outline", "compare", "ef", "view", "seed", "another", "frame", "source", "rate", "rhythm", "length", "mp4"]
    assert [name for name in reached if name in wanted][: len(wanted)] == wanted
    assert page.locator("#play").inner_text() == "Pause"
    assert page.locator("#rhythm").input_value() == "af"
    wait_until(page, lambda: page.evaluate(READ, 0)["rows"][2] == 57)
    assert faults == []


def focus(page: Any, selector: str, *keys: str) -> None:
    """Go to an element by the Tab key, and press keys there."""
    for _ in range(60):
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            break
        page.keyboard.press("Tab")
    else:
        raise AssertionError(f"the Tab key does not come to {selector}")
    for key in keys:
        page.keyboard.press(key)


def fits(page: Any) -> bool:
    """Whether nothing of the page lies beside the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_hearts_are_compared_an_ecg_chosen_and_a_clip_exported_by_keyboard_on_a_phone(
    opened: Any, dicom_ecg_path: Path, tmp_path: Path, faults: list[str]
) -> None:
    page = opened(390, 844)
    plays(page)
    focus(page, "#compare", "Space")
    plays(page, 1)
    assert fits(page)
    assert all(page.locator("canvas.echo").nth(index).bounding_box()["width"] > 160 for index in (0, 1))
    focus(page, "#ef-b", "ArrowLeft")
    wait_until(page, lambda: page.evaluate(READ, 1)["rows"][2] == 29)
    page.keyboard.press("Shift+Tab")
    focus(page, "[name=source]", "ArrowRight")
    bad = tmp_path / "notes.csv"
    bad.write_text("these are only words\n" * 30)
    for file, answer in ((bad, "notes.csv"), (dicom_ecg_path, "Quality: good.")):
        with page.expect_file_chooser() as chooser:
            focus(page, "#ecg", "Enter")
        chooser.value.set_files(file)
        page.get_by_text(answer).first.wait_for()
        # A sentence is read where one is on the page, not only at its top.
        box = page.get_by_text(answer).first.bounding_box()
        assert 0 <= box["y"] <= 844 - box["height"]
    assert fits(page)
    wait_until(page, lambda: page.locator(".ecg-rate").first.inner_text() == "61 bpm")
    with page.expect_download() as download:
        focus(page, "[data-format=json]", "Enter")
    assert json.loads(Path(download.value.path()).read_text())["settings"]["ef_percent"] == 58
    assert [fault for fault in faults if "400" not in fault] == []


def test_what_is_touched_on_a_phone_is_large_enough_and_works(opened: Any, faults: list[str]) -> None:
    page = opened(390, 844, has_touch=True, is_mobile=True, device_scale_factor=3)
    plays(page)
    for source in ("recorded", "live", "simulated"):
        page.locator(f"label:has([value={source}])").tap()
        assert fits(page)
        small = page.evaluate("""() => [...document.querySelectorAll('button, select, input, .check, .tabs label, summary')]
          .map((node) => [node, node.closest('.check, .file, .tabs label') ?? node])
          .map(([node, shown]) => [node.id || node.textContent.trim(), shown.getBoundingClientRect()])
          .filter(([, box]) => box.height && (box.height < 40 || box.width < 40)).map(([name]) => name)""")
        assert small == []
    plays(page)
    page.locator("#play").tap()
    still = page.evaluate("window.echogen.shown()[0].now")
    page.locator("#another").tap()
    assert page.locator("#seed").input_value() != "8"
    page.locator("#play").tap()
    plays(page)
    assert page.evaluate("window.echogen.shown()[0].now") > still
    assert faults == []


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


def test_a_live_ecg_makes_the_heart_beat(opened: Any, studio: Studio, monitor: Any, faults: list[str]) -> None:
    page = opened(390, 844)
    plays(page)
    focus(page, "[name=source]", "ArrowRight", "ArrowRight")
    page.get_by_text("No live ECG is being sent").wait_for()
    monitor("ward-1", 95)
    assert settles(lambda: studio.feeds.find("ward-1").end_s >= 12)
    focus(page, "#feeds", "Enter")
    wait_until(page, "document.getElementById('feed').value === 'ward-1'")
    assert page.locator("#message").is_hidden()
    # It begins with what has just come, and goes on with what comes.
    wait_until(page, "window.echogen.shown()[0].began > 9 && window.echogen.shown()[0].time > 9")
    began = page.evaluate("window.echogen.shown()[0].began")
    heard = studio.feeds.find("ward-1").end_s
    wait_until(page, f"window.echogen.shown()[0].now > {max(began + 2, heard - 1.5)}")
    assert studio.feeds.find("ward-1").end_s > heard
    wait_until(page, lambda: page.locator(".ecg-rate").inner_text() in ("94 bpm", "95 bpm", "96 bpm"))
    read = page.evaluate(READ, 0)
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
    page.evaluate(WATCH)
    page.locator("#compare").check()
    wait_until(page, lambda: page.evaluate(READ, 1)["rows"][1:] == [8, 30])
    wait_until(page, "window.apart.length > 20")
    assert page.evaluate("Math.max(...window.apart)") < FRAME / 2
    assert fits(page)
    wait_until(page, "window.echogen.shown()[0].now > window.echogen.shown()[0].began + 2.5")
    with page.expect_download() as download:
        page.click("[data-format=json]")
    told = json.loads(Path(download.value.path()).read_text())
    assert told["synthetic"]
    assert told["frames"] > 32
    monitor.stop()
    assert settles(lambda: studio.feeds.names == [])
    page.click("#feeds")
    page.get_by_text("No live ECG is being sent").wait_for()
    assert faults == []


def test_it_waits_for_those_who_want_no_motion(opened: Any) -> None:
    page = opened(reduced_motion="reduce")
    wait_until(page, "window.echogen?.shown()[0]?.time !== undefined && window.echogen.shown()[0].time !== null")
    first = page.evaluate("window.echogen.shown()[0].now")
    page.wait_for_timeout(300)
    assert page.evaluate("window.echogen.shown()[0].now") == first
    assert page.locator("#play").inner_text() == "Play"


def test_words_stand_out_from_their_ground(opened: Any) -> None:
    page = opened()
    plays(page)
    faint = page.evaluate("""() => {
      const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
      const linear = (c) => (c <= 10 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
      const light = (colour) => colour.slice(0, 3).map(linear).reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
      const ground = (node) => {
        for (; node; node = node.parentElement) {
          const colour = numbers(getComputedStyle(node).backgroundColor);
          if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [0, 0, 0];
      };
      const faint = [];
      for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!own || !node.getClientRects().length) continue;
        const [one, other] = [light(numbers(getComputedStyle(node).color)), light(ground(node))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) faint.push(`${node.tagName} ${node.textContent.trim()} ${ratio.toFixed(1)}`);
      }
      return faint;
    }""")
    assert faint == []
    unnamed = page.evaluate("""() => [...document.querySelectorAll('input, select, canvas')]
      .filter((node) => node.getClientRects().length && !node.labels?.length && !node.getAttribute('aria-label'))
      .map((node) => node.id || node.className)""")
    assert unnamed == []
    assert np.isfinite(page.evaluate("window.echogen.measured()[0].last"))
