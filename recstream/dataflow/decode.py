"""The decode steps: raw batches in; batches of events or items, and rejects, out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator

from recstream.dataflow.messages import EventBatch
from recstream.dataflow.worker import PerWorker
from recstream.metrics.base import Meters
from recstream.records.actions import DecodeRules
from recstream.records.decode import decode_events, decode_items
from recstream.records.event import Event
from recstream.records.item import Item
from recstream.records.reject import Reason, Reject
from recstream.records.reject_limit import RejectLimit, RejectLimitRules
from recstream.records.transport import RawBatch

__all__ = ["DecodeOut", "decode"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodeOut:
    """All must be consumed: a flow which drops ``rejects`` loses data in silence."""

    events: Stream[EventBatch]
    items: Stream[list[Item]]
    """Records of an items source. Items that events carry stay with the events."""
    rejects: Stream[Reject]


@dataclass(frozen=True)
class _Decoded:
    batch: EventBatch
    items: list[Item]
    rejects: list[Reject]


@operator
def decode(
    step_id: str,
    batches: Stream[RawBatch],
    kind: str,
    rules: DecodeRules,
    meters: Meters,
    now: Callable[[], float],
    reject_limit: RejectLimitRules,
) -> DecodeOut:
    """Decode batches of events or of items (``kind`` is ``"events"`` or ``"items"``).

    Bad data is a value: every record ends up in exactly one of the streams. Too much of it stops the flow
    (`RejectLimitError`) before anything of the batch leaves. Tombstones among events are counted and left
    out, and the reject limit passes over them. What items lack because it could not be read is counted, and
    the first of each kind is logged.
    """
    if kind not in ("events", "items"):
        msg = f"step {step_id!r}: kind is {kind!r}, wanted 'events' or 'items'"
        raise ValueError(msg)

    reject_limits = PerWorker(lambda: RejectLimit(kind, reject_limit))
    told: set[tuple[str, Reason]] = set()

    def tell(item: Item) -> None:
        for field, reason, detail in item.left_out:
            meters.add("fields_left_out", field=field, reason=reason)
            if (field, reason) not in told:
                told.add((field, reason))
                log.warning(
                    "%s:%d: %s. The item is in without it; recstream_fields_left_out_total counts the like",
                    item.partition.name,
                    item.offset,
                    detail,
                )

    def shim(raw: RawBatch) -> _Decoded:
        at = now()
        events: list[Event] = []
        items: list[Item] = []
        if kind == "events":
            events, rejects = decode_events(raw, rules=rules, now=at, loads=orjson.loads)
        else:
            items, rejects = decode_items(raw, rules=rules, loads=orjson.loads)
        judged = raw.offsets
        if kind == "events" and raw.tombstones:
            judged = [offset for offset in raw.offsets if offset not in raw.tombstones]
            meters.add("events_tombstone", len(raw.tombstones))
        reject_limits().observe_batch(judged, rejects)
        meters.add("records_read", len(raw.values), stream=kind)
        for reject in rejects:
            meters.add("records_rejected", stream=kind, reason=reject.reason)
        for item in items:
            if item.left_out:
                tell(item)
        for event in events:
            if event.item is not None and event.item.left_out:
                tell(event.item)
        return _Decoded(EventBatch(at, events), items, rejects)

    decoded = op.map("decode", batches, shim)
    return DecodeOut(
        op.filter_map("events", decoded, _events),
        op.filter_map("items", decoded, _items),
        op.flat_map("rejects", decoded, _rejects),
    )


def _events(decoded: _Decoded) -> EventBatch | None:
    return decoded.batch if decoded.batch.events else None


def _items(decoded: _Decoded) -> list[Item] | None:
    return decoded.items or None


def _rejects(decoded: _Decoded) -> Iterable[Reject]:
    return decoded.rejects
