"""Due lists are made: one matrix product for all users of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from recstream.core.signals import Query
from recstream.engine.lists import Listed
from recstream.engine.worker import Worker

__all__ = ["recommend"]


@operator
def recommend(step_id: str, queries: Stream[list[Query]], worker: Callable[[], Worker]) -> Stream[Listed]:
    """Rank the users of all micro-batches that are ready, together."""

    def shim(batches: list[list[Query]]) -> Iterable[Listed]:
        return worker().rank([query for batch in batches for query in batch])

    return op.flat_map_batch("rank", queries, shim)
