"""The encode steps: texts of events and items become vectors, each distinct text of a batch once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream, operator

from recstream.dataflow.messages import EventBatch
from recstream.dataflow.worker import PerWorker
from recstream.encoders.base import Encoder, UnencodableError
from recstream.items.codec import ItemRow
from recstream.items.terms import pack, terms_of
from recstream.metrics.base import Meters
from recstream.records.arrays import Matrix, Vector
from recstream.records.event import Event, unencodable
from recstream.records.item import Item, item_text, text_hash
from recstream.records.reject import Reject
from recstream.records.reject_limit import RejectLimit, RejectLimitRules

__all__ = [
    "EncodeEventsOut",
    "EncodeItemsOut",
    "Encoded",
    "encode_events",
    "encode_items",
    "encoded_events",
    "item_rows",
]


@dataclass(frozen=True)
class EncodeEventsOut:
    """All must be consumed: a flow which drops ``rejects`` loses data in silence."""

    events: Stream[EventBatch]
    items: Stream[list[ItemRow]]
    """Items that accepted events carry, to be stored."""
    rejects: Stream[Reject]
    """Events with a text, or an item, that cannot be encoded."""


@dataclass(frozen=True)
class EncodeItemsOut:
    """All must be consumed."""

    rows: Stream[list[ItemRow]]
    rejects: Stream[Reject]


@dataclass(frozen=True)
class _Events:
    batch: EventBatch
    rows: list[ItemRow]
    rejects: list[Reject]


@dataclass(frozen=True)
class _Items:
    rows: list[ItemRow]
    rejects: list[Reject]


@operator
def encode_events(
    step_id: str,
    batches: Stream[EventBatch],
    encoder: Callable[[], Encoder],
    meters: Meters,
    reject_limit: RejectLimitRules,
) -> EncodeEventsOut:
    """Give texts and items that events carry their vectors; no event overtakes another.

    An event is accepted whole or not at all, as by `decode`: one whose text, or whose item's, cannot be
    encoded is rejected, and its item is not stored. Too many of them, among those with something to encode,
    stop the flow (`RejectLimitError`).
    """
    judge = _Judge("events", meters, reject_limit)

    def shim(batch: EventBatch) -> _Events:
        if not any(_has_to_be_encoded(event) for event in batch.events):
            return _Events(batch, [], [])
        done = encoded_events(batch.events, encoder())
        judge(done.good, done.rejects)
        return _Events(
            EventBatch(batch.received_at, done.events, done.items), list(done.items.values()), done.rejects
        )

    encoded = op.map("encode", batches, shim)
    return EncodeEventsOut(
        op.filter_map("events", encoded, lambda done: done.batch if done.batch.events else None),
        op.filter_map("items", encoded, lambda done: done.rows or None),
        op.flat_map("rejects", encoded, lambda done: done.rejects),
    )


@operator
def encode_items(
    step_id: str,
    items: Stream[list[Item]],
    encoder: Callable[[], Encoder],
    meters: Meters,
    reject_limit: RejectLimitRules,
) -> EncodeItemsOut:
    """Turn item records into rows with their vectors; those whose text cannot be encoded are rejected."""
    judge = _Judge("items", meters, reject_limit)

    def shim(batch: list[Item]) -> _Items:
        rows, why = item_rows(batch, encoder())
        rejects = [unencodable(batch[k], "item", item_text(batch[k]), why[k]) for k in sorted(why)]
        judge(len(batch) - len(rejects), rejects)
        return _Items([row for row in rows if row is not None], rejects)

    encoded = op.map("encode", items, shim)
    return EncodeItemsOut(
        op.filter_map("rows", encoded, lambda done: done.rows or None),
        op.flat_map("rejects", encoded, lambda done: done.rejects),
    )


class Encoded(NamedTuple):
    """Events with their texts encoded."""

    events: list[Event]
    """The accepted events, in their order, with the vectors of their texts."""
    items: dict[int, ItemRow]
    """Items that accepted events carry, by the event's offset."""
    rejects: list[Reject]
    good: int
    """Number of accepted events which had something to encode."""


def encoded_events(events: Sequence[Event], encoder: Encoder) -> Encoded:
    """Give the texts and the items of events their vectors; an event is accepted whole or not at all."""
    encoded = list(events)
    with_text = [k for k, event in enumerate(encoded) if event.text is not None]
    carried = [(k, event.item) for k, event in enumerate(encoded) if event.item is not None]
    refused: dict[int, Reject] = {}
    if with_text:
        texts = [encoded[k].text or "" for k in with_text]
        vectors, why = _encoded(texts, encoder)
        for place, k in enumerate(with_text):
            if place in why:
                refused[k] = unencodable(encoded[k], "text", texts[place], why[place])
            else:
                encoded[k] = encoded[k]._replace(vector=vectors[place])
    items = [item for _, item in carried]
    rows, failed = item_rows(items, encoder) if items else ([], {})
    for place, why_not in failed.items():
        k = carried[place][0]
        refused.setdefault(k, unencodable(encoded[k], "item", item_text(items[place]), why_not))
    kept = {
        encoded[k].offset: row
        for (k, _), row in zip(carried, rows, strict=True)
        if k not in refused and row is not None
    }
    rejects = [refused[k] for k in sorted(refused)]
    accepted = [event for k, event in enumerate(encoded) if k not in refused] if refused else encoded
    good = len({*with_text, *(k for k, _ in carried)}) - len(refused)
    return Encoded(accepted, kept, rejects, good)


def _has_to_be_encoded(event: Event) -> bool:
    return event.text is not None or event.item is not None


class _Judge:
    """Counts the rejects of a stream, and holds it to the reject limit."""

    def __init__(self, stream: Literal["events", "items"], meters: Meters, rules: RejectLimitRules) -> None:
        self._stream = stream
        self._meters = meters
        self._limits = PerWorker(lambda: RejectLimit(f"{stream} with a text to encode", rules))

    def __call__(self, good: int, rejects: Sequence[Reject]) -> None:
        self._limits().observe(good=good, rejects=rejects)
        for reject in rejects:
            self._meters.add("records_rejected", stream=self._stream, reason=reject.reason)


def _encoded(texts: Sequence[str], encoder: Encoder) -> tuple[Matrix, dict[int, str]]:
    """Give the vectors of the texts, and what is wrong with each that has none, by its place."""
    try:
        return encoder.encode(texts), {}
    except UnencodableError as error:
        return error.vectors, error.why


def item_rows(items: list[Item], encoder: Encoder) -> tuple[list[ItemRow | None], dict[int, str]]:
    """Give a row of each item, or None and, by its place, why it has none.

    Items with a vector of their own, and deleted ones, are not encoded.
    """
    texts = [item_text(item) for item in items]
    wanted = [k for k, item in enumerate(items) if item.vector is None and not item.deleted]
    vectors = np.zeros((len(items), encoder.dim), np.float32)
    why: dict[int, str] = {}
    if wanted:
        vectors[wanted], failed = _encoded([texts[k] for k in wanted], encoder)
        why = {wanted[place]: reason for place, reason in failed.items()}
    return [None if k in why else _row(item, texts[k], vectors[k]) for k, item in enumerate(items)], why


def _row(item: Item, text: str, vector: Vector) -> ItemRow:
    own = item.vector
    return ItemRow(
        item_id=item.item_id,
        title=item.title,
        categories=item.categories,
        tags=item.tags,
        published_at=item.published_at,
        available=item.available,
        deleted=item.deleted,
        text_hash=text_hash(text if own is None else own.tobytes().hex()),
        vector=vector if own is None else own,
        seq=0,
        terms=b"" if item.deleted else pack(terms_of(item.title, item.text, item.categories + item.tags)),
    )
