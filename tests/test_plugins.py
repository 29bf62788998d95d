"""The doors for other packages: examples/plugin as if it were installed, and packages that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from echogen import Ecg, InputError, simulate, write
from echogen.ecg.formats import ECG_READERS
from echogen.generators import GENERATORS
from echogen.metrics.evaluation.registry import METRICS, Metric
from echogen.registry import BUILT_IN, THIS_PROGRAM

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"
PROJECT = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = f"{PROJECT['name']} {PROJECT['version']}"


def install(site: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """What an installer leaves of a package besides its modules: the metadata in which entry points are found."""
    facts = site / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = (f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in e.items()) for group, e in entry_points.items())
    (facts / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages: the example, one that cannot be imported, and one whose name is taken."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN / "src" / "echogen_example", folder / "echogen_example")
    install(folder, PROJECT["name"], PROJECT["version"], PROJECT["entry-points"])
    (folder / "broken_package.py").write_text("import a_module_that_is_not_there\n")
    install(folder, "broken-package", "0.3", {"echogen.metrics": {"broken": "broken_package:METRIC"}})
    taken = {"echogen.metrics": {"ssim": "broken_package:SSIM", "number": "math:pi"}}
    install(folder, "second-package", "2.0", taken)
    return folder


def run(site: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m echogen ...` in a process that has the packages of the folder."""
    return python(site, "-m", "echogen", *arguments, cwd=cwd)


def python(site: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})


def test_list_says_what_comes_from_where(site: Path, tmp_path: Path) -> None:
    done = run(site, "list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {kind: {one["name"]: one for one in listing} for kind, listing in json.loads(done.stdout).items()}
    assert list(found) == ["generators", "datasets", "metrics", "tasks", "ecg-readers", "importers", "recipes", "models"]
    groups = ("generators", "datasets", "metrics", "ecg_readers")
    for group in groups:
        ((name, _),) = PROJECT["entry-points"][f"echogen.{group}"].items()
        entry = found[group.replace("_", "-")][name]
        assert entry["source"] == SOURCE
        assert "example" in entry["meaning"]
    assert found["generators"]["echopulse"]["source"] == BUILT_IN
    assert found["tasks"]["segmenter"]["source"] == BUILT_IN
    assert found["recipes"]["phantom-128-segmenter"]["meaning"].startswith("The segmenter that measures")
    assert set(found["models"]) >= {"phantom-128", "echodiffusion-small"}
    assert all(one["meaning"] for listing in found.values() for one in listing.values())
    assert "a_module_that_is_not_there" in found["metrics"]["broken"]["meaning"]
    assert found["metrics"]["broken"]["source"] == "broken-package 0.3"
    assert "no Metric of echogen.metrics.evaluation.registry" in found["metrics"]["number"]["meaning"]
    assert found["metrics"]["ssim"]["source"] == BUILT_IN
    assert "The metric 'ssim' of the package second-package 2.0 is left out" in done.stderr


def test_list_prints_one_kind_or_writes_a_file(site: Path, tmp_path: Path) -> None:
    done = run(site, "list", "generators", cwd=tmp_path)
    assert "example-ellipse" in done.stdout
    assert SOURCE in done.stdout
    assert "ssim" not in done.stdout
    assert run(site, "list", "recipes", "-o", "known.json", cwd=tmp_path).returncode == 0
    assert list(json.loads((tmp_path / "known.json").read_text())) == ["recipes"]
    wrong = run(site, "list", "hearts", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "it must be one of generators, datasets" in wrong.stderr


def test_a_generator_of_another_package_generates(site: Path, tmp_path: Path) -> None:
    done = run(site, "generate", "--model", PLUGIN / "model", "--seconds", 3, "--ef", 55, "-o", "e.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "e.json").read_text())
    assert facts["model"] == "model"
    assert len(facts["weights_hash"]) == 16
    with np.load(tmp_path / "e.npz") as content:
        assert content["frames"].shape == (96, 128, 128)
    (tmp_path / "generator.json").write_text('{"system": "example-elipse"}')
    unknown = run(site, "generate", "--model", tmp_path, "-o", "f.npz", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "'example-elipse', which neither this version of echogen nor an installed package knows" in unknown.stderr


def test_an_ecg_of_another_format_is_read(site: Path, tmp_path: Path) -> None:
    study = simulate(seconds=4.0, heart_rate_bpm=70.0, seed=3)
    assert study.ecg is not None
    leads = dict(zip(study.ecg.lead_names, study.ecg.signal_mv.round(4).tolist(), strict=True))
    (tmp_path / "a.json").write_text(json.dumps({"format": "example-ecg", "rate_hz": study.ecg.rate_hz, "leads": leads}))
    (tmp_path / "b.json").write_text('{"format": "example-ecg", "rate_hz": 500, "leads": {"I": [1, 2], "II": [1]}}')
    done = run(site, "info", "a.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["format"], facts["kind"], facts["leads"]) == ("JSON", "ecg", len(study.ecg.lead_names))
    damaged = run(site, "info", "b.json", cwd=tmp_path)
    assert (damaged.returncode, "b.json is damaged" in damaged.stderr) == (2, True)


def test_a_data_set_of_another_package_is_opened_and_recognised(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, seed, ef in (("one", 1, 35.0), ("two", 2, 60.0)):
        study = simulate(seconds=2.0, ef_percent=ef, seed=seed)
        assert isinstance(study.ecg, Ecg)
        write(study.cine, folder / f"{name}.npz")
        np.savez(folder / f"{name}_ecg.npz", signal_mv=study.ecg.signal_mv, rate_hz=500.0, lead_names=study.ecg.lead_names)
    rows = "".join(f"{name}.npz,{name}_ecg.npz,{ef}\n" for name, ef in (("one", 35.0), ("two", 60.0)))
    (folder / "example_clips.csv").write_text(f"video,ecg,ef_percent\n{rows}")
    code = (
        "import echogen; from echogen.datasets.registry import recognise; assert recognise('data') == 'example-clips';"
        "found = echogen.open_dataset('example-clips', 'data', least_ef_percent=50);"
        "print(found.names, [(study.ef_percent, study.cine.frames.shape[0]) for study in found])"
    )
    done = python(site, "-c", code, cwd=tmp_path)
    assert done.stdout == "['two'] [(60.0, 64)]\n", done.stderr
    prepared = run(site, "prepare", "data", "-o", "shards", "--workers", 2, cwd=tmp_path)
    assert prepared.stdout == "Wrote 2 samples to shards.\n", prepared.stderr


def test_a_metric_of_another_package_is_computed_and_a_broken_one_named(site: Path, tmp_path: Path) -> None:
    for side, seed in (("real", 1), ("generated", 2)):
        (tmp_path / side).mkdir()
        write(simulate(seconds=1.0, seed=seed).cine, tmp_path / side / "clip.npz")
    arguments = ("evaluate", "--real", "real", "--generated", "generated")
    done = run(site, *arguments, "--metrics", "example-contrast,mae", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figure = json.loads((tmp_path / "found.json").read_text())["example-contrast"]
    assert 5 < figure["value"] < 120
    assert figure["value"] != figure["truth"]["value"]
    broken = run(site, *arguments, "--metrics", "broken", cwd=tmp_path)
    assert broken.returncode == 2
    sentence = "The metric 'broken' of the package broken-package 0.3 cannot be imported (ModuleNotFoundError: No module named"
    assert sentence in broken.stderr
    code = "from echogen.metrics.evaluation.registry import METRICS; print(*dict(METRICS.items()))"
    rest = python(site, "-c", code, cwd=tmp_path)
    assert "example-contrast" in rest.stdout
    assert "broken" not in rest.stdout
    assert sentence in rest.stderr


def test_a_program_adds_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = Metric(METRICS["mae"].make, paired=True, says="as mae")
    METRICS.register("mine", metric)
    try:
        assert METRICS.find("mine") is metric
        assert METRICS.source("mine") == THIS_PROGRAM
        assert METRICS.names()[-1] == "mine"
        METRICS.register("mine", METRICS["mae"])  # the cell of a notebook, run again
        assert METRICS["mine"] is METRICS["mae"]
    finally:
        del METRICS["mine"]
    assert "mine" not in METRICS
    with pytest.raises(KeyError):
        del METRICS["mae"]
    with pytest.raises(InputError, match=r"The metric 'mae' is there already \(built in\); choose another name\."):
        METRICS.register("mae", metric)
    with pytest.raises(InputError, match=r"The ECG reader 'x' of this program is no Reader of echogen\.ecg\.formats"):
        ECG_READERS["x"] = metric  # type: ignore[assignment]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"There is no generator 'echo-pulse'; did you mean echopulse\? Known are echopulse, "):
        GENERATORS.find("echo-pulse")
    with pytest.raises(InputError, match=r"There is no metric 'zzz'; known are mse, mae"):
        METRICS.find("zzz")
    with pytest.raises(KeyError):
        METRICS["zzz"]
    assert METRICS.get("zzz") is None
