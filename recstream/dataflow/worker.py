"""A worker: its parts, and the script of one micro-batch."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, Generic, TypeVar

from recstream.dataflow.background import AFTER_BARRIER_S, SLICE_S
from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.dataflow.checkpoint import Checkpoint
from recstream.dataflow.events import EventApplication
from recstream.dataflow.idle_refresh.refresh import IdleRefresh
from recstream.dataflow.learning import EventLearning
from recstream.dataflow.lists import ListBuilder
from recstream.dataflow.messages import BatchResult, DueLists, EncodedList, EventBatch
from recstream.dataflow.micro_batch import MicroBatch
from recstream.dataflow.model_state.model_state import ModelState
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.recovery import Recovery
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.sessions import SessionClosing
from recstream.dataflow.timers import Timers
from recstream.dataflow.user_cache import UserCache
from recstream.dataflow.waiting import WaitingEvents
from recstream.items import jit
from recstream.ranking.online_learning import OnlineLearner
from recstream.ranking.query import Query
from recstream.ranking.recommender import Recommender, warm_up
from recstream.records.reject_limit import RejectLimit
from recstream.records.time_order import TimeOrder

__all__ = ["PerWorker", "Worker", "compile_kernels"]

X = TypeVar("X")

_AFTER_EVENTS_S: Final = 0.005
"""Seconds after a micro-batch in which nothing is done that can wait: its lists are made and sent first."""


class PerWorker(Generic[X]):
    """One object for each worker, shared by all steps that run in it.

    Steps of a dataflow share no state: bytewax gives each its own logic, and each key of a step its own. But
    a micro-batch touches users, items and models together, so the steps of a worker share one `Worker`,
    without locks: bytewax runs all steps of a worker in one thread, one after the other.

    That thread's id is the key here. `threading.local` would not do: in a cluster the threads are not
    Python's, so Python takes each call from them for a new thread, and forgets what was local to the last.

    >>> shared = PerWorker(list)
    >>> shared() is shared()
    True
    """

    def __init__(self, make: Callable[[], X]) -> None:
        self._make = make
        self._made: dict[int, X] = {}

    def __call__(self) -> X:
        """Give the calling worker's object, made on its first call."""
        thread = threading.get_ident()
        if thread not in self._made:
            self._made[thread] = self._make()
        return self._made[thread]


class Worker:
    """One worker's users, items and models. All methods run in the worker's own thread."""

    def __init__(self, services: Services, rules: DataflowRules) -> None:
        if rules.wait_for_item_s <= 0.0:  # nothing may wait: an event of an unknown item is refused at once
            rules = replace(rules, user_state=replace(rules.user_state, max_waiting=0))
        self.encoder = services.encoder()
        self.rules = rules
        self.meters = services.meters
        self.now = services.now
        self.steady = services.steady
        self.replica = CatalogueReplica(
            services.items(),
            services.statistics(),
            services.meters,
            dim=self.encoder.dim,
            neighbours=rules.neighbours,
            keys=rules.statistics_keys,
            now=services.steady,
            refresh_s=rules.refresh_s,
        )
        self.recommender = Recommender(self.replica.catalogue, self.replica.statistics, rules.ranking)
        self.learner = OnlineLearner(self.recommender, rules.learning, clock=services.steady)
        self.models = ModelState(services, rules, self.replica.catalogue, self.recommender, self.learner)
        self.users = UserCache(
            services.users(),
            self.replica.catalogue,
            services.meters,
            limit=rules.hot_users,
            shards=rules.shards,
            sessions=rules.sessions,
        )
        self.checkpoint = Checkpoint(services, self.users, self.replica, self.models)
        compile_kernels()
        self.timers = Timers(
            wait_s=rules.wait_for_item_s, silence_s=rules.silence_s, look_every_s=rules.refresh_s
        )
        self.outbox = Outbox(self.users, services.now, job=rules.job, shards=rules.shards)
        self.commits = self.outbox.commits
        self.recovery = Recovery(self.users, self.outbox, self.timers, services, rules)
        self.replica.take_arrived()  # nobody waits for them yet, and what is stored already is not new
        self.idle_refresh = None
        if rules.idle_refresh is not None and rules.lists:
            self.idle_refresh = IdleRefresh(
                rules.idle_refresh,
                self.users,
                self.replica,
                self.recovery,
                services,
                rules,
                self.checkpoint.background.run,
            )
        self.lists = ListBuilder(
            self.users, self.recommender, self.idle_refresh, services, rules, encoder=self.encoder.label
        )
        self.learning = EventLearning(
            self.learner, self.recommender, self.replica, rules.user_state, in_order=rules.in_order
        )
        self.waiting = WaitingEvents(
            self.users, self.replica, self.timers, self.outbox, self.learning, services, rules
        )
        self.events = EventApplication(
            self.users,
            self.replica,
            self.models,
            self.learning,
            self.waiting,
            self.idle_refresh,
            services,
            rules,
        )
        self.sessions = SessionClosing(self.timers, self.outbox, services, rules)
        self.reject_limit = RejectLimit("events that were read", rules.reject_limit)
        self._time_order = TimeOrder(rules.lateness_s)
        self.inbox: list[EventBatch] = []
        """Batches of the next micro-batch."""
        self.is_ending = False
        """Whether a source has ended. From then on each checkpoint may be the last, and leaves nothing
        unwritten."""
        self.turn = 0
        """Grows with each activity of the worker. Many steps ask for a checkpoint; some of it is written once
        a turn."""
        self._has_leader = False
        self._spare_from = float("-inf")
        """Steady clock from which on there is time for what can wait."""
        self._caught_up_from = float("-inf")
        """As `_spare_from`, with events at hand: before it there are those that a barrier has held up."""

    def own_shard(self, shard: int, barrier: int | None) -> None:
        """Note that this worker owns a user shard, and its last committed ``barrier`` (None: there is none).

        What an earlier run left unfinished in the shard is taken up by the next `step`.
        """
        self.users.warm(self.checkpoint.background.run)
        self.models.own(shard)
        self.recovery.own_shard(shard, barrier)

    def own_log(self) -> None:
        """Note that this worker works off a whole log in its order, and counts all statistics."""
        self.users.warm(self.checkpoint.background.run)
        self.replica.own(0)

    def claim_lead(self) -> bool:
        """Give whether the caller leads the worker's shards: the first to ask does."""
        is_first, self._has_leader = not self._has_leader, True
        return is_first

    def wake(self) -> None:
        """Begin a new turn, at whose checkpoint more is written."""
        self.turn += 1

    def next_step(self, *, leads: bool = True) -> float | None:
        """Give when `step` is to be called although no event has come (wall clock, Unix seconds), or None.

        One of the worker's shards ``leads``: it alone asks for what needs no more than one call.
        """
        if not self.recovery.is_done:
            return self.now()
        steady = self.steady()
        looks = [self.timers.next_look(steady, has_arrivals=bool(self.replica.arrived))]
        if leads and self.idle_refresh is not None and not (self.is_ending or self.rules.in_order):
            has_news = self.replica.arrived or self.replica.gone
            look = steady if has_news else self.idle_refresh.next_look()
            looks.append(None if look is None else max(look, self._spare_from))
            looks.append(steady + self.rules.refresh_s)  # a new item wakes nobody by itself
        if leads and self._may_encode:
            looks.append(max(steady, self._spare_from))
        look = min((look for look in looks if look is not None), default=None)
        return None if look is None else self.now() + (look - steady)

    def next_checkpoint(self) -> float | None:
        """Give when a checkpoint is wanted although no event has come (wall clock, Unix seconds), or None.

        One is wanted while something is still to be written, or is being written and may fail.
        """
        waits = self.replica.waits or self.models.sessions.waits or not self.users.is_settled()
        return self.now() + self.rules.refresh_s if waits else None

    def step(self) -> BatchResult:
        """Work off the inbox: load its users at once, apply every event, make or request the due lists."""
        batches, self.inbox = self.inbox, []
        self.wake()
        self.commits.open()
        self.replica.refresh(force=False)
        self.models.refresh()
        done = MicroBatch(in_order=self.rules.in_order)
        done.resend(self.recovery.load(event.user_id for batch in batches for event in batch.events))
        done.resend(self.recovery.search_new_shards())
        arrived, gone = self.replica.take_arrived(), self.replica.take_gone()
        looked_at = self.timers.take_due(self.steady(), arrived)
        done.resend(self.recovery.load(looked_at))
        touched = dict.fromkeys(looked_at)
        for user_id in looked_at:
            done.settle(user_id, self.waiting.settle(user_id))
        steady = self.steady()
        has_time = steady >= (self._caught_up_from if batches else self._spare_from)
        self.learner.begin(has_time=has_time or self.rules.in_order)
        if batches and not self.rules.in_order:
            self.replica.note_events()
            self._spare_from = steady + _AFTER_EVENTS_S
        elif has_time and self._may_encode:
            self.replica.encode_statistics(steady + SLICE_S, self.steady)
        for batch in batches:
            for event in batch.events:
                done.apply(event.user_id, self.events.apply(event, batch))
                touched[event.user_id] = None
                if self.rules.every_event:
                    self._list_in_place(done.due, done)
                    if self.idle_refresh is not None:
                        self._list_in_place(self.idle_refresh.take_due_in_log(), done)
                if self.rules.sessions:
                    self.sessions.note_read(event.user_id)
            if self.rules.in_order:
                self._list_in_place(done.due, done)
        if self.rules.sessions:
            for user_id in touched:
                done.result.sessions.extend(self.sessions.close(self.users.get(user_id)))
        if self.rules.in_order:
            self._list_in_place(done.due, done)
            self.learning.count()
            self._note_order(batches)
        elif self.rules.lists:
            self._request_lists(done, arrived, gone, has_time=has_time)
        done.account(self.meters, self.reject_limit)
        if self.users.is_overfull:
            self.flush()
        return done.result

    @property
    def _may_encode(self) -> bool:
        """Whether rows are encoded between events."""
        return self.replica.has_rows_to_encode and not self.is_ending

    def rank(self, queries: list[Query]) -> list[EncodedList]:
        """Make the lists of these users, now."""
        return [made for made in self.lists.rank(queries) if made is not None]

    def flush(self) -> None:
        """Take the checkpoint at the barrier. Early is harmless; late would lose events.

        Users and items that changed are written at once. Other state is written in the background as it is
        due, all of it when the sources end (`is_ending`).
        """
        self.outbox.drop_confirmed()
        self._spare_from = self._caught_up_from = self.steady() + AFTER_BARRIER_S
        self.checkpoint.flush(turn=self.turn, is_last=self.is_ending)

    def _note_order(self, batches: Sequence[EventBatch]) -> None:
        """Count the events that come after far newer ones: a list made of those is made of the future."""
        if not self.rules.every_event:
            return
        before = self._time_order.late
        for batch in batches:
            for event in batch.events:
                self._time_order.note(event.ts)
        if self._time_order.late > before:
            self.meters.add("events_late", self._time_order.late - before)

    def _list_in_place(self, due: DueLists, done: MicroBatch) -> None:
        """Make the lists that are due, by all that was learned so far."""
        if due and self.rules.lists:
            self.learning.count()
            done.result.lists.extend(self.rank(self.lists.queries(due)))
        due.clear()

    def _request_lists(
        self, done: MicroBatch, arrived: Sequence[str], gone: Sequence[int], *, has_time: bool
    ) -> None:
        """Ask the ``recommend`` step for the lists that are due, and then for some of idle users."""
        refreshed: DueLists = {}
        if self.idle_refresh is not None and not self.is_ending:
            self.idle_refresh.note_new_items(arrived)
            self.idle_refresh.note_gone_items(gone)
            if has_time:
                refreshed, resent = self.idle_refresh.take_due(done.due)
                done.resend(resent)
        done.result.queries.extend(self.lists.queries(done.due))
        done.result.queries.extend(self.lists.queries(refreshed))


@cache
def compile_kernels() -> None:
    """Compile the kernels that lists are made by, or load what another process has compiled; once a process.

    The first start after an install compiles for a minute or two. Processes that start together compile one
    after the other: numba numbers what it keeps on disk in a file that each of them would overwrite.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # where files cannot be locked nothing is lost but time
            file = held.enter_context(Path(jit.__file__).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX)
        warm_up()
