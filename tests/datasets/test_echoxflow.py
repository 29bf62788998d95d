"""EchoXFlow on fake stores: one clock, true geometry, contours, and one sentence for every fault."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import InputError
from echogen.datasets.echoxflow import EchoXFlow, even_ecg
from echogen.datasets.registry import open_dataset, recognise
from echogen.measurement.geometry import lv_geometry
from echogen.records import STRUCTURES

zarr = pytest.importorskip("zarr")

FPS, FRAMES, DEPTHS, BEAMS = 40.0, 41, 181, 121
STARTS_S, ECG_STARTS_S, ECG_HZ, R_S = 12.5, 11.9, 250.0, (12.6, 13.4)
DEPTH_M, HALF_ANGLE = 0.12, 0.65
CENTRE_MM, WALL_MM = np.array([-8.0, 65.0]), 8.0


def radius_mm(times_s):
    """Of a round ventricle: largest at 0.1 s after the first frame, smallest 0.4 s later."""
    return 22.0 + 5.0 * np.cos(2 * np.pi * (np.asarray(times_s) - 0.1) / 0.8)


def frame_times():
    return STARTS_S + np.arange(FRAMES) / FPS


def beams():
    """A dark round ventricle in a bright wall, as the scanner keeps it."""
    depth = np.linspace(0, DEPTH_M * 1000, DEPTHS)[:, None]
    angle = np.linspace(-HALF_ANGLE, HALF_ANGLE, BEAMS)[None]
    away = np.hypot(depth * np.sin(angle) - CENTRE_MM[0], depth * np.cos(angle) - CENTRE_MM[1])
    inner = radius_mm(frame_times() - STARTS_S)[:, None, None]
    return np.where(away < inner, 20, np.where(away < inner + WALL_MM, 200, 90)).astype(np.uint8)


def contour(times_s, across=5):
    """(times, 40 * across, 2) in m: rings of points around the ventricle, open at the base, the inner one first."""
    angle = np.linspace(0.25 * np.pi, 1.75 * np.pi, 40) + np.pi / 2
    out = np.linspace(0, WALL_MM, across)
    reach = radius_mm(times_s)[:, None, None] + out
    points = np.stack([reach * np.cos(angle)[:, None], reach * np.sin(angle)[:, None]], axis=-1) + CENTRE_MM
    return (points / 1000).reshape(len(times_s), -1, 2).astype(np.float32)


def sector(**changes):
    geometry = {"depth_start_m": 0.0, "depth_end_m": DEPTH_M, "angle_start_rad": -HALF_ANGLE, "angle_end_rad": HALF_ANGLE}
    return {"semantic_id": "bmode", "geometry": geometry | changes}


def trace():
    times = ECG_STARTS_S + np.arange(round(2.2 * ECG_HZ)) / ECG_HZ
    return sum(900 * np.exp(-0.5 * ((times - r) / 0.01) ** 2) for r in R_S) + 1000, times


def write_store(path, arrays, manifest, zarr_format=2, packed=False):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in arrays.items():
        group.create_array(name, data=np.asarray(values))
    group.attrs["recording_manifest"] = manifest
    if packed:
        archive = shutil.make_archive(str(path), "zip", path)
        shutil.rmtree(path)
        Path(archive).rename(path)


def brightness(**changes):
    values, times = trace()
    arrays = {
        "data/2d_brightness_mode": beams(),
        "timestamps/2d_brightness_mode": frame_times().astype(np.float32),
        "data/ecg": values.astype(np.float32),
        "timestamps/ecg": times.astype(np.float32),
    } | changes
    return {name: value for name, value in arrays.items() if value is not None}


def strain(role, linked, times_s, across=5):
    times_s = np.asarray(times_s)
    arrays = {f"data/{role}_contour": contour(times_s - STARTS_S, across), f"timestamps/{role}_contour": times_s}
    panel = {"role_id": role, "linked_recording": {"recording_id": linked, "relative_zarr_path": "../../elsewhere.zarr"}}
    if role == "2ch":
        panel = {"view_code": "2CH", "linked_recording": {"relative_zarr_path": f"../{linked}.zarr"}}
    annotation = {
        "target": {"semantic_id": role, "field": "contour_points"},
        "value": {"zarr_path": f"data/{role}_contour"},
        "time": {"zarr_path": f"timestamps/{role}_contour"},
    }
    return arrays, {"linked_panels": [panel], "annotations": [annotation]}


def make_echoxflow(folder: Path, recordings: list[tuple], **how) -> Path:
    """recordings: (exam, recording, content types, arrays, manifest, whether its store is there)."""
    rows = []
    for exam, name, contents, arrays, manifest, there in recordings:
        path = f"exams/{exam}/{name}.zarr"
        if there:
            write_store(folder / path, arrays, manifest, **how)
        counts = {"2d_brightness_mode": len(arrays.get("data/2d_brightness_mode", ()))}
        row = {"exam_id": exam, "recording_id": name, "zarr_path": path, "content_types": contents}
        row |= {"array_paths": list(arrays), "frame_counts_by_content_type": counts}
        rows.append({f"recordings/{key}": value for key, value in row.items()})
    folder.mkdir(exist_ok=True)
    (folder / "croissant.json").write_text(json.dumps({"recordSet": [{"@id": "arrays"}, {"@id": "recordings", "data": rows}]}))
    return folder


def one(folder: Path, arrays=None, manifest=None, **how) -> Path:
    arrays, manifest = arrays or brightness(), {"sectors": [sector()]} if manifest is None else manifest
    return make_echoxflow(folder, [("exam_a", "rec_1", ["2d_brightness_mode"], arrays, manifest, True)], **how)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bmode = ["2d_brightness_mode"]
    plain = {"sectors": [sector()]}
    centred = {"sectors": [{"frames": {"array_path": "data/2d_brightness_mode"}, "geometry": {}}, sector()]}
    centred["sectors"][0]["geometry"] = {"depth_start_m": 0, "depth_end_m": DEPTH_M, "tilt_rad": 0, "width_rad": 2 * HALF_ANGLE}
    some = frame_times()[4:29]
    found = make_echoxflow(
        tmp_path_factory.mktemp("data") / "EchoXFlow",
        [
            ("exam_a", "rec_1", bmode, brightness(), plain, True),
            ("exam_a", "rec_2", bmode, brightness(**{"data/ecg": None, "timestamps/ecg": None}), centred, True),
            ("exam_a", "still", bmode, brightness(**{"data/2d_brightness_mode": beams()[:1]}), plain, True),
            ("exam_a", "strain_lv", ["2d_left_ventricular_strain"], *strain("4ch", "rec_1", some), True),
            ("exam_a", "strain_2ch", ["2d_left_ventricular_strain"], *strain("2ch", "rec_2", frame_times()), True),
            ("exam_b", "strain_rv", ["2d_right_ventricular_strain"], *strain("rv", "rec_3", frame_times(), 3), True),
            ("exam_b", "rec_3", bmode, brightness(), plain, True),
            ("exam_b", "doppler", ["1d_pulsed_wave_doppler"], {"data/1d_pulsed_wave_doppler": np.zeros((3, 4))}, {}, True),
        ],
    )
    with (found / "splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("exam_id", "five_fold_split"), ("exam_a", 0), ("exam_b", 3)])
    return found


def test_ecg_and_cine_keep_their_common_clock(folder):
    data = EchoXFlow(folder)
    assert data.names == ["exam_a/rec_1", "exam_b/rec_3"]
    study = data[0]
    np.testing.assert_allclose(study.cine.times_s, np.arange(FRAMES) / FPS, atol=1e-5)
    assert study.cine.fps == pytest.approx(FPS, rel=1e-3)
    assert study.ecg.rate_hz == pytest.approx(ECG_HZ, rel=1e-4)
    assert study.ecg.start_s == pytest.approx(ECG_STARTS_S - STARTS_S, abs=1e-5)
    peaks = [float(study.ecg.between(r - STARTS_S - 0.2, r - STARTS_S + 0.2).signal_mv.argmax()) for r in R_S]
    for peak, r in zip(peaks, R_S, strict=True):
        part = study.ecg.between(r - STARTS_S - 0.2, r - STARTS_S + 0.2)
        assert part.times_s[int(peak)] == pytest.approx(r - STARTS_S, abs=0.5 / ECG_HZ)
    assert 0.8 < study.ecg.signal_mv.max() < 2.5  # scaled to its own height
    stated = EchoXFlow(folder, ecg_unit="uV")[0].ecg.signal_mv
    assert np.ptp(stated) == pytest.approx(0.9, abs=0.02)
    assert study.ecg.lead_names == ("ECG",)


def test_the_picture_is_true_to_scale(folder):
    study = EchoXFlow(folder)[0]
    assert study.cine.mm_per_pixel == pytest.approx(DEPTH_M * 1000 / (DEPTHS - 1))
    row = round((CENTRE_MM[1]) / study.cine.mm_per_pixel)
    middle = study.cine.frames.shape[2] / 2
    for frame in (0, 20):
        line = study.cine.frames[frame, row]
        dark = np.flatnonzero((line > 0) & (line < 60))
        assert len(dark) * study.cine.mm_per_pixel == pytest.approx(2 * radius_mm(frame / FPS), abs=2.0)
        assert (dark.mean() + 0.5 - middle) * study.cine.mm_per_pixel == pytest.approx(CENTRE_MM[0], abs=1.0)
    coarse = EchoXFlow(folder, mm_per_pixel=1.0)[0].cine
    assert coarse.frames.shape[1] == DEPTH_M * 1000
    assert coarse.mm_per_pixel == 1.0


def test_outlined_frames_have_masks_and_a_beat(folder):
    data = EchoXFlow(folder, outlined=True, mm_per_pixel=0.5)
    assert data.names == ["exam_a/rec_1"]
    study = data[0]
    assert study.cine.view == "A4C"
    np.testing.assert_allclose(study.cine.times_s, np.arange(4, 29) / FPS, atol=1e-5)
    assert set(np.unique(study.masks)) == {0, STRUCTURES["lv"], STRUCTURES["myocardium"]}
    inside = study.masks == STRUCTURES["lv"]
    assert (study.cine.frames[inside] < 60).mean() > 0.97
    assert (study.cine.frames[study.masks == STRUCTURES["myocardium"]] > 150).mean() > 0.9
    np.testing.assert_array_less(lv_geometry(study.masks, 0.5)[0][16], lv_geometry(study.masks, 0.5)[0][0])
    (beat,) = study.beats
    assert beat.ed_s == pytest.approx(0.1, abs=0.5 / FPS)
    assert beat.es_s == pytest.approx(0.5, abs=0.5 / FPS)
    assert beat.ef_percent is None


def test_without_asking_only_whole_outlines_become_masks(folder):
    data = EchoXFlow(folder, with_ecg=False, mm_per_pixel=0.5)
    assert data.names == ["exam_a/rec_1", "exam_a/rec_2", "exam_b/rec_3"]
    partly, wholly, right = data
    assert partly.masks is None
    assert len(partly.beats) == 1
    assert wholly.masks.shape == wholly.cine.frames.shape
    assert wholly.ecg is None
    assert wholly.cine.view == "A2C"
    assert right.masks is None
    assert (right.cine.view, right.beats) == (None, ())


def test_folds_choose_exams(folder, tmp_path):
    assert EchoXFlow(folder, folds=(3, 4)).names == ["exam_b/rec_3"]
    with pytest.raises(InputError, match="has the folds 0 to 4, not 7"):
        EchoXFlow(folder, folds=(7,))
    with pytest.raises(InputError, match=r"no CSV with the columns exam_id and five_fold_split.*huggingface"):
        EchoXFlow(one(tmp_path / "x"), folds=(0,))


@pytest.mark.parametrize("how", [{"zarr_format": 3}, {"packed": True}])
def test_newer_and_zipped_stores_are_read_alike(folder, tmp_path, how):
    study, same = EchoXFlow(one(tmp_path / "x", **how))[0], EchoXFlow(folder)[0]
    np.testing.assert_array_equal(study.cine.frames, same.cine.frames)
    np.testing.assert_array_equal(study.ecg.signal_mv, same.ecg.signal_mv)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no croissant\.json"):
        EchoXFlow(tmp_path)
    plain = {"sectors": [sector()]}
    rows = [("exam_a", name, ["2d_brightness_mode"], brightness(), plain, there) for name, there in (("r1", True), ("r2", False))]
    folder = make_echoxflow(tmp_path / "x", rows)
    with pytest.raises(InputError, match=r"1 of the 2 recordings .*\(exam_a/r2 is the first\); get them again .*huggingface"):
        EchoXFlow(folder)
    (folder / "exams" / "exam_a.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"unpack exams/exam_a\.tar in place"):
        EchoXFlow(folder)
    data = EchoXFlow(folder, skip_missing=True)
    assert (data.names, data.missing) == (["exam_a/r1"], ["exam_a/r2"])
    with pytest.raises(InputError, match="holds no recording that was asked for"):
        EchoXFlow(folder, outlined=True, skip_missing=True)
    for text in ("no json", "[]", '{"recordSet": [{"@id": "recordings", "data": [{"recordings/exam_id": 1}]}]}'):
        (folder / "croissant.json").write_text(text)
        with pytest.raises(InputError, match="does not list recordings"):
            EchoXFlow(folder)


@pytest.mark.parametrize(
    ("arrays", "manifest", "sentence"),
    [
        (
            {"timestamps/2d_brightness_mode": frame_times()[:-1]},
            None,
            "no increasing time for each row of data/2d_brightness_mode",
        ),
        ({"timestamps/2d_brightness_mode": frame_times()[::-1]}, None, "no increasing time"),
        ({"data/2d_brightness_mode": beams() * (np.arange(FRAMES) != 7)[:, None, None]}, None, "has empty frames"),
        ({"data/2d_brightness_mode": beams()[..., None]}, None, "no grey levels of frames, depths and beams"),
        ({"data/2d_brightness_mode": beams().astype(np.int16) * 3}, None, "no grey levels"),
        ({"data/ecg": np.full(550, 3.0)}, None, "The ECG of recording exam_a/rec_1 is flat"),
        ({"data/ecg": trace()[0].reshape(-1, 2), "timestamps/ecg": trace()[1][::2]}, None, "no ECG of one lead"),
        ({}, {}, "does not say where its beams lie"),
        ({}, {"sectors": [sector(angle_end_rad="wide")]}, "does not say where its beams lie"),
        ({}, {"sectors": [sector(depth_end_m=0.0)]}, "span no sector"),
    ],
)
def test_malformed_stores_are_named(tmp_path, arrays, manifest, sentence):
    data = EchoXFlow(one(tmp_path / "x", brightness(**arrays), manifest))
    with pytest.raises(InputError, match=sentence):
        data[0]


class Program:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_damaged_store_and_a_foreign_codec_are_refused(tmp_path):
    folder = one(tmp_path / "x")
    times = folder / "exams" / "exam_a" / "rec_1.zarr" / "timestamps" / "ecg"
    about = json.loads((times / ".zarray").read_text())

    def change(**changes):
        (times / ".zarray").write_text(json.dumps(about | changes))
        return EchoXFlow(folder)

    with pytest.raises(InputError, match="codec 'base64', which is not read"):
        change(filters=[{"id": "base64"}])[0]
    (times / "0").write_bytes(pickle.dumps(Program(tmp_path / "ran")))
    for filters in ([{"id": "pickle"}], [{"id": "delta", "dtype": "<f4"}, {"id": "pickle"}], [{"id": "pickle"}, {"id": "zlib"}]):
        with pytest.raises(InputError):
            change(filters=filters, compressor=None)[0]
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InputError, match="states more than 2 GB"):
        change(shape=[10**12])[0]
    with pytest.raises(InputError, match="states more than 2 GB"):
        change(chunks=[10**12])[0]
    with pytest.raises(InputError, match="incomplete or damaged"):
        change()[0]
    shutil.rmtree(times.parents[1])
    times.parents[1].write_bytes(b"PK no zip file")
    with pytest.raises(InputError, match="incomplete or damaged"):
        EchoXFlow(folder)[0]


def test_uneven_samples_are_put_on_an_even_grid():
    values, times = trace()
    kept = np.ones(len(times), dtype=bool)
    kept[100:120] = False  # 80 ms without samples, away from any peak
    ecg = even_ecg(values[kept], times[kept], ECG_STARTS_S, 1e-3, "The recording x")
    assert ecg.rate_hz == pytest.approx(ECG_HZ)
    np.testing.assert_allclose(ecg.signal_mv[0], values / 1000, atol=1e-3)
    kept[100:160] = False
    with pytest.raises(InputError, match=r"The ECG of recording x has a gap of 0\.2 s or more"):
        even_ecg(values[kept], times[kept], 0.0, 1e-3, "The recording x")


@given(rate_hz=st.floats(100, 1000), start_s=st.floats(-5, 3000), jitter=st.floats(0, 0.4), seed=st.integers(0, 99))
def test_stamps_that_tremble_keep_rate_and_place(rate_hz, start_s, jitter, seed):
    times = start_s + np.arange(800) / rate_hz
    # Within the 2 ms that count as even, and with the rounding of single precision.
    trembling = times + np.random.default_rng(seed).uniform(-1, 1, 800) * min(jitter / rate_hz, 0.0005)
    ecg = even_ecg(np.sin(30 * times), trembling.astype(np.float32).astype(np.float64), start_s, 1.0, "The recording x")
    assert ecg.signal_mv.shape == (1, 800)
    assert abs(ecg.start_s) < 0.002
    assert abs(ecg.end_s - 800 / rate_hz) < 0.004


def test_the_registry_knows_it(folder):
    assert recognise(folder) == "echoxflow"
    data = open_dataset("echoxflow", folder, outlined=True)
    assert data.labels(0) == {"exam_id": "exam_a", "recording_id": "rec_1"}


def test_options_and_a_missing_package_are_one_sentence(folder, monkeypatch):
    with pytest.raises(InputError, match="Pixels must be"):
        EchoXFlow(folder, mm_per_pixel=0.0)
    with pytest.raises(InputError, match="unit of an ECG"):
        EchoXFlow(folder, ecg_unit="apples")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"needs the package zarr; install it with pip install 'echogen\[datasets\]'"):
        EchoXFlow(folder)[0]
