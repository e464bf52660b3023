"""The last list of every stored user, for a backfill that wants no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from recstream.core.signals import query_of
from recstream.engine.lists import Listed
from recstream.engine.rows import profile_of
from recstream.engine.services import EngineRules, Services
from recstream.engine.step import Forgotten
from recstream.engine.worker import Worker

__all__ = ["FinalListsSource"]

_CHUNK: Final = 1000


class FinalListsSource(FixedPartitionedSource[Listed | Forgotten, None]):
    """Ranks every user of the store, a thousand at a time, in order of user id."""

    def __init__(self, services: Services, rules: EngineRules) -> None:
        self._services = services
        self._rules = replace(rules, lists=True)

    @override
    def list_parts(self) -> list[str]:
        return ["users"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Users:
        return _Users(self._services, self._rules)


class _Users(StatefulSourcePartition[Listed | Forgotten, None]):
    def __init__(self, services: Services, rules: EngineRules) -> None:
        self._chunks = _lists(services, rules)

    @override
    def next_batch(self) -> Iterable[Listed | Forgotten]:
        return next(self._chunks)

    @override
    def snapshot(self) -> None:
        return None


def _lists(services: Services, rules: EngineRules) -> Iterator[list[Listed]]:
    worker = Worker(services, rules)
    store = services.users()
    ids = store.ids()
    for at in range(0, len(ids), _CHUNK):
        rows = store.fetch(ids[at : at + _CHUNK])
        queries = []
        for _, row in sorted(rows.items()):
            profile = profile_of(row, worker.replica.catalogue)
            if profile.as_of is not None:
                queries.append(query_of(profile, profile.as_of, "event", services.now()))
        yield worker.rank(queries)
