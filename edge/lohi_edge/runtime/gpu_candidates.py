"""TensorRT engines that this device built and accepted, as the chooser sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lohi_edge.bundle import Bundle
from lohi_edge.errors import BundleError, DiskError
from lohi_edge.runtime import Choice
from lohi_edge.runtime.cuda import probe

if TYPE_CHECKING:
    from lohi_edge.engine.cache import Entry
    from lohi_edge.runtime.chooser import Request
    from lohi_edge.runtime.records import Records

ORDER = ("int8", "fp16", "fp32")  # where one is not accepted, the next is tried


def pick(bundle: Bundle, request: Request, notes: list[str], records: Records) -> Choice | None:
    """An accepted engine within a request; None, with notes why, where there is none.

    Engines are never built here: that takes minutes and memory, and is asked for by name.
    """
    if request.runtime not in ("auto", "tensorrt"):
        return None
    found = probe()
    if isinstance(found, str):
        if request.runtime == "tensorrt":
            notes.append(found)
        return None  # under `auto`, a machine without a GPU misses nothing
    try:
        return _fastest(bundle, request, notes, records)
    except (BundleError, DiskError) as error:
        notes.append(f"{found.name}: {error}")
        return None


def _fastest(bundle: Bundle, request: Request, notes: list[str], records: Records) -> Choice | None:
    from lohi_edge.engine import manage
    from lohi_edge.store import Store

    target, store = manage.this_machine(), Store()
    accepted: list[tuple[Entry, dict[str, Any]]] = []
    wanted = ORDER if request.precision == "auto" else (request.precision,)
    for precision in wanted:
        if manage.FILES.get(precision) not in bundle.manifest.files:
            continue
        entry = manage.find(bundle, precision, target, store)
        record = records.find(manage.acceptance_key(bundle, entry)) if entry else None
        if entry and record and record["accepted"]:
            accepted.append((entry, record))
        elif record:
            problems = "; ".join(record["problems"])
            notes.append(
                f"{precision} on tensorrt not accepted: {problems}; once its cause is mended: "
                "`lohi-edge engine accept`"
            )
        else:
            state = "has not been accepted" if entry else "has not been built"
            notes.append(f"the {precision} engine {state}: run `lohi-edge engine build`")
    for entry, record in sorted(accepted, key=lambda item: float(item[1]["seconds_per_slice"])):
        try:
            return _choice(bundle, entry, record, target, store, notes)
        except BundleError as error:
            notes.append(str(error))
    return None


def _choice(
    bundle: Bundle, entry: Entry, record: dict[str, Any], target: Any, store: Any, notes: list[str]
) -> Choice:
    from lohi_edge.engine import manage

    precision = entry.record["key"]["precision"]
    runtime = manage.load(bundle, entry, store, target)
    return Choice(
        runtime,
        manage.FILES[precision],
        "; ".join(notes) or None,
        f"the fastest accepted engine, {1e3 * record['seconds_per_slice']:.1f} ms a slice",
        record,
        {
            **entry.record["key"],
            "plan_sha256": entry.record["plan_sha256"],
            "built": entry.record["built"],
            "cuda_graph": runtime.graph,
        },
        manage.acceptance_key(bundle, entry),
    )
