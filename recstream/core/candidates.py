"""Compiled loops (numba) that choose the candidates of a list, and lay their signals side by side."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from recstream.core.arrays import AnyArray
from recstream.core.views import SPARSE, User, World

__all__ = ["candidate_signals", "choose_candidates"]

_BLOCK: Final = 64
"""Scores looked at together: most blocks hold none of the best."""
_SPARE: Final = 16
"""Candidates more than wanted of each signal are looked for, for some may not be shown."""
_NEWCOMER_TICKS: Final = 3000.0
_YEAR_S: Final = 365.0 * 86400.0
_LEXICAL_LAST: Final = SPARSE.index("lexical_last")
_CATEGORY: Final = SPARSE.index("category")
_FOLLOWED_LAST: Final = SPARSE.index("followed_last")
_NEXT: Final = SPARSE.index("sessions_next")


@njit(cache=True, nogil=True)
def choose_candidates(
    user: User,
    world: World,
    dense: AnyArray,
    raw: AnyArray,
    each: int,
    wanted: int,
    marks: AnyArray,
    items: AnyArray,
) -> int:
    """Collect the best items of each signal that may be shown, into ``items``; gives how many.

    ``dense`` has shape ``(DENSE, items)``. ``marks`` (int8, zeros, one an item) is zeros again afterwards.
    """
    for k in range(len(user.excluded)):
        marks[user.excluded[k]] = 1
    found = 0
    values = np.empty(each)
    best = np.empty(each, np.int32)
    for s in range(3):  # not what is disliked
        if user.strengths[s] > 0.0:
            found = _add_best(dense[s], world.available, marks, values, best, items, found)
    for s in range(len(raw) - 1):  # not what was turned away from
        if s not in (_LEXICAL_LAST, _CATEGORY, _FOLLOWED_LAST, _NEXT):
            found = _add_best(raw[s], world.available, marks, values, best, items, found)
    scales = len(world.popularity)
    for scale in range(scales + 1):
        before = found
        if len(world.tops):
            found = _add_top(world.tops[scale], each, marks, items, found)
        if found < 0 or not len(world.tops):
            scores = world.popularity[scale] if scale < scales else world.since
            found = _add_best(scores, world.available, marks, values, best, items, before)
    for k in range(len(user.again)):
        row = user.again[k]
        if k < each and marks[row] == 0 and world.available[row]:
            marks[row] = 2
            items[found] = row
            found += 1
    if found < wanted:  # a young stream: what nothing is known of fills the list up
        missing = min(wanted, len(items)) - found
        for k in range(found):
            marks[items[k]] = 1
        if missing > 0:
            room, rows = np.empty(missing), np.empty(missing, np.int32)
            found = _add_best(world.filling, world.available, marks, room, rows, items, found)
    for k in range(len(user.excluded)):
        marks[user.excluded[k]] = 0
    for k in range(found):
        marks[items[k]] = 0
    return found


@njit(cache=True, nogil=True)
def _add_best(
    scores: AnyArray,
    available: AnyArray,
    marks: AnyArray,
    values: AnyArray,
    best: AnyArray,
    items: AnyArray,
    found: int,
) -> int:
    """Add the best items that may be shown, passing over whole blocks of scores too small."""
    each = len(best)
    blocks = (len(scores) + _BLOCK - 1) // _BLOCK
    largest = np.zeros(blocks, scores.dtype)
    _find_largest(scores, largest)
    least = 0.0
    if blocks > each + _SPARE:  # so many blocks hold one that is as good
        least = np.partition(largest, blocks - each - _SPARE)[blocks - each - _SPARE] * (1.0 - 1e-9)
    count = _select(scores, largest, least, available, marks, values, best)
    if count < each and least > 0.0:  # too many of these may not be shown
        count = _select(scores, largest, 0.0, available, marks, values, best)
    for k in range(count):
        if marks[best[k]] == 0:
            marks[best[k]] = 2
            items[found] = best[k]
            found += 1
    return found


@njit(cache=True, nogil=True)
def _add_top(top: AnyArray, each: int, marks: AnyArray, items: AnyArray, found: int) -> int:
    """Add the first items of a sorted row that may be shown; -1 if it does not hold enough of them."""
    taken = 0
    begin = found
    for k in range(len(top)):
        row = top[k]
        if row < 0 or taken == each:
            return found
        if marks[row] == 1:
            continue
        taken += 1
        if marks[row] == 0:
            marks[row] = 2
            items[found] = row
            found += 1
    if taken == each:
        return found
    for k in range(begin, found):
        marks[items[k]] = 0
    return -1


@njit(cache=True, nogil=True)
def _find_largest(scores: AnyArray, largest: AnyArray) -> None:
    """The largest score of each block of `_BLOCK`."""
    for block in range(len(largest)):
        for row in range(block * _BLOCK, min((block + 1) * _BLOCK, len(scores))):
            largest[block] = max(largest[block], scores[row])


@njit(cache=True, nogil=True)
def _select(
    scores: AnyArray,
    largest: AnyArray,
    least: float,
    available: AnyArray,
    marks: AnyArray,
    values: AnyArray,
    best: AnyArray,
) -> int:
    """Sort the best scores above ``least`` into ``values`` and ``best``; gives how many."""
    each = len(best)
    count = 0
    for block in range(len(largest)):
        if not largest[block] > least:
            continue
        for row in range(block * _BLOCK, min((block + 1) * _BLOCK, len(scores))):
            score = scores[row]
            if not score > least or marks[row] == 1 or not available[row]:
                continue
            at = count if count < each else each - 1
            while at > 0 and values[at - 1] < score:
                values[at] = values[at - 1]
                best[at] = best[at - 1]
                at -= 1
            values[at] = score
            best[at] = row
            count = min(count + 1, each)
            if count == each:
                least = values[each - 1]
    return count


@njit(cache=True, nogil=True)
def candidate_signals(
    user: User,
    world: World,
    dense: AnyArray,
    raw: AnyArray,
    items: AnyArray,
    used: AnyArray,
    signals: AnyArray,
) -> None:
    """Fill ``signals``, ``(candidates, signals)``: square roots of each measure over the list's largest.

    Signals that are not ``used`` stay zeros.
    """
    signals[:] = 0.0
    at = 0
    for s in range(len(dense)):
        for k in range(len(items)):
            signals[k, at] = dense[s, items[k]]
        _normalise(signals[:, at], user.strengths[s])
        at += 1
    for s in range(len(raw)):
        for k in range(len(items)):
            signals[k, at] = raw[s, items[k]]
        _normalise(signals[:, at], user.turned_strength if s == len(raw) - 1 else 1.0)
        at += 1
    for s in range(len(world.popularity)):
        largest = 1e-300
        for k in range(len(items)):
            largest = max(largest, world.popularity[s, items[k]])
        for k in range(len(items)):
            signals[k, at] = math.sqrt(world.popularity[s, items[k]] / largest)
        at += 1
    for k in range(len(items)):
        row = items[k]
        age = (user.now - world.published[row]) / _YEAR_S
        if age >= 0.0:
            signals[k, at] = 1.0 / math.sqrt(1.0 + age)
        elif age < 0.0:  # not where it is not known
            signals[k, at + 1] = 1.0
        if world.since[row] == 0.0:
            signals[k, at + 3] = 1.0
        else:
            signals[k, at + 2] = math.sqrt(math.exp((world.since[row] - world.tick) / _NEWCOMER_TICKS))
    at += 4
    for k in range(len(items)):
        for j in range(len(user.again)):
            if user.again[j] == items[k]:
                signals[k, at] = user.again_weights[j]
        for j in range(len(user.passed)):
            if user.passed[j] == items[k]:
                signals[k, at + 1] = 1.0
    _normalise(signals[:, at], 1.0)
    for s in range(signals.shape[1]):
        if not used[s]:
            signals[:, s] = 0.0


@njit(cache=True, nogil=True)
def _normalise(column: AnyArray, strength: float) -> None:
    largest = np.float32(0.0)
    for k in range(len(column)):
        largest = max(largest, column[k])
    for k in range(len(column)):
        value = column[k]
        column[k] = strength * math.sqrt(value / largest) if value > 0.0 else 0.0
