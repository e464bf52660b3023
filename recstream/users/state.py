"""The state of one user, and how an event changes it, in whatever order events arrive."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from typing_extensions import assert_never

from recstream.items.catalogue import Catalogue
from recstream.items.statistics import Interaction
from recstream.records.actions import OPINIONS, TRAITS, DecodeRules
from recstream.records.arrays import Vector
from recstream.records.event import Event, is_engagement, weight_of
from recstream.records.reject import Reason
from recstream.users.decayed_sum import DecayedSum
from recstream.users.deduplication import EventIds, digest_of
from recstream.users.offset_ranges import OffsetRanges, absorb, is_absorbed, keep_newest_partitions
from recstream.users.sessions import NO_ITEM, RecentEvent, Session

__all__ = [
    "DAY_S",
    "RECENT_ITEMS",
    "VISIT_BITS",
    "AsOf",
    "Barrier",
    "Examined",
    "Outcome",
    "Refusal",
    "Refusals",
    "Unconfirmed",
    "UserState",
    "UserStateRules",
    "Visits",
    "WaitingEvent",
    "day_of",
    "visit_key",
    "visit_of",
]

RECENT_ITEMS: Final = 20
"""Most items that count as recent: the newest distinct ones that a user engaged with. Item statistics pair
each new item with them, and the short-term signals of ranking look at no others."""


class Outcome(Enum):
    """What became of an event. Every record read ends as exactly one of these (guarantee G4)."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    ABSORBED = "absorbed"
    """Its offset is in the user's offset ranges: an earlier run may have counted it and lost its list."""
    WAITING = "waiting"
    """Its item is not known yet. It counts as soon as the item arrives."""
    REFUSED = "refused"
    """Its item is not known, and it may not wait; or it was refused before."""


class Examined(NamedTuple):
    """Whether an event is new to its user's state; asked once an event, see `UserState.examine`."""

    outcome: Outcome | None
    """What becomes of an event that was read before; None: the event is new."""
    digest: int
    """As `digest_of`; 0 where the offset alone decides."""


_ABSORBED: Final = Examined(Outcome.ABSORBED, 0)
_REFUSED: Final = Examined(Outcome.REFUSED, 0)


class AsOf(NamedTuple):
    """The last event a state reflects."""

    ts: float
    partition: str
    offset: int


class WaitingEvent(NamedTuple):
    """An event whose item is not known yet."""

    received_at: float
    """Begin of the waiting time, Unix seconds by a clock that does not step."""
    event: Event


class Barrier(NamedTuple):
    """One commit of one job."""

    job: str
    """The live job, or one of the replays into the store. Each knows of its own commits alone."""
    number: int
    """Grows with every commit of the job, over its restarts."""


class Unconfirmed(NamedTuple):
    """Output of an epoch that may not have committed, and that no event of the epoch would bring back.

    A list that an event caused is made again when the event is read again after a crash. Output that came of
    an item's arrival or of time is kept with the user until its epoch has surely committed. A run that finds
    it sends it again (guarantee G3).
    """

    barrier: Barrier
    """The commit that confirms it."""
    what: Event | Session | None
    """An event that was given up, a closed session, or (None) the user's list."""


class Refusal(NamedTuple):
    """Why a sound event was rejected: its item is not known, or too many events wait already."""

    barrier: Barrier
    """The commit that confirms the reject. Before it, the event may be read again, and is rejected again."""
    reason: Reason


Refusals: TypeAlias = dict[tuple[str, int], Refusal]
"""Refusals by partition identity and offset."""


@dataclass(frozen=True, slots=True)
class UserStateRules:
    """Bounds and time constants of a user's state."""

    decode: DecodeRules
    half_life_s: float
    """Time in which the weight of an event in the long-term taste halves."""
    recent: int
    """Most recent events kept a user."""
    history: int
    """Most seen items kept a user, the newest; as many hidden and shown ones, and days with an item."""
    max_waiting: int
    """Most events of a user that wait for their items."""
    dedup: int
    """Most event ids remembered a user, those of the newest events."""


Latest: TypeAlias = dict[int, float]
"""Newest event time by catalogue handle."""
Visits: TypeAlias = dict[int, int]
"""Number of events by day and catalogue handle: see `visit_key`."""
DAY_S: Final = 86400.0
"""Seconds of a day."""
VISIT_BITS: Final = 32
"""Bits of a key of `Visits` that are the handle; above them is the day."""


def visit_key(day: int, item: int) -> int:
    """Give the key of an item and a day, counted from 1970 in UTC. Keys are in the order of their days."""
    return day << VISIT_BITS | item


def visit_of(key: int) -> tuple[int, int]:
    """Give the day and the item of a key.

    >>> visit_of(visit_key(20_000, 7))
    (20000, 7)
    """
    return key >> VISIT_BITS, key & (1 << VISIT_BITS) - 1


def day_of(ts: float) -> int:
    """Give the day of an event time, counted from 1970 in UTC.

    >>> day_of(86399.9), day_of(86400.0)
    (0, 1)
    """
    return int(ts // DAY_S)


@dataclass(slots=True, eq=False)
class UserState:
    """Everything known of one user. Owned, and changed in place, by the shard the user belongs to.

    Order-free (guarantee G1): after a set of events, all but ``as_of`` and ``offset_ranges`` is the same in
    whatever order they arrived, as long as a duplicate comes within the bounds of `UserStateRules`.
    """

    user_id: str
    version: int = 0
    """Number of events applied."""
    long_term: DecayedSum | None = None
    """Decayed sum of the vectors of items that the user engaged with; None before the first."""
    disliked: DecayedSum | None = None
    """Decayed sum of the items that the user turned away from, with positive weights; None without any."""
    recent: list[RecentEvent] = field(default_factory=list)
    """Newest events in order of event time, oldest first."""
    words: dict[int, Vector] = field(default_factory=dict)
    """Encoded texts of those recent events that stand for words, by digest."""
    seen: Latest = field(default_factory=dict)
    """Items that the user knows, so that lists may leave them out."""
    earlier: Visits = field(default_factory=dict)
    """How often the user dealt with the items of ``seen`` before: their events but for the newest of each."""
    counted_from: int = 0
    """The day from which on ``earlier`` counts: the one after the newest event of any item that ``seen`` had
    no room for."""
    hidden: Latest = field(default_factory=dict)
    """Items that are never shown to the user again."""
    shown: Latest = field(default_factory=dict)
    """Items that were displayed to the user."""
    offset_ranges: OffsetRanges = field(default_factory=dict)
    """Offsets absorbed, by partition identity."""
    as_of: AsOf | None = None
    """The last event applied, in the order of arrival."""
    waiting: list[WaitingEvent] = field(default_factory=list)
    """Events whose item is not known yet, in order of arrival."""
    announced: float = float("-inf")
    """End of the newest session that was announced as closed."""
    ids: EventIds = field(default_factory=EventIds)
    """Ids of the newest events applied. Those of waiting events are looked for in ``waiting``."""
    outbox: list[Unconfirmed] = field(default_factory=list)
    """Output that has to be sent again if its epoch does not commit."""
    refused: Refusals = field(default_factory=dict)
    """Events that have to be rejected again if they are read again."""

    def absorbed(self, event: Event) -> bool:
        """Whether the event's offset was absorbed already."""
        return is_absorbed(self.offset_ranges.get(event.partition.identity, []), event.offset)

    def has_read_beyond(self, event: Event) -> bool:
        """Whether the state holds an event of the same partition that came after this one."""
        ranges = self.offset_ranges.get(event.partition.identity)
        return ranges is not None and len(ranges) > 0 and ranges[-1] > event.offset

    def examine(self, event: Event) -> Examined:
        """Find out whether the event, or one of the same id, was read before. Changes nothing."""
        if self.absorbed(event):
            return _REFUSED if self.refused and self._refused(event) else _ABSORBED
        digest = digest_of(event)
        is_known = event.event_id is not None and self._knows(digest)
        return Examined(Outcome.DUPLICATE if is_known else None, digest)

    def observe(self, event: Event, catalogue: Catalogue, rules: UserStateRules, now: float) -> Outcome:
        """Examine one event and take it in: as `take`."""
        return self.take(event, self.examine(event), catalogue, rules, now)

    def take(
        self, event: Event, examined: Examined, catalogue: Catalogue, rules: UserStateRules, now: float
    ) -> Outcome:
        """Take in one event, in place. ``now`` (Unix seconds) begins the waiting time of an event that waits.

        ``examined`` is what `examine` gave for it, with no other event taken in since. Events of one
        partition must come in order of offset, those of several in any order.
        """
        partition = event.partition
        ranges = self.offset_ranges.pop(partition.identity, None) or []
        self.offset_ranges[partition.identity] = ranges  # now the last, thus the longest kept
        outcome = examined.outcome
        if outcome is Outcome.ABSORBED or outcome is Outcome.REFUSED:
            return outcome
        absorb(ranges, event.offset, partition.since)
        keep_newest_partitions(self.offset_ranges)
        if outcome is not None:
            return outcome
        item = NO_ITEM
        if event.item_id is not None and TRAITS[rules.decode.actions[event.action].kind].needs_item:
            handle = catalogue.handle(event.item_id)
            if handle is None:
                if len(self.waiting) >= rules.max_waiting:
                    return Outcome.REFUSED
                self.waiting.append(WaitingEvent(now, event._replace(item=None)))
                return Outcome.WAITING
            item = handle
        self._apply(event, item, examined.digest, catalogue, rules)
        return Outcome.APPLIED

    def settle(
        self, catalogue: Catalogue, rules: UserStateRules, *, now: float, wait_s: float
    ) -> tuple[list[tuple[Event, int]], list[Event]]:
        """Apply the waiting events whose item has arrived; give up those that have waited ``wait_s``.

        Returns the applied events, each with its item's handle, and those given up (none if ``wait_s`` is
        infinite).
        """
        applied: list[tuple[Event, int]] = []
        given_up: list[Event] = []
        waiting: list[WaitingEvent] = []
        for received_at, event in self.waiting:
            item = catalogue.handle(event.item_id or "")
            digest = digest_of(event)
            if item is not None:
                self._apply(event, item, digest, catalogue, rules)
                applied.append((event, item))
            elif received_at + wait_s <= now:
                given_up.append(event)
            else:
                waiting.append(WaitingEvent(received_at, event))
        self.waiting = waiting
        return applied, given_up

    def engaged(self, limit: int) -> tuple[int, ...]:
        """Handles of the newest distinct items engaged with, newest first, whatever was thought of them."""
        items: dict[int, None] = {}
        for entry in reversed(self.recent):
            if entry.item != NO_ITEM and (entry.weight >= 0.0 or entry.action in OPINIONS):
                items[entry.item] = None
                if len(items) == limit:
                    break
        return tuple(items)

    def interactions(self, event: Event, item: int, rules: UserStateRules) -> list[Interaction]:
        """Give what an event that was just applied adds to item statistics.

        One interaction with its item, if the user chose it; none if it was only shown or turned away from.
        """
        if not is_engagement(event, rules.decode):
            return []
        previous = [other for other in self.engaged(RECENT_ITEMS + 1) if other != item]
        return [Interaction(item, tuple(previous[:RECENT_ITEMS]))]

    def _apply(
        self, event: Event, item: int, digest: int, catalogue: Catalogue, rules: UserStateRules
    ) -> None:
        """Do what the event's action does to the state. Effects must not depend on the order of events."""
        action = rules.decode.actions[event.action]
        self.version += 1
        if event.event_id is not None:
            self.ids.add(event.ts, digest, rules.dedup)
        last = self.as_of
        if last is None or last.partition != event.partition.name or last.offset < event.offset:
            self.as_of = AsOf(event.ts, event.partition.name, event.offset)
        match action.kind:
            case "item" | "rating" | "comment" | "search":
                self._interact(event, item, digest, catalogue, rules)
            case "hide":
                self._interact(event, item, digest, catalogue, rules)
                _keep_newest(self.hidden, item, event.ts, rules.history, catalogue.ids)
            case "impression":
                _keep_newest(self.shown, item, event.ts, rules.history, catalogue.ids)
            case "request" | "forget":
                msg = f"{event.action!r} (kind {action.kind!r}) changes no state: the worker answers it"
                raise ValueError(msg)
            case _:
                assert_never(action.kind)

    def _interact(
        self, event: Event, item: int, digest: int, catalogue: Catalogue, rules: UserStateRules
    ) -> None:
        """Move the user's taste by the event's item, and the short-term taste by its words as well."""
        weight = weight_of(event, rules.decode)
        if event.vector is not None:
            self.words[digest | 1] = event.vector
            self._remember(RecentEvent(event.ts, digest | 1, NO_ITEM, weight, event.action), rules.recent)
        if item == NO_ITEM:
            return
        self._remember(RecentEvent(event.ts, digest, item, weight, event.action), rules.recent)
        if weight > 0.0:
            if self.long_term is None:
                self.long_term = DecayedSum.empty(catalogue.dim)
            self.long_term.add(catalogue.vector(item), weight, event.ts, rules.half_life_s)
        elif weight < 0.0:
            if self.disliked is None:
                self.disliked = DecayedSum.empty(catalogue.dim)
            self.disliked.add(catalogue.vector(item), -weight, event.ts, rules.half_life_s)
        if rules.decode.actions[event.action].seen:
            self._know(item, event.ts, rules.history, catalogue.ids)

    def _know(self, item: int, ts: float, bound: int, ids: list[str]) -> None:
        """Note that the user dealt with an item, and when.

        An item that `seen` gives up takes all days up to its own with it, of every item. So an item that
        comes back has the same count whether it came back before it was given up or after.
        """
        before = self.seen.get(item)
        given_up = _keep_newest(self.seen, item, ts, bound, ids)
        if given_up is not None and day_of(given_up) >= self.counted_from:
            self.counted_from = day_of(given_up) + 1
            first = visit_key(self.counted_from, 0)
            self.earlier = {key: count for key, count in self.earlier.items() if key >= first}
        if before is None:
            return
        day = day_of(min(before, ts))
        if day < self.counted_from:
            return
        key = visit_key(day, item)
        self.earlier[key] = self.earlier.get(key, 0) + 1
        while len(self.earlier) > bound:
            oldest, _ = visit_of(min(self.earlier))
            on_that_day = [key for key in self.earlier if visit_of(key)[0] == oldest]
            del self.earlier[min(on_that_day, key=lambda key: ids[visit_of(key)[1]])]

    def _refused(self, event: Event) -> bool:
        return (event.partition.identity, event.offset) in self.refused

    def _knows(self, digest: int) -> bool:
        return digest in self.ids or any(digest_of(one.event) == digest for one in self.waiting)

    def _remember(self, entry: RecentEvent, bound: int) -> None:
        recent = self.recent
        if not recent or entry > recent[-1]:
            recent.append(entry)
        else:
            bisect.insort(recent, entry)
        if len(recent) > bound:
            # Whatever shares the digest (an equal event without an id) stands next to it.
            digest = recent.pop(0).digest
            if recent[0].digest != digest:
                self.words.pop(digest, None)


def _keep_newest(latest: Latest, item: int, ts: float, bound: int, ids: list[str]) -> float | None:
    """Note the event time of an item, and keep the ``bound`` items of the newest times.

    Gives the newest time of an item that there was no room for. Keeping exactly as many after every step
    makes the result independent of the order of events. Ties break by id, for handles differ from process to
    process.
    """
    before = latest.get(item)
    if before is None or ts > before:
        latest[item] = ts
    oldest = None
    while len(latest) > bound:
        oldest = min(latest.values())
        del latest[min((one for one, at in latest.items() if at == oldest), key=ids.__getitem__)]
    return oldest
