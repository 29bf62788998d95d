"""NIfTI and MetaImage: axes, spacing, times, and one sentence for every fault."""

import gzip
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen import Cine, InputError
from echogen.cine import read_cine, read_image, to_sector, write

nibabel = pytest.importorskip("nibabel")
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 6, 9), dtype=np.uint8)


def save_nifti(path, values, zooms, units, kind=nibabel.Nifti1Image):
    image = kind(values, np.eye(4))
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units(*units)
    nibabel.save(image, path)


def mhd_text(data="a.raw", sizes="9 6 5", kind="MET_UCHAR", **more):
    lines = {"ObjectType": "Image", "NDims": len(sizes.split()), "DimSize": sizes, "ElementSpacing": "0.5 0.5 1"}
    lines |= {"ElementType": kind, **more, "ElementDataFile": data}
    return "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_has_its_frames_spacing_and_times(tmp_path, kind, suffix):
    path = tmp_path / f"a{suffix}"
    save_nifti(path, FRAMES.T[:, :, None, :], (0.4, 0.4, 1.0, 20.0), ("mm", "msec"), kind)
    found = path.rename(tmp_path / "a.dat")
    cine = read_cine(found)
    np.testing.assert_array_equal(cine.frames, FRAMES)
    np.testing.assert_allclose(cine.times_s, np.arange(5) / 50)
    assert cine.mm_per_pixel == pytest.approx(0.4)
    np.testing.assert_array_equal(read_image(found), FRAMES[0])
    assert read_cine(found, fps=10).fps == pytest.approx(10)


def test_a_third_axis_states_no_time(tmp_path):
    save_nifti(tmp_path / "a.nii", FRAMES.T, (1.0, 1.0, 1.0), ("unknown", "unknown"))
    with pytest.raises(InputError, match="frame rate"):
        read_cine(tmp_path / "a.nii")
    cine = read_cine(tmp_path / "a.nii", fps=25)
    assert (cine.frames.shape, cine.mm_per_pixel) == ((5, 6, 9), None)


def test_pixels_become_square_and_levels_grey(tmp_path):
    save_nifti(tmp_path / "a.nii", FRAMES[0].T / 255.0, (0.001, 0.0005), ("meter", "unknown"))
    cine = read_cine(tmp_path / "a.nii")
    assert (cine.frames.shape, cine.mm_per_pixel) == ((1, 6, 18), pytest.approx(0.5))
    assert np.ptp(cine.frames) > 150
    save_nifti(tmp_path / "b.nii", FRAMES[0].T.astype(np.int16) * 100, (1, 1), ("mm", "unknown"))
    np.testing.assert_allclose(read_image(tmp_path / "b.nii"), FRAMES[0] * (255 / FRAMES[0].max()), atol=0.51)
    for values in (np.full((4, 4), -1.0), np.full((4, 4), np.nan), np.full((4, 4), 1j)):
        save_nifti(tmp_path / "c.nii", values, (1, 1), ("mm", "unknown"))
        with pytest.raises(InputError):
            read_cine(tmp_path / "c.nii")


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8)),
    start=st.floats(-5, 5),
    seed=st.integers(0, 99),
    mm=st.none() | st.floats(0.05, 3),
    view=st.sampled_from([None, "A4C", "A2C"]),
    suffix=st.sampled_from([".npz", ".nii", ".nii.gz"]),
)
def test_what_is_lossless_reads_back_exactly(tmp_path_factory, shape, start, seed, mm, view, suffix):
    rng = np.random.default_rng(seed)
    times = start + np.cumsum(rng.uniform(0.004, 0.2, shape[0]))
    cine = Cine(rng.integers(0, 256, shape, dtype=np.uint8), times, mm, view)
    path = tmp_path_factory.mktemp("exact") / f"a{suffix}"
    write(cine, path)
    again = read_cine(path)
    np.testing.assert_array_equal(again.frames, cine.frames)
    np.testing.assert_array_equal(again.times_s, cine.times_s)
    assert (again.mm_per_pixel, again.view) == (mm, view)


def test_written_nifti_says_the_same_to_other_readers(tmp_path):
    write(Cine(FRAMES, np.arange(5) / 40, 0.25), tmp_path / "a.nii.gz")
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0].T, FRAMES)
    np.testing.assert_allclose(image.header.get_zooms(), (0.25, 0.25, 1, 0.025))
    assert image.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("how", ["raw", "big", "packed", "local", "skipped", "tail"])
def test_metaimage_of_every_layout(tmp_path, how):
    values = FRAMES.astype(">i2" if how == "big" else "<i2")
    content, more, data = values.tobytes(), {}, "a.raw"
    if how == "big":
        more["BinaryDataByteOrderMSB"] = "True"
    if how in ("packed", "local"):
        content, more, data = zlib.compress(content), {"CompressedData": "True"}, "a.zraw" if how == "packed" else "LOCAL"
    if how in ("skipped", "tail"):
        more["HeaderSize"] = 7 if how == "skipped" else -1
        content = b"ignored" + content
    header = mhd_text(data, kind="MET_SHORT", **more)
    (tmp_path / "a.txt").write_bytes(header + content if how == "local" else header)
    if how != "local":
        (tmp_path / data).write_bytes(content)
    cine = read_cine(tmp_path / "a.txt", fps=50)
    np.testing.assert_array_equal(cine.frames, FRAMES)
    assert cine.mm_per_pixel == 0.5


def test_metaimage_time_stamps_are_the_clock(tmp_path):
    stamps = {f"Seq_Frame{k:04d}_Timestamp": 3.5 + k * 0.03 for k in range(5)}
    (tmp_path / "a.mhd").write_bytes(mhd_text(**stamps))
    (tmp_path / "a.raw").write_bytes(FRAMES.tobytes())
    np.testing.assert_allclose(read_cine(tmp_path / "a.mhd").times_s, np.arange(5) * 0.03)


def test_a_header_reaches_no_file_outside_its_folder(tmp_path):
    (tmp_path / "secret.raw").write_bytes(FRAMES.tobytes())
    folder = tmp_path / "cine"
    folder.mkdir()
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    (folder / "circle.raw").symlink_to(folder / "circle.raw")
    for name in ("../secret.raw", str(tmp_path / "secret.raw"), "..\\secret.raw", "link.raw", "a\0.raw", "circle.raw"):
        (folder / "a.mhd").write_bytes(mhd_text(name))
        with pytest.raises(InputError, match="outside its folder"):
            read_cine(folder / "a.mhd", fps=10)


def test_faults_end_in_a_sentence(tmp_path):
    raw = FRAMES.tobytes()
    (tmp_path / "a.raw").write_bytes(raw[:-1])
    faults = [mhd_text(), mhd_text("none.raw"), mhd_text("LIST"), mhd_text(sizes="9 6 5 2"), mhd_text(sizes="9 -6 5")]
    faults += [mhd_text(kind="MET_STRANGE"), mhd_text(sizes="90000 90000 90000"), mhd_text(ElementNumberOfChannels=3)]
    faults += [mhd_text("LOCAL", CompressedData="True") + b"no zlib", b"NDims = 3\n" * 10, b"NDims = 3", mhd_text(sizes="a b")]
    faults.append(mhd_text("LOCAL", sizes="9 6 6", CompressedData="True") + zlib.compress(bytes(100)))
    for text in faults:
        (tmp_path / "a.mhd").write_bytes(text)
        with pytest.raises(InputError) as caught:
            read_cine(tmp_path / "a.mhd", fps=10)
        assert str(caught.value).endswith("."), text
    save_nifti(tmp_path / "a.nii.gz", FRAMES.T, (1, 1, 1), ("mm", "sec"))
    whole = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    huge = bytearray(whole)
    huge[42:48] = np.array([30000] * 3, "<i2").tobytes()
    for content in (whole[:-9], whole[:400], bytes(huge), gzip.compress(whole)[:-60]):
        (tmp_path / "b.nii").write_bytes(content)
        with pytest.raises(InputError):
            read_cine(tmp_path / "b.nii", fps=10)
    save_nifti(tmp_path / "c.nii", np.zeros((3, 3, 3, 3)), (1, 1, 1, 1), ("mm", "sec"))
    with pytest.raises(InputError, match="axes"):
        read_cine(tmp_path / "c.nii")


def test_without_nibabel_there_is_one_sentence(tmp_path, monkeypatch):
    save_nifti(tmp_path / "a.nii", FRAMES.T, (1, 1, 1), ("mm", "sec"))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"install echogen\[datasets\]"):
        read_cine(tmp_path / "a.nii", fps=10)
    with pytest.raises(InputError, match=r"install echogen\[datasets\]"):
        write(Cine(FRAMES, np.arange(5.0)), tmp_path / "b.nii")
    assert not (tmp_path / "b.nii").exists()


def test_odd_headers_are_repaired_without_remarks(tmp_path, capfd):
    save_nifti(tmp_path / "a.nii", FRAMES.T, (1, 1, 1), ("mm", "sec"))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[80:84] = np.array(-1.0, "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert read_cine(tmp_path / "a.nii", fps=10).mm_per_pixel == 1.0
    assert capfd.readouterr() == ("", "")


def test_a_real_still_shows_its_sector(test_data):
    path = test_data / "echo_camus" / "patient0213_4CH_ED.nii"
    cine = read_cine(path)
    assert cine.frames.shape == (1, 422, 451)
    assert cine.mm_per_pixel == pytest.approx(0.308)
    assert to_sector(cine.frames)[0].shape == (1, 128, 128)
