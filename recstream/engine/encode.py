"""Text becomes vectors: once a distinct text of a batch, in the order of the stream."""

from __future__ import annotations

from collections.abc import Callable

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream, operator

from recstream.core.items import Item, item_text, text_hash
from recstream.engine.step import Received
from recstream.ports import Encoder, ItemRow

__all__ = ["encode_events", "encode_items", "item_rows"]


@operator
def encode_events(
    step_id: str, received: Stream[Received], encoder: Callable[[], Encoder]
) -> Stream[Received]:
    """Give texts and items that events carry their vectors; no event overtakes another."""

    def shim(batch: Received) -> Received:
        events = list(batch.events)
        spoken = [k for k, event in enumerate(events) if event.text is not None]
        if spoken:
            vectors = encoder().encode([events[k].text or "" for k in spoken])
            for k, vector in zip(spoken, vectors, strict=True):
                events[k] = events[k]._replace(vector=vector)
        items = [event.item for event in events if event.item is not None]
        rows = item_rows(items, encoder()) if items else []
        return Received(batch.at, events, {row.item_id: row for row in rows})

    return op.map("encode", received, shim)


@operator
def encode_items(
    step_id: str, items: Stream[list[Item]], encoder: Callable[[], Encoder]
) -> Stream[list[ItemRow]]:
    """Turn item records into rows with their vectors."""

    def shim(batch: list[Item]) -> list[ItemRow]:
        return item_rows(batch, encoder())

    return op.map("encode", items, shim)


def item_rows(items: list[Item], encoder: Encoder) -> list[ItemRow]:
    """Rows of these items; those with a vector of their own, and the deleted, are not encoded."""
    texts = [item_text(item) for item in items]
    wanted = [k for k, item in enumerate(items) if item.vector is None and not item.deleted]
    vectors = np.zeros((len(items), encoder.dim), np.float32)
    if wanted:
        vectors[wanted] = encoder.encode([texts[k] for k in wanted])
    rows = []
    for k, item in enumerate(items):
        digest = text_hash(texts[k])
        if item.vector is not None:
            vectors[k] = item.vector
            digest = text_hash(item.vector.tobytes().hex())
        rows.append(
            ItemRow(
                item_id=item.item_id,
                title=item.title,
                categories=item.categories,
                tags=item.tags,
                published_at=item.published_at,
                available=item.available,
                deleted=item.deleted,
                text_hash=digest,
                vector=vectors[k],
                seq=0,
            )
        )
    return rows
