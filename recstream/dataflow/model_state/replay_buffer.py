"""The replay buffer, kept from a clean stop to the next start: learning goes on as if it never stopped."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from recstream.ranking.online_learning import OnlineLearner, SamplingState
from recstream.ranking.recommender import Recommender
from recstream.stores.base import ModelRow

__all__ = ["REPLAY_BUFFER", "ReplayBufferState"]

REPLAY_BUFFER: Final = "lessons"
"""Name of its row."""
_LAYOUT: Final = 1
"""First byte of the row. A row of another layout is ignored."""


class ReplayBufferState:
    """The training examples of a lone worker: written at a clean stop, deleted once they are outdated.

    They are signals without names of users or items. 512 of them are some MB, too much for every checkpoint.
    After a crash learning begins without them, which costs little.
    """

    def __init__(self, recommender: Recommender, learner: OnlineLearner, *, keeps: bool) -> None:
        self._recommender = recommender
        self._learner = learner
        self._keeps = keeps
        self._at = learner.sampling_state.offers
        self._is_stored = False

    def start(self, rows: Mapping[str, ModelRow]) -> None:
        """Go on with the examples of the run before: signals by name, and 0 for one that is new."""
        row = rows.get(REPLAY_BUFFER)
        if row is None or not self._keeps:
            return
        self._is_stored = True
        if row.state[:1] != bytes((_LAYOUT,)):
            return
        names, picked, offered, places, weights, shapes, raw = msgspec.msgpack.decode(
            zlib.decompress(row.state[1:])
        )
        mine = list(self._recommender.model.names)
        kept = [name for name in mine if name in names]
        to, of = ([these.index(name) for name in kept] for these in (mine, names))
        replay_buffer, at = self._recommender.replay_buffer, 0
        for place, weight, (candidates, signals) in zip(places, weights, shapes, strict=True):
            stored = np.frombuffer(raw, np.float32, candidates * signals, at).reshape(candidates, signals)
            example = np.zeros((candidates, len(mine)), np.float32)
            example[:, to] = stored[:, of]
            replay_buffer.append((example, place, weight))
            at += stored.nbytes
        self._recommender.picked = picked
        self._learner.resume_sampling(SamplingState(*offered))
        self._at = self._learner.sampling_state.offers

    def due(self, *, all_of_it: bool) -> dict[str, bytes]:
        """What is to be written now, by row: nothing, or the whole buffer at the end."""
        offered = self._learner.sampling_state
        if not (all_of_it and self._keeps) or offered.offers == self._at:
            return {}
        self._at, self._is_stored = offered.offers, True
        newest = list(self._recommender.replay_buffer)
        state = [
            self._recommender.model.names,
            self._recommender.picked,
            offered,
            [place for _, place, _ in newest],
            [weight for _, _, weight in newest],
            [signals.shape for signals, _, _ in newest],
            b"".join(signals.tobytes() for signals, _, _ in newest),
        ]
        return {REPLAY_BUFFER: bytes((_LAYOUT,)) + zlib.compress(msgspec.msgpack.encode(state), 1)}

    def forget(self) -> None:
        """Drop all examples, stored ones too: some may be those of a user who was erased."""
        self._recommender.replay_buffer.clear()
        self._learner.forget()
        self._at = -1
        self._is_stored = True

    @property
    def is_outdated(self) -> bool:
        """Whether the stored examples are older than the buffer, or are to be forgotten."""
        return self._is_stored and self._learner.sampling_state.offers != self._at

    def outdated(self) -> list[str]:
        """The row's name, if it is outdated."""
        if not self.is_outdated:
            return []
        self._is_stored = False
        return [REPLAY_BUFFER]
