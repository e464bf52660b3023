"""The newest lessons, kept from a clean stop to the next start: learning goes on as if it never stopped."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from recstream.ranking.online_learning import OnlineLearner, SamplingState
from recstream.ranking.recommender import Recommender
from recstream.stores.base import ModelRow

__all__ = ["LESSONS", "ReplayBufferState"]

LESSONS: Final = "lessons"
"""Name of their row."""
_LAYOUT: Final = 1
"""First byte of the row; one of another layout is passed over."""


class ReplayBufferState:
    """The lessons of a lone worker, which it learns from again: written at the end, gone once it goes on.

    They are signals without names of users or items: 512 of them are some MB, too much for every barrier.
    After a crash learning begins without them, which costs little.
    """

    def __init__(self, recommender: Recommender, learner: OnlineLearner, *, keeps: bool) -> None:
        self._recommender = recommender
        self._learner = learner
        self._keeps = keeps
        self._at = learner.offered.offers
        self._is_stored = False

    def start(self, rows: Mapping[str, ModelRow]) -> None:
        """Go on with those of the run before."""
        row = rows.get(LESSONS)
        if row is None or not self._keeps:
            return
        self._is_stored = True
        if row.state[:1] != bytes((_LAYOUT,)):
            return
        names, picked, offered, places, weights, shapes, raw = msgspec.msgpack.decode(
            zlib.decompress(row.state[1:])
        )
        if names != list(self._recommender.model.names):
            return
        replay_buffer, at = self._recommender.replay_buffer, 0
        for place, weight, (candidates, signals) in zip(places, weights, shapes, strict=True):
            found = np.frombuffer(raw, np.float32, candidates * signals, at).reshape(candidates, signals)
            replay_buffer.append((found.copy(), place, weight))
            at += found.nbytes
        self._recommender.picked = picked
        self._learner.go_on(SamplingState(*offered))
        self._at = self._learner.offered.offers

    def due(self, *, all_of_it: bool) -> dict[str, bytes]:
        """What is to be written now: nothing, or all of them at the end."""
        offered = self._learner.offered
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
        return {LESSONS: bytes((_LAYOUT,)) + zlib.compress(msgspec.msgpack.encode(state), 1)}

    def forget(self) -> None:
        """A user was erased, some of whose lessons may be among them: all are dropped, stored ones too."""
        self._recommender.replay_buffer.clear()
        self._learner.forget()
        self._at = -1
        self._is_stored = True

    @property
    def is_outdated(self) -> bool:
        """Whether newer lessons have come than those stored, or some of these are to be forgotten."""
        return self._is_stored and self._learner.offered.offers != self._at

    def outdated(self) -> list[str]:
        """Their name, if they are outdated."""
        if not self.is_outdated:
            return []
        self._is_stored = False
        return [LESSONS]
