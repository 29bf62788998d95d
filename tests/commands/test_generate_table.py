"""`echogen generate --table`: one row a case, into shards that hold all that is known about each video."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen.commands import generate_table
from echogen.commands.video_case import Case
from echogen.datasets.shards import ShardFolder
from echogen.errors import InputError
from echogen.records import Cine

Run = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_table_becomes_a_data_set_and_a_stopped_run_continues(
    echogen: Run, tmp_path: Path, dicom_ecg_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(dicom_ecg_path, tmp_path / "patient.dcm")
    table = tmp_path / "cases.csv"
    table.write_text("name,ecg,ef,view,seconds,seed\nstrong,patient.dcm,65,A4C,,\nlate,patient.dcm,,A2C,30,\n,,40,,1.5,77\n")
    arguments = ("--table", table, "--seconds", 1, "--steps", 2, "--seed", 5, "--view", "A4C")
    whole = echogen("generate", *arguments, "-o", tmp_path / "whole")
    assert whole.code == 0, whole.err
    assert whole.out == f"Wrote 2 samples to {tmp_path / 'whole'}; 1 rejected, see manifest.jsonl.\n"
    samples = ShardFolder(tmp_path / "whole")
    first, second = samples[0], samples[1]
    assert (first.labels["name"], first.labels["seed"], first.labels["view"]) == ("strong", 5, "A4C")
    assert (second.labels["name"], second.labels["seed"], second.labels["view"]) == ("row-000003", 77, "A4C")
    assert (first.labels["settings"]["ef_percent"], second.labels["settings"]["ef_percent"]) == (65, 40)
    assert first.labels["source"] == "row 1, patient.dcm"
    assert first.labels["synthetic"] is True
    assert {"r_s", "beats", "ef_percent", "model", "weights_hash", "video_start_s"} <= set(first.labels)
    assert "wall_time_s" not in first.labels
    for sample, frames in ((first, 32), (second, 48)):
        assert sample.study.cine.frames.shape == (frames, 128, 128)
        assert sample.masks is not None
        assert (sample.masks == 1).any(axis=(1, 2)).mean() > 0.9
        assert sample.ecg is not None
    lines = [json.loads(line) for line in (tmp_path / "whole" / "manifest.jsonl").read_text().splitlines()]
    assert [line["rejected"] is None for line in lines] == [True, False, True]
    assert "can be at most 10.00 s long" in lines[1]["rejected"]

    alone = echogen("generate", tmp_path / "patient.dcm", "--ef", 65, *arguments[2:], "-o", tmp_path / "one.npz")
    assert alone.code == 0, alone.err
    np.testing.assert_array_equal(np.load(tmp_path / "one.npz")["frames"], first.study.cine.frames)
    document = json.loads((tmp_path / "one.json").read_text())
    assert document["ef_percent"] == first.labels["ef_percent"]

    make, made = generate_table.make_video, []

    def stopping(*given: Any) -> Any:
        made.append(given[1].seed)
        if len(made) == 3:
            raise KeyboardInterrupt
        return make(*given)

    monkeypatch.setattr(generate_table, "make_video", stopping)
    assert echogen("generate", *arguments, "-o", tmp_path / "stopped").code != 0
    assert not (tmp_path / "stopped" / "shards.json").exists()
    again = echogen("generate", *arguments, "-o", tmp_path / "stopped")
    assert again.code == 0, again.err
    assert made == [5, 6, 77, 77]
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ecg,age\n,4\n", "has a column 'age' that is not known; the columns are name, ecg, image"),
        ("ef,ef\n4,4\n", "has the column ef twice"),
        ("ef\n", "has no row"),
        ("", "has no row"),
        ("ef\n50\nhigh\n", "Row 2 of cases.csv has 'high' for ef, which must be a number from 0.1 to 99.9."),
        ("ef\n50\n200\n", "Row 2 of cases.csv has '200' for ef"),
        ("seed\n1.5\n", "Row 1 of cases.csv has '1.5' for seed, which must be a whole number"),
        ("view\nA4C\n\n a5c\n", "Row 2 of cases.csv has 'a5c' for view, which must be one of A4C, A2C."),
        ("allow_flat\nperhaps\n", "must be one of yes, true, 1, no, false, 0."),
        ("ef,view\n50,A4C,A2C\n", "Row 1 of cases.csv has more cells than there are columns"),
        ("seconds\nnan\n", "Row 1 of cases.csv has 'nan' for seconds"),
        ("ecg\ngone.dcm\n", "Row 1 of cases.csv: There is no file gone.dcm"),
        ("ef\n50\n99\n", "Row 2 of cases.csv: The generator phantom-128 knows ejection fractions from"),
        ("text\nA weak heart.\n", "Row 1 of cases.csv: The generator phantom-128 does not take the condition text"),
    ],
)
def test_what_a_table_gets_wrong_is_one_sentence(
    echogen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cases.csv").write_text(text)
    outcome = echogen("generate", "--table", "cases.csv", "-o", "out")
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("out").exists()


def test_empty_cells_are_what_the_options_say(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(
        "\ufeffname,ef,image,allow_flat\n a , 40 ,still.png,yes\n,,,\nb,50,,no\n", encoding="utf-8"
    )
    rows = generate_table.read_table(tmp_path / "cases.csv", Case(ef=55.0, seed=9, fps=30.0))
    assert [(row.number, row.name, row.case.ef, row.case.seed, row.case.allow_flat) for row in rows] == [
        (1, "a", 40.0, 9, True),
        (2, "row-000002", 55.0, 10, False),
        (3, "b", 50.0, 11, False),
    ]
    assert rows[0].case.image == tmp_path / "still.png"
    assert {row.case.fps for row in rows} == {30.0}
    with pytest.raises(InputError, match="no table"):
        generate_table.read_table(tmp_path / "gone.csv", Case())


def test_masks_fit_frames_of_twice_the_size_and_none_others() -> None:
    from echogen import simulate

    cine = simulate(seconds=0.2, seed=1).cine
    masks = generate_table.masks_of(cine)
    double = generate_table.masks_of(Cine(cine.frames.repeat(2, axis=1).repeat(2, axis=2), cine.times_s))
    assert masks is not None
    assert double is not None
    np.testing.assert_array_equal(double[:, ::2, 1::2], masks)
    assert generate_table.masks_of(Cine(cine.frames[:, :100], cine.times_s)) is None
