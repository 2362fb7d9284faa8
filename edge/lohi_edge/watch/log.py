"""One line per event on stderr, as text or JSON. Scans appear by number, never by name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, TextIO

from lohi_edge import nifti
from lohi_edge.manifest import CONTRASTS
from lohi_edge.watch.clock import wall

_AS_A_NAME = r"(?<!\w){0}(?=[._]\w|/)|(?<=/){0}(?!\w)|^{0}(?=:)|(?<=['\"]){0}(?=['\"])"


class Log:
    """Writes events; under systemd the journal adds the time to text lines."""

    def __init__(self, format: str = "text", stream: TextIO | None = None) -> None:
        self.format = format
        self._stream = stream or sys.stderr

    def __call__(self, event: str, **facts: Any) -> None:
        if self.format == "json":
            line = json.dumps({"at": wall(), "event": event, **facts}, default=str)
        else:
            words = (f"{key}={_word(value)}" for key, value in facts.items())
            line = " ".join((wall(), event, *words))
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # a log nobody can read any more must not stop the work


def _word(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(text)


def without_names(message: str, path: str, scan: int) -> str:
    """A message with every form of a scan's path replaced, so that it can be logged.

    A form that might be a word of the message, in small letters alone or a contrast's name, goes
    where it is, or begins, the name of a file or folder: what is wrong with `error.nii` stays
    readable. All others go everywhere, since they may be somebody's name or number.
    """
    pure = Path(path)
    forms = {path, pure.name, nifti.stem(pure), *pure.parts}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) > 2:
            name = re.escape(form)
            wordlike = form in CONTRASTS or (form.isalpha() and form.islower())
            pattern = _AS_A_NAME.format(name) if wordlike else name
            message = re.sub(pattern, f"[scan {scan}]", message)
    return message


def printable(path: str) -> str:
    """A path that is safe to show on a terminal and to store as UTF-8."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
