"""What the dataflow is given from outside: its rules, and ports that each worker opens when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from recstream.encoders.base import Encoder
from recstream.metrics.base import Meters
from recstream.ranking.online_learning import LearningRules
from recstream.ranking.recommender import RankingRules
from recstream.records.reject_limit import RejectLimitRules
from recstream.stores.base import ItemStore, ModelStore, StatisticsStore, UserStore
from recstream.users.state import UserStateRules

__all__ = ["DataflowRules", "IdleRefreshRules", "Services", "steady_clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleRefreshRules:
    """Whose lists are made again while no events of theirs come, and how many."""

    active_s: float
    """Seconds since a user's last event was read after which the user is left alone. Where a log is replayed
    event by event: seconds of event time between that event and the newest of the log."""
    after_events: float
    """Events of the whole stream after which a list may be made again. Doubled for a user each time that
    their list came out as it was."""
    lists_per_s: float
    """Most lists made a second, by each worker."""
    items_per_s: int
    """Most new items a second whose users are searched for, by each worker; the newest are. 0: none."""
    item_users: int
    """Users searched for a new item."""
    lists_per_event: float
    """Lists made for each event where a log is replayed event by event, in place of ``lists_per_s``."""


@dataclass(frozen=True, kw_only=True)
class DataflowRules:
    """When things happen; times in seconds."""

    user_state: UserStateRules
    ranking: RankingRules
    shards: int
    """User shards: fixed when a store is made."""
    processes: int
    """Processes that share the stream: how item statistics are spread, and how fast their clock ticks."""
    hot_users: int
    """Users kept in memory by a worker."""
    refresh_s: float
    """How often replicas look for what other processes wrote."""
    wait_for_item_s: float
    """How long an event waits for its item; 0: an event of an unknown item is rejected at once."""
    session_gap_s: float
    """Silence between two events that ends a session, by event time."""
    lateness_s: float
    """How late an event may come and still belong to its session."""
    neighbours: int
    """Neighbours kept for each item."""
    learning: LearningRules
    """How much the weights of the signals follow what users choose."""
    idle_refresh: IdleRefreshRules | None
    """How lists of idle users are kept fresh; None: they are not."""
    reject_limit: RejectLimitRules
    """When too many rejects stop the flow."""
    job: str = "recommend"
    """Name under which positions are kept: the live job's, or that of a replay (see `replay_rules`)."""
    sessions: bool
    """Whether closed sessions are announced."""
    unfinished: bool = True
    """Whether what an earlier run left unfinished is taken up: events that wait, output whose epoch did not
    commit, open sessions. A replay leaves it to the live job."""
    in_order: bool = False
    """Work a log off strictly in its order, by one worker, so that what is learned follows from the log
    alone: micro-batches, which fall by the time that things take, leave no trace."""
    every_event: bool = False
    """Where a log is worked off in its order: make lists after each event, instead of once for each batch as
    it was read."""
    lists: bool = True
    """Whether lists are made at all; a replay may make only the last ones."""

    @property
    def silence_s(self) -> float:
        """Silence of a user after which no session of theirs can grow any more."""
        return self.session_gap_s + self.lateness_s

    @property
    def statistics_keys(self) -> int:
        """Number of keys that item statistics are spread over; a lone process has them all under one."""
        return 1 if self.processes == 1 else 4 * self.processes


def steady_clock() -> Callable[[], float]:
    """Make a clock that shows the wall clock's time now (Unix seconds), and from then on never steps.

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
    generation: Callable[[], int]
    """As of `recstream.stores.base.Store`."""
    meters: Meters
    now: Callable[[], float]
    maintain: Callable[[], None] | None = None
    """Compacts the tables when that is due; given to one process of a job only."""
    steady: Callable[[], float] = field(default_factory=steady_clock)
    """As `steady_clock`."""
