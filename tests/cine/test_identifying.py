"""What may tell whose heart it is: names of attributes, and text beside the sector."""

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file

from echogen import Cine, read_cine, write
from echogen.cine import Sector
from echogen.cine.identifying import PERSONAL_ATTRIBUTES, identifying_attributes, text_beside_the_sector


def fan(seed=0, frames=3):
    speckle = np.clip(np.random.default_rng(seed).rayleigh(45, (frames, 480, 640)), 12, 255)
    return np.where(Sector(20, 310, 400, 0.6, 0.6).inside(480, 640), speckle, 0).astype(np.uint8)


def labelled(frames, text, size, place=(8, 8)):
    pictures = [Image.fromarray(frame) for frame in frames]
    for picture in pictures:
        ImageDraw.Draw(picture).text(place, text, fill=230, font=ImageFont.load_default(size=size))
    return np.stack([np.asarray(picture) for picture in pictures])


def test_every_name_is_a_dicom_attribute():
    assert all(pydicom.datadict.tag_for_keyword(name) is not None for name in PERSONAL_ATTRIBUTES)


def test_filled_attributes_are_named_and_empty_ones_are_not(tmp_path):
    write(Cine(fan()[:1], np.zeros(1)), tmp_path / "a.dcm")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.PatientBirthDate, data.OperatorsName, data.InstitutionName = "19500101", "Doe^J", ""
    request = pydicom.Dataset()
    request.RequestingPhysician = "House^G"
    data.RequestAttributesSequence = [request]
    data.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "who knows")
    data.save_as(tmp_path / "b.dcm")
    found = identifying_attributes(tmp_path / "b.dcm")
    assert {"PatientName", "PatientBirthDate", "OperatorsName", "RequestingPhysician"} <= set(found["attributes"])
    assert not {"InstitutionName", "PatientSex", "Rows"} & set(found["attributes"])
    assert (found["private_attributes"], found["burned_in_annotation"]) == (1, "NO")
    (tmp_path / "c.txt").write_text("no DICOM")
    assert identifying_attributes(tmp_path / "c.txt") is None


@pytest.mark.parametrize("size", [11, 16, 22])
@pytest.mark.parametrize("place", [(8, 8), (500, 440)])
def test_text_beside_the_sector_is_seen(size, place):
    assert not text_beside_the_sector(fan())
    assert text_beside_the_sector(labelled(fan(), "Smith 0815", size, place))


def test_rulers_and_bars_are_no_text():
    frames = fan()
    for row in range(40, 440, 40):
        frames[:, row : row + 2, 600:612] = 200
    frames[:, 60:300, 628:634] = 220
    assert not text_beside_the_sector(frames)


def test_real_cines(test_data):
    assert text_beside_the_sector(read_cine(get_testdata_file("examples_ybr_color.dcm")).frames)
    assert not text_beside_the_sector(read_cine(test_data / "echo_video" / "echotracker_input.mp4").frames[::9])
