"""DICOM objects of a synthetic study: a multi-frame ultrasound image, and the ECG beside it as a waveform on the same clock."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
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
#: Nobody was examined, so 0 s is the first moment of this day.
_ZERO = datetime(2000, 1, 1)
_MOST_BYTES = 2**31
_LARGEST_COUNT = 32767
_TWELVE_LEAD, _GENERAL, _AMBULATORY = (f"1.2.840.10008.5.1.4.1.1.9.{kind}" for kind in ("1.1", "1.2", "1.3"))
_TWELVE_LEAD_SAMPLES = 16384
_SLOWEST_HZ, _SLOWEST_GENERAL_HZ, _FASTEST_HZ = 50.0, 200.0, 1000.0


def dicom_study(
    cine: Cine, ecg: Ecg | None = None, r_s: Sequence[float] | NDArray[np.float64] = ()
) -> tuple[Dataset, Dataset | None]:
    """A cine as an Ultrasound Multi-frame Image object and the part of an ECG during it as an ECG Waveform object.

    Both lie in one study, are synchronised, and say that they are synthetic. Frame times and mm per pixel are exact to 15
    digits; the ECG is rounded to at most 1/32767 of its largest value and, where its rate is outside the 50..1000 Hz that DICOM
    allows, resampled. r_s: R peaks in s on the clock of the cine. The same content gets the same UIDs, other content others.
    Source: DICOM PS3.3 A.7 and A.34. Raises `InputError` for an ECG of another time, or a cine of more than 2 GB.
    """
    if cine.frames.nbytes >= _MOST_BYTES:
        raise InputError("This cine is too large for one DICOM object (2 GB); write a shorter one.")
    content = hashlib.sha256(cine.frames.tobytes())
    content.update(repr((cine.frames.shape, cine.times_s.tolist(), cine.mm_per_pixel, cine.view, list(r_s))).encode())
    if ecg is not None:
        ecg = _allowed(ecg.between(float(cine.times_s[0]), float(cine.times_s[0]) + (cine.duration_s or 1.0)))
        content.update(ecg.signal_mv.tobytes() + repr((ecg.rate_hz, ecg.start_s, ecg.lead_names)).encode())
    seed = content.hexdigest()
    image = _image(cine, seed)
    inside = [float(r) - float(cine.times_s[0]) for r in r_s if 0 <= r - cine.times_s[0] < cine.duration_s]
    if inside:
        image.RWaveTimeVector = [1000.0 * r for r in inside]
    return image, None if ecg is None else _waveform(ecg, seed)


def _uid(seed: str, what: str) -> str:
    """A UID of DICOM PS3.5 B.2 (2.25. and a UUID as a number) that follows from the content."""
    digest = hashlib.sha256(f"echogen {what} {seed}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def _common(class_uid: str, modality: str, number: int, start_s: float, seed: str) -> Dataset:
    """The patient that there is not, the study, the series, the equipment and the clock."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    instance = _uid(seed, f"{modality} instance")
    moment = _ZERO + timedelta(seconds=start_s)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = UID(class_uid)
    data.file_meta.MediaStorageSOPInstanceUID = UID(instance)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = class_uid, instance
    data.StudyDate, data.StudyTime = _ZERO.strftime("%Y%m%d"), _ZERO.strftime("%H%M%S")
    data.ContentDate, data.ContentTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    data.AcquisitionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    data.AccessionNumber = data.ReferringPhysicianName = data.PatientBirthDate = data.PatientSex = ""
    data.PatientName, data.PatientID = "Synthetic^Echogen", "SYNTHETIC"
    data.PatientComments = "Synthetic: made by a computer, nobody was examined. Not for diagnosis."
    data.StudyDescription = "Synthetic echocardiogram"
    data.StudyInstanceUID, data.StudyID = _uid(seed, "study"), "1"
    data.SeriesInstanceUID, data.SeriesNumber = _uid(seed, f"{modality} series"), number
    data.SeriesDescription = "Synthetic echocardiogram" if modality == "US" else "ECG of the synthetic echocardiogram"
    data.Modality, data.InstanceNumber, data.BodyPartExamined = modality, 1, "HEART"
    data.Manufacturer = data.ManufacturerModelName = "echogen"
    data.DeviceSerialNumber, data.SoftwareVersions = "0", version("echogen")
    data.SynchronizationFrameOfReferenceUID = _uid(seed, "clock")
    data.SynchronizationTrigger, data.AcquisitionTimeSynchronized = "NO TRIGGER", "Y"
    return data


def _image(cine: Cine, seed: str) -> Dataset:
    from pydicom.uid import UltrasoundMultiFrameImageStorage

    data = _common(UltrasoundMultiFrameImageStorage, "US", 1, float(cine.times_s[0]), seed)
    data.ImageType = ["DERIVED", "SECONDARY", "TTE", "0001"]
    data.DerivationDescription = "Synthetic, made by echogen"
    data.PatientOrientation = ""
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    count, data.Rows, data.Columns = cine.frames.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
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
    pixels = cine.frames.tobytes()
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


def _waveform(ecg: Ecg, seed: str) -> Dataset:
    from pydicom import Dataset

    samples = ecg.signal_mv.shape[1]
    if ecg.rate_hz < _SLOWEST_GENERAL_HZ:
        kind = _AMBULATORY
    elif set(ecg.lead_names) == set(LEAD_CODES) and samples <= _TWELVE_LEAD_SAMPLES:
        kind = _TWELVE_LEAD
    else:
        kind = _GENERAL
    data = _common(kind, "ECG", 2, ecg.start_s, seed)
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
