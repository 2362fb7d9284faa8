"""What can go wrong for a user, and the exit code each kind ends in.

Every message says what was expected, what was found and what to do about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class LohiError(Exception):
    """Base of every error a user can cause or cure; ends in `exit_code`, never in a traceback."""

    exit_code = 1


class UsageError(LohiError):
    """The command was asked for something it cannot do."""

    exit_code = 2


class BadInput(LohiError):
    """A scan that cannot be enhanced: unreadable, hostile, or not what the model is made for."""

    exit_code = 3


class Held(LohiError):
    """The quality check held the result back.

    Attributes:
        receipt: says why, metric by metric.
        path: where that was written; None where nothing was to be written.
    """

    exit_code = 4

    def __init__(
        self, message: str, receipt: dict[str, Any] | None = None, path: Path | None = None
    ) -> None:
        super().__init__(message)
        self.receipt = receipt
        self.path = path


class BundleError(LohiError):
    """A model bundle or engine that must not be used."""

    exit_code = 5


class ModelFault(BundleError):
    """The bundle itself is no good on this device: damaged, altered, or it computes wrongly here.

    Another bundle may do better, and is gone back to. Of any other BundleError (an unreadable key,
    a runtime that is not there) no bundle is the cause, and every one stays.
    """


class OtherContrast(BundleError):
    """A scan of a contrast that the bundle was not made for; other scans may fit."""


class DiskError(LohiError):
    """The result could not be written: full disk or no permission."""

    exit_code = 6


def of_exit_code(code: int, message: str) -> LohiError:
    """The error that another process of this program ended in, as far as its exit code tells."""
    kinds = {kind.exit_code: kind for kind in (UsageError, BadInput, BundleError, DiskError)}
    return kinds.get(code, LohiError)(message)
