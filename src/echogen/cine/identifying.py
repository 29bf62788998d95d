"""Search for the patient's identity in an echo or ECG file: DICOM attributes, and text that is burned into the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine.burned_in import text_boxes
from echogen.cine.dicom_opening import read_dataset
from echogen.cine.sector import find_sector
from echogen.errors import InputError

#: Attributes that the basic profile of DICOM PS3.15, table E.1-1, removes or replaces: names and numbers of people,
#: places and devices, dates and times, free text. UIDs are left out, since every object has them.
_NAMES = """
PatientName PatientID IssuerOfPatientID OtherPatientIDs OtherPatientIDsSequence OtherPatientNames PatientBirthDate
PatientBirthTime PatientBirthName PatientMotherBirthName PatientSex PatientAge PatientSize PatientWeight PatientAddress
PatientTelephoneNumbers PatientTelecomInformation PatientComments PatientState PatientInsurancePlanCodeSequence
PatientPrimaryLanguageCodeSequence PatientReligiousPreference EthnicGroup Occupation MilitaryRank BranchOfService
CountryOfResidence RegionOfResidence ResponsiblePerson ResponsibleOrganization MedicalRecordLocator MedicalAlerts Allergies
AdditionalPatientHistory SmokingStatus PregnancyStatus LastMenstrualDate SpecialNeeds CurrentPatientLocation
InstitutionName InstitutionAddress InstitutionCodeSequence InstitutionalDepartmentName StationName DeviceSerialNumber
ReferringPhysicianName ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers ConsultingPhysicianName
PerformingPhysicianName NameOfPhysiciansReadingStudy PhysiciansOfRecord OperatorsName RequestingPhysician
RequestingService ScheduledPerformingPhysicianName PersonName PersonAddress PersonTelephoneNumbers VerifyingObserverName
ContentCreatorName AdmissionID AccessionNumber StudyID RequestAttributesSequence FillerOrderNumberImagingServiceRequest
PlacerOrderNumberImagingServiceRequest StudyDate SeriesDate AcquisitionDate ContentDate StudyTime SeriesTime AcquisitionTime
ContentTime AcquisitionDateTime InstanceCreationDate InstanceCreationTime AdmittingDate PerformedProcedureStepStartDate
PerformedProcedureStepStartTime ProtocolName StudyDescription SeriesDescription ImageComments StudyComments
AdmittingDiagnosesDescription DerivationDescription RequestedProcedureDescription PerformedProcedureStepDescription
ClinicalTrialSubjectID ClinicalTrialSiteName
"""
PERSONAL_ATTRIBUTES = frozenset(_NAMES.split())
_BESIDE = 0.02
NOTE = "text beside the sector is guessed from shapes: look at the pictures before you share them"


def identifying_attributes(path: str | Path) -> dict[str, Any] | None:
    """The filled-in attributes of a DICOM file that may hold personal data; None for a file of another kind.

    attributes: their keywords, sorted, those inside sequences included; private_attributes: how many the maker added without
    saying what they hold; burned_in_annotation: what the file itself says of text in its pixels ("YES", "NO" or None).
    """
    try:
        dataset = read_dataset(path, stop_before_pixels=True)
        elements = [element for element in dataset.iterall() if element.value not in (None, "", b"") and element.VM]
    except Exception:
        return None
    return {
        "attributes": sorted({element.keyword for element in elements} & PERSONAL_ATTRIBUTES),
        "private_attributes": sum(element.tag.is_private and not element.tag.is_private_creator for element in elements),
        "burned_in_annotation": str(dataset.get("BurnedInAnnotation", "") or "") or None,
    }


def text_beside_the_sector(frames: ByteArray) -> bool:
    """True if text seems to be burned into the pixels outside the sector of a cine (T, H, W).

    A guess: four or more bright, still shapes of the size of letters in one line. Without a sector the whole picture counts.
    """
    still = frames[:: max(1, len(frames) // 16)].min(axis=0).astype(np.float64)
    height, width = still.shape
    try:
        sector = find_sector(frames)
        outside = ~sector.inside(height, width, margin=max(2.0, _BESIDE * sector.radius))
    except InputError:
        outside = np.ones(still.shape, dtype=bool)
    return bool(text_boxes(still, outside))
