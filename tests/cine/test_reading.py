import contextlib
import pickle
import struct

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from echogen import Cine, InputError
from echogen.cine import limits, read_cine, read_image, write


@pytest.fixture(scope="module")
def dicom_path():
    return get_testdata_file("examples_ybr_color.dcm")


@pytest.fixture(scope="module")
def files(tmp_path_factory, dicom_path):
    """The bytes of one readable file of every kind."""
    folder = tmp_path_factory.mktemp("readable")
    rows, columns = np.indices((48, 64))
    frames = np.stack([(128 + 100 * np.sin((rows + 3 * i) / 7) * np.cos(columns / 9)).astype(np.uint8) for i in range(12)])
    cine = Cine(frames, np.arange(12) / 25.0)
    for suffix in (".mp4", ".avi", ".gif", ".npz", ".nii", ".nii.gz", ".dcm"):
        write(cine, folder / f"clip{suffix}")
    stamps = "".join(f"Seq_Frame{k:04d}_Timestamp = {k / 25}\n" for k in range(12))
    header = f"ObjectType = Image\nNDims = 3\nDimSize = 64 48 12\nElementType = MET_UCHAR\n{stamps}ElementDataFile = LOCAL\n"
    (folder / "clip.mha").write_bytes(header.encode() + frames.tobytes())
    with av.open(str(folder / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    Image.fromarray(frames[0]).save(folder / "still.png")
    Image.fromarray(frames[0]).save(folder / "still.jpg", quality=95)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    with open(dicom_path, "rb") as file:
        found["cine.dcm"] = file.read()
    return frames, found


def test_dicom_cine_has_its_frames_times_and_scale(dicom_path):
    cine = read_cine(dicom_path)
    assert cine.frames.shape == (30, 240, 320)
    np.testing.assert_allclose(cine.times_s, np.arange(30) * 0.033333, atol=1e-9)
    # The depth scale burned into the picture says 19 cm for about 190 rows.
    assert cine.mm_per_pixel == pytest.approx(2 * 0.5104970559, rel=1e-6)
    # Grey pictures stay grey: a second colour conversion would brighten the black surround.
    assert np.median(cine.frames) < 5


def test_dicom_region_inside_the_frame_is_taken_as_it_is(tmp_path, dicom_path):
    import pydicom

    dataset = pydicom.dcmread(dicom_path)
    region = dataset.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 300, 200
    del dataset.FrameTime
    dataset.FrameTimeVector = [0.0] + [20.0, 30.0] * 14 + [20.0]
    dataset.save_as(tmp_path / "inside.dcm")
    cine = read_cine(tmp_path / "inside.dcm")
    assert cine.mm_per_pixel == pytest.approx(0.5104970559, rel=1e-6)
    np.testing.assert_allclose(np.diff(cine.times_s), ([0.02, 0.03] * 15)[:29], atol=1e-12)
    del dataset.FrameTimeVector
    dataset.save_as(tmp_path / "timeless.dcm")
    with pytest.raises(InputError, match="frame rate"):
        read_cine(tmp_path / "timeless.dcm")
    assert read_cine(tmp_path / "timeless.dcm", fps=50).fps == pytest.approx(50)


def test_every_kind_reads_by_content_and_not_by_suffix(tmp_path, files):
    frames, found = files
    for name, content in found.items():
        path = tmp_path / f"{name}.dat"
        path.write_bytes(content)
        cine = read_cine(path)
        first = read_image(path)
        np.testing.assert_array_equal(first, cine.frames[0])
        if name == "cine.dcm":
            continue
        assert cine.frames.shape == ((1 if name.startswith("still") else 12), 48, 64), name
        exact = name not in ("clip.mp4", "clip.avi", "still.jpg")
        assert np.abs(cine.frames.astype(int) - frames[: len(cine.frames)]).mean() <= (0 if exact else 2.0), name
        if len(cine.frames) > 1:
            np.testing.assert_allclose(cine.times_s, np.arange(12) / 25.0, atol=1e-3)
            np.testing.assert_allclose(read_cine(path, fps=47.0).times_s, np.arange(12) / 47.0, atol=1e-12)


def test_truncated_and_empty_files_are_refused_in_one_sentence(tmp_path, files):
    for name, content in files[1].items():
        for length in (0, 3, len(content) // 3, int(len(content) * 0.8)):
            path = tmp_path / name
            path.write_bytes(content[:length])
            with pytest.raises(InputError) as caught:
                read_cine(path)
            message = str(caught.value)
            assert "\n" not in message
            assert message.endswith("."), message


# pydicom remarks on every damaged value before the reader judges the file.
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(data=st.data())
def test_damaged_bytes_end_in_a_cine_or_a_sentence(tmp_path_factory, files, data):
    name = data.draw(st.sampled_from(sorted(files[1])))
    content = bytearray(files[1][name])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content)
    # Any other exception fails the test.
    with contextlib.suppress(InputError):
        assert isinstance(read_cine(path), Cine)


class _Executes:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_what_is_no_picture_is_refused(tmp_path, dicom_ecg_path):
    (tmp_path / "notes.mp4").write_text("not a video at all, just words\n" * 20)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Executes()))
    np.savez(tmp_path / "evil.npz", frames=np.array([_Executes()], dtype=object), times_s=np.zeros(1))
    np.savez(tmp_path / "ecg.npz", signal_mv=np.zeros((2, 100)))
    np.savez(tmp_path / "float.npz", frames=np.zeros((2, 8, 8)), times_s=np.arange(2.0))
    np.savez(tmp_path / "words.npz", frames=np.zeros((2, 8, 8), np.uint8), times_s=np.array(["a", "b"]))
    (tmp_path / "folder.avi").mkdir()
    for name in ("notes.mp4", "evil.pkl", "evil.npz", "ecg.npz", "float.npz", "words.npz", "folder.avi", "missing.gif"):
        with pytest.raises(InputError):
            read_cine(tmp_path / name)
        if name != "words.npz":  # whose frames are good
            with pytest.raises(InputError):
                read_image(tmp_path / name)
    with pytest.raises(InputError, match="without pictures"):
        read_cine(dicom_ecg_path)


@pytest.mark.parametrize("fps", [0.0, -3.0, float("nan"), float("inf")])
def test_impossible_frame_rates_are_refused(dicom_path, fps):
    with pytest.raises(InputError, match="frame rate"):
        read_cine(dicom_path, fps=fps)


def test_too_much_video_is_refused_before_it_is_decoded(tmp_path, monkeypatch, files):
    monkeypatch.setattr(limits, "MAXIMUM_DECODED_BYTES", 10_000)
    monkeypatch.setattr("echogen.cine.reading.MAXIMUM_DECODED_BYTES", 10_000)
    for name in sorted(files[1]):
        if name.startswith("still"):
            continue
        (tmp_path / name).write_bytes(files[1][name])
        with pytest.raises(InputError, match="limit"):
            read_cine(tmp_path / name)


def test_a_picture_that_claims_a_huge_size_is_refused(tmp_path):
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 100_000, 100_000, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(header + b"\0" * 200)
    with pytest.raises(InputError):
        read_cine(tmp_path / "bomb.png")


def test_gif_frames_keep_their_own_durations(tmp_path):
    pictures = [Image.fromarray(np.full((8, 8), 40 * i, np.uint8)) for i in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[30, 50, 20, 90])
    np.testing.assert_allclose(read_cine(tmp_path / "a.gif").times_s, [0, 0.03, 0.08, 0.10])


def test_colour_pictures_become_grey_and_transparent_ones_lie_on_black(tmp_path):
    Image.new("RGB", (6, 4), (0, 255, 0)).save(tmp_path / "green.png")
    Image.new("RGBA", (6, 4), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "green.png") == 150).all()
    assert (read_image(tmp_path / "clear.png") == 0).all()


def test_real_video_reads_at_its_own_rate(test_data):
    cine = read_cine(test_data / "echo_video" / "echotracker_input.mp4")
    assert cine.frames.shape == (45, 768, 1024)
    np.testing.assert_allclose(cine.times_s, np.arange(45) / 20.0, atol=1e-6)


def test_real_palette_and_rgb_stills_read(test_data):
    folder = test_data / "echo_dicom" / "negatives_not_echo"
    assert read_cine(folder / "examples_rgb_color.dcm").frames.shape == (1, 240, 320)
    # The bar at the top has palette index 240 and more, and is dark grey.
    assert 50 < np.median(read_image(folder / "examples_palette.dcm")[:20]) < 70
