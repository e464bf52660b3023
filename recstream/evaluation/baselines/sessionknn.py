"""Session-based nearest neighbours (V-STAN): items of the sessions most like the user's own."""

from __future__ import annotations

from typing import Final

import numpy as np

from recstream.evaluation.baselines.base import History, Scores
from recstream.items.jit import compiled
from recstream.records.arrays import AnyArray

__all__ = ["SessionKnn"]

_SESSION: Final = 50
"""Events after which a user's session ends and a new one begins."""
_LAST: Final = 20
"""Newest distinct items of the user that sessions are compared by."""
_SAMPLE: Final = 500
"""Newest sessions with an item that are compared with the user's."""
_NEIGHBOURS: Final = 200
"""Most similar sessions whose items are scored."""
_PLACE_DECAY: Final = 5.0
"""The weight of the user's items falls by e every so many places back."""
_DISTANCE_DECAY: Final = 10.0
"""The weight of a neighbour's items falls by e every so many places from the newest shared one."""


class SessionKnn:
    """VS-kNN with the position weights of STAN.

    Ludewig, Mauro, Latifi and Jannach, "Empirical analysis of session-based recommendation algorithms"
    (UMUAI 31, 2021), after Garg et al., "Sequence and time aware neighborhood for session-based
    recommendations: STAN" (SIGIR 2019). A session is a run of at most 50 positives of a user.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._sessions = np.full((1024, _SESSION), -1, np.int32)
        self._sizes = np.zeros(1024, np.int32)
        self._owners = np.zeros(1024, np.int32)
        self._open = np.full(history.users, -1, np.int64)
        self._count = 0
        self._of = np.full((history.items, _SAMPLE), -1, np.int32)
        """Newest sessions of each item, a ring buffer."""
        self._occurrences = np.zeros(history.items, np.int64)
        """Number of sessions with each item."""
        self._similarity = np.zeros(1024)
        self._newest_shared = np.zeros(1024, np.int32)

    def learn(self, user: int, item: int) -> None:
        """Add the item to the user's session."""
        session = int(self._open[user])
        if session < 0 or self._sizes[session] == _SESSION:
            session = self._open[user] = self._begin(user)
        size = self._sizes[session]
        if not (self._sessions[session, :size] == item).any():
            self._of[item, self._occurrences[item] % _SAMPLE] = session
            self._occurrences[item] += 1
        self._sessions[session, size] = item
        self._sizes[session] = size + 1

    def score(self, user: int, scores: Scores) -> None:
        """Add, for each item of the nearest sessions, their similarity by position and rarity."""
        last = self._history.recent(user, _LAST)
        weights = np.exp(-np.arange(len(last)) / _PLACE_DECAY)
        rarity = np.log(max(self._count, 1) / np.maximum(self._occurrences, 1)) + 1.0
        _score(
            user,
            last,
            weights,
            self._of,
            self._sessions,
            self._sizes,
            self._owners,
            self._similarity,
            self._newest_shared,
            rarity,
            _NEIGHBOURS,
            _DISTANCE_DECAY,
            scores,
        )

    def _begin(self, user: int) -> int:
        have = len(self._sizes)
        if self._count == have:
            self._sessions = np.concatenate([self._sessions, np.full((have, _SESSION), -1, np.int32)])
            self._sizes = np.concatenate([self._sizes, np.zeros(have, np.int32)])
            self._owners = np.concatenate([self._owners, np.zeros(have, np.int32)])
            self._similarity = np.zeros(2 * have)
            self._newest_shared = np.zeros(2 * have, np.int32)
        self._owners[self._count] = user
        self._count += 1
        return self._count - 1


@compiled
def _score(
    user: int,
    last: AnyArray,
    weights: AnyArray,
    of: AnyArray,
    sessions: AnyArray,
    sizes: AnyArray,
    owners: AnyArray,
    similarity: AnyArray,
    newest_shared: AnyArray,
    rarity: AnyArray,
    neighbours: int,
    distance_decay: float,
    scores: AnyArray,
) -> None:
    """``similarity`` must be zeros, shape ``(sessions,)``, and is zeros again afterwards."""
    found = np.empty(len(last) * of.shape[1], np.int32)
    count = 0
    for k in range(len(last)):
        for j in range(of.shape[1]):
            session = of[last[k], j]
            if session < 0:
                break
            if owners[session] == user:
                continue
            if similarity[session] == 0.0:
                found[count] = session
                count += 1
                newest_shared[session] = last[k]  # the user's newest item comes first
            similarity[session] += weights[k]
    for k in range(count):
        similarity[found[k]] /= np.sqrt(sizes[found[k]])
    near = found[:count]
    if count > neighbours:
        order = np.argsort(-similarity[near], kind="mergesort")
        near = near[order[:neighbours]]
    for k in range(len(near)):
        session = near[k]
        size = sizes[session]
        shared = 0
        for p in range(size):
            if sessions[session, p] == newest_shared[session]:
                shared = p
        for p in range(size):
            item = sessions[session, p]
            nearness = np.exp(-abs(p - shared) / distance_decay)
            scores[item] += similarity[session] * nearness * rarity[item]
    for k in range(count):
        similarity[found[k]] = 0.0
