"""UIDs that follow from what they name: the same result has the same UIDs, another never has."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from pydicom.uid import UID

from lohi_edge.dicom.words import is_held


def derive(*parts: Any) -> UID:
    """A UID under 2.25 (PS3.5 B.2: a UUID as an integer) that is a hash of JSON-able `parts`.

    The UUID is of version 8 (RFC 9562 5.8: vendor-specific): the first 128 bits of a sha256, less
    the six that say so.
    """
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76  # version 8
    number = number & ~(3 << 62) | 2 << 62  # variant of RFC 9562
    return UID(f"2.25.{uuid.UUID(int=number).int}")


def result(sources: list[str], record: dict[str, Any], grid: str, pixels: str) -> list[Any]:
    """What tells one result from every other one: hashed into its series and instance UIDs.

    The pixels' own hash is among it, so that even a runtime that is not repeatable to the last bit
    cannot give one UID to two images.

    Args:
        sources: SOP Instance UIDs of the acquired series.
        record: the receipt so far.
        grid: "native" or "1mm".
        pixels: sha256 of the stored values.
    """
    runtime = record["runtime"]
    # Other limits may hold the same image, whose headers then differ. Of any other verdict they
    # say nothing, and the UIDs given before there was this mark stay.
    held = ["held"] if is_held(record) else []
    return [
        sorted(sources),
        record["onnx"]["sha256"],
        record["bundle"]["sha256"],
        record["contrast"]["name"],
        record["precision"],
        [runtime["name"], runtime["version"], runtime["device"]],
        grid,
        record["software"]["lohi-edge"],
        pixels,
        *held,
    ]


def device(record: dict[str, Any]) -> UID:
    """The DeviceUID of a model: another ONNX file or bundle is another device."""
    return derive("device", record["bundle"]["sha256"], record["onnx"]["sha256"])


IMPLEMENTATION = derive("lohi-edge", "implementation class")
CODING_SCHEME = derive("lohi-edge", "coding scheme 99LOHI")
