"""The attributes of a derived series: what is kept of the acquired one, and what says "synthetic".

Patient and study text is copied as stored bytes together with SpecificCharacterSet, never decoded,
so that it comes back as it was in any character set.
"""

from __future__ import annotations

from typing import Any

from pydicom import uid as dicom_uids
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import STR_VR

from lohi_edge.dicom import uids, words
from lohi_edge.dicom.geometry import Frame
from lohi_edge.dicom.instance import (
    MAKER,
    MR_IMAGE,
    SYNTHETIC_TYPE,
    Instance,
    items,
    number,
    quiet,
    text,
)

WHOLE_GROUPS = (0x0010, 0x0012)  # patient, clinical trial and de-identification
# Of the study and the patient in it: kept in every instance, of whatever kind.
KEPT_OF_STUDY = (
    *("SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyInstanceUID", "StudyDate"),
    *("StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "SeriesDate"),
    *("SeriesTime", "BodyPartExamined", "Laterality", "PatientPosition"),
)
KEPT_OF_SCAN = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
    *("ProtocolName", "ScanningSequence", "SequenceVariant"),
    *("ScanOptions", "MRAcquisitionType", "SequenceName", "RepetitionTime", "EchoTime"),
    *("InversionTime", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus", "EchoNumbers"),
    *("MagneticFieldStrength", "EchoTrainLength", "FlipAngle", "ContrastBolusAgent"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
KEPT_PER_SLICE = (
    *("AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
    *("ContentDate", "ContentTime"),
)
# Type 2 attributes of every image IOD, and of MR Image: present, if need be empty (PS3.3 A.4.3).
NEVER_ABSENT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("PatientPosition", "SeriesNumber", "Laterality"),
)
NEVER_ABSENT_IN_MR = (
    *("PositionReferenceIndicator", "ScanOptions", "MRAcquisitionType", "RepetitionTime"),
    *("EchoTime", "EchoTrainLength"),
)


def common(first: Frame, record: dict[str, Any]) -> Dataset:
    """What every instance of the derived series has in common, identity and geometry apart."""
    source = first.instance
    ds = of_study(source)
    for keyword in KEPT_OF_SCAN:
        copy_keyword(source, ds, keyword)
    _from_enhanced(first, ds)
    for keyword in NEVER_ABSENT_IN_MR:
        if keyword not in ds:
            setattr(ds, keyword, None)
    for keyword, value in (("ScanningSequence", "RM"), ("SequenceVariant", "NONE")):
        if not text(ds, keyword):
            setattr(ds, keyword, value)
    if not text(ds, "FrameOfReferenceUID"):
        ds.FrameOfReferenceUID = uids.derive("frame of reference", source.series_uid)
    identify(ds, source, record)
    return ds


def of_study(source: Instance) -> Dataset:
    """Patient and study as the acquired series has them."""
    ds = Dataset()
    for tag in source.raw:
        if tag.group in WHOLE_GROUPS and dictionary_tag(tag):
            copy(source, ds, tag)
    for keyword in KEPT_OF_STUDY:
        copy_keyword(source, ds, keyword)
    for keyword in NEVER_ABSENT:
        if keyword not in ds:
            setattr(ds, keyword, None)
    return ds


def identify(ds: Dataset, source: Instance, record: dict[str, Any]) -> None:
    """Say of a derived MR image that it is synthetic, held if it is, what made it and from what."""
    ds.SOPClassUID = MR_IMAGE
    ds.Modality = "MR"
    # SECONDARY: computed after the examination from its images. OTHER: of the values that MR
    # allows third, the only true one (PS3.3 C.8.3.1.1.1).
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER", SYNTHETIC_TYPE]
    ds.SeriesNumber = _series_number(source)
    ds.SeriesDescription = words.series_description(record)
    ds.ImageComments = words.comment(record)
    ds.ContentQualification = "RESEARCH"
    ds.BurnedInAnnotation = "NO"
    if text(ds, "LossyImageCompression") != "01":
        ds.LossyImageCompression = "00"
    ds.DerivationDescription = words.derivation(record)
    ds.DerivationCodeSequence = [
        code("SYN3T", "99LOHI", "Synthetic image by generative neural network"),
        code("113085", "DCM", "Spatial resampling"),
    ]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = "99LOHI"
    scheme.CodingSchemeUID = uids.CODING_SCHEME
    scheme.CodingSchemeName = "lohi-edge"
    ds.CodingSchemeIdentificationSequence = [scheme]
    made_by = _equipment(record)
    for element in made_by:
        ds[element.tag] = element
    made_by.ContributionDescription = "Computed the synthetic image"
    made_by.PurposeOfReferenceCodeSequence = [code("109102", "DCM", "Processing Equipment")]
    ds.ContributingEquipmentSequence = [_scanner(source), made_by]


def _equipment(record: dict[str, Any]) -> Dataset:
    """This software as equipment; its DeviceUID names the model (IHE AI Results)."""
    equipment = Dataset()
    equipment.Manufacturer = "lohi-edge project"
    equipment.ManufacturerModelName = MAKER
    bundle = record["bundle"]
    equipment.SoftwareVersions = [
        f"lohi-edge {record['software']['lohi-edge']}",
        f"{bundle['name']} {bundle['version']}"[:64].replace("\\", "/"),
    ]
    equipment.DeviceUID = uids.device(record)
    return equipment


def _scanner(source: Instance) -> Dataset:
    """The equipment that acquired the scan."""
    scanner = Dataset()
    scanner.Manufacturer = None
    for keyword in (
        *("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber"),
        *("SoftwareVersions", "DeviceUID", "InstitutionName"),
    ):
        copy_keyword(source, scanner, keyword)
    if not text(scanner, "Manufacturer"):
        scanner.Manufacturer = "unknown"
    scanner.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    return scanner


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def source_images(frames: list[Frame]) -> list[Dataset]:
    """SourceImageSequence: the acquired planes that an image was computed from."""
    sources = []
    for frame in frames:
        item = Dataset()
        item.ReferencedSOPClassUID = frame.instance.sop_class
        item.ReferencedSOPInstanceUID = frame.instance.sop_uid
        if number(frame.instance.header, "NumberOfFrames"):
            item.ReferencedFrameNumber = frame.index + 1
        item.PurposeOfReferenceCodeSequence = [
            code("121322", "DCM", "Source image for image processing operation")
        ]
        sources.append(item)
    return sources


def copy_keyword(source: Instance, target: Dataset, keyword: str) -> None:
    """Copy one attribute where the source has it."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    if tag in source.raw:
        copy(source, target, tag)


def copy(source: Instance, target: Dataset, tag: BaseTag) -> None:
    """Copy one element: text as the bytes it is stored as, numbers decoded; no sequences."""
    element = source.raw[tag]
    vr = element.VR or dictionary_VR(tag)
    if vr in ("SQ", "UN"):
        return
    if isinstance(element, RawDataElement) and vr in STR_VR and element.value is not None:
        target[tag] = element._replace(VR=vr, is_implicit_VR=False, is_little_endian=True)
        return
    with quiet("an attribute of the acquired series"):
        decoded = source.header[tag]
        target.add_new(tag, decoded.VR, decoded.value)


def dictionary_tag(tag: BaseTag) -> bool:
    """Whether a tag is a standard one, no private element or group length."""
    return not tag.is_private and tag.element != 0 and bool(_vr(tag))


def _vr(tag: BaseTag) -> str | None:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


def _series_number(source: Instance) -> int | None:
    acquired = number(source.header, "SeriesNumber")
    # A thousand higher: beside the acquired one in a list, and never one of the scanner's own.
    return None if acquired is None or abs(acquired) > 1e9 else int(acquired) + 1000


def _from_enhanced(first: Frame, ds: Dataset) -> None:
    """What classic MR says at its top level and enhanced MR in functional groups."""
    if first.instance.sop_class == dicom_uids.MRImageStorage:
        return
    header = first.instance.header
    groups = [
        *items(header, "PerFrameFunctionalGroupsSequence")[first.index : first.index + 1],
        *items(header, "SharedFunctionalGroupsSequence"),
    ]
    timing = [
        item for group in groups for item in items(group, "MRTimingAndRelatedParametersSequence")
    ]
    for keyword in ("RepetitionTime", "FlipAngle", "EchoTrainLength"):
        found = next((v for item in timing if (v := number(item, keyword)) is not None), None)
        if found is not None:
            setattr(ds, keyword, int(found) if keyword == "EchoTrainLength" else found)
    if first.echo is not None:
        ds.EchoTime = first.echo
    pulses = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": ["SE", "GR"]}
    if (kind := text(header, "EchoPulseSequence")) in pulses:
        ds.ScanningSequence = pulses[kind]
    ds.MRAcquisitionType = text(header, "MRAcquisitionType") or None
