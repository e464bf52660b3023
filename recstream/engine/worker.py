"""What one worker does with a micro-batch of events, and at the barrier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from recstream.core.events import Event
from recstream.core.fuse import Fuse
from recstream.core.profile import AsOf, Outcome, Profile
from recstream.core.ranking import Recommender
from recstream.core.rejects import Reason, Reject
from recstream.core.sessions import sessions_of
from recstream.core.signals import Query
from recstream.core.statistics import Touch
from recstream.engine.agenda import Agenda
from recstream.engine.barrier import BarrierWrites
from recstream.engine.compiling import make_ready
from recstream.engine.drift import Drift
from recstream.engine.earlier import EarlierRuns
from recstream.engine.hot_set import HotSet
from recstream.engine.late_rejects import too_many_waiting, unknown_item
from recstream.engine.learner import Learner
from recstream.engine.list_maker import ListMaker
from recstream.engine.lists import Listed
from recstream.engine.model_keeper import ModelKeeper
from recstream.engine.outbox import Outbox
from recstream.engine.replica import Replica
from recstream.engine.services import EngineRules, Services
from recstream.engine.step import ClosedSession, Dues, Forgotten, Received, Step
from recstream.engine.touches import is_engagement, touches_of
from recstream.ports import ItemRow

__all__ = ["Worker"]


class Worker:
    """One worker's users, items and statistics. All its methods run in the worker's own thread."""

    def __init__(self, services: Services, rules: EngineRules) -> None:
        encoder = services.encoder()
        self.encoder = encoder
        self.rules = rules
        self.meters = services.meters
        self.now = services.now
        self.steady = services.steady
        self.replica = Replica(
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
        self.learner = Learner(self.recommender, rules.learning)
        self.models = ModelKeeper(services, rules, self.replica.catalogue, self.recommender, self.learner)
        self.users = HotSet(
            services.users(),
            self.replica.catalogue,
            services.meters,
            limit=rules.hot_users,
            shards=rules.shards,
            sessions=rules.sessions,
        )
        self.barrier = BarrierWrites(services, self.users, self.replica, self.models)
        # Where nothing may wait, an event of an unknown item is refused at once.
        self._profiles = rules.profile
        if rules.wait_for_item_s <= 0.0:
            self._profiles = replace(rules.profile, max_waiting=0)
        make_ready()
        self.inbox: list[Received] = []
        self.ending = False
        """Whether a source has ended: from then on each barrier may be the last, and leaves nothing."""
        self._patience_s = rules.session_gap_s + rules.lateness_s
        """How long after its last event a session may still grow."""
        self.agenda = Agenda(
            wait_s=rules.wait_for_item_s, patience_s=self._patience_s, look_every_s=rules.refresh_s
        )
        self.outbox = Outbox(self.users, services.now, job=rules.job, shards=rules.shards)
        self.commits = self.outbox.commits
        self.earlier = EarlierRuns(self.users, self.outbox, self.agenda, services, rules)
        self.replica.take_arrived()  # nobody waits for them yet, and what is stored already is not new
        self.drift = None
        if rules.drift is not None and rules.lists:
            self.drift = Drift(rules.drift, self.users, self.replica, self.earlier, services, rules)
        self.lists = ListMaker(
            self.users, self.recommender, self.drift, services, rules, encoder=encoder.label
        )
        self._is_led = False
        self.turn = 0
        """Grows whenever the worker has been active: a barrier is asked for by many, and done once a turn."""
        self._fuse = Fuse("events that were read", rules.fuse)
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
        self.earlier.adopt(shard, barrier)

    def lead(self) -> bool:
        """Whether the caller leads: the first of the worker's shards to ask does, from then on."""
        is_first, self._is_led = not self._is_led, True
        return is_first

    def next_look(self, *, leads: bool = True) -> float | None:
        """When `step` wants to be called although no event has come (wall clock), or None.

        One of the worker's shards ``leads``: what needs no more than one call is asked for by it alone.
        """
        if not self.earlier.is_taken_up:
            return self.now()
        steady = self.steady()
        looks = [self.agenda.next_look(steady, has_arrivals=bool(self.replica.arrived))]
        if leads and self.drift is not None and not (self.ending or self.rules.every_event):
            looks.append(steady if self.replica.arrived else self.drift.next_look())
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

    def step(self) -> Step:
        """Work off the inbox: look cold users up at once, apply every event, say whose lists are due."""
        received, self.inbox = self.inbox, []
        self.wake()
        self.commits.open()
        self.replica.refresh(force=False)
        self.models.refresh()
        done = Step([], [], [], [], [], [])
        due: Dues = {}
        touched: dict[str, None] = {}
        outcomes = dict.fromkeys(Outcome, 0)
        self.earlier.load((event.user_id for batch in received for event in batch.events), done, due)
        self.earlier.take_up(done, due)
        arrived = self.replica.take_arrived()
        looked_at = self.agenda.due(self.steady(), arrived)
        self.earlier.load(looked_at, done, due)
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
                    if self.drift is not None:
                        self._list(done, self.drift.due_in_log())
                if self.rules.sessions:
                    self.agenda.hear(event.user_id, self.steady())
        if self.rules.sessions:
            for user_id in touched:
                self._close_sessions(self.users.get(user_id), done)
        if self.rules.every_event:
            self._list(done, due)
            self.count(done.touches)
            done.touches.clear()
        elif self.rules.lists:
            refreshed: Dues = {}
            if self.drift is not None and not self.ending:
                self.drift.arrive(arrived)
                refreshed = self.drift.due(done, due, is_busy=bool(due))
            done.queries.extend(self.lists.queries(due))
            done.queries.extend(self.lists.queries(refreshed))
        self._account(outcomes)
        if self.users.overfull:
            self.flush()
        return done

    def count(self, touches: Sequence[Touch]) -> None:
        """Count touches in the statistics that this worker owns."""
        if touches:
            self.replica.statistics.count(list(touches), ticks_each=self.replica.ticks_each)

    def rank(self, queries: list[Query]) -> list[Listed]:
        """Make the lists of these users, now."""
        made = self.lists.rank(queries)
        if made and self.rules.lists:
            self.models.transform.note()
        return [listed for listed in made if listed is not None]

    def flush(self) -> None:
        """The barrier: write users and items that changed. Early is harmless, late would lose events.

        Of all else what is due is written, in the background; all of it when the sources end (`ending`).
        """
        self.outbox.let_go()
        self.barrier.flush(turn=self.turn, is_last=self.ending)

    def _take(self, event: Event, at: float, done: Step, due: Dues) -> Outcome:
        kind = self.rules.profile.decode.actions[event.action].kind
        profile = self.users.get(event.user_id)
        if self.drift is not None and kind != "forget":
            self.drift.hear(event)
        if kind == "request":
            position = AsOf(event.ts, event.partition.name, event.offset)
            # Replayed after a crash, the state may be ahead of the request: then it says how far.
            ahead = profile.as_of is not None and profile.has_read_beyond(event)
            due[event.user_id] = ("request", None if ahead else position, at)
            return Outcome.APPLIED
        if kind == "forget":
            if profile.absorbed(event):
                # Its tombstone may have been lost in the crash that has it read again. It drops the list of a
                # user who came back since, so that one follows it.
                self._forgotten(event, done)
                if profile.as_of is not None:
                    due.setdefault(event.user_id, ("event", None, at))
                return Outcome.ABSORBED
            # What waited was read and is erased like all else: it waits no more.
            self.meters.add("events_waiting", -len(profile.waiting))
            self.meters.add("events_applied", len(profile.waiting))
            self.agenda.want_no_more(event.user_id, [waiting.event for waiting in profile.waiting])
            self.users.forget(event)
            self.models.sessions.forget(event.user_id)
            self.models.lessons.forget()
            if self.drift is not None:
                self.drift.forget(event.user_id)
            due.pop(event.user_id, None)
            self._forgotten(event, done)
            return Outcome.APPLIED
        # Counted from now and not from when it was read: a worker's first batch waits for its model.
        outcome = profile.observe(event, self.replica.catalogue, self._profiles, self.steady())
        if outcome is Outcome.APPLIED:
            self.users.changed(event.user_id)
            item = None if event.item_id is None else self.replica.catalogue.handle(event.item_id)
            if item is not None:
                self._touch(event, item, profile, done)
            if kind != "impression":
                due[event.user_id] = ("event", None, at)
        elif outcome is Outcome.ABSORBED:
            due.setdefault(event.user_id, ("event", None, at))
        elif outcome is Outcome.WAITING:
            self.users.changed(event.user_id)
            self.agenda.wait(profile.user_id, profile.waiting[-1:])
        elif outcome is Outcome.REFUSED:
            self._refuse(event, profile, done)
        else:
            self.users.changed(event.user_id)  # its fence moved
        return outcome

    def _learn(self, event: Event) -> None:
        """Let the ranking learn from what the user chose, by what their profile is without it."""
        profile = self.users.get(event.user_id)
        if is_engagement(event, self._profiles.decode) and not (
            profile.absorbed(event) or profile.knows(event)
        ):
            item = self.replica.catalogue.handle(event.item_id or "")
            if item is not None and self.learner.meet(event, item, profile):
                self.models.transform.note()

    def _touch(self, event: Event, item: int, profile: Profile, done: Step) -> None:
        """Note what an applied event teaches about items: here, or where their statistics are kept."""
        touches = touches_of(event, item, profile, self._profiles.decode)
        done.touches.extend(touches)
        if touches:
            self.recommender.sessions.add(event.user_id, item, self.replica.statistics.tick)

    def _list(self, done: Step, due: Dues) -> None:
        """Make the lists that are due in place, by all that was learned so far."""
        if not due:
            return
        self.count(done.touches)
        done.touches.clear()
        done.lists.extend(self.rank(self.lists.queries(due)))
        due.clear()

    def _refuse(self, event: Event, profile: Profile, done: Step) -> None:
        """Reject an event whose item is unknown, and that may not wait for it."""
        now_for: Reason = "unknown_item" if self.rules.wait_for_item_s <= 0.0 else "too_many_waiting"
        reason = self.outbox.refuse(profile, event, now_for)
        if reason == "unknown_item":
            self._reject(unknown_item(event, self.rules.wait_for_item_s), done)
        else:
            self._reject(too_many_waiting(event, self._profiles.max_waiting), done)

    def _reject(self, reject: Reject, done: Step) -> None:
        self.meters.add("records_rejected", reason=reject.reason)
        self._rejected.append(reject)
        done.rejects.append(reject)

    def _forgotten(self, event: Event, done: Step) -> None:
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
        done: Step,
        due: Dues,
        touched: dict[str, None],
    ) -> None:
        profile = self.users.get(user_id)
        touched[user_id] = None
        if not profile.waiting:
            return
        # A replay, in which nothing waits, may meet events that the live job left waiting.
        wait_s = self.rules.wait_for_item_s if self.rules.unfinished else math.inf
        applied, given_up = profile.settle(
            self.replica.catalogue, self._profiles, now=self.steady(), wait_s=wait_s
        )
        if applied:
            self.meters.add("events_applied", len(applied))
            self._good += len(applied)
            due[user_id] = ("event", None, self.now())
            for event, item in applied:
                self._touch(event, item, profile, done)
            if self.rules.lists and self.rules.unfinished:
                self.outbox.keep(profile, None)
        for event in given_up:
            self._reject(unknown_item(event, self.rules.wait_for_item_s), done)
            self.outbox.keep(profile, event)
        self.agenda.want_no_more(user_id, given_up)
        if applied or given_up:
            self.users.changed(user_id)
            self.meters.add("events_waiting", -(len(applied) + len(given_up)))

    def _close_sessions(self, profile: Profile, done: Step) -> None:
        """Announce sessions that can grow no more: by event time, or because the user went quiet.

        Quiet is counted from when an event was *read*, so a replayed log closes no session early.
        """
        quiet = self.agenda.gone_quiet(profile.user_id, self.steady())
        newest = profile.recent[-1].ts if profile.recent else 0.0
        for session in sessions_of(profile.recent, self.rules.session_gap_s):
            if (quiet or newest - session.end > self._patience_s) and session.end > profile.announced:
                profile.announced = session.end
                done.sessions.append(ClosedSession(profile.user_id, session))
                self.meters.add("sessions_closed")
                self.outbox.keep(profile, session)

    def _account(self, outcomes: dict[Outcome, int]) -> None:
        for outcome, count in outcomes.items():
            if count and outcome is not Outcome.REFUSED:  # those are counted as they are rejected
                self.meters.add(f"events_{outcome.value}", count)
        good = self._good + outcomes[Outcome.APPLIED] + outcomes[Outcome.DUPLICATE]
        self._fuse.observe(good=good, rejects=self._rejected)
        self._good, self._rejected = 0, []
