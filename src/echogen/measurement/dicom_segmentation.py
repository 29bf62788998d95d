"""A DICOM Segmentation object of the outlines of an ultrasound image (PS3.3 A.51)."""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.dicom_opening import read_dataset
from echogen.cine.reading import file_kind
from echogen.errors import InputError
from echogen.records import STRUCTURES

#: SNOMED CT code and meaning of each chamber.
CODES = {
    "lv": ("87878005", "Left ventricle"),
    "myocardium": ("74281007", "Myocardium"),
    "la": ("82471001", "Left atrium"),
    "rv": ("53085002", "Right ventricle"),
    "ra": ("73829009", "Right atrium"),
}
#: Tags of the number of a frame of the source, and of the sequence that holds it in each frame of the object.
_FRAME_NUMBER, _DERIVATION = 0x00081160, 0x00089124
#: Class of an ultrasound image of one frame, which the first frame is given to highdicom as.
_SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.6.1"


def segmentation(masks: ByteArray, frames: np.ndarray, source: Path) -> Any:
    """Build a binary Segmentation object with a segment for each chamber that is outlined anywhere.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`. frames: (T,) index of each mask's frame in the source. source: its file.
    Raises `InputError` for a source that is no DICOM image, for masks without a chamber, and without highdicom.
    """
    if file_kind(source) != "dicom":
        raise InputError(f"A DICOM Segmentation belongs to a DICOM image, which {source.name} is not; write .nii.gz or .npz.")
    image = read_dataset(source)
    size = (int(image.Columns), int(image.Rows))
    if masks.shape[:0:-1] != size:
        masks = np.stack([np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks])
    present = [name for name in CODES if (masks == STRUCTURES[name]).any()]
    if not present:
        raise InputError("No chamber is outlined, so there is nothing to write as a DICOM Segmentation.")
    held = _of_one_frame(image, present)
    # highdicom takes several frames only of images that lie in a patient's space, which ultrasound does not.
    places = [(segment, index) for segment in range(len(present)) for index in range(len(masks))]
    items = [deepcopy(held.PerFrameFunctionalGroupsSequence[segment]) for segment, _ in places]
    for item, (segment, index) in zip(items, places, strict=True):
        number = int(frames[index]) + 1
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
        item.FrameContentSequence[0].DimensionIndexValues = [segment + 1, number]
    held.PerFrameFunctionalGroupsSequence = items
    frame_number = deepcopy(held.DimensionIndexSequence[0])
    frame_number.DimensionIndexPointer, frame_number.FunctionalGroupPointer = _FRAME_NUMBER, _DERIVATION
    frame_number.DimensionDescriptionLabel = "Frame"
    held.DimensionIndexSequence = [held.DimensionIndexSequence[0], frame_number]
    held.NumberOfFrames = len(places)
    held.PatientOrientation = image.get("PatientOrientation", "")
    for element in held.iterall():
        if element.keyword == "ReferencedSOPClassUID" and element.value == _SINGLE_FRAME:
            element.value = image.SOPClassUID
    bits = np.stack([masks[index] == STRUCTURES[present[segment]] for segment, index in places])
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    held.PixelData = packed + b"\0" * (len(packed) % 2)
    return held


def _of_one_frame(image: Any, present: list[str]) -> Any:
    """Segmentation of the first frame of an image, with a full frame for each chamber."""
    try:
        import highdicom
        from highdicom.sr.coding import CodedConcept
    except ImportError as error:
        raise InputError("Writing a DICOM Segmentation needs the package highdicom; install echogen[segmentation].") from error
    first = deepcopy(image)
    if "NumberOfFrames" in first:
        del first.NumberOfFrames
    first.SOPClassUID = _SINGLE_FRAME
    for missing in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"):
        if missing not in first:
            setattr(first, missing, "")
    for missing in ("AccessionNumber", "ReferringPhysicianName"):
        if missing not in first:
            setattr(first, missing, "")
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="echogen", version=version("echogen"), family=CodedConcept("123110", "DCM", "Artificial Intelligence")
    )
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=CODES[name][1],
            segmented_property_category=CodedConcept("91723000", "SCT", "Anatomical structure"),
            segmented_property_type=CodedConcept(CODES[name][0], "SCT", CODES[name][1]),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(present, start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=[first],
        pixel_array=np.ones((1, int(image.Rows), int(image.Columns), len(present)), dtype=np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="echogen",
        manufacturer_model_name="echogen",
        software_versions=version("echogen"),
        device_serial_number="0",
    )
