"""The open benchmark: its hearts stay what they are, a run goes on where it was, and others get a row."""

import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from PIL import Image

import echogen as package
from echogen.benchmark.cases import FIRST_SEED, FRAMES, SECONDS, TIERS, cases, list_hash, recording
from echogen.benchmark.exporting import export
from echogen.benchmark.kept import clip_of, read_states
from echogen.benchmark.rows import Added, Truth, Work
from echogen.benchmark.running import Plan, rows_for, run
from echogen.cine import read_cine, write
from echogen.datasets.clip_store import FIRST_TRAINING_SEED
from echogen.errors import InputError
from echogen.generators.base import Context, Generator
from echogen.generators.loading import GENERATORS
from echogen.generators.sampling import Sampling
from echogen.metrics.evaluation.collectors import Pair
from echogen.metrics.heart.rhythm_effects import LateFilling
from echogen.records import Cine, Conditions

ROOT = Path(__file__).parents[2]
HASHES = {50: "78d08940639dc4f8", 500: "172c42ea8b5238c5", 2048: "8469b666a9aa27a0"}


class Repeating(Generator):
    """Shows its first frame, or one of a weak grey, all the time; it cannot show hearts in atrial fibrillation without one."""

    system = "repeating-for-tests"
    native_fps = 32.0
    takes = frozenset({"ecg", "view", "reference"})
    made: ClassVar[list[int]] = []

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        return cls()

    def save_pretrained(self, folder: str | Path) -> None:
        (Path(folder) / "generator.json").write_text(json.dumps({"system": self.system}))

    @property
    def window_s(self) -> float:
        return SECONDS

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        assert conditions.ecg is not None
        Repeating.made.append(sampling.seed)
        if conditions.reference is None and sampling.seed == 1:
            raise InputError("This heart cannot be shown; give a first frame.")
        frame = np.full((128, 128), 40, np.uint8) if conditions.reference is None else conditions.reference.frames[0]
        times = context.next_s + np.arange(FRAMES) / self.native_fps
        return Cine(np.repeat(frame[None], FRAMES, axis=0), times), Context(context.index + 1, float(times[-1]) + 1 / 32)


GENERATORS.register(Repeating.system, Repeating)


def test_the_hearts_are_frozen_and_small_tiers_are_the_beginning_of_large_ones() -> None:
    assert {count: list_hash(cases(count)) for count in TIERS} == HASHES
    assert cases(TIERS[-1])[:50] == cases(50)
    for count in (1, 2049):
        with pytest.raises(InputError, match="50, 500, 2048"):
            cases(count)


@pytest.mark.parametrize("count", TIERS)
def test_every_tier_has_all_rhythms_views_and_ejection_fractions(count: int) -> None:
    listed = cases(count)
    assert {case.rhythm for case in listed} == {"sinus", "af", "pvc", "pause", "paced"}
    assert 0.4 < np.mean([case.view == "A4C" for case in listed]) < 0.6
    for rhythm in ("sinus", "af"):
        some = [case for case in listed if case.rhythm == rhythm]
        ef, rate = ([getattr(case, name) for case in some] for name in ("ef_percent", "heart_rate_bpm"))
        assert min(ef) < 25
        assert max(ef) > 70
        assert abs(np.corrcoef(ef, rate)[0, 1]) < 0.35


def test_no_other_part_of_the_project_uses_its_seeds() -> None:
    used = range(FIRST_SEED, FIRST_SEED + TIERS[-1])
    assert used.stop <= FIRST_TRAINING_SEED
    assert [case.seed for case in cases(TIERS[-1])] == list(used)
    sources = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "src").rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources if path != ROOT / "src/echogen/benchmark/cases.py")
    starts = [
        int(n.replace("_", "")) for line in re.findall(r"^.*FIRST_\w+.*= .*$", text, re.M) for n in re.findall(r"\d[\d_]+", line)
    ]
    assert len(starts) > 6
    assert not [start for start in starts if used.start - 50_000 < start < used.stop]


def test_premature_beats_come_within_the_video_after_a_normal_one() -> None:
    for case in cases(50):
        if case.rhythm == "pvc":
            heart, ecg = recording(case)
            inside = (heart.clock.ed_s >= 0) & (heart.clock.avc_s <= SECONDS - 0.1)
            assert {"pvc", "normal"} <= set(heart.rhythm.kind[inside])
            assert ecg.start_s < 0
            assert ecg.end_s > SECONDS


def test_what_is_exported_is_what_generators_are_given(tmp_path: Path) -> None:
    listed = cases(2)
    export(listed[1:], tmp_path)
    header, *lines = (tmp_path / "cases.csv").read_text().splitlines()
    told = dict(zip(header.split(","), lines[0].split(","), strict=True))
    heart, ecg = recording(listed[1])
    assert told["name"] == listed[1].name
    assert float(told["ef_percent"]) == heart.anatomy.ef_percent
    read = package.read_ecg(tmp_path / told["ecg"])
    assert read.lead_names == ecg.lead_names
    np.testing.assert_allclose(read.signal_mv, ecg.signal_mv, atol=2e-3)
    Truth().make(Work(tmp_path), listed[1])
    truth = read_cine(Truth().video(Work(tmp_path), listed[1]))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / told["first_frame"])), truth.frames[0])


@pytest.mark.parametrize(("index", "told"), [(263, True), (438, False)])
def test_only_a_diastole_that_no_beat_interrupts_tells_late_filling(index: int, told: bool, tmp_path: Path) -> None:
    # In the second heart early beats that eject next to nothing lie in what looks like long diastoles.
    case, work, late = cases(500)[index], Work(tmp_path), LateFilling()
    assert case.rhythm == "af"
    Truth().make(work, case)
    clip = clip_of(work, Truth(), case)
    assert clip is not None
    assert any(beat.ed_s - before.es_s > 0.5 for before, beat in pairwise(clip.beats))
    late.add(Pair(None, clip))
    shares = late.kept("af")
    assert bool(shares) == told
    assert all(share < 0.1 for share in np.concatenate(shares or [[]]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Path]]:
    """Of the work, of a generator, and of videos of others (one of the two hearts, its truth as MP4)."""
    base = tmp_path_factory.mktemp("bench")
    threads = torch.get_num_threads()
    for name in ("repeating", "videos"):
        (base / name).mkdir()
    Repeating().save_pretrained(base / "repeating")
    work = Work.below(base / "work")
    case = cases(2)[0]
    Truth().make(work, case)
    write(read_cine(Truth().video(work, case)), base / "videos" / f"{case.name}.mp4")
    yield base / "work", base / "repeating", base / "videos"
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bench(folders: tuple[Path, Path, Path]) -> dict[str, Any]:
    return run_bench(*folders)


def run_bench(work: Path, generator: Path, videos: Path) -> dict[str, Any]:
    run(Plan(2, (str(generator),), (("mine", str(videos)),)), work, work, plots=False)
    results: dict[str, Any] = json.loads((Work.below(work).root / "results-2.json").read_text())
    return {row["title"]: row for row in results["rows"]}


def test_every_row_is_judged(bench: dict[str, Any], folders: tuple[Path, Path, Path]) -> None:
    still = "repeating: ECG, first frame"
    others = {"repeating: ECG", f"{still}; shuffled", "mine", "still first frame", "a mean heart", "another heart's truth"}
    assert set(bench) == {"truth", still} | others
    assert bench["truth"]["figures"]["timing"]["value"] > 0.8
    assert bench["truth"]["figures"]["ef"]["value"] < 5
    assert bench[still]["figures"]["timing"]["value"] == 0
    assert bench[still]["figures"]["ssim"]["value"] == bench["still first frame"]["figures"]["ssim"]["value"]
    assert bench[still]["figures"]["cpu_seconds"]["n"] == 2
    other = bench["another heart's truth"]["figures"]
    assert other["ef"]["value"] > bench["truth"]["figures"]["ef"]["value"]
    assert other["ssim"]["value"] < bench[still]["figures"]["ssim"]["value"]
    text = (folders[0] / "benchmark.md").read_text()
    assert all(f"| {title} | " in text for title in bench)
    assert "Tier" not in text


def test_a_heart_that_a_generator_refuses_is_told(bench: dict[str, Any]) -> None:
    row = bench["repeating: ECG"]
    assert row["n"] == 1
    assert "give a first frame" in row["notes"]["refused"]


def test_videos_of_others_get_a_row(bench: dict[str, Any], folders: tuple[Path, Path, Path]) -> None:
    row = bench["mine"]
    assert row["n"] == 1
    assert row["figures"]["timing"]["value"] > 0.8
    assert row["figures"]["ssim"]["value"] > 0.85
    assert row["figures"]["cpu_seconds"]["n"] == 0
    with pytest.raises(InputError, match=r"heart-0001\.mp4"):
        Added.read("mine", folders[2], cases(2)[1:])


def test_a_run_goes_on_where_it_was(bench: dict[str, Any], folders: tuple[Path, Path, Path]) -> None:
    made = list(Repeating.made)
    kept = {path: path.stat().st_mtime_ns for path in folders[0].rglob("*.np*")}
    lost = next(path for path in kept if "repeating" in str(path) and "reference" in str(path) and path.name == "heart-0000.npz")
    lost.with_suffix(".json").unlink()
    again = run_bench(*folders)
    assert Repeating.made == [*made, 0]
    states = list(folders[0].rglob("against-*.pickle"))
    assert states
    assert all(read_states(path) for path in states)
    assert [path for path, at in kept.items() if path.stat().st_mtime_ns != at] == [lost]
    for title, row in bench.items():
        figures = {name: figure for name, figure in row["figures"].items() if "seconds" not in name}
        assert figures == {name: figure for name, figure in again[title]["figures"].items() if "seconds" not in name}


def test_pictures_are_small(bench: dict[str, Any], folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from echogen.benchmark.plots import plot

    listed = cases(2)
    rows = rows_for(listed, [str(folders[1])], [])
    made = plot(Work.below(folders[0]), listed, rows, list(bench.values()), tmp_path / "images")
    assert len(made) == 3
    assert sum((tmp_path / path).stat().st_size for _, path in made) < 400_000


def test_some_rows_can_be_asked_for(folders: tuple[Path, Path, Path]) -> None:
    rows = rows_for(cases(2), [str(folders[1])], [], only=["reference"], baselines=False)
    title = f"{folders[1].name}: ECG, first frame"
    assert [row.title for row in rows] == ["truth", title, f"{title}; shuffled"]


def test_kept_measurements_hold_nothing_but_numbers(tmp_path: Path) -> None:
    values = {"ef": {"heart-0000": {"generated": (50.0, np.float64(49.0)), "es_ms": np.arange(3.0)}}}
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(values))
    assert repr(read_states(tmp_path / "a.pickle")) == repr(values)
    (tmp_path / "b.pickle").write_bytes(pickle.dumps({"ef": os.system}))
    assert read_states(tmp_path / "b.pickle") == {}
    assert read_states(tmp_path / "c.pickle") == {}


def test_the_command_judges_and_exports(echogen: Callable[..., Any], folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    work, generator, _ = folders
    options = ["--tier", 2, "--generator", generator, "--row", "reference", "--no-baselines", "--no-plots"]
    outcome = echogen("benchmark", *options, "--work", work, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert f"`echogen benchmark --tier 2 --generator {generator} --row reference --no-baselines`" in outcome.out
    assert "| truth | 2 |" in (tmp_path / "out" / "benchmark.md").read_text()
    exported = echogen("benchmark", "--tier", 2, "--export", tmp_path / "cases")
    assert exported.code == 0, exported.err
    assert len((tmp_path / "cases" / "cases.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("options", [["--tier", "5000"], ["--add", "mine"], ["--generator", "nobody"], ["--row", "money"]])
def test_a_mistake_is_answered_with_a_sentence(echogen: Callable[..., Any], tmp_path: Path, options: list[str]) -> None:
    outcome = echogen("benchmark", *options, "--no-plots", "--work", tmp_path)
    assert outcome.code == 2
    assert outcome.err.endswith(".\n")
    assert outcome.err.count("\n") == 1
