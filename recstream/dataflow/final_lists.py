"""The last list of every stored user, for a backfill that wants no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from recstream.dataflow.lists import EncodedList
from recstream.dataflow.messages import Forgotten
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.worker import Worker
from recstream.ranking.query import query_of
from recstream.users.codec import user_state_of

__all__ = ["FinalListsSource"]

_CHUNK: Final = 1000


class FinalListsSource(FixedPartitionedSource[EncodedList | Forgotten, None]):
    """Ranks every user of the store, a thousand at a time, in order of user id."""

    def __init__(self, services: Services, rules: DataflowRules) -> None:
        self._services = services
        self._rules = replace(rules, lists=True)

    @override
    def list_parts(self) -> list[str]:
        return ["users"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Users:
        return _Users(self._services, self._rules)


class _Users(StatefulSourcePartition[EncodedList | Forgotten, None]):
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
    for at in range(0, len(ids), _CHUNK):
        rows = store.fetch(ids[at : at + _CHUNK])
        queries = []
        for _, row in sorted(rows.items()):
            user_state = user_state_of(row, worker.replica.catalogue)
            if user_state.as_of is not None:
                queries.append(query_of(user_state, user_state.as_of, "event", services.now()))
        yield worker.rank(queries)
