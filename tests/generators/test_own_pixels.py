"""A still's own pixels, moved: on simulated stills, whose outlines are known, and on patients' where there are any."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import echogen
from echogen.cine.sector import canonical_view
from echogen.ecg import find_landmarks
from echogen.ecg_window.beats import find_beats
from echogen.errors import InputError
from echogen.generators import Generator
from echogen.generators.own_pixels.generator import OwnPixels, OwnPixelsConfig
from echogen.measurement import load_segmenter, measure
from echogen.measurement.still import outline_still
from echogen.records import Cine, Ecg, FrameMap, Study


@pytest.fixture(scope="module")
def study() -> Study:
    """A simulated heart with its ECG and masks."""
    return echogen.simulate(seconds=9.0, heart_rate_bpm=70.0, ef_percent=60.0, seed=4)


@pytest.fixture(scope="module")
def first_r_s(study: Study) -> float:
    """First R peak of its ECG, in s."""
    assert study.ecg is not None
    return float(find_landmarks(study.ecg).r_s[0])


def asked(study: Study, index: int = 0) -> dict[str, object]:
    """A frame of a study as the still, with its mask."""
    assert study.masks is not None
    zero = np.zeros(1)
    return {
        "reference": Cine(study.cine.frames[index : index + 1], zero),
        "maps": {"mask": FrameMap(study.masks[index : index + 1], zero)},
    }


def at(study: Study, time_s: float) -> int:
    """Index of a study's frame at a time in s."""
    return int(np.argmin(np.abs(study.cine.times_s - time_s)))


def test_the_video_begins_with_the_still_and_goes_on_with_its_pixels(study: Study, first_r_s: float) -> None:
    still = asked(study, at(study, first_r_s))
    video = OwnPixels()(study.ecg, start_s=first_r_s, seconds=2.0, ef_percent=55.0, seed=3, **still)
    given = study.cine.frames[at(study, first_r_s)]
    assert video.frames.shape == (64, 128, 128)
    np.testing.assert_array_equal(video.frames[0], given)
    assert (video.frames[8] != given).mean() > 0.1
    outside = ~canonical_view(given).inside
    assert (video.frames[:, outside] == given[outside]).all()
    # As bright and as grainy as the still, in every frame.
    np.testing.assert_allclose(video.frames.mean((1, 2)), given.mean(), rtol=0.15)
    grain = np.abs(np.diff(video.frames.astype(float), axis=2)).mean((1, 2))
    np.testing.assert_allclose(grain, grain[0], rtol=0.15)


@pytest.mark.parametrize("ef", [30.0, 60.0])
def test_the_cavity_follows_the_ecg_and_the_ejection_fraction(study: Study, first_r_s: float, ef: float) -> None:
    still = asked(study, at(study, first_r_s))
    video = OwnPixels()(study.ecg, start_s=first_r_s, seconds=4.0, ef_percent=ef, **still)
    reading = measure(video, load_segmenter(), study.ecg)
    assert reading.ef_percent == pytest.approx(ef, abs=8.0)
    assert reading.matched_fraction is not None
    assert reading.matched_fraction > 0.7


def test_a_still_at_end_systole_opens_again(study: Study, first_r_s: float) -> None:
    assert study.ecg is not None
    es_s = float(find_beats(study.ecg).clock(None, 60.0).avc_s[0])
    still = asked(study, at(study, es_s))
    video = OwnPixels(OwnPixelsConfig(phase="es"))(study.ecg, start_s=es_s, seconds=3.0, ef_percent=60.0, **still)
    np.testing.assert_array_equal(video.frames[0], study.cine.frames[at(study, es_s)])
    reading = measure(video, load_segmenter(), study.ecg)
    assert reading.ef_percent == pytest.approx(60.0, abs=12.0)


def pieces(ecg: Ecg, length_s: float) -> Iterator[Ecg]:
    """An ECG in pieces of a length in s."""
    edges = np.arange(ecg.start_s, ecg.end_s, length_s)
    return (ecg.between(start, start + length_s) for start in edges)


def test_a_stream_gives_the_frames_of_a_call_and_the_seed_decides(study: Study) -> None:
    assert study.ecg is not None
    whole = OwnPixels()(study.ecg, seconds=5.0, seed=1, **asked(study))
    parts = list(OwnPixels().stream(pieces(study.ecg, 0.5), seconds=5.0, seed=1, **asked(study)))
    assert len(parts) > 2
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), whole.frames)
    other = OwnPixels()(study.ecg, seconds=5.0, seed=2, **asked(study))
    assert (other.frames != whole.frames).any()
    # Where one window ends and the next begins, frames differ no more than elsewhere.
    change = np.abs(np.diff(whole.frames.astype(float), axis=0)).mean((1, 2))
    seams = np.cumsum([len(part.frames) for part in parts])[:-1] - 1
    assert change[seams].max() <= 1.2 * np.delete(change, seams).max()


def test_live_is_the_same_however_the_ecg_is_cut() -> None:
    study = echogen.simulate(seconds=6.0, rhythm="af", heart_rate_bpm=95.0, seed=6)
    assert study.ecg is not None
    one, other = (
        np.concatenate([part.frames for part in OwnPixels().stream(pieces(study.ecg, s), live=True, **asked(study))])
        for s in (0.2, 0.7)
    )
    np.testing.assert_array_equal(one, other)
    assert len(one) > 100


def test_marks_beside_the_sector_stay_at_any_size(study: Study, first_r_s: float) -> None:
    from PIL import Image

    index = at(study, first_r_s)
    assert study.masks is not None
    frame, mask = study.cine.frames[index], study.masks[index]
    still = np.zeros((290, 401), np.uint8)
    still[20:276, 100:356] = np.asarray(Image.fromarray(frame).resize((256, 256), Image.Resampling.BICUBIC))
    still[30:250:40, 380:390] = 200
    masks = np.zeros_like(still)
    masks[20:276, 100:356] = mask.repeat(2, 0).repeat(2, 1)
    zero = np.zeros(1)
    video = OwnPixels()(
        study.ecg,
        start_s=first_r_s,
        seconds=1.0,
        ef_percent=60.0,
        reference=Cine(still[None], zero),
        maps={"mask": FrameMap(masks[None], zero)},
    )
    assert video.frames.shape == (32, 290, 401)
    assert (video.frames[:, :, 365:] == still[:, 365:]).all()
    assert (video.frames[:, :, :60] == still[:, :60]).all()
    assert (video.frames[12] != still).mean() > 0.05


def test_without_an_ecg_a_steady_heart_beats(study: Study) -> None:
    video = OwnPixels()(None, seconds=3.0, ef_percent=60.0, **asked(study))
    reading = measure(video, load_segmenter())
    assert reading.heart_rate_bpm == pytest.approx(70.6, abs=4.0)


def test_what_is_missing_is_said(study: Study) -> None:
    given = asked(study)
    zero = np.zeros(1)
    with pytest.raises(InputError, match="a mask of its chambers"):
        OwnPixels()(study.ecg, seconds=1.0, reference=given["reference"])
    with pytest.raises(InputError, match="as many rows"):
        OwnPixels()(study.ecg, seconds=1.0, reference=given["reference"], maps={"mask": FrameMap(np.ones((1, 64, 64)), zero)})
    with pytest.raises(InputError, match="No left ventricle"):
        OwnPixels()(study.ecg, seconds=1.0, reference=given["reference"], maps={"mask": FrameMap(np.zeros((1, 128, 128)), zero)})


def test_a_folder_keeps_the_settings(tmp_path: Path, study: Study) -> None:
    OwnPixels(OwnPixelsConfig(phase="es", fps=25.0)).save_pretrained(tmp_path / "own")
    loaded = Generator.from_pretrained(tmp_path / "own", device="cpu")
    assert isinstance(loaded, OwnPixels)
    assert loaded.config == OwnPixelsConfig(phase="es", fps=25.0)
    assert len(loaded(study.ecg, seconds=1.0, **asked(study)).frames) == 25


@pytest.mark.parametrize("patient", ["patient0014", "patient0019", "patient0024"])
def test_stills_of_patients(test_data: Path, study: Study, first_r_s: float, patient: str) -> None:
    with np.load(test_data / "real" / "camus_a4c" / f"{patient}_4CH.npz") as held:
        still = held["ED"]
    zero = np.zeros(1)
    masks = FrameMap(outline_still(still)[None], zero)
    video = OwnPixels()(
        study.ecg, start_s=first_r_s, seconds=3.0, ef_percent=55.0, reference=Cine(still[None], zero), maps={"mask": masks}
    )
    np.testing.assert_array_equal(video.frames[0], still)
    margin = ~canonical_view(still).recorded_masks(canonical_view(still).inside.astype(np.uint8), *still.shape).astype(bool)
    assert (video.frames[:, margin] == still[margin]).all()
    reading = measure(video, load_segmenter("reader"), study.ecg)
    assert reading.ef_percent == pytest.approx(55.0, abs=12.0)


def test_another_view_is_refused(test_data: Path) -> None:
    with pytest.raises(InputError, match="apical"):
        outline_still(echogen.read_image(test_data / "real" / "cines" / "godicom_I_000007_PLAX.dcm"))
