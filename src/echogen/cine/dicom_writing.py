"""DICOM objects of a study: a multi-frame ultrasound image, and the ECG beside it as a waveform on the same clock."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from echogen.cine.timing import uniform_rate
from echogen.errors import InputError
from echogen.records import Cine, Ecg

if TYPE_CHECKING:
    from pydicom import Dataset

#: SNOMED CT codes of the views, of DICOM context group 12226.
VIEW_CODES = {"A4C": ("399214001", "Apical four chamber"), "A2C": ("399232001", "Apical two chamber")}
#: MDC codes of the twelve leads, of DICOM context group 3001.
LEAD_CODES = {"I": "2:1", "II": "2:2", "III": "2:61", "aVR": "2:62", "aVL": "2:63", "aVF": "2:64"}
LEAD_CODES |= {f"V{number}": f"2:{number + 2}" for number in range(1, 7)}
#: First moment of the day that stands for dates that are not known, or not told.
_ZERO = datetime(2000, 1, 1)
_MOST_BYTES = 2**31
_LARGEST_COUNT = 32767
_TWELVE_LEAD, _GENERAL, _AMBULATORY = (f"1.2.840.10008.5.1.4.1.1.9.{kind}" for kind in ("1.1", "1.2", "1.3"))
_TWELVE_LEAD_SAMPLES = 16384
_SLOWEST_HZ, _SLOWEST_GENERAL_HZ, _FASTEST_HZ = 50.0, 200.0, 1000.0


@dataclass(frozen=True)
class Subject:
    """Patient and study of the objects, and what they say of how they came about.

    name, identifier: Of the patient.
    comments: About the patient.
    description: Of the study and of its image series.
    ecg_description: Of the series with the ECG.
    derivation: Of the image; None where it says nothing.
    image_type: Values 1 to 4 of the image's type.
    maker, model: Of the equipment.
    began: Date and time of 0 s.
    study: Text from which the study's UID follows; None takes that of the content.
    removed: Content of the module that says how the patient's identity was removed; None where there was none.
    """

    name: str = "Synthetic^Echogen"
    identifier: str = "SYNTHETIC"
    comments: str = "Synthetic: made by a computer, nobody was examined. Not for diagnosis."
    description: str = "Synthetic echocardiogram"
    ecg_description: str = "ECG of the synthetic echocardiogram"
    derivation: str | None = "Synthetic, made by echogen"
    image_type: tuple[str, ...] = ("DERIVED", "SECONDARY", "TTE", "0001")
    maker: str = "echogen"
    model: str = "echogen"
    began: datetime = _ZERO
    study: str | None = None
    removed: Removal | None = None


@dataclass(frozen=True)
class Removal:
    """Removal of a patient's identity, as an object states it.

    codes: Code values and meanings of the options of the confidentiality profile (DICOM PS3.16, context group 7050).
    dates: REMOVED or MODIFIED, as the attribute Longitudinal Temporal Information Modified has it.
    """

    codes: tuple[tuple[str, str], ...]
    dates: str


#: Subject of what was made by a computer.
SYNTHETIC = Subject()


def dicom_study(
    cine: Cine,
    ecg: Ecg | None = None,
    r_s: Sequence[float] | NDArray[np.float64] = (),
    *,
    subject: Subject = SYNTHETIC,
    colours: NDArray[np.uint8] | None = None,
) -> tuple[Dataset, Dataset | None]:
    """A cine as an Ultrasound Multi-frame Image object and the part of an ECG during it as an ECG Waveform object.

    subject: Patient and study; the synthetic one says that nobody was examined.
    colours: The frames in colour (T, height, width, 3), stored instead of the grey ones.
    Both lie in one study and are synchronised. Frame times and mm per pixel are exact to 15
    digits; the ECG is rounded to at most 1/32767 of its largest value and, where its rate is outside the 50..1000 Hz that DICOM
    allows, resampled. r_s: R peaks in s on the clock of the cine. The same content gets the same UIDs, other content others.
    Source: DICOM PS3.3 A.7 and A.34. Raises `InputError` for an ECG of another time, or a cine of more than 2 GB.
    """
    pixels = cine.frames if colours is None else colours
    if pixels.nbytes >= _MOST_BYTES:
        raise InputError("This cine is too large for one DICOM object (2 GB); write a shorter one.")
    content = hashlib.sha256(pixels.tobytes())
    content.update(repr((cine.frames.shape, cine.times_s.tolist(), cine.mm_per_pixel, cine.view, list(r_s))).encode())
    if ecg is not None:
        ecg = _allowed(ecg.between(float(cine.times_s[0]), float(cine.times_s[0]) + (cine.duration_s or 1.0)))
        content.update(ecg.signal_mv.tobytes() + repr((ecg.rate_hz, ecg.start_s, ecg.lead_names)).encode())
    seed = content.hexdigest()
    image = _image(cine, pixels, seed, subject)
    inside = [float(r) - float(cine.times_s[0]) for r in r_s if 0 <= r - cine.times_s[0] < cine.duration_s]
    if inside:
        image.RWaveTimeVector = [1000.0 * r for r in inside]
    return image, None if ecg is None else _waveform(ecg, seed, subject)


def _uid(seed: str, what: str) -> str:
    """A UID of DICOM PS3.5 B.2 (2.25. and a UUID as a number) that follows from the content."""
    digest = hashlib.sha256(f"echogen {what} {seed}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def _common(class_uid: str, modality: str, number: int, start_s: float, seed: str, subject: Subject) -> Dataset:
    """The patient, the study, the series, the equipment and the clock."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    instance = _uid(seed, f"{modality} instance")
    moment = subject.began + timedelta(seconds=start_s)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = UID(class_uid)
    data.file_meta.MediaStorageSOPInstanceUID = UID(instance)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = class_uid, instance
    data.StudyDate, data.StudyTime = subject.began.strftime("%Y%m%d"), subject.began.strftime("%H%M%S")
    data.ContentDate, data.ContentTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    data.AcquisitionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    data.AccessionNumber = data.ReferringPhysicianName = data.PatientBirthDate = data.PatientSex = ""
    data.PatientName, data.PatientID, data.PatientComments = subject.name, subject.identifier, subject.comments
    data.StudyDescription = subject.description
    data.StudyInstanceUID, data.StudyID = _uid(seed if subject.study is None else subject.study, "study"), "1"
    data.SeriesInstanceUID, data.SeriesNumber = _uid(seed, f"{modality} series"), number
    data.SeriesDescription = subject.description if modality == "US" else subject.ecg_description
    data.Modality, data.InstanceNumber, data.BodyPartExamined = modality, 1, "HEART"
    data.Manufacturer, data.ManufacturerModelName = subject.maker, subject.model
    data.DeviceSerialNumber, data.SoftwareVersions = "0", version("echogen")
    data.SynchronizationFrameOfReferenceUID = _uid(seed, "clock")
    data.SynchronizationTrigger, data.AcquisitionTimeSynchronized = "NO TRIGGER", "Y"
    if subject.removed is not None:
        data.PatientIdentityRemoved, data.LongitudinalTemporalInformationModified = "YES", subject.removed.dates
        data.DeidentificationMethodCodeSequence = [_code(value, "DCM", meaning) for value, meaning in subject.removed.codes]
    return data


def _image(cine: Cine, frames: NDArray[np.uint8], seed: str, subject: Subject) -> Dataset:
    from pydicom.uid import UltrasoundMultiFrameImageStorage

    data = _common(UltrasoundMultiFrameImageStorage, "US", 1, float(cine.times_s[0]), seed, subject)
    data.ImageType = list(subject.image_type)
    if subject.derivation is not None:
        data.DerivationDescription = subject.derivation
    data.PatientOrientation = ""
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    count, data.Rows, data.Columns = frames.shape[:3]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    if frames.ndim == 4:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.NumberOfFrames = count
    steps_ms = 1000.0 * np.diff(cine.times_s)
    rate = uniform_rate(cine.times_s)
    exact = rate is not None and np.abs(np.arange(count) / float(rate) - (cine.times_s - cine.times_s[0])).max() < 1e-9
    if exact and rate is not None:
        data.FrameTime = _decimal(1000.0 / float(rate))
        data.FrameIncrementPointer = 0x00181063
        if round(rate) == rate:
            data.CineRate = int(rate)
    else:
        data.FrameTimeVector = ["0", *map(_decimal, steps_ms)]
        data.FrameIncrementPointer = 0x00181065
    if cine.mm_per_pixel is not None:
        data.SequenceOfUltrasoundRegions = [_region(cine)]
    if cine.view is not None:
        value, meaning = VIEW_CODES[cine.view]
        data.ViewCodeSequence = [_code(value, "SCT", meaning)]
    pixels = frames.tobytes()
    data.PixelData = pixels + b"\0" * (len(pixels) % 2)
    data["PixelData"].VR = "OB"
    return data


def _region(cine: Cine) -> Dataset:
    """The whole frame as one calibrated two-dimensional tissue region (PS3.3 C.8.5.5)."""
    from pydicom import Dataset

    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = cine.frames.shape[2] - 1, cine.frames.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = float(cine.mm_per_pixel or 0) / 10.0
    return region


def _allowed(ecg: Ecg) -> Ecg:
    """The ECG at a rate that DICOM allows."""
    rate = min(max(ecg.rate_hz, _SLOWEST_HZ), _FASTEST_HZ)
    if rate == ecg.rate_hz:
        return ecg
    from scipy.signal import resample

    count = max(1, round(ecg.signal_mv.shape[1] * rate / ecg.rate_hz))
    rate = count * ecg.rate_hz / ecg.signal_mv.shape[1]
    return Ecg(resample(ecg.signal_mv, count, axis=1), min(rate, _FASTEST_HZ), ecg.lead_names, ecg.start_s)


def _waveform(ecg: Ecg, seed: str, subject: Subject) -> Dataset:
    from pydicom import Dataset

    samples = ecg.signal_mv.shape[1]
    if ecg.rate_hz < _SLOWEST_GENERAL_HZ:
        kind = _AMBULATORY
    elif set(ecg.lead_names) == set(LEAD_CODES) and samples <= _TWELVE_LEAD_SAMPLES:
        kind = _TWELVE_LEAD
    else:
        kind = _GENERAL
    data = _common(kind, "ECG", 2, ecg.start_s, seed, subject)
    data.AcquisitionContextSequence = []
    group = Dataset()
    group.WaveformOriginality, group.MultiplexGroupLabel = "ORIGINAL", "RHYTHM"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = len(ecg.lead_names), samples
    group.SamplingFrequency = _decimal(ecg.rate_hz)
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    microvolts = 1000.0 * ecg.signal_mv.astype(np.float64)
    step = _step_uv(float(np.abs(microvolts).max()))
    group.ChannelDefinitionSequence = [_channel(name, step) for name in ecg.lead_names]
    group.WaveformData = np.rint(microvolts.T / step).astype("<i2").tobytes()
    group["WaveformData"].VR = "OW"
    data.WaveformSequence = [group]
    return data


def _step_uv(largest_uv: float) -> float:
    """The finest of 0.01, 0.02, 0.05, 0.1 ... microvolts a count with which the largest value fits into 16 bits."""
    for exponent in range(-2, 9):
        for digit in (1, 2, 5):
            step = digit * 10.0**exponent
            if largest_uv <= step * _LARGEST_COUNT:
                return step
    raise InputError(f"The ECG reaches {largest_uv / 1e6:g} V, which is no ECG; state its true unit.")


def _channel(name: str, step_uv: float) -> Dataset:
    from pydicom import Dataset

    channel = Dataset()
    channel.ChannelLabel = name[:16]
    if name in LEAD_CODES:
        channel.ChannelSourceSequence = [_code(LEAD_CODES[name], "MDC", f"Lead {name}")]
    else:
        channel.ChannelSourceSequence = [_code(name[:16], "99ECHOGEN", name[:64])]
    channel.ChannelSensitivity = _decimal(step_uv)
    channel.ChannelSensitivityUnitsSequence = [_code("uV", "UCUM", "microvolt")]
    channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline, channel.ChannelSampleSkew = "1", "0", "0"
    channel.WaveformBitsStored = 16
    return channel


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _decimal(value: float) -> str:
    """A number in the at most 16 characters of a DICOM decimal string."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))
