"""DICOM ultrasound of every transfer syntax and colour that can be written here: grey frames, converted once."""

import io
import struct

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import convert_color_space

from echogen import Cine, InputError, read_cine, write
from echogen.cine.colour import read_colour

ROWS, COLUMNS = np.indices((48, 64))
COLOUR = np.stack(
    [np.stack([200 - 3 * ROWS + k, 60 + 2 * COLUMNS, 255 - 2 * ROWS - COLUMNS // 2 + k], axis=-1) for k in range(3)]
).astype(np.uint8)
GREY = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in COLOUR])


@pytest.fixture
def dataset(tmp_path):
    write(Cine(GREY, np.arange(3) / 25.0, 0.5), tmp_path / "plain.dcm")
    return pydicom.dcmread(tmp_path / "plain.dcm")


def coloured(dataset, pixels, photometric, planar=0):
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, planar, photometric
    dataset.PixelData = (pixels.transpose(0, 3, 1, 2) if planar else pixels).tobytes()
    return dataset


def jpeg(picture, **options):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def with_jpegs(dataset, frames, photometric):
    coloured(dataset, COLOUR, photometric)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return dataset


def without_jfif(content):
    """The JPEG without its APP0 marker."""
    assert content[2:4] == b"\xff\xe0"
    return content[:2] + content[4 + int.from_bytes(content[4:6], "big") :]


def with_adobe(content, transform):
    """The JPEG with Adobe's marker, which says how its colours are stored, in place of JFIF's."""
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return content[:2] + marker + without_jfif(content)[2:]


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
        uid.JPEG2000Lossless,
        uid.JPEGLSLossless,
    ],
)
@pytest.mark.parametrize("kind", ["grey", "rgb", "inverse", "16 bit"])
def test_lossless_syntaxes_are_exact(tmp_path, dataset, syntax, kind):
    if syntax == uid.JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    if kind == "rgb":
        coloured(dataset, COLOUR, "RGB")
    elif kind == "inverse":
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PixelData = (255 - GREY).tobytes()
    elif kind == "16 bit":
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelData = (GREY.astype(np.uint16) * 257).tobytes()
        dataset["PixelData"].VR = "OW"
    if syntax.is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    implicit = syntax == uid.ImplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    cine = read_cine(tmp_path / "a.dcm")
    np.testing.assert_array_equal(cine.frames, GREY)
    assert cine.mm_per_pixel == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("planar", "syntax"), [(0, uid.ExplicitVRLittleEndian), (1, uid.ExplicitVRLittleEndian), (0, uid.RLELossless)]
)
def test_ybr_is_the_luminance_itself(tmp_path, dataset, planar, syntax):
    ybr = convert_color_space(COLOUR, "RGB", "YBR_FULL")
    coloured(dataset, ybr, "YBR_FULL", planar)
    if syntax == uid.RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_cine(tmp_path / "a.dcm").frames, ybr[..., 0])
    assert np.abs(ybr[..., 0].astype(int) - GREY).max() <= 1


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
@pytest.mark.parametrize("marker", ["jfif", "adobe", "none"])
def test_jpeg_colour_is_converted_once(tmp_path, dataset, photometric, marker):
    frames = [jpeg(frame) for frame in COLOUR]
    if marker == "none" and photometric == "RGB":
        pytest.skip("then what is stored is RGB, as the next test has it")
    if marker == "adobe":
        frames = [with_adobe(frame, 1) for frame in frames]
    elif marker == "none":
        frames = [without_jfif(frame) for frame in frames]
    with_jpegs(dataset, frames, photometric).save_as(tmp_path / "a.dcm")
    assert np.abs(read_cine(tmp_path / "a.dcm").frames.astype(int) - GREY).max() <= 4


def test_a_jpeg_that_says_nothing_of_its_colours_is_what_dicom_says(tmp_path, dataset):
    # Near grey, so that every triple of YCbCr has its RGB.
    rgb = np.stack([np.stack([60 + 2 * COLUMNS + k, 120 + ROWS // 4, 140 - ROWS // 4], axis=-1) for k in range(3)]).astype(
        np.uint8
    )
    as_ycbcr = [np.asarray(Image.frombytes("YCbCr", (64, 48), picture.tobytes()).convert("RGB")) for picture in rgb]
    frames = [without_jfif(jpeg(picture, subsampling=0)) for picture in as_ycbcr]
    with_jpegs(dataset, frames, "RGB").save_as(tmp_path / "a.dcm")
    grey = np.stack([np.asarray(Image.fromarray(picture).convert("L")) for picture in rgb])
    assert np.abs(read_cine(tmp_path / "a.dcm").frames.astype(int) - grey).max() <= 4


def test_adobe_rgb_jpeg_stays_rgb(tmp_path, dataset):
    frames = [jpeg(frame, keep_rgb=True, subsampling=0) for frame in COLOUR]
    with_jpegs(dataset, frames, "RGB").save_as(tmp_path / "a.dcm")
    assert np.abs(read_cine(tmp_path / "a.dcm").frames.astype(int) - GREY).max() <= 4


def test_grey_agrees_with_pydicom_on_a_real_cine():
    from pydicom.data import get_testdata_file

    path = get_testdata_file("examples_ybr_color.dcm")
    theirs = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in pixel_array(path)])
    difference = np.abs(read_cine(path).frames.astype(int) - theirs)
    assert difference.mean() < 0.3
    assert difference.max() <= 8  # where their RGB is cut off at 0 or 255


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.MPEG4HP41])
def test_what_cannot_be_decoded_is_named(tmp_path, dataset, syntax):
    dataset.PixelData = encapsulate([b"\xff\xd8\0\0"] * 3)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="uncompressed or as JPEG 2000"):
        read_cine(tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-30])
    with pytest.raises(InputError):
        read_cine(tmp_path / "b.dcm")


def test_a_jpeg_ls_frame_without_its_end_is_refused_at_once(tmp_path, dataset):
    jpeg_ls = pytest.importorskip("jpeg_ls")
    whole = [bytes(jpeg_ls.encode_array(frame)) for frame in GREY]
    assert whole[2].endswith(b"\xff\xd9")
    for last in (whole[2], whole[2][:-2], whole[2][:-3] + b"\0"):
        dataset.PixelData = encapsulate([*whole[:2], last])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = uid.JPEGLSLossless
        dataset.save_as(tmp_path / "a.dcm")
        if last == whole[2]:
            np.testing.assert_array_equal(read_cine(tmp_path / "a.dcm").frames, GREY)
            continue
        for read in (read_cine, read_colour):
            with pytest.raises(InputError, match="frame 3 is cut short"):
                read(tmp_path / "a.dcm")


def test_a_decoder_that_panics_is_one_sentence(tmp_path, dataset):
    # Two segments of 16-bit RLE, whose last run reaches over the end of the frame.
    segment = (bytes([99]) + bytes(100)) * (48 * 64 // 100 + 1)
    offsets = np.array([2, 64, 64 + len(segment), *[0] * 13], "<u4").tobytes()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelData = encapsulate([offsets + segment + segment] * 3)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.RLELossless
    dataset.save_as(tmp_path / "a.dcm")
    for read in (read_cine, read_colour):
        with pytest.raises(InputError, match="cannot be decoded"):
            read(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
@pytest.mark.parametrize("keyword", ["HeartRate", "PhysicalDeltaX"])
def test_a_rate_or_scale_of_the_ecg_that_is_no_number_counts_as_not_stated(tmp_path, dataset, keyword):
    region = pydicom.Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.PhysicalUnitsXDirection = 3, 10, 4
    region.RegionLocationMaxX1 = region.RegionLocationMaxY1 = 9
    region.PhysicalDeltaX, dataset.HeartRate = 0.025, 75
    dataset.SequenceOfUltrasoundRegions = [region]
    dataset.save_as(tmp_path / "a.dcm")
    found = read_colour(tmp_path / "a.dcm")
    assert (found.heart_rate_bpm, found.ecg_seconds_per_pixel) == (75, 0.025)
    content = bytearray((tmp_path / "a.dcm").read_bytes())
    group, element = divmod(tag_for_keyword(keyword), 65536)
    at = content.index(struct.pack("<HH", group, element)) + 8
    length = int.from_bytes(content[at - 2 : at], "little")
    content[at : at + length] = b"x" * length if keyword == "HeartRate" else np.array([np.nan]).tobytes()
    (tmp_path / "a.dcm").write_bytes(content)
    found = read_colour(tmp_path / "a.dcm")
    assert (found.heart_rate_bpm is None, found.ecg_seconds_per_pixel is None) == (keyword == "HeartRate", keyword != "HeartRate")


def test_a_damaged_modality_does_not_spoil_the_sentence(tmp_path, dataset):
    dataset.Modality = "US"
    dataset.save_as(tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    place = content.index(b"\x08\x00\x60\x00CS\x02\x00US")
    (tmp_path / "a.dcm").write_bytes(content[: place + 8] + b"\nX" + content[place + 10 :])
    with pytest.raises(InputError) as caught:
        read_cine(tmp_path / "a.dcm")
    assert str(caught.value).isprintable()


def test_a_frame_of_another_size_is_refused(tmp_path, dataset):
    frames = [jpeg(frame) for frame in (*COLOUR[:2], COLOUR[2, :40])]
    with_jpegs(dataset, frames, "YBR_FULL_422").save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="40 x 64"):
        read_cine(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("facts", "step_s"),
    [
        ({"FrameTimeVector": [0, 10, 30]}, None),
        ({"FrameTime": 20.0, "CineRate": 7}, 0.02),
        ({"CineRate": 50}, 0.02),
        ({"FrameTime": 0, "RecommendedDisplayFrameRate": 40}, 0.025),
        ({"FrameTimeVector": [0, 0, 0], "CineRate": 25}, 0.04),
    ],
)
def test_times_come_from_the_best_source(tmp_path, dataset, facts, step_s):
    for name in ("FrameTime", "CineRate"):
        if name in dataset:
            delattr(dataset, name)
    for name, value in facts.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "a.dcm")
    expected = [0, 0.01, 0.04] if step_s is None else np.arange(3) * step_s
    np.testing.assert_allclose(read_cine(tmp_path / "a.dcm").times_s, expected)
