"""Due lists are made: one matrix product for all users of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from recstream.dataflow.lists import EncodedList
from recstream.dataflow.messages import Forgotten
from recstream.dataflow.worker import Worker
from recstream.ranking.query import Query

__all__ = ["ListRequests", "recommend"]


class ListRequests(NamedTuple):
    """What leaves for the users of one micro-batch."""

    forgotten: list[Forgotten]
    """Users erased in it; a list that is due of one of them follows from later events."""
    queries: list[Query]


@operator
def recommend(
    step_id: str, due: Stream[ListRequests], worker: Callable[[], Worker]
) -> Stream[EncodedList | Forgotten]:
    """Rank the users of all micro-batches that are ready, together; what leaves keeps their order.

    A user's tombstone and lists are in one stream, for a tombstone that overtook or fell behind a list
    would bring back what was erased, or erase what came after.
    """

    def shim(batches: list[ListRequests]) -> Iterable[EncodedList | Forgotten]:
        lists = iter(worker().lists.rank([query for batch in batches for query in batch.queries]))
        for batch in batches:
            yield from batch.forgotten
            yield from (listed for listed in islice(lists, len(batch.queries)) if listed is not None)

    return op.flat_map_batch("rank", due, shim)
