"""Measure on the command line: overlay, tables of folders, given outlines, and outlines and frames as files."""

import csv
import json
import os
import shutil
from pathlib import Path

import av
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from echogen import Cine, measure, read_cine, simulate, write
from echogen.datasets.tracings import outline_mask

REAL = Path(os.environ.get("ECHOGEN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "real"


@pytest.fixture(scope="module")
def study():
    return simulate(seconds=2, seed=5, ef_percent=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, study):
    folder = tmp_path_factory.mktemp("echo")
    write(study.cine, folder / "a.dcm")
    write(study.cine, folder / "a.mp4", scale=2)
    return folder


def test_the_overlay_shows_outlines_marks_and_curve(echogen, folder, study, tmp_path):
    output = tmp_path / "over.mp4"
    assert echogen("measure", folder / "a.mp4", "--overlay", output).code == 0
    with av.open(str(output)) as container:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(pictures) == len(study.cine.frames)
    assert pictures[0].shape[1] == 512
    grey = read_cine(folder / "a.mp4").frames.shape[1] * 2
    coloured = np.ptp(pictures[5][:grey], axis=2) > 60
    assert 500 < coloured.sum() < 20_000
    beneath = pictures[5][grey:]
    assert (beneath.min(axis=2) > 200).sum() > 300


def test_the_overlay_is_an_mp4(echogen, folder, tmp_path):
    outcome = echogen("measure", folder / "a.dcm", "--overlay", tmp_path / "over.avi")
    assert (outcome.code, list(tmp_path.iterdir())) == (2, [])


@pytest.mark.parametrize("name", ["m.nii.gz", "m.npz"])
def test_outlines_written_and_given_back_measure_the_same(echogen, folder, tmp_path, name):
    first = json.loads(echogen("measure", folder / "a.dcm", "--masks-out", tmp_path / name, "--json").out)
    again = json.loads(echogen("measure", folder / "a.dcm", "--masks", tmp_path / name, "--json").out)
    assert again["beats"] == first["beats"]
    assert again["numbers"]["edv_discs_ml"]["value"] == first["numbers"]["edv_discs_ml"]["value"]
    assert first["numbers"]["ef_discs_percent"]["value"] == pytest.approx(first["ef_percent"], abs=5)


def test_outlines_lie_on_the_pixels_of_a_cropped_video(echogen, folder, tmp_path, study):
    masks = {}
    for name, left in (("whole", 0), ("moved", 40)):
        frames = np.pad(np.repeat(np.repeat(study.cine.frames, 3, 1), 3, 2), ((0, 0), (20, 30), (left, 90 - left)))
        write(Cine(frames, study.cine.times_s), tmp_path / f"{name}.npz")
        echogen("measure", tmp_path / f"{name}.npz", "--masks-out", tmp_path / f"{name}.nii.gz")
        masks[name] = np.asarray(nibabel.load(tmp_path / f"{name}.nii.gz").dataobj).T[:, 0]
    assert masks["whole"].shape == frames.shape
    one, other = masks["whole"][10] == 1, np.roll(masks["moved"][10], -40, axis=1) == 1
    assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.93
    truth = np.pad(np.repeat(np.repeat(study.masks[10], 3, 0), 3, 1), ((20, 30), (0, 90))) == 1
    assert 2 * (one & truth).sum() / (one.sum() + truth.sum()) > 0.85


def test_a_dicom_segmentation_refers_to_its_image(echogen, folder, tmp_path):
    pytest.importorskip("highdicom")
    for name in ("m.dcm", "m.npz"):
        assert echogen("measure", folder / "a.dcm", "--masks-out", tmp_path / name).code == 0
    held, source = pydicom.dcmread(tmp_path / "m.dcm"), pydicom.dcmread(folder / "a.dcm")
    masks = np.load(tmp_path / "m.npz")["masks"]
    assert [segment.SegmentLabel for segment in held.SegmentSequence][:2] == ["Left ventricle", "Myocardium"]
    assert (held.pixel_array[: len(masks)] == (masks == 1)).all()
    origin = held.PerFrameFunctionalGroupsSequence[7].DerivationImageSequence[0].SourceImageSequence[0]
    assert origin.ReferencedFrameNumber == 8
    assert (origin.ReferencedSOPInstanceUID, origin.ReferencedSOPClassUID) == (source.SOPInstanceUID, source.SOPClassUID)
    assert held.StudyInstanceUID == source.StudyInstanceUID
    outcome = echogen("measure", folder / "a.mp4", "--masks-out", tmp_path / "other.dcm")
    assert outcome.code == 2
    assert "belongs to a DICOM image" in outcome.err


def test_pairs_of_png_and_traced_frames_give_an_ejection_fraction(echogen, folder, tmp_path, study):
    volumes = (study.masks == 1).sum(axis=(1, 2))
    ed, es = int(volumes.argmax()), int(volumes.argmin())
    (tmp_path / "pair").mkdir()
    lines = ["FileName,X1,Y1,X2,Y2,Frame"]
    drawn = {}
    for name, frame in (("ED", ed), ("ES", es)):
        mask = study.masks[frame]
        Image.fromarray(mask).save(tmp_path / "pair" / f"p_{name}.png")
        rows, columns = np.nonzero(mask == 1)
        top, bottom = rows.min(), rows.max()
        lines.append(f"a.avi,{columns.mean():.2f},{top - 0.5},{columns.mean():.2f},{bottom + 0.5},{frame}")
        sides = []
        for row in range(top, bottom + 1):
            across = columns[rows == row]
            lines.append(f"a.avi,{across.min() - 0.5},{row},{across.max() + 0.5},{row},{frame}")
            sides.append((across.min() - 0.5, across.max() + 0.5, row))
        left = [(a, row) for a, _, row in sides]
        right = [(b, row) for _, b, row in reversed(sides)]
        drawn[frame] = outline_mask(np.array(left + right, float), *mask.shape)
    (tmp_path / "VolumeTracings.csv").write_text("\n".join(lines) + "\n")
    by_pair = json.loads(echogen("measure", folder / "a.dcm", "--masks", tmp_path / "pair", "--json").out)
    by_lines = json.loads(echogen("measure", folder / "a.dcm", "--masks", tmp_path / "VolumeTracings.csv", "--json").out)
    assert by_pair["ef_percent"] == pytest.approx(60, abs=6)
    assert by_lines["ef_percent"] == pytest.approx(by_pair["ef_percent"], abs=5)
    assert "largest is taken for ED" in by_lines["notes"][0]
    assert by_lines["beats"][0]["ed_s"] == pytest.approx(study.cine.times_s[ed])


def test_outlines_of_another_video_are_refused(echogen, folder, tmp_path):
    for name, masks in (("size", np.ones((64, 20, 20), np.uint8)), ("count", np.ones((3, 128, 128), np.uint8))):
        np.savez(tmp_path / f"{name}.npz", masks=masks)
        assert echogen("measure", folder / "a.dcm", "--masks", tmp_path / f"{name}.npz").code == 2
    np.savez(tmp_path / "values.npz", masks=np.full((64, 128, 128), 9, np.uint8))
    outcome = echogen("measure", folder / "a.dcm", "--masks", tmp_path / "values.npz")
    assert "other values" in outcome.err


def test_frames_of_ed_and_es(echogen, folder, tmp_path, study):
    assert echogen("measure", folder / "a.dcm", "--frames-out", tmp_path / "out").code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[:2] == ["beat1_ED.png", "beat1_ES.png"]
    ed = np.asarray(Image.open(tmp_path / "out" / "beat1_ED.png"))
    assert (ed == study.cine.frames).all(axis=(1, 2)).any()


def test_a_folder_becomes_a_table_that_goes_on(echogen, folder, tmp_path):
    (tmp_path / "echo" / "deeper").mkdir(parents=True)
    shutil.copy(folder / "a.dcm", tmp_path / "echo" / "deeper" / "a.dcm")
    (tmp_path / "echo" / "bad.mp4").write_bytes((folder / "a.mp4").read_bytes()[:500])
    (tmp_path / "echo" / "words.txt").write_text("no video")
    table = tmp_path / "out.csv"
    outcome = echogen("measure", tmp_path / "echo", "--csv", table)
    assert (outcome.code, outcome.out.split(";")[0]) == (0, "2 measured, 1 of them with an error")
    shutil.copy(folder / "a.mp4", tmp_path / "echo" / "later.mp4")
    before = table.read_text()
    assert echogen("measure", tmp_path / "echo", "--csv", table).out.startswith("1 measured")
    assert table.read_text().startswith(before)
    rows = {row["file"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert set(rows) == {"bad.mp4", str(Path("deeper") / "a.dcm"), "later.mp4"}
    assert float(rows["later.mp4"]["ef_percent"]) == pytest.approx(60, abs=8)
    assert rows["bad.mp4"]["error"].endswith(".")
    assert rows["bad.mp4"]["ef_percent"] == ""


def test_a_table_of_other_columns_is_left_alone(echogen, folder, tmp_path):
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    assert echogen("measure", folder, "--csv", tmp_path / "mine.csv").code == 2
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"


def test_two_views_of_one_heart(echogen, tmp_path):
    for view in ("A4C", "A2C"):
        write(simulate(seconds=2, seed=5, ef_percent=60, view=view).cine, tmp_path / f"{view}.npz")
    outcome = echogen("measure", tmp_path / "A4C.npz", tmp_path / "A2C.npz", "--biplane", "--json")
    both = json.loads(outcome.out)["biplane"]
    assert both["ef_percent"] == pytest.approx(60, abs=7)
    assert 30 < both["esv_ml"] < both["edv_ml"] < 250
    reading = measure(tmp_path / "A4C.npz", second=tmp_path / "A2C.npz")
    assert reading.to_json()["biplane"] == pytest.approx(both, rel=1e-4)
    assert reading.second.ef_percent == pytest.approx(json.loads(outcome.out)["views"][1]["ef_percent"], rel=1e-4)
    in_memory = measure(read_cine(tmp_path / "A4C.npz"), second=read_cine(tmp_path / "A2C.npz"))
    assert in_memory.biplane == reading.biplane
    assert echogen("measure", tmp_path / "A4C.npz", "--biplane").code == 2
    assert echogen("measure", tmp_path / "A4C.npz", tmp_path / "A2C.npz").code == 2


def test_less_than_a_beat_gives_its_extremes_and_says_so(echogen, tmp_path, study):
    volumes = (study.masks == 1).sum(axis=(1, 2))
    beat = study.beats[0]
    part = (study.cine.times_s >= beat.ed_s - 0.04) & (study.cine.times_s <= beat.es_s + 0.04)
    assert volumes[part].min() < 0.9 * volumes[part].max()
    write(Cine(study.cine.frames[part], study.cine.times_s[part], study.cine.mm_per_pixel), tmp_path / "half.npz")
    reading = json.loads(echogen("measure", tmp_path / "half.npz", "--json").out)
    assert reading["ef_percent"] == pytest.approx(60, abs=8)
    assert len(reading["beats"]) == 1
    assert "no whole beat" in reading["notes"][0]


def test_a_single_picture_has_no_ejection_fraction(echogen, tmp_path, study):
    write(Cine(study.cine.frames[:1], study.cine.times_s[:1]), tmp_path / "one.npz")
    outcome = echogen("measure", tmp_path / "one.npz")
    assert outcome.code == 2
    assert "single picture" in outcome.err


def test_the_error_beside_a_figure_is_that_of_its_kind_of_pictures(echogen, tmp_path, study):
    write(study.cine, tmp_path / "states.dcm")
    write(study.cine, tmp_path / "nothing.npz")
    (tmp_path / "clip").mkdir()
    write(study.cine, tmp_path / "clip" / "cine.npz")
    (tmp_path / "clip" / "truth.json").write_text(json.dumps({"rhythm": "sinus", "beats": []}))
    write(study.cine, tmp_path / "made.npz")
    (tmp_path / "made.json").write_text(json.dumps({"model": "phantom-128", "weights_hash": "0"}))
    for name in ("states.dcm", "clip/cine.npz", "made.npz"):
        reading = json.loads(echogen("measure", tmp_path / name, "--json").out)
        assert reading["measuring_error"]["pictures"] == "generated", name
        ef = reading["numbers"]["ef_discs_percent"]
        assert ef["within"] > 0
        assert ef["error"] is None
    table = echogen("measure", tmp_path / "nothing.npz").out
    assert "phantom" not in table
    assert "of patients" in table
    reading = json.loads(echogen("measure", tmp_path / "nothing.npz", "--json").out)
    error = reading["measuring_error"]
    assert (error["pictures"], error["es_median_ms"]) == ("real", None)
    assert error["n"] >= 10
    assert 0 < error["ef_median_percent"] < error["ef_within_95_percent"]
    volume = reading["numbers"]["edv_discs_ml"]
    assert volume["within"] is None
    assert volume["error"]["n"] >= 10
    told = json.loads(echogen("measure", tmp_path / "nothing.npz", "--generated", "--json").out)
    assert told["measuring_error"]["pictures"] == "generated"


@pytest.mark.parametrize("content", ["", "[1]", '{"model": 1}', "[" * 100_000])
def test_a_file_beside_that_states_nothing_leaves_a_recording_real(echogen, tmp_path, study, content):
    write(study.cine, tmp_path / "clip.npz")
    (tmp_path / "clip.json").write_text(content)
    assert json.loads(echogen("measure", tmp_path / "clip.npz", "--json").out)["measuring_error"]["pictures"] == "real"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the recordings of patients in $ECHOGEN_TEST_DATA/real")
@pytest.mark.parametrize("network", ["segmenter", "reader"])
def test_a_real_clip_of_eight_frames_a_second(echogen, network, tmp_path):
    clip = sorted((REAL / "echodiffusion_gif").glob("*.gif"))[0]
    outcome = echogen("measure", clip, "--network", network, "--overlay", tmp_path / "over.mp4", "--json")
    reading = json.loads(outcome.out)
    assert 0 < reading["ef_percent"] < 90
    assert read_cine(tmp_path / "over.mp4").frames.shape[0] == len(read_cine(clip).frames)
