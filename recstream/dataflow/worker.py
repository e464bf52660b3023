"""What one worker does with a micro-batch of events, and at the barrier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from recstream.dataflow.catalogue_replica import CatalogueReplica
from recstream.dataflow.checkpoint import Checkpoint
from recstream.dataflow.compiling import make_ready
from recstream.dataflow.idle_refresh.refresh import IdleRefresh
from recstream.dataflow.list_builder import ListBuilder
from recstream.dataflow.lists import EncodedList
from recstream.dataflow.messages import BatchResult, ClosedSession, DueLists, EventBatch, Forgotten
from recstream.dataflow.model_state.keeper import ModelState
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.recovery import Recovery
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.timers import Timers
from recstream.dataflow.user_cache import UserCache
from recstream.items.codec import ItemRow
from recstream.items.statistics import Interaction
from recstream.ranking.online_learning import OnlineLearner
from recstream.ranking.query import Query
from recstream.ranking.recommender import Recommender
from recstream.records.event import Event, is_engagement, too_many_waiting, unknown_item
from recstream.records.reject import Reason, Reject
from recstream.records.reject_limit import RejectLimit
from recstream.users.sessions import sessions_of
from recstream.users.state import AsOf, Outcome, UserState

__all__ = ["Worker"]


class Worker:
    """One worker's users, items and statistics. All its methods run in the worker's own thread."""

    def __init__(self, services: Services, rules: DataflowRules) -> None:
        encoder = services.encoder()
        self.encoder = encoder
        self.rules = rules
        self.meters = services.meters
        self.now = services.now
        self.steady = services.steady
        self.replica = CatalogueReplica(
            services.items(),
            services.statistics(),
            services.meters,
            dim=encoder.dim,
            neighbours=rules.neighbours,
            keys=rules.statistics_keys,
            now=services.steady,
            refresh_s=rules.refresh_s,
        )
        self.recommender = Recommender(self.replica.catalogue, self.replica.statistics, rules.ranking)
        self.learner = OnlineLearner(self.recommender, rules.learning)
        self.models = ModelState(services, rules, self.replica.catalogue, self.recommender, self.learner)
        self.users = UserCache(
            services.users(),
            self.replica.catalogue,
            services.meters,
            limit=rules.hot_users,
            shards=rules.shards,
            sessions=rules.sessions,
        )
        self.barrier = Checkpoint(services, self.users, self.replica, self.models)
        # Where nothing may wait, an event of an unknown item is refused at once.
        self._user_states = rules.user_state
        if rules.wait_for_item_s <= 0.0:
            self._user_states = replace(rules.user_state, max_waiting=0)
        make_ready()
        self.inbox: list[EventBatch] = []
        self.ending = False
        """Whether a source has ended: from then on each barrier may be the last, and leaves nothing."""
        self._patience_s = rules.session_gap_s + rules.lateness_s
        """How long after its last event a session may still grow."""
        self.timers = Timers(
            wait_s=rules.wait_for_item_s, patience_s=self._patience_s, look_every_s=rules.refresh_s
        )
        self.outbox = Outbox(self.users, services.now, job=rules.job, shards=rules.shards)
        self.commits = self.outbox.commits
        self.recovery = Recovery(self.users, self.outbox, self.timers, services, rules)
        self.replica.take_arrived()  # nobody waits for them yet, and what is stored already is not new
        self.idle_refresh = None
        if rules.idle_refresh is not None and rules.lists:
            self.idle_refresh = IdleRefresh(
                rules.idle_refresh, self.users, self.replica, self.recovery, services, rules
            )
        self.lists = ListBuilder(
            self.users, self.recommender, self.idle_refresh, services, rules, encoder=encoder.label
        )
        self._is_led = False
        self.turn = 0
        """Grows whenever the worker has been active: a barrier is asked for by many, and done once a turn."""
        self._fuse = RejectLimit("events that were read", rules.reject_limit)
        self._good: int = 0
        self._rejected: list[Reject] = []
        """Verdicts of the step under way, for the fuse."""

    def adopt(self, shard: int, barrier: int | None) -> None:
        """Note that this worker owns a user shard, and its last committed ``barrier`` (None: there is none).

        What an earlier run left unfinished in it is taken up at the next step: its users may never come
        back by themselves.
        """
        self.users.warm(self.barrier.background.run)
        self.models.own(shard)
        self.recovery.adopt(shard, barrier)

    def lead(self) -> bool:
        """Whether the caller leads: the first of the worker's shards to ask does, from then on."""
        is_first, self._is_led = not self._is_led, True
        return is_first

    def next_look(self, *, leads: bool = True) -> float | None:
        """When `step` wants to be called although no event has come (wall clock), or None.

        One of the worker's shards ``leads``: what needs no more than one call is asked for by it alone.
        """
        if not self.recovery.is_taken_up:
            return self.now()
        steady = self.steady()
        looks = [self.timers.next_look(steady, has_arrivals=bool(self.replica.arrived))]
        if leads and self.idle_refresh is not None and not (self.ending or self.rules.every_event):
            looks.append(steady if self.replica.arrived else self.idle_refresh.next_look())
            looks.append(steady + self.rules.refresh_s)  # a new item wakes nobody by itself
        look = min((look for look in looks if look is not None), default=None)
        return None if look is None else self.now() + (look - steady)

    def wake(self) -> None:
        """A new turn begins, at whose barrier more is written."""
        self.turn += 1

    def next_write(self) -> float | None:
        """When a barrier is wanted although no event has come (wall clock), or None.

        One is while something is left to be written, or is being written and may fail.
        """
        waits = self.replica.statistics.dirty or self.models.sessions.waits or not self.users.is_settled()
        return self.now() + self.rules.refresh_s if waits else None

    def step(self) -> BatchResult:
        """Work off the inbox: look cold users up at once, apply every event, say whose lists are due."""
        received, self.inbox = self.inbox, []
        self.wake()
        self.commits.open()
        self.replica.refresh(force=False)
        self.models.refresh()
        done = BatchResult([], [], [], [], [], [])
        due: DueLists = {}
        touched: dict[str, None] = {}
        outcomes = dict.fromkeys(Outcome, 0)
        self.recovery.load((event.user_id for batch in received for event in batch.events), done, due)
        self.recovery.take_up(done, due)
        arrived = self.replica.take_arrived()
        looked_at = self.timers.due(self.steady(), arrived)
        self.recovery.load(looked_at, done, due)
        for user_id in looked_at:
            self._settle(user_id, done, due, touched)
        self.learner.begin()
        for at, events, brought in received:
            for event in events:
                self._learn(event)  # by what was known before: not even by the item that comes with it
                if event.item is not None:
                    self._bring(brought[event.offset])
                outcomes[self._take(event, at, done, due)] += 1
                touched[event.user_id] = None
                if self.rules.every_event:
                    self._list(done, due)
                    if self.idle_refresh is not None:
                        self._list(done, self.idle_refresh.due_in_log())
                if self.rules.sessions:
                    self.timers.hear(event.user_id, self.steady())
        if self.rules.sessions:
            for user_id in touched:
                self._close_sessions(self.users.get(user_id), done)
        if self.rules.every_event:
            self._list(done, due)
            self.count(done.interactions)
            done.interactions.clear()
        elif self.rules.lists:
            refreshed: DueLists = {}
            if self.idle_refresh is not None and not self.ending:
                self.idle_refresh.arrive(arrived)
                refreshed = self.idle_refresh.due(done, due, is_busy=bool(due))
            done.queries.extend(self.lists.queries(due))
            done.queries.extend(self.lists.queries(refreshed))
        self._account(outcomes)
        if self.users.overfull:
            self.flush()
        return done

    def count(self, interactions: Sequence[Interaction]) -> None:
        """Count touches in the statistics that this worker owns."""
        if interactions:
            self.replica.statistics.count(list(interactions), ticks_each=self.replica.ticks_each)

    def rank(self, queries: list[Query]) -> list[EncodedList]:
        """Make the lists of these users, now."""
        return [listed for listed in self.lists.rank(queries) if listed is not None]

    def flush(self) -> None:
        """The barrier: write users and items that changed. Early is harmless, late would lose events.

        Of all else what is due is written, in the background; all of it when the sources end (`ending`).
        """
        self.outbox.let_go()
        self.barrier.flush(turn=self.turn, is_last=self.ending)

    def _take(self, event: Event, at: float, done: BatchResult, due: DueLists) -> Outcome:
        kind = self.rules.user_state.decode.actions[event.action].kind
        user_state = self.users.get(event.user_id)
        if self.idle_refresh is not None and kind != "forget":
            self.idle_refresh.hear(event)
        if kind == "request":
            position = AsOf(event.ts, event.partition.name, event.offset)
            # Replayed after a crash, the state may be ahead of the request: then it says how far.
            ahead = user_state.as_of is not None and user_state.has_read_beyond(event)
            due[event.user_id] = ("request", None if ahead else position, at)
            return Outcome.APPLIED
        if kind == "forget":
            if user_state.absorbed(event):
                # Its tombstone may have been lost in the crash that has it read again. It drops the list of a
                # user who came back since, so that one follows it.
                self._forgotten(event, done)
                if user_state.as_of is not None:
                    due.setdefault(event.user_id, ("event", None, at))
                return Outcome.ABSORBED
            # What waited was read and is erased like all else: it waits no more.
            self.meters.add("events_waiting", -len(user_state.waiting))
            self.meters.add("events_applied", len(user_state.waiting))
            self.timers.want_no_more(event.user_id, [waiting.event for waiting in user_state.waiting])
            self.users.forget(event)
            self.models.sessions.forget(event.user_id)
            self.models.replay_buffer.forget()
            if self.idle_refresh is not None:
                self.idle_refresh.forget(event.user_id)
            due.pop(event.user_id, None)
            self._forgotten(event, done)
            return Outcome.APPLIED
        # Counted from now and not from when it was read: a worker's first batch waits for its model.
        outcome = user_state.observe(event, self.replica.catalogue, self._user_states, self.steady())
        if outcome is Outcome.APPLIED:
            self.users.changed(event.user_id)
            item = None if event.item_id is None else self.replica.catalogue.handle(event.item_id)
            if item is not None:
                self._interaction(event, item, user_state, done)
            if kind != "impression":
                due[event.user_id] = ("event", None, at)
        elif outcome is Outcome.ABSORBED:
            due.setdefault(event.user_id, ("event", None, at))
        elif outcome is Outcome.WAITING:
            self.users.changed(event.user_id)
            self.timers.wait(user_state.user_id, user_state.waiting[-1:])
        elif outcome is Outcome.REFUSED:
            self._refuse(event, user_state, done)
        else:
            self.users.changed(event.user_id)  # its fence moved
        return outcome

    def _learn(self, event: Event) -> None:
        """Let the ranking learn from what the user chose, by what their profile is without it."""
        user_state = self.users.get(event.user_id)
        if is_engagement(event, self._user_states.decode) and user_state.examine(event).outcome is None:
            item = self.replica.catalogue.handle(event.item_id or "")
            if item is not None:
                self.learner.meet(event, item, user_state)

    def _interaction(self, event: Event, item: int, user_state: UserState, done: BatchResult) -> None:
        """Note what an applied event teaches about items: here, or where their statistics are kept."""
        interactions = user_state.interactions(event, item, self._user_states)
        done.interactions.extend(interactions)
        if interactions:
            self.recommender.sessions.add(event.user_id, item, self.replica.statistics.tick)

    def _list(self, done: BatchResult, due: DueLists) -> None:
        """Make the lists that are due in place, by all that was learned so far."""
        if not due:
            return
        self.count(done.interactions)
        done.interactions.clear()
        done.lists.extend(self.rank(self.lists.queries(due)))
        due.clear()

    def _refuse(self, event: Event, user_state: UserState, done: BatchResult) -> None:
        """Reject an event whose item is unknown, and that may not wait for it."""
        now_for: Reason = "unknown_item" if self.rules.wait_for_item_s <= 0.0 else "too_many_waiting"
        reason = self.outbox.refuse(user_state, event, now_for)
        if reason == "unknown_item":
            self._reject(unknown_item(event, self.rules.wait_for_item_s), done)
        else:
            self._reject(too_many_waiting(event, self._user_states.max_waiting), done)

    def _reject(self, reject: Reject, done: BatchResult) -> None:
        self.meters.add("records_rejected", reason=reject.reason)
        self._rejected.append(reject)
        done.rejects.append(reject)

    def _forgotten(self, event: Event, done: BatchResult) -> None:
        gone = Forgotten(event.user_id)
        if self.rules.every_event:
            done.lists.append(gone)
        else:
            done.forgotten.append(gone)

    def _bring(self, row: ItemRow) -> None:
        """Take in an item that came with an event, so that the event need not wait for it.

        It is written by its shard's owner, where it arrives through the stream of items; in a log worked
        off event by event that is here, for the item must not be known before its event.
        """
        if self.rules.every_event:
            self.replica.put(row)
        else:
            self.replica.see(row)

    def _settle(
        self,
        user_id: str,
        done: BatchResult,
        due: DueLists,
        touched: dict[str, None],
    ) -> None:
        user_state = self.users.get(user_id)
        touched[user_id] = None
        if not user_state.waiting:
            return
        # A replay, in which nothing waits, may meet events that the live job left waiting.
        wait_s = self.rules.wait_for_item_s if self.rules.unfinished else math.inf
        applied, given_up = user_state.settle(
            self.replica.catalogue, self._user_states, now=self.steady(), wait_s=wait_s
        )
        if applied:
            self.meters.add("events_applied", len(applied))
            self._good += len(applied)
            due[user_id] = ("event", None, self.now())
            for event, item in applied:
                self._interaction(event, item, user_state, done)
            if self.rules.lists and self.rules.unfinished:
                self.outbox.keep(user_state, None)
        for event in given_up:
            self._reject(unknown_item(event, self.rules.wait_for_item_s), done)
            self.outbox.keep(user_state, event)
        self.timers.want_no_more(user_id, given_up)
        if applied or given_up:
            self.users.changed(user_id)
            self.meters.add("events_waiting", -(len(applied) + len(given_up)))

    def _close_sessions(self, user_state: UserState, done: BatchResult) -> None:
        """Announce sessions that can grow no more: by event time, or because the user went quiet.

        Quiet is counted from when an event was *read*, so a replayed log closes no session early.
        """
        quiet = self.timers.gone_quiet(user_state.user_id, self.steady())
        newest = user_state.recent[-1].ts if user_state.recent else 0.0
        for session in sessions_of(user_state.recent, self.rules.session_gap_s):
            if (quiet or newest - session.end > self._patience_s) and session.end > user_state.announced:
                user_state.announced = session.end
                done.sessions.append(ClosedSession(user_state.user_id, session))
                self.meters.add("sessions_closed")
                self.outbox.keep(user_state, session)

    def _account(self, outcomes: dict[Outcome, int]) -> None:
        for outcome, count in outcomes.items():
            if count and outcome is not Outcome.REFUSED:  # those are counted as they are rejected
                self.meters.add(f"events_{outcome.value}", count)
        good = self._good + outcomes[Outcome.APPLIED] + outcomes[Outcome.DUPLICATE]
        self._fuse.observe(good=good, rejects=self._rejected)
        self._good, self._rejected = 0, []
