"""Comparison of two states of one user, but for what depends on the order of arrival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import numpy as np

from recstream.users.decayed_sum import DecayedSum
from recstream.users.sessions import NO_ITEM
from recstream.users.state import Latest, UserState, visit_of

__all__ = ["LEFT_OUT", "TOLERANCE", "differences"]

TOLERANCE: Final = 1e-6
"""Greatest relative difference between sums that count as equal: their rounding depends on the order."""
LEFT_OUT: Final = ("user_id", "offset_ranges", "as_of", "announced", "ids", "outbox", "refused")
"""Fields of a state that are not compared: they depend on the source, the order of arrival or the run."""
_NAMED: Final = 3
"""Most entries of a difference that are named; of the others their number is given."""

E = TypeVar("E", bound=tuple[object, ...])
_Recent = tuple[float, int, str | None, float, str]


def differences(
    one: UserState,
    other: UserState,
    ids: Sequence[str],
    other_ids: Sequence[str],
    *,
    names: tuple[str, str] = ("one", "other"),
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Describe what differs between two states, a line for each part; no lines: they are equal.

    ``ids`` and ``other_ids`` give the item id of a handle of each state; ``names`` are what the lines call
    the two. Where a waiting event was read, and since when it waits, makes no difference.

    >>> one = UserState("u1", version=2, long_term=DecayedSum(np.array([1.0, 0.0]), 2.0, 5.0), seen={0: 1.0})
    >>> two = UserState("u1", version=2, long_term=DecayedSum(np.array([1.0, 1.0]), 2.0, 5.0), seen={1: 1.0})
    >>> differences(one, two, ["a"], ["b", "a"])
    ['long_term: relative difference 0.5']
    >>> differences(one, one, ["a"], ["b"])
    ["seen: only in one 'a' at 1.0; only in other 'b' at 1.0"]
    """
    found: list[str] = []
    for part in ("version", "counted_from"):
        mine, theirs = getattr(one, part), getattr(other, part)
        if mine != theirs:
            found.append(f"{part}: {mine} in {names[0]}, {theirs} in {names[1]}")
    for part in ("long_term", "disliked"):
        found += _of_sums(part, getattr(one, part), getattr(other, part), names, tolerance)
    found += _of_entries("recent", _recent(one, ids), _recent(other, other_ids), names, _recent_text)
    found += _of_words(one, other, names, tolerance)
    for part in ("seen", "hidden", "shown"):
        newest, others = _latest(getattr(one, part), ids), _latest(getattr(other, part), other_ids)
        found += _of_entries(part, newest, others, names, _latest_text)
    found += _of_entries("earlier", _earlier(one, ids), _earlier(other, other_ids), names, _earlier_text)
    found += _of_entries("waiting", _waiting(one), _waiting(other), names, _waiting_text)
    return found


def _of_sums(
    part: str, one: DecayedSum | None, other: DecayedSum | None, names: tuple[str, str], tolerance: float
) -> list[str]:
    if one is None or other is None:
        return [] if one is other else [f"{part}: only in {names[one is None]}"]
    found = []
    if one.as_of != other.as_of:
        found.append(f"newest event at {one.as_of!r} in {names[0]}, {other.as_of!r} in {names[1]}")
    # Vectors have unit length, so the weight says how large a total may be; the total itself may cancel out.
    scale = max(one.weight, other.weight)
    if not abs(one.weight - other.weight) <= tolerance * scale:
        found.append(f"weight {one.weight!r} in {names[0]}, {other.weight!r} in {names[1]}")
    apart = float(np.linalg.norm(one.total - other.total))
    if not apart <= tolerance * scale:
        found.append(f"relative difference {apart / (scale or 1.0):.3g}")
    return [f"{part}: {', '.join(found)}"] if found else []


def _of_words(one: UserState, other: UserState, names: tuple[str, str], tolerance: float) -> list[str]:
    """Compare the vectors of searches and comments, by digest."""
    found = _of_entries("words", [(d,) for d in one.words], [(d,) for d in other.words], names, _digest_text)
    both = sorted(one.words.keys() & other.words.keys())
    apart = {digest: float(np.linalg.norm(one.words[digest] - other.words[digest])) for digest in both}
    far = [f"{digest:016x}" for digest, distance in apart.items() if not distance <= tolerance]
    if far:
        found.append(f"words: other vectors of {_some(far)}, {max(apart.values()):.3g} apart at most")
    return found


def _of_entries(
    part: str, one: Iterable[E], other: Iterable[E], names: tuple[str, str], text: Callable[[E], str]
) -> list[str]:
    """Describe the entries that only one of the two has, each as often as it has more of them."""
    mine, theirs = Counter(one), Counter(other)
    if mine == theirs:
        return []
    found = [
        f"only in {name} {_some([text(entry) for entry in spare.elements()])}"
        for name, spare in zip(names, (mine - theirs, theirs - mine), strict=True)
        if spare
    ]
    return [f"{part}: {'; '.join(found)}"]


def _some(entries: Sequence[str]) -> str:
    more = f" and {len(entries) - _NAMED:,} more" if len(entries) > _NAMED else ""
    return ", ".join(entries[:_NAMED]) + more


def _recent(user_state: UserState, ids: Sequence[str]) -> list[_Recent]:
    return [
        (ts, digest, None if item == NO_ITEM else ids[item], weight, action)
        for ts, digest, item, weight, action in user_state.recent
    ]


def _recent_text(entry: _Recent) -> str:
    ts, digest, item_id, weight, action = entry
    what = "(words)" if item_id is None else repr(item_id)
    return f"{action} {what} at {ts!r} (weight {weight!r}, digest {digest:016x})"


def _latest(latest: Latest, ids: Sequence[str]) -> list[tuple[str, float]]:
    return [(ids[item], ts) for item, ts in latest.items()]


def _latest_text(entry: tuple[str, float]) -> str:
    return f"{entry[0]!r} at {entry[1]!r}"


def _earlier(user_state: UserState, ids: Sequence[str]) -> list[tuple[str, int, int]]:
    visits = [(*visit_of(key), count) for key, count in user_state.earlier.items()]
    return [(ids[item], day, count) for day, item, count in visits]


def _earlier_text(entry: tuple[str, int, int]) -> str:
    item_id, day, count = entry
    return f"{item_id!r} {count} times on day {day}"


def _waiting(user_state: UserState) -> list[tuple[object, ...]]:
    """Give the content of the waiting events."""
    events = [waiting.event for waiting in user_state.waiting]
    return [(e.action, e.item_id, e.ts, e.text, e.rating, e.event_id) for e in events]


def _waiting_text(entry: tuple[object, ...]) -> str:
    return f"{entry[0]} {entry[1]!r} at {entry[2]!r}"


def _digest_text(entry: tuple[int]) -> str:
    return f"{entry[0]:016x}"
