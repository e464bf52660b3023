"""The model state of one worker: loaded at start, written at the checkpoint, shared by a job's workers."""

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
"""Least seconds between two looks for rows of other workers."""
_LOOK_ALONE_S: Final = 10.0
"""As `_LOOK_S` where there are no other workers, but an operator may have fitted a transform (*measured*
30 ms a look)."""
_OVERLAP_NS: Final = 10 * 10**9
"""Rows up to this much older than the newest seen are read again: writers' clocks and commits overlap."""


class ModelState:
    """Weights, replay buffer, text transform and session index of one worker, and their rows.

    A process that only reads never flushes its own.
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
        self._model = recommender.model
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
        self._meter_model()

    def own(self, shard: int) -> None:
        """Note that this worker owns a user shard; the least one is the number of the worker's rows."""
        self._shards.add(shard)
        if not self._is_alone:
            self.weights.own(min(self._shards))

    def refresh(self) -> None:
        """Take in what other processes wrote, if the last look is long enough ago."""
        now = self._steady()
        if now - self._looked_at < self._look_s:
            return
        self._looked_at = now
        version = self._store.version()
        if version == self._version:
            return
        self._version = version
        rows = self._new_rows()
        self._seqs |= {name: row.seq for name, row in rows.items()}
        self.weights.follow(rows)
        self.transform.follow(rows)
        self.sessions.follow(rows)

    @property
    def is_urgent(self) -> bool:
        """Whether stored rows may hold an erased user: then they are written before anything else."""
        return self.sessions.is_urgent or self.replay_buffer.is_outdated

    def flush(
        self, next_seq: Callable[[], int], *, turn: int, all_of_it: bool, later: Later = at_once
    ) -> int:
        """Write the rows due in a turn, ``later``; ``all_of_it``: all that changed. Gives their number."""
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
            self._meter_model()
        return len(rows)

    def _write(self, gone: list[str], rows: list[ModelRow], replaced: list[str]) -> None:
        if gone:
            self._store.delete(gone)
        if rows:
            self._store.upsert(rows)
        if replaced:
            self._store.delete(replaced)

    def _new_rows(self) -> Mapping[str, ModelRow]:
        """Give the rows not seen before. Without other workers only the transform is written by others."""
        if self._is_alone:
            found = list(self._store.fetch([TRANSFORM]).values())
        else:
            newest = max(self._seqs.values(), default=-1)
            found = self._store.changed_since(newest - _OVERLAP_NS)
        return {row.name: row for row in found if row.seq != self._seqs.get(row.name)}

    def _meter_model(self) -> None:
        self._meters.set("model_examples", self._model.examples)
        for signal, worth in self._model.feature_effects.items():
            self._meters.set("model_weight", worth, signal=signal)
