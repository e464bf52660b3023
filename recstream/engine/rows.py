"""Profiles and item statistics as stored rows: handles become ids, arrays become bytes, and back."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from recstream.core.arrays import Vector
from recstream.core.catalogue import Catalogue
from recstream.core.decay import DecayedSum
from recstream.core.event_ids import EventIds
from recstream.core.events import Event
from recstream.core.outbox import Barrier, Refusal, Unconfirmed
from recstream.core.profile import AsOf, Latest, Profile, Waiting
from recstream.core.recent import NO_ITEM, Recent
from recstream.core.sessions import Session
from recstream.core.shards import shard_of
from recstream.core.source import Partition
from recstream.core.statistics import ItemStatistics, growth
from recstream.ports import OPEN_SESSION, UNCONFIRMED, WAITING, StatisticsRow, UserRow

__all__ = ["RowFormatError", "profile_of", "put_statistics", "statistics_row", "user_row"]

_USER: Final = 2
"""First byte of every encoded user state; a change of the layout raises it. Those of 1 are read as well."""
_STATISTICS: Final = 2
"""The same of item statistics."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class RowFormatError(Exception):
    """A stored state was written by another version of recstream."""


def user_row(profile: Profile, catalogue: Catalogue, shards: int, *, sessions: bool = False) -> UserRow:
    """A profile as it is stored. Nothing of this process (handles) is left in it.

    With ``sessions``, a user whose last session was not announced is marked as having one open.
    """
    ids = catalogue.ids
    state = [
        _sum_out(profile.long_term),
        _sum_out(profile.disliked),
        [
            (ts, digest, None if item == NO_ITEM else ids[item], weight, action)
            for ts, digest, item, weight, action in profile.recent
        ],
        {str(digest): vector.tobytes() for digest, vector in sorted(profile.words.items())},
        _latest_out(profile.seen, ids),
        _latest_out(profile.hidden, ids),
        _latest_out(profile.shown, ids),
        profile.fence,
        profile.as_of,
        [(w.received_at, _event_out(w.event)) for w in profile.waiting],
        profile.announced,
        profile.ids.to_bytes(),
        [(one.barrier, *_output_out(one.what, ids)) for one in profile.outbox],
        [(*where, *refusal) for where, refusal in profile.refused.items()],
    ]
    if profile.long_term is None:
        taste = np.zeros(catalogue.dim, np.float32)
    else:
        total = profile.long_term.total
        taste = (total / (math.sqrt(total @ total) or 1.0)).astype(np.float32)
    return UserRow(
        user_id=profile.user_id,
        shard=shard_of(profile.user_id, shards),
        version=profile.version,
        events=profile.version,
        updated_at=_newest(profile),
        vector=taste,
        state=bytes((_USER,)) + _encode(state),
        unfinished=_unfinished(profile, sessions=sessions),
    )


def profile_of(row: UserRow, catalogue: Catalogue) -> Profile:
    """The profile a row was made of, in terms of this process's catalogue.

    Raises:
        RowFormatError: the state has another layout than this version writes.
    """
    version, state = _payload(row.state, f"user {row.user_id!r}", (1, _USER))
    if version == 1:
        state = _second(state)
    long_term, disliked, ring, words, seen, hidden, shown, fence, as_of, waiting, announced = state[:11]
    known_ids, outbox, refused = state[11:]
    waits = [Waiting(received_at, _event_in(event)) for received_at, event in waiting]
    return Profile(
        user_id=row.user_id,
        version=row.version,
        long_term=_sum_in(long_term),
        disliked=_sum_in(disliked),
        recent=[
            Recent(ts, digest, NO_ITEM if item is None else catalogue.intern(item), weight, action)
            for ts, digest, item, weight, action in ring
        ],
        words={int(digest): np.frombuffer(raw, np.float32) for digest, raw in words.items()},
        seen=_latest_in(seen, catalogue),
        hidden=_latest_in(hidden, catalogue),
        shown=_latest_in(shown, catalogue),
        fence=fence,
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


def statistics_row(
    handle: int, statistics: ItemStatistics, catalogue: Catalogue, *, shard: int, seq: int
) -> StatisticsRow:
    """One item's statistics as they are stored."""
    counts, neighbours, weights = statistics.row(handle)
    ids = catalogue.ids
    return StatisticsRow(
        item_id=ids[handle],
        shard=shard,
        seq=seq,
        tick=statistics.tick,
        counts=counts,
        state=bytes((_STATISTICS,)) + _encode([[ids[n] for n in neighbours.tolist()], weights.tobytes()]),
    )


def put_statistics(row: StatisticsRow, statistics: ItemStatistics, catalogue: Catalogue) -> None:
    """Take one stored item's statistics into the replica of this process.

    Raises:
        RowFormatError: the state has another layout than this version writes.
    """
    layout, (neighbours, raw) = _payload(row.state, f"statistics of item {row.item_id!r}", (1, _STATISTICS))
    handles = np.array([catalogue.intern(item) for item in neighbours], np.int32)
    weights: npt.NDArray[np.float32] = np.frombuffer(raw, np.float32).reshape(2, len(handles))
    counts = row.counts
    if layout == 1:
        counts, weights = _second_statistics(row, weights)
    statistics.put_row(
        catalogue.intern(row.item_id), tick=row.tick, counts=counts, neighbours=handles, weights=weights
    )


def _second_statistics(
    row: StatisticsRow, weights: npt.NDArray[np.float32]
) -> tuple[tuple[float, ...], npt.NDArray[np.float32]]:
    """Statistics of layout 1 in layout 2: three scales, and pairs that did not age with the stream."""
    rising, trending, popular = row.counts
    grown = float(growth(row.tick))
    since = max(row.tick - popular, 1.0)  # at the latest
    return (rising, trending, trending, popular, grown * popular, since), weights * np.float32(grown)


def _payload(state: bytes, what: str, layouts: tuple[int, ...]) -> tuple[int, Any]:
    if not state or state[0] not in layouts:
        got = state[0] if state else "nothing"
        msg = (
            f"the stored state of {what} has layout {got}, this version of recstream reads "
            f"{' and '.join(map(str, layouts))}: run the version that wrote the store, or replay the log "
            "into a new one (recstream backfill)"
        )
        raise RowFormatError(msg)
    return state[0], _decode(memoryview(state)[1:])


def _second(state: list[Any]) -> list[Any]:
    """A state of layout 1 in layout 2: its fence knew one range a partition, its ring all event ids."""
    fence = {log: [0, offset] for log, offset in state[7].items()}
    ids = EventIds((entry[0], entry[1]) for entry in state[2] if not entry[1] & 1)
    return [*state[:7], fence, *state[8:], ids.to_bytes(), [], []]


def _unfinished(profile: Profile, *, sessions: bool) -> int:
    is_open = sessions and bool(profile.recent) and profile.recent[-1].ts > profile.announced
    return (
        (WAITING if profile.waiting else 0)
        | (UNCONFIRMED if profile.outbox else 0)
        | (OPEN_SESSION if is_open else 0)
    )


def _newest(profile: Profile) -> float:
    if profile.recent:
        return profile.recent[-1].ts
    return 0.0 if profile.as_of is None else profile.as_of.ts


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
