"""What the engine needs from outside, opened by each worker when the dataflow runs, not when it is built."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from recstream.dataflow.idle_refresh.rules import IdleRefreshRules
from recstream.encoders.base import Encoder
from recstream.metrics.base import Meters
from recstream.ranking.online_learning import LearningRules
from recstream.ranking.recommender import RankingRules
from recstream.records.reject_limit import RejectLimitRules
from recstream.stores.base import ItemStore, ModelStore, StatisticsStore, UserStore
from recstream.users.state import UserStateRules

__all__ = ["DataflowRules", "PerWorker", "Services", "steady_clock"]

X = TypeVar("X")


@dataclass(frozen=True)
class DataflowRules:
    """When things happen; all times in seconds."""

    user_state: UserStateRules
    ranking: RankingRules
    job: str = "recommend"
    """Name under which positions are kept: the live job, or one of the replays."""
    shards: int = 32
    """User shards: fixed when a store is made."""
    processes: int = 1
    """Processes that share the stream: how item statistics are spread, and how fast their clock ticks."""
    hot_users: int = 20_000
    """Profiles kept in memory by a worker."""
    refresh_s: float = 1.0
    """How often replicas look for what other processes wrote."""
    wait_for_item_s: float = 60.0
    """How long an event waits for its item; 0 rejects at once."""
    unfinished: bool = True
    """Whether what an earlier run left unfinished is taken up: events that wait, output whose epoch did not
    commit, open sessions. A backfill leaves it to the live job."""
    session_gap_s: float = 1800.0
    lateness_s: float = 300.0
    sessions: bool = False
    """Whether closed sessions are announced."""
    neighbours: int = 200
    learning: LearningRules = field(default_factory=LearningRules)
    """How much the weights of the signals follow what users choose."""
    every_event: bool = False
    """Rank after each event, strictly in the order of the log (one worker only), instead of once a batch."""
    lists: bool = True
    """Whether lists are made at all (a backfill may want only the last ones)."""
    idle_refresh: IdleRefreshRules | None = None
    """How lists of idle users are kept fresh; None: they are not."""
    reject_limit: RejectLimitRules = field(default_factory=RejectLimitRules)
    """When too many rejects stop the flow."""

    @property
    def statistics_keys(self) -> int:
        """Keys that item statistics are spread over; a lone process has them all under one."""
        return 1 if self.processes == 1 else 4 * self.processes


def steady_clock() -> Callable[[], float]:
    """A clock that shows the wall's time of this moment (Unix seconds) and then never steps.

    Waiting times run by it: nothing is given up early, or kept for hours, because somebody set the clock.
    """
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


@dataclass(frozen=True)
class Services:
    """Ports, each behind a function that opens it; ``now`` is the wall clock in Unix seconds."""

    encoder: Callable[[], Encoder]
    users: Callable[[], UserStore]
    items: Callable[[], ItemStore]
    statistics: Callable[[], StatisticsStore]
    models: Callable[[], ModelStore]
    meters: Meters
    now: Callable[[], float]
    maintain: Callable[[], None] | None = None
    """Compacts the tables when that is due; given to one process of a job only."""
    steady: Callable[[], float] = field(default_factory=steady_clock)
    """As `steady_clock`."""


class PerWorker(Generic[X]):
    """One object a worker: bytewax runs each worker in a thread of its own, and its steps all in that thread.

    Kept by the thread's id. `threading.local` would not do: in a cluster the threads are not Python's, so
    Python takes each call from them for a new thread, and forgets what was local to the last one.

    >>> box = PerWorker(list)
    >>> box() is box()
    True
    """

    def __init__(self, make: Callable[[], X]) -> None:
        self._make = make
        self._made: dict[int, X] = {}

    def __call__(self) -> X:
        """The calling worker's object, made on its first call."""
        thread = threading.get_ident()
        if thread not in self._made:
            self._made[thread] = self._make()
        return self._made[thread]
