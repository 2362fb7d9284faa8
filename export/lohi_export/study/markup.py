"""Pieces of HTML; every text that is not marked as HTML is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A table cell that is HTML already; `tone` is its class."""

    markup: str
    tone: str = ""


def text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], tone: str = ""
) -> str:
    """A table with a caption; the first cell of each row is its heading."""
    head = "".join(f"<th scope='col'>{text(title)}</th>" for title in header)
    body = "".join(
        f"<tr><th scope='row'>{text(first)}</th>{''.join(_cell(c) for c in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f"<div class='wide'><table class='{tone}'><caption>{text(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def plot(uri: str, alt: str) -> str:
    return f"<p><img class='plot' src='{uri}' alt='{text(alt)}'></p>"


def _cell(value: Any) -> str:
    if isinstance(value, Cell):
        return f"<td class='{value.tone}'>{value.markup}</td>"
    return f"<td>{text(value)}</td>"
