"""What one worker knows of the stream as a whole: taken up at start, written at the barrier, shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from recstream.dataflow.background import Later, at_once
from recstream.dataflow.model_state.replay_buffer import ReplayBufferState
from recstream.dataflow.model_state.session_index import SessionIndexState
from recstream.dataflow.model_state.text_transform import TRANSFORM, TextTransformState
from recstream.dataflow.model_state.weights import WeightsState
from recstream.dataflow.services import DataflowRules, Services
from recstream.items.catalogue import Catalogue
from recstream.ranking.online_learning import OnlineLearner
from recstream.ranking.recommender import Recommender
from recstream.stores.base import ModelRow

__all__ = ["ModelState"]

_LOOK_S: Final = 2.0
"""Others' rows are looked for no more often than this;"""
_LOOK_ALONE_S: Final = 10.0
"""where there are none, only a transform that an operator has fitted (*measured* 30 ms a look)."""
_OVERLAP_NS: Final = 10 * 10**9
"""Rows this much older than the newest seen are looked at again: writers' clocks and commits overlap."""


class ModelState:
    """Weights of the signals, text transform and newest sessions of one worker, and their rows.

    Whoever only reads makes one as well, and never flushes it.
    """

    def __init__(
        self,
        services: Services,
        rules: DataflowRules,
        catalogue: Catalogue,
        recommender: Recommender,
        learner: OnlineLearner,
    ) -> None:
        self._store = services.models()
        self._meters = services.meters
        self._steady = services.steady
        self._is_alone = rules.processes == 1
        self._look_s = max(rules.refresh_s, _LOOK_ALONE_S if self._is_alone else _LOOK_S)
        self._looked_at = self._steady()
        self._blend = recommender.model
        self._shards: set[int] = set()
        writes = self._is_alone or services.maintain is not None
        self.weights = WeightsState(recommender.model, learner, learns=rules.learning.enabled)
        keeps = self._is_alone and rules.learning.enabled
        self.replay_buffer = ReplayBufferState(recommender, learner, keeps=keeps)
        self.transform = TextTransformState(catalogue, writes=writes)
        self.sessions = SessionIndexState(recommender.sessions, catalogue, shards=rules.shards)
        self._version = self._store.version()
        rows = self._store.fetch()
        self._seqs = {name: row.seq for name, row in rows.items()}
        self.weights.start(rows)
        self.replay_buffer.start(rows)
        self.transform.start(rows)
        self.sessions.start(rows)
        self._tell()

    def own(self, shard: int) -> None:
        """Note that this worker owns a user shard: workers' rows are told apart by their first ones."""
        self._shards.add(shard)
        if not self._is_alone:
            self.weights.own(min(self._shards))

    def refresh(self) -> None:
        """Take in what other processes wrote, now and then."""
        now = self._steady()
        if now - self._looked_at < self._look_s:
            return
        self._looked_at = now
        version = self._store.version()
        if version == self._version:
            return
        self._version = version
        rows = self._news()
        self._seqs |= {name: row.seq for name, row in rows.items()}
        self.weights.follow(rows)
        self.transform.follow(rows)
        self.sessions.follow(rows)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody forgotten may be among what is stored: that is written before anything else."""
        return self.sessions.is_urgent or self.replay_buffer.is_outdated

    def flush(
        self, next_seq: Callable[[], int], *, turn: int, all_of_it: bool, later: Later = at_once
    ) -> int:
        """Write what is due in a turn, ``later``; ``all_of_it`` when the sources end. Gives how many rows."""
        states = self.weights.due(all_of_it=all_of_it) | self.transform.due()
        states |= self.sessions.due(turn, all_of_it=all_of_it)
        states |= self.replay_buffer.due(all_of_it=all_of_it)
        gone = self.replay_buffer.outdated()
        rows = [ModelRow(name, next_seq(), state) for name, state in states.items()]
        self._seqs |= {row.name: row.seq for row in rows}
        replaced: list[str] = []
        if self.weights.name in states and self.weights.has_outdated:
            replaced = self.weights.outdated(self._store.fetch())
        if gone or rows:
            later(lambda: self._write(gone, rows, replaced))
            self._tell()
        return len(rows)

    def _write(self, gone: list[str], rows: list[ModelRow], replaced: list[str]) -> None:
        if gone:
            self._store.delete(gone)
        if rows:
            self._store.upsert(rows)
        if replaced:
            self._store.delete(replaced)

    def _news(self) -> Mapping[str, ModelRow]:
        """Rows that were not seen before; alone, only the transform is ever written by others."""
        if self._is_alone:
            found = list(self._store.fetch([TRANSFORM]).values())
        else:
            newest = max(self._seqs.values(), default=-1)
            found = self._store.changed_since(newest - _OVERLAP_NS)
        return {row.name: row for row in found if row.seq != self._seqs.get(row.name)}

    def _tell(self) -> None:
        self._meters.set("model_examples", self._blend.examples)
        for signal, worth in self._blend.effect.items():
            self._meters.set("model_weight", worth, signal=signal)
