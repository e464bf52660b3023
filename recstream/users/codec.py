"""User states as stored rows: handles become ids, arrays become bytes, and back."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final, NamedTuple

import numpy as np

from recstream.items.catalogue import Catalogue
from recstream.items.codec import decode_state, encode_state
from recstream.records.actions import DEFAULT_ACTIONS
from recstream.records.arrays import Vector
from recstream.records.event import Event
from recstream.records.transport import Partition, shard_of
from recstream.users.decayed_sum import DecayedSum
from recstream.users.deduplication import EventIds
from recstream.users.sessions import NO_ITEM, RecentEvent, Session
from recstream.users.state import (
    AsOf,
    Barrier,
    Latest,
    Refusal,
    Unconfirmed,
    UserState,
    Visits,
    WaitingEvent,
    day_of,
    visit_key,
    visit_of,
)

__all__ = ["OPEN_SESSION", "UNCONFIRMED", "WAITING", "UserRow", "user_row", "user_state_of"]

WAITING: Final = 1
"""Flag of `UserRow.unfinished`: events wait for their items."""
UNCONFIRMED: Final = 2
"""Flag of `UserRow.unfinished`: there is output of an epoch that may not have committed."""
OPEN_SESSION: Final = 4
"""Flag of `UserRow.unfinished`: a session was not announced as closed."""

_LAYOUT: Final = 3
"""Layout of the state of users; a change raises it. States of layouts 1 and 2 are read as well."""


class UserRow(NamedTuple):
    """One user as stored."""

    user_id: str
    shard: int
    version: int
    events: int
    """Number of events applied."""
    updated_at: float
    """Event time of the newest applied event, Unix seconds."""
    vector: Vector
    """Long-term taste, unit length, zeros without one: any reader of the table can search by it."""
    state: bytes
    """The whole user state, encoded; its first byte is the layout."""
    unfinished: int = 0
    """What is left to do for the user after a restart: a sum of `WAITING`, `UNCONFIRMED`, `OPEN_SESSION`."""


def user_row(user_state: UserState, catalogue: Catalogue, shards: int, *, sessions: bool = False) -> UserRow:
    """Give a user state as it is stored. Nothing of this process (handles) is left in it.

    With ``sessions``, a user whose last session was not announced is marked as having one open.
    """
    ids = catalogue.ids
    state = [
        _sum_out(user_state.long_term),
        _sum_out(user_state.disliked),
        [
            (ts, digest, None if item == NO_ITEM else ids[item], weight, action)
            for ts, digest, item, weight, action in user_state.recent
        ],
        {str(digest): vector.tobytes() for digest, vector in sorted(user_state.words.items())},
        _latest_out(user_state.seen, ids),
        _latest_out(user_state.hidden, ids),
        _latest_out(user_state.shown, ids),
        user_state.offset_ranges,
        user_state.as_of,
        [(w.received_at, _event_out(w.event)) for w in user_state.waiting],
        user_state.announced,
        user_state.ids.to_bytes(),
        [(one.barrier, *_output_out(one.what, ids)) for one in user_state.outbox],
        [(*where, *refusal) for where, refusal in user_state.refused.items()],
        _visits_out(user_state.earlier, user_state.seen, ids),
        user_state.counted_from,
    ]
    if user_state.long_term is None:
        taste = np.zeros(catalogue.dim, np.float32)
    else:
        total = user_state.long_term.total
        taste = (total / (math.sqrt(total @ total) or 1.0)).astype(np.float32)
    return UserRow(
        user_id=user_state.user_id,
        shard=shard_of(user_state.user_id, shards),
        version=user_state.version,
        events=user_state.version,
        updated_at=_newest(user_state),
        vector=taste,
        state=encode_state(_LAYOUT, state),
        unfinished=_unfinished(user_state, sessions=sessions),
    )


def user_state_of(row: UserRow, catalogue: Catalogue) -> UserState:
    """Give the user state that a row was made of, with handles of this process's catalogue.

    Raises:
        RowFormatError: the state has a layout that this version does not read.
    """
    version, state = decode_state(row.state, f"user {row.user_id!r}", (1, 2, _LAYOUT))
    if version == 1:
        state = _from_layout_1(state)
    if version <= 2:
        state = _from_layout_2(state)
    long_term, disliked, recent, words, seen, hidden, shown, offset_ranges, as_of, waiting, announced = state[
        :11
    ]
    known_ids, outbox, refused, earlier, counted_from = state[11:]
    waits = [WaitingEvent(received_at, _event_in(event)) for received_at, event in waiting]
    return UserState(
        user_id=row.user_id,
        version=row.version,
        long_term=_sum_in(long_term),
        disliked=_sum_in(disliked),
        recent=[
            RecentEvent(ts, digest, NO_ITEM if item is None else catalogue.intern(item), weight, action)
            for ts, digest, item, weight, action in recent
        ],
        words={int(digest): np.frombuffer(raw, np.float32) for digest, raw in words.items()},
        seen=_latest_in(seen, catalogue),
        earlier=_visits_in(earlier, seen[0], catalogue),
        counted_from=counted_from,
        hidden=_latest_in(hidden, catalogue),
        shown=_latest_in(shown, catalogue),
        offset_ranges=offset_ranges,
        as_of=None if as_of is None else AsOf(*as_of),
        waiting=waits,
        announced=announced,
        ids=EventIds.from_bytes(*known_ids),
        outbox=[
            Unconfirmed(Barrier(*barrier), _output_in(kind, what, catalogue))
            for barrier, kind, what in outbox
        ],
        refused={
            (log, offset): Refusal(Barrier(*barrier), reason) for log, offset, barrier, reason in refused
        },
    )


def _from_layout_1(state: list[Any]) -> list[Any]:
    """Bring a state of layout 1 to layout 2. It had one range a partition, and ids of recent events only."""
    offset_ranges = {log: [0, offset] for log, offset in state[7].items()}
    ids = EventIds((entry[0], entry[1]) for entry in state[2] if not entry[1] & 1)
    return [*state[:7], offset_ranges, *state[8:], ids.to_bytes(), [], []]


def _from_layout_2(state: list[Any]) -> list[Any]:
    """Bring a state of layout 2 to layout 3. It counted no events: the recent ones, which it holds, are."""
    names, stamps = state[4]
    place = {name: at for at, name in enumerate(names)}
    found: Counter[tuple[int, int]] = Counter()
    is_counted = [False] * len(names)
    for ts, _, item, weight, action in reversed(state[2]):
        known = DEFAULT_ACTIONS.get(action)
        if item not in place or not (weight >= 0.0 if known is None else known.seen):
            continue
        at = place[item]
        if ts == stamps[at] and not is_counted[at]:
            is_counted[at] = True  # the newest event of an item is what its time stands for
        else:
            found[day_of(ts), at] += 1
    return [*state, _columns([(day, at, count) for (day, at), count in found.items()]), 0]


def _unfinished(user_state: UserState, *, sessions: bool) -> int:
    is_open = sessions and bool(user_state.recent) and user_state.recent[-1].ts > user_state.announced
    return (
        (WAITING if user_state.waiting else 0)
        | (UNCONFIRMED if user_state.outbox else 0)
        | (OPEN_SESSION if is_open else 0)
    )


def _newest(user_state: UserState) -> float:
    if user_state.recent:
        return user_state.recent[-1].ts
    return 0.0 if user_state.as_of is None else user_state.as_of.ts


def _sum_out(total: DecayedSum | None) -> tuple[bytes, float, float] | None:
    return None if total is None else (total.total.tobytes(), total.weight, total.as_of)


def _sum_in(stored: Any) -> DecayedSum | None:
    if stored is None:
        return None
    raw, weight, as_of = stored
    return DecayedSum(np.frombuffer(raw, np.float64).copy(), weight, as_of)


def _latest_out(latest: Latest, ids: list[str]) -> tuple[list[str], list[float]]:
    stamps = {ids[item]: ts for item, ts in latest.items()}
    names = sorted(stamps)
    return names, [stamps[name] for name in names]


def _latest_in(stored: Any, catalogue: Catalogue) -> Latest:
    items, stamps = stored
    return {catalogue.intern(item): ts for item, ts in zip(items, stamps, strict=True)}


def _visits_out(visits: Visits, seen: Latest, ids: list[str]) -> tuple[list[int], list[int], list[int]]:
    """Days, items and counts. An item is told by its place among the names of ``seen``."""
    place = {name: at for at, name in enumerate(sorted(ids[item] for item in seen))} if visits else {}
    rows = []
    for key, count in visits.items():
        day, item = visit_of(key)
        rows.append((day, place[ids[item]], count))
    return _columns(rows)


def _columns(rows: list[tuple[int, int, int]]) -> tuple[list[int], list[int], list[int]]:
    rows.sort()
    return [day for day, _, _ in rows], [at for _, at, _ in rows], [count for _, _, count in rows]


def _visits_in(stored: Any, names: list[str], catalogue: Catalogue) -> Visits:
    return {
        visit_key(day, catalogue.intern(names[at])): count for day, at, count in zip(*stored, strict=True)
    }


def _event_out(event: Event) -> list[Any]:
    vector = None if event.vector is None else event.vector.tobytes()
    return [*event._replace(item=None, vector=None)[:-1], vector]


def _event_in(stored: Any) -> Event:
    *fields, raw_vector = stored
    vector: Vector | None = None if raw_vector is None else np.frombuffer(raw_vector, np.float32)
    event = Event._make([*fields, vector])
    rec = None if event.rec is None else (event.rec[0], event.rec[1])
    return event._replace(partition=Partition(*event.partition), rec=rec)


def _output_out(what: Event | Session | None, ids: list[str]) -> tuple[str, Any]:
    if what is None:
        return "list", None
    if isinstance(what, Event):
        return "event", _event_out(what)
    return "session", (*what[:-1], [ids[item] for item in what.items])


def _output_in(kind: str, what: Any, catalogue: Catalogue) -> Event | Session | None:
    if kind == "list":
        return None
    if kind == "event":
        return _event_in(what)
    start, end, events, actions, items = what
    return Session(start, end, events, actions, tuple(catalogue.intern(item) for item in items))
