"""The page of `echogen serve` by keyboard, on a phone, without motion, and how readable it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")


@pytest.mark.parametrize("size", [(390, 844), (320, 568)])
def test_it_is_worked_by_keyboard_in_a_phone_sized_window(size: tuple[int, int], opened: Any, faults: list[str]) -> None:
    page = opened(*size)
    page.plays()
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
    page.wait_until(lambda: page.read(0)["rows"][2] == 57)
    assert faults == []


def test_hearts_are_compared_an_ecg_chosen_and_a_clip_exported_by_keyboard_on_a_phone(
    opened: Any, dicom_ecg_path: Path, tmp_path: Path, faults: list[str]
) -> None:
    page = opened(390, 844)
    page.plays()
    page.tab_to("#compare", "Space")
    page.plays(1)
    assert page.fits()
    assert all(page.locator("canvas.echo").nth(index).bounding_box()["width"] > 160 for index in (0, 1))
    page.tab_to("#ef-b", "ArrowLeft")
    page.wait_until(lambda: page.read(1)["rows"][2] == 29)
    page.keyboard.press("Shift+Tab")
    page.tab_to("[name=source]", "ArrowRight")
    bad = tmp_path / "notes.csv"
    bad.write_text("these are only words\n" * 30)
    for file, answer in ((bad, "notes.csv"), (dicom_ecg_path, "Quality: good.")):
        with page.expect_file_chooser() as chooser:
            page.tab_to("#ecg", "Enter")
        chooser.value.set_files(file)
        page.get_by_text(answer).first.wait_for()
        # A sentence is read where one is on the page, not only at its top.
        box = page.get_by_text(answer).first.bounding_box()
        assert 0 <= box["y"] <= 844 - box["height"]
    assert page.fits()
    page.wait_until(lambda: page.locator(".ecg-rate").first.inner_text() == "61 bpm")
    with page.expect_download() as download:
        page.tab_to("[data-format=json]", "Enter")
    assert json.loads(Path(download.value.path()).read_text())["settings"]["ef_percent"] == 58
    assert [fault for fault in faults if "400" not in fault] == []


def test_what_is_touched_on_a_phone_is_large_enough_and_works(opened: Any, faults: list[str]) -> None:
    page = opened(390, 844, has_touch=True, is_mobile=True, device_scale_factor=3)
    page.plays()
    for source in ("recorded", "live", "simulated"):
        page.locator(f"label:has([value={source}])").tap()
        assert page.fits()
        small = page.evaluate("""() => [...document.querySelectorAll('button, select, input, .check, .tabs label, summary')]
          .map((node) => [node, node.closest('.check, .file, .tabs label') ?? node])
          .map(([node, shown]) => [node.id || node.textContent.trim(), shown.getBoundingClientRect()])
          .filter(([, box]) => box.height && (box.height < 40 || box.width < 40)).map(([name]) => name)""")
        assert small == []
    page.plays()
    page.locator("#play").tap()
    still = page.evaluate("window.echogen.shown()[0].now")
    page.locator("#another").tap()
    assert page.locator("#seed").input_value() != "8"
    page.locator("#play").tap()
    page.plays()
    assert page.evaluate("window.echogen.shown()[0].now") > still
    assert faults == []


def test_it_waits_for_those_who_want_no_motion(opened: Any) -> None:
    page = opened(reduced_motion="reduce")
    page.wait_until("window.echogen?.shown()[0]?.time !== undefined && window.echogen.shown()[0].time !== null")
    first = page.evaluate("window.echogen.shown()[0].now")
    page.wait_for_timeout(300)
    assert page.evaluate("window.echogen.shown()[0].now") == first
    assert page.locator("#play").inner_text() == "Play"


def test_words_stand_out_from_their_ground(opened: Any) -> None:
    page = opened()
    page.plays()
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
