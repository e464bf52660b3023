"""The state of one user, and how an event changes it, whatever order events arrive in."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

from recstream.core.arrays import Vector
from recstream.core.catalogue import Catalogue
from recstream.core.decay import DecayedSum
from recstream.core.events import Event, weight_of
from recstream.core.rules import DecodeRules

__all__ = ["NO_ITEM", "AsOf", "Outcome", "Profile", "ProfileRules", "Recent", "Waiting", "digest_of"]

NO_ITEM: Final = -1
"""Handle of a ring entry that stands for words (a search, a comment) rather than for an item."""


class Outcome(Enum):
    """What became of an event. Every record read ends as exactly one of these (guarantee G4)."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    ABSORBED = "absorbed"
    """At or below the fence: counted in an earlier life of this job; its list may have been lost."""
    WAITING = "waiting"
    """Its item is not known yet; it counts as soon as the item arrives."""
    TOO_MANY_WAITING = "too_many_waiting"


class Recent(NamedTuple):
    """One entry of the ring of recent events. Its first two fields order the ring, ties included."""

    ts: float
    digest: int
    """64-bit digest of the event's id, or of its content where it has none."""
    item: int
    """Catalogue handle, or `NO_ITEM`."""
    weight: float
    action: str


class AsOf(NamedTuple):
    """The last event a state reflects."""

    ts: float
    partition: str
    offset: int


class Waiting(NamedTuple):
    """An event whose item is not known yet."""

    received_at: float
    """Wall clock, Unix seconds: what the waiting time is counted from."""
    event: Event


@dataclass(frozen=True, slots=True)
class ProfileRules:
    """Bounds and time constants of a user's state."""

    decode: DecodeRules
    half_life_s: float = 30 * 86400.0
    recent: int = 64
    """Entries of the ring."""
    history: int = 1000
    """Seen items kept a user, newest first; hidden ones likewise."""
    max_waiting: int = 50


Latest: TypeAlias = dict[int, float]
"""Catalogue handle -> newest event time."""


@dataclass(slots=True, eq=False)
class Profile:
    """Everything known of one user. Owned, and changed in place, by the shard the user belongs to.

    Order-free: after a set of events, all but ``as_of`` and ``fence`` is the same whatever order they
    arrived in (guarantee G1), as long as the bounds of `ProfileRules` hold for duplicates.
    """

    user_id: str
    version: int = 0
    """Events applied: grows by one with every change."""
    long_term: DecayedSum | None = None
    """Items the user engaged with, weighted."""
    disliked: DecayedSum | None = None
    """Items the user turned away from; weights are positive here."""
    recent: list[Recent] = field(default_factory=list)
    """Newest events in order of event time, oldest first."""
    words: dict[int, Vector] = field(default_factory=dict)
    """Encoded text of ring entries that stand for words, by digest."""
    seen: Latest = field(default_factory=dict)
    hidden: Latest = field(default_factory=dict)
    shown: Latest = field(default_factory=dict)
    """Items that were displayed to the user."""
    fence: dict[str, int] = field(default_factory=dict)
    """Highest offset absorbed, by partition identity."""
    as_of: AsOf | None = None
    """The last event applied, in the order of arrival."""
    waiting: list[Waiting] = field(default_factory=list)
    announced: float = float("-inf")
    """End of the newest session that was announced as closed."""
    known: set[int] = field(default_factory=set)
    """Digests in the ring and among the waiting, for de-duplication."""

    def absorbed(self, event: Event) -> bool:
        """Whether the event lies at or below this user's fence for its partition."""
        return event.offset <= self.fence.get(event.partition.identity, -1)

    def observe(self, event: Event, catalogue: Catalogue, rules: ProfileRules, now: float) -> Outcome:
        """Take in one event, in place. ``now`` (Unix seconds) is only noted with an event that waits.

        Events of one partition must come in order of offset; across partitions any order does.
        The caller handles ``request`` and ``forget``, which change nothing here.
        """
        if self.absorbed(event):
            return Outcome.ABSORBED
        self.fence[event.partition.identity] = event.offset
        digest = digest_of(event)
        if event.event_id is not None and digest in self.known:
            return Outcome.DUPLICATE
        # A search moves the short term by its words alone, even if it names an item.
        if event.item_id is not None and rules.decode.actions[event.action].kind != "search":
            item = catalogue.handle(event.item_id)
            if item is None:
                if len(self.waiting) >= rules.max_waiting:
                    return Outcome.TOO_MANY_WAITING
                self.waiting.append(Waiting(now, event._replace(item=None)))
                self.known.add(digest)
                return Outcome.WAITING
        else:
            item = NO_ITEM
        self._apply(event, item, digest, catalogue, rules)
        return Outcome.APPLIED

    def settle(
        self, catalogue: Catalogue, rules: ProfileRules, *, now: float, wait_s: float
    ) -> tuple[list[tuple[Event, int]], list[Event]]:
        """Apply the waiting events whose item has arrived; give up those that waited ``wait_s``.

        Gives the applied events, each with its item's handle, and those given up.
        """
        applied: list[tuple[Event, int]] = []
        given_up: list[Event] = []
        still: list[Waiting] = []
        for received_at, event in self.waiting:
            item = catalogue.handle(event.item_id or "")
            digest = digest_of(event)
            if item is not None:
                self.known.discard(digest)  # it is noted again if it enters the ring
                self._apply(event, item, digest, catalogue, rules)
                applied.append((event, item))
            elif received_at + wait_s <= now:
                self.known.discard(digest)
                given_up.append(event)
            else:
                still.append(Waiting(received_at, event))
        self.waiting = still
        return applied, given_up

    def engaged(self, limit: int) -> tuple[int, ...]:
        """Handles of the newest distinct items engaged with (weight not negative), newest first."""
        items: dict[int, None] = {}
        for entry in reversed(self.recent):
            if entry.item != NO_ITEM and entry.weight >= 0.0:
                items[entry.item] = None
                if len(items) == limit:
                    break
        return tuple(items)

    def _apply(self, event: Event, item: int, digest: int, catalogue: Catalogue, rules: ProfileRules) -> None:
        action = rules.decode.actions[event.action]
        self.version += 1
        last = self.as_of
        if last is None or last.partition != event.partition.name or last.offset < event.offset:
            self.as_of = AsOf(event.ts, event.partition.name, event.offset)
        if action.kind == "impression":
            _keep_newest(self.shown, item, event.ts, rules.history, catalogue.ids)
            return
        weight = weight_of(event, rules.decode)
        if event.vector is not None:
            self.words[digest | 1] = event.vector
            self._remember(Recent(event.ts, digest | 1, NO_ITEM, weight, event.action), rules.recent)
        if item == NO_ITEM:
            return
        self._remember(Recent(event.ts, digest, item, weight, event.action), rules.recent)
        if weight > 0.0:
            if self.long_term is None:
                self.long_term = DecayedSum.empty(catalogue.dim)
            self.long_term.add(catalogue.vector(item), weight, event.ts, rules.half_life_s)
        elif weight < 0.0:
            if self.disliked is None:
                self.disliked = DecayedSum.empty(catalogue.dim)
            self.disliked.add(catalogue.vector(item), -weight, event.ts, rules.half_life_s)
        if action.seen:
            _keep_newest(self.seen, item, event.ts, rules.history, catalogue.ids)
        if action.kind == "hide":
            _keep_newest(self.hidden, item, event.ts, rules.history, catalogue.ids)

    def _remember(self, entry: Recent, bound: int) -> None:
        ring = self.recent
        if not ring or entry > ring[-1]:
            ring.append(entry)
        else:
            bisect.insort(ring, entry)
        self.known.add(entry.digest & ~1)
        if len(ring) > bound:
            # Whatever shares the digest (a comment's words, an equal event without an id) stands next to it.
            gone = ring.pop(0).digest
            left = ring[0].digest if ring else None
            if left != gone:
                self.words.pop(gone, None)
            if left is None or left & ~1 != gone & ~1:
                self.known.discard(gone & ~1)


def digest_of(event: Event) -> int:
    """64-bit identity of an event: of its id, or of its content where it has none.

    The lowest bit is free: it marks the ring entry of the event's words.
    """
    if event.event_id is not None:
        content = "i" + event.event_id
    else:
        content = f"c{event.ts!r}\0{event.action}\0{event.item_id}\0{event.text}\0{event.rating}"
    digest = int.from_bytes(blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return digest & ~1


def _keep_newest(latest: Latest, item: int, ts: float, bound: int, ids: list[str]) -> None:
    """Note an item, and forget the one that was touched longest ago when there are too many.

    Keeping exactly the ``bound`` newest after every step makes the result independent of order; ties
    break by id, for handles differ from process to process.
    """
    before = latest.get(item)
    if before is None or ts > before:
        latest[item] = ts
    while len(latest) > bound:
        longest_ago = min(latest.values())
        del latest[min((one for one, at in latest.items() if at == longest_ago), key=ids.__getitem__)]
