"""What one worker does with a micro-batch of events, and at the barrier."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from recstream.core.events import Event
from recstream.core.profile import AsOf, Outcome, Profile
from recstream.core.ranking import rank, warm_up
from recstream.core.rejects import Reject
from recstream.core.sessions import Session, sessions_of
from recstream.core.signals import RECENT_ITEMS, Query, Trigger, query_of
from recstream.core.statistics import Touch
from recstream.engine.agenda import Agenda
from recstream.engine.garbage import LongLived
from recstream.engine.hot_set import HotSet
from recstream.engine.lists import Listed
from recstream.engine.replica import Replica
from recstream.engine.services import EngineRules, Services
from recstream.ports import ItemRow

__all__ = ["ClosedSession", "Forgotten", "Received", "Step", "Worker"]


class Received(NamedTuple):
    """Decoded events with the moment they were read (Unix seconds)."""

    at: float
    events: list[Event]
    brought: dict[str, ItemRow] = {}  # noqa: RUF012 - a named tuple's default, never changed
    """Items that the events carry along, encoded, by id."""


class ClosedSession(NamedTuple):
    """A user's session, to be announced."""

    user_id: str
    session: Session


class Forgotten(NamedTuple):
    """A user was erased: whoever holds their list must drop it."""

    user_id: str


class Step(NamedTuple):
    """What came of one micro-batch."""

    queries: list[Query]
    """One a user whose list is due (none when lists were made in place)."""
    lists: list[Listed | Forgotten]
    """Lists made in place, and users erased between them, in the order of the log."""
    touches: list[Touch]
    """What item statistics are still to count."""
    rejects: list[Reject]
    sessions: list[ClosedSession]
    forgotten: list[Forgotten]


class Worker:
    """One worker's users, items and statistics. All its methods run in the worker's own thread."""

    def __init__(self, services: Services, rules: EngineRules) -> None:
        encoder = services.encoder()
        self.encoder = encoder
        self.rules = rules
        self.meters = services.meters
        self.now = services.now
        self.replica = Replica(
            services.items(),
            services.statistics(),
            services.meters,
            dim=encoder.dim,
            neighbours=rules.neighbours,
            keys=rules.statistics_keys,
            now=services.now,
            refresh_s=rules.refresh_s,
        )
        self._maintain = services.maintain
        self._long_lived = LongLived()
        self.users = HotSet(
            services.users(),
            self.replica.catalogue,
            services.meters,
            limit=rules.hot_users,
            shards=rules.shards,
        )
        warm_up()
        self.inbox: list[Received] = []
        self.ending = False
        """Whether a source has ended: from then on each barrier may be the last, and leaves nothing."""
        self._patience_s = rules.session_gap_s + rules.lateness_s
        """How long after its last event a session may still grow."""
        self.agenda = Agenda(
            wait_s=rules.wait_for_item_s, patience_s=self._patience_s, look_every_s=rules.refresh_s
        )
        self._adopted: dict[int, bool] = {}
        """User shards that this worker owns, and whether those who wait in them were looked for."""
        self._seq = 0

    def adopt(self, shard: int) -> None:
        """Note that this worker owns a user shard.

        Users whose events wait for an item are then looked for at the next step: they may never come
        back by themselves, and the events were read by an earlier run.
        """
        self._adopted.setdefault(shard, False)

    def next_seq(self) -> int:
        """A number greater than all before it: the wall clock in ns, made strictly growing."""
        self._seq = max(self._seq + 1, int(self.now() * 1e9))
        return self._seq

    def next_look(self) -> float | None:
        """When `step` wants to be called although no event has come (wall clock), or None."""
        if not all(self._adopted.values()):
            return self.now()
        return self.agenda.next_look(self.now(), has_arrivals=bool(self.replica.arrived))

    def step(self) -> Step:
        """Work off the inbox: look cold users up at once, apply every event, say whose lists are due."""
        received, self.inbox = self.inbox, []
        self.replica.refresh(force=False)
        done = Step([], [], [], [], [], [])
        loaded = self.users.load(event.user_id for batch in received for event in batch.events)
        self._note_loaded(loaded)
        new_shards = [shard for shard, looked in self._adopted.items() if not looked]
        if new_shards:
            self._note_loaded(self.users.load_waiting(new_shards))
            self._adopted.update(dict.fromkeys(new_shards, True))
        due: dict[str, tuple[Trigger, AsOf | None, float]] = {}
        touched: dict[str, None] = {}
        outcomes = dict.fromkeys(Outcome, 0)
        looked_at = self.agenda.due(self.now(), self.replica.take_arrived())
        self._note_loaded(self.users.load(looked_at))
        for user_id in looked_at:
            self._settle(user_id, done, due, touched)
        for at, events, brought in received:
            for event in events:
                if event.item is not None:
                    self._bring(brought[event.item.item_id])
                outcomes[self._take(event, at, done, due)] += 1
                touched[event.user_id] = None
                if self.rules.every_event and due:
                    self.count(done.touches)
                    done.touches.clear()
                    done.lists.extend(self.rank(self._queries(due)))
                    due.clear()
                if self.rules.sessions:
                    self.agenda.hear(event.user_id, at)
        if self.rules.sessions:
            for user_id in touched:
                self._close_sessions(self.users.get(user_id), done)
        if self.rules.every_event:
            self.count(done.touches)
            done.touches.clear()
            done.lists.extend(self.rank(self._queries(due)))
        elif self.rules.lists:
            done.queries.extend(self._queries(due))
        self._account(outcomes, done)
        if self.users.overfull:
            self.flush()
        return done

    def count(self, touches: Sequence[Touch]) -> None:
        """Count touches in the statistics that this worker owns."""
        if touches:
            self.replica.statistics.count(list(touches), ticks_each=self.replica.ticks_each)

    def rank(self, queries: list[Query]) -> list[Listed]:
        """Make the lists of these users, now."""
        if not queries or not self.rules.lists:
            return []
        lists = rank(queries, self.replica.catalogue, self.replica.statistics, self.rules.ranking)
        catalogue = self.replica.catalogue
        now = self.now()
        made = []
        for query, ranked in zip(queries, lists, strict=True):
            made.append(Listed.of(query, ranked, catalogue, self.encoder.label, now))
            self.meters.observe("event_to_list_seconds", max(now - query.received_at, 0.0))
        for trigger in {query.trigger for query in queries}:
            count = sum(query.trigger == trigger for query in queries)
            self.meters.add("lists_emitted", count, trigger=trigger)
        return made

    def flush(self) -> None:
        """The barrier: write all that changed. Early is harmless (fences); late would lose events.

        Of item statistics only the longest unwritten are written, until the sources end (`ending`).
        """
        begin = time.perf_counter()
        users = self.users.flush()
        items, statistics = self.replica.flush(self.next_seq, all_statistics=self.ending)
        if users or items or statistics:
            self.meters.add("epochs")
            self.meters.observe("flush_seconds", time.perf_counter() - begin)
            for table, rows in (("users", users), ("items", items), ("item_stats", statistics)):
                self.meters.add("flushed_rows", rows, table=table)
            self._long_lived.at_barrier()
            if self._maintain is not None:
                self._maintain()

    def _take(
        self, event: Event, at: float, done: Step, due: dict[str, tuple[Trigger, AsOf | None, float]]
    ) -> Outcome:
        kind = self.rules.profile.decode.actions[event.action].kind
        profile = self.users.get(event.user_id)
        if kind == "request":
            position = AsOf(event.ts, event.partition.name, event.offset)
            # Replayed after a crash, the state may be ahead of the request: then it says how far.
            ahead = profile.as_of is not None and profile.absorbed(event)
            due[event.user_id] = ("request", None if ahead else position, at)
            return Outcome.APPLIED
        if kind == "forget":
            if profile.absorbed(event):
                # Its tombstone may have been lost in the crash that has it read again.
                self._forgotten(event, done)
                return Outcome.ABSORBED
            # What waited was read and is erased like all else: it waits no more.
            self.meters.add("events_waiting", -len(profile.waiting))
            self.meters.add("events_applied", len(profile.waiting))
            self.agenda.want_no_more(event.user_id, [waiting.event for waiting in profile.waiting])
            self.users.forget(event)
            due.pop(event.user_id, None)
            self._forgotten(event, done)
            return Outcome.APPLIED
        wait_s = self.rules.wait_for_item_s
        # Counted from now and not from when it was read: a worker's first batch waits for its model.
        outcome = profile.observe(event, self.replica.catalogue, self.rules.profile, self.now())
        if outcome is Outcome.APPLIED:
            self.users.changed(event.user_id)
            item = self._engaged_item(event)
            if item is not None:
                done.touches.append(_touch(item, profile))
            if kind != "impression":
                due[event.user_id] = ("event", None, at)
        elif outcome is Outcome.ABSORBED:
            due.setdefault(event.user_id, ("event", None, at))
        elif outcome is Outcome.WAITING:
            self.users.changed(event.user_id)
            if wait_s <= 0.0:
                done.rejects.extend(self._give_up(profile))
            else:
                self.agenda.wait(profile.user_id, profile.waiting[-1:])
        elif outcome is Outcome.TOO_MANY_WAITING:
            self.users.changed(event.user_id)
            most = self.rules.profile.max_waiting
            detail = (
                f"item {event.item_id!r} is not known and {most} events of user {event.user_id!r} wait for "
                "items already: load the items first (recstream catalogue load), or raise events.max_waiting"
            )
            done.rejects.append(Reject("too_many_waiting", detail, event.partition, event.offset, event.raw))
        else:
            self.users.changed(event.user_id)  # its fence moved
        return outcome

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

    def _engaged_item(self, event: Event) -> int | None:
        action = self.rules.profile.decode.actions[event.action]
        if event.item_id is None or action.kind in ("impression", "hide") or action.weight < 0.0:
            return None
        rules = self.rules.profile.decode
        if event.rating is not None and event.rating < sum(rules.rating_scale) / 2:
            return None
        return self.replica.catalogue.handle(event.item_id)

    def _note_loaded(self, profiles: list[Profile]) -> None:
        for profile in profiles:
            if profile.waiting:
                self.meters.add("events_waiting", len(profile.waiting))
                self.meters.add("events_waiting_at_start", len(profile.waiting))
                self.agenda.wait(profile.user_id, profile.waiting)
                # An item may have arrived while nobody held the user.
                self.agenda.look_at(profile.user_id, self.now())

    def _settle(
        self,
        user_id: str,
        done: Step,
        due: dict[str, tuple[Trigger, AsOf | None, float]],
        touched: dict[str, None],
    ) -> None:
        profile = self.users.get(user_id)
        touched[user_id] = None
        if not profile.waiting:
            return
        now = self.now()
        applied, given_up = profile.settle(
            self.replica.catalogue, self.rules.profile, now=now, wait_s=self.rules.wait_for_item_s
        )
        if applied:
            self.meters.add("events_applied", len(applied))
            due[user_id] = ("event", None, now)
            for event, item in applied:
                if self._engaged_item(event) is not None:
                    done.touches.append(_touch(item, profile))
        done.rejects.extend(self._unknown(event) for event in given_up)
        self.agenda.want_no_more(user_id, given_up)
        if applied or given_up:
            self.users.changed(user_id)
            self.meters.add("events_waiting", -(len(applied) + len(given_up)))

    def _give_up(self, profile: Profile) -> list[Reject]:
        applied, given_up = profile.settle(
            self.replica.catalogue, self.rules.profile, now=self.now(), wait_s=0.0
        )
        if applied:
            msg = f"user {profile.user_id!r}: an event of a known item was left waiting"
            raise RuntimeError(msg)
        self.meters.add("events_waiting", -len(given_up))
        return [self._unknown(event) for event in given_up]

    def _unknown(self, event: Event) -> Reject:
        detail = (
            f"item {event.item_id!r} is not in the catalogue and did not arrive within "
            f"{self.rules.wait_for_item_s:g} s: send its record to the items topic, or load it "
            "(recstream catalogue load), then replay this event"
        )
        return Reject("unknown_item", detail, event.partition, event.offset, event.raw)

    def _close_sessions(self, profile: Profile, done: Step) -> None:
        """Announce sessions that can grow no more: by event time, or because the user went quiet.

        Quiet is counted from when an event was *read*, so a replayed log closes no session early.
        """
        quiet = self.agenda.gone_quiet(profile.user_id, self.now())
        newest = profile.recent[-1].ts if profile.recent else 0.0
        for session in sessions_of(profile.recent, self.rules.session_gap_s):
            if (quiet or newest - session.end > self._patience_s) and session.end > profile.announced:
                profile.announced = session.end
                self.users.changed(profile.user_id)
                done.sessions.append(ClosedSession(profile.user_id, session))

    def _queries(self, due: dict[str, tuple[Trigger, AsOf | None, float]]) -> list[Query]:
        queries = []
        for user_id, (trigger, position, at) in due.items():
            profile = self.users.get(user_id)
            as_of = position or profile.as_of
            if as_of is not None:
                queries.append(query_of(profile, as_of, trigger, at))
        return queries

    def _account(self, outcomes: dict[Outcome, int], done: Step) -> None:
        for outcome, meter in (
            (Outcome.APPLIED, "events_applied"),
            (Outcome.DUPLICATE, "events_duplicate"),
            (Outcome.ABSORBED, "events_absorbed"),
            (Outcome.WAITING, "events_waiting"),
        ):
            if outcomes[outcome]:
                self.meters.add(meter, outcomes[outcome])
        for reject in done.rejects:
            self.meters.add("records_rejected", reason=reject.reason)
        if done.sessions:
            self.meters.add("sessions_closed", len(done.sessions))


def _touch(item: int, profile: Profile) -> Touch:
    """An engagement just applied, with the user's other latest items, newest first."""
    others = [other for other in profile.engaged(RECENT_ITEMS + 1) if other != item]
    return Touch(item, tuple(others[:RECENT_ITEMS]))
