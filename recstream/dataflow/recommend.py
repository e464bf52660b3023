"""Lists made by steps of their own: those that micro-batches ask for, and the last ones of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from recstream.dataflow.messages import EncodedList, Forgotten, ListRequests
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.worker import Worker
from recstream.ranking.query import query_of
from recstream.users.codec import user_state_of

__all__ = ["FinalListsSource", "recommend"]

_USERS_AT_ONCE: Final = 1000
"""Stored users whose last lists are made together."""


@operator
def recommend(
    step_id: str, due: Stream[ListRequests], worker: Callable[[], Worker]
) -> Stream[EncodedList | Forgotten]:
    """Rank the users of all micro-batches that are ready, together; results keep the order of the batches.

    A user's tombstone and lists are in one stream. A tombstone that overtook or fell behind a list would
    bring back what was erased, or erase what came after.
    """

    def shim(batches: list[ListRequests]) -> Iterable[EncodedList | Forgotten]:
        lists = iter(worker().lists.rank([query for batch in batches for query in batch.queries]))
        for batch in batches:
            yield from batch.forgotten
            yield from (made for made in islice(lists, len(batch.queries)) if made is not None)

    return op.flat_map_batch("rank", due, shim)


class FinalListsSource(FixedPartitionedSource[EncodedList | Forgotten, None]):
    """The last list of every stored user, in order of user id: for a replay that makes no others."""

    def __init__(self, services: Services, rules: DataflowRules) -> None:
        self._services = services
        self._rules = replace(rules, lists=True)

    @override
    def list_parts(self) -> list[str]:
        return ["users"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _StoredUsers:
        return _StoredUsers(self._services, self._rules)


class _StoredUsers(StatefulSourcePartition[EncodedList | Forgotten, None]):
    def __init__(self, services: Services, rules: DataflowRules) -> None:
        self._chunks = _lists(services, rules)

    @override
    def next_batch(self) -> Iterable[EncodedList | Forgotten]:
        return next(self._chunks)

    @override
    def snapshot(self) -> None:
        return None


def _lists(services: Services, rules: DataflowRules) -> Iterator[list[EncodedList]]:
    worker = Worker(services, rules)
    store = services.users()
    ids = store.ids()
    for at in range(0, len(ids), _USERS_AT_ONCE):
        rows = store.fetch(ids[at : at + _USERS_AT_ONCE])
        queries = []
        for _, row in sorted(rows.items()):
            user_state = user_state_of(row, worker.replica.catalogue)
            if user_state.as_of is not None:
                queries.append(query_of(user_state, user_state.as_of, "event", services.now()))
        yield worker.rank(queries)
