"""Compiled loops (numba) that gather one list's evidence: sparse signals, candidates, and their signals.

Why compiled: a list looks at some thousand neighbours, postings and sessions, and reads each signal once an
item; as numpy temporaries that would cost several times the whole budget of a list.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from recstream.core.arrays import AnyArray, Handles
from recstream.core.inverted_index import Postings, score_terms
from recstream.core.session_window import SESSION_ITEMS, SessionArrays

__all__ = [
    "DENSE",
    "FADES",
    "FOLLOWED_ITEMS",
    "NEAREST_SESSIONS",
    "SPARSE",
    "WINDOW",
    "Neighbours",
    "Scratch",
    "User",
    "World",
    "candidate_signals",
    "choose_candidates",
    "find_sessions",
    "gather",
    "gather_sparse",
    "rarity",
]

DENSE: Final = ("words", "short_term", "long_term", "disliked")
"""Signals that are products of text vectors, one score an item."""
SPARSE: Final = (
    "lexical",
    "lexical_last",
    "category",
    "followed",
    "followed_last",
    "together",
    "sessions",
    "sessions_next",
    "turned_away",
)
"""Signals that few items have: a row of ``raw`` each."""
NEAREST_SESSIONS: Final = 200
"""Sessions most like the user's own that speak for items."""
_LEXICAL, _LEXICAL_LAST, _CATEGORY, _FOLLOWED, _FOLLOWED_LAST = 0, 1, 2, 3, 4
_TOGETHER, _SESSIONS, _NEXT, _TURNED_AWAY = 5, 6, 7, 8
FOLLOWED_ITEMS: Final = 3
"""How many of the user's last items speak for what follows."""
WINDOW: Final = 5.0
"""An item's weight falls by e every so many places back."""
FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / WINDOW).astype(np.float32)
"""What is left of a weight so many places away."""
_NEXT_FADES: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / 3.0).astype(np.float32)
_BLOCK: Final = 64
"""Scores looked at together: most blocks hold none of the best."""
_SPARE: Final = 16
_AGING: Final = 2.5
"""A session counts by the share of the stream it has seen to this power: scale-free decay."""
_YOUNG: Final = 1000.0
_NEWCOMER_TICKS: Final = 3000.0
_YEAR_S: Final = 365.0 * 86400.0


class World(NamedTuple):
    """What is true of every list of a moment; arrays over items have shape ``(items,)``."""

    available: npt.NDArray[np.bool_]
    popularity: npt.NDArray[np.float64]
    """Shape ``(scales, items)``, each scale up to a factor; the last one counts everything."""
    since: npt.NDArray[np.float64]
    published: npt.NDArray[np.float64]
    tops: Handles
    """Shape ``(scales + 1, some)``: available items most popular at each scale, and those that came last, best
    first; -1: no more. Empty where it is not worth while for so few lists."""
    discounts: npt.NDArray[np.float32]
    """How much a session says for an item: less of what many hold."""
    tick: float


class Neighbours(NamedTuple):
    """What goes with what: see `recstream.core.statistics`."""

    items: Handles
    followed_by: npt.NDArray[np.float32]
    together_with: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float32]
    """One an item: a pair times both items' scales is a cosine."""


class User(NamedTuple):
    """One user as the loops see them."""

    recent: Handles
    """Newest first, distinct."""
    turned: Handles
    """Items the user turned away from, newest first."""
    again: Handles
    """Items engaged with before that may be shown again; none where repeats are ruled out."""
    again_weights: npt.NDArray[np.float32]
    passed: Handles
    """Items shown and passed over."""
    excluded: Handles
    session: int
    """Number of the user's own session, -1 without one."""
    now: float
    strengths: npt.NDArray[np.float32]
    """One a signal of `DENSE`: how much there is of its evidence, 0 to 1."""


class Scratch(NamedTuple):
    """Room to work in. All but ``touched`` are zeros between calls."""

    terms: npt.NDArray[np.float32]
    """One a term."""
    slots: npt.NDArray[np.float32]
    """One a session."""
    touched: npt.NDArray[np.int32]
    """One a session."""
    places: npt.NDArray[np.int32]
    """One an item."""
    marks: npt.NDArray[np.int8]
    """One an item."""


@njit(cache=True, nogil=True)
def gather(
    user: User,
    world: World,
    near: Neighbours,
    lexicon: Postings,
    categories: Postings,
    window: SessionArrays,
    dense: AnyArray,
    raw: AnyArray,
    each: int,
    used: AnyArray,
    scratch: Scratch,
    slots: AnyArray,
    likeness: AnyArray,
    items: AnyArray,
    signals: AnyArray,
) -> tuple[int, int]:
    """All evidence of one list: gives how many sessions and how many candidates were found.

    Filled are ``raw`` (zeros before), ``slots`` and ``likeness``, ``items`` and ``signals``: see below.
    One call, for handing arrays over to compiled code costs more than some of its parts.
    """
    gather_sparse(user, near, lexicon, categories, scratch.terms, raw)
    found = find_sessions(user, world, window, scratch, slots, likeness, raw)
    count = choose_candidates(user, world, dense, raw, each, scratch.marks, items)
    candidate_signals(user, world, dense, raw, items[:count], used, signals[:count])
    return found, count


@njit(cache=True, nogil=True)
def gather_sparse(
    user: User, near: Neighbours, lexicon: Postings, categories: Postings, terms: AnyArray, raw: AnyArray
) -> None:
    """Add up the sparse signals but those of sessions into ``raw``, zeros of shape ``(SPARSE, items)``.

    ``terms`` is zeros, one a term, and is zeros again afterwards. ``followed`` is a transition probability,
    ``together`` a cosine between the items' audiences (Deshpande and Karypis, TOIS 2004).
    """
    count = len(user.recent)
    weights = FADES[:count]
    score_terms(lexicon, user.recent, weights, terms, raw[_LEXICAL])
    score_terms(lexicon, user.recent[:1], weights, terms, raw[_LEXICAL_LAST])
    score_terms(categories, user.recent, weights, terms, raw[_CATEGORY])
    for k in range(count):
        row = user.recent[k]
        if row >= len(near.items):
            continue
        if k < FOLLOWED_ITEMS:
            total = near.followed_by[row].sum()
            if total > 0.0:
                for j in range(near.items.shape[1]):
                    other = near.items[row, j]
                    if other < 0:
                        break
                    share = near.followed_by[row, j] / total
                    raw[_FOLLOWED, other] += share / (1 + k)
                    if k == 0:
                        raw[_FOLLOWED_LAST, other] += share
        _add_together(row, weights[k], near, raw[_TOGETHER])
    for k in range(len(user.turned)):
        if user.turned[k] < len(near.items):
            _add_together(user.turned[k], FADES[k], near, raw[_TURNED_AWAY])


@njit(cache=True, nogil=True)
def _add_together(row: int, weight: float, near: Neighbours, scores: AnyArray) -> None:
    weight *= near.scales[row]
    for j in range(near.items.shape[1]):
        other = near.items[row, j]
        if other < 0:
            break
        scores[other] += weight * near.together_with[row, j] * near.scales[other]


@njit(cache=True, nogil=True)
def rarity(world: World, item: int) -> float:
    """How much an item that two sessions share says: ln(1 + events / (1 + its own))."""
    return math.log(1.0 + world.tick / (1.0 + world.popularity[-1, item]))


@njit(cache=True, nogil=True)
def find_sessions(
    user: User,
    world: World,
    window: SessionArrays,
    scratch: Scratch,
    slots: AnyArray,
    likeness: AnyArray,
    raw: AnyArray,
) -> int:
    """Find the sessions most like the user's last items, and add what they hold to ``raw``; gives how many.

    V-STAN (Ludewig, Mauro, Latifi and Jannach, UMUAI 2021) with popularity discounted: a session is as like
    as the items it shares are recent with the user (weights falling by e every five places) and rare, over
    the root of its length, and newer ones count more; it speaks for its items the more, the nearer they
    are to the one shared that is most recent with the user.

    ``slots`` and ``likeness`` (at least `NEAREST_SESSIONS`) receive the sessions found.
    """
    sums, places, touched = scratch.slots, scratch.places, scratch.touched
    found = 0
    slots_used = len(window.lengths)
    for k in range(len(user.recent)):
        item = user.recent[k]
        places[item] = k + 1
        if item >= len(window.of_item):
            continue
        weight = FADES[k] * rarity(world, item)
        for j in range(window.of_item.shape[1]):
            number = window.of_item[item, j]
            if number < 0:
                break
            slot = number % len(sums)
            if number == user.session or slot >= slots_used or window.numbers[slot] != number:
                continue
            if sums[slot] == 0.0:
                touched[found] = slot
                found += 1
            sums[slot] += weight
    values = np.empty(found, np.float32)
    for k in range(found):
        slot = touched[k]
        age = (window.ticks[slot] + _YOUNG) / (world.tick + _YOUNG)
        values[k] = sums[slot] / math.sqrt(window.lengths[slot]) * min(age, 1.0) ** _AGING
        sums[slot] = 0.0
    least = 0.0
    if found > NEAREST_SESSIONS:
        least = np.partition(values, found - NEAREST_SESSIONS)[found - NEAREST_SESSIONS]
    kept = 0
    for k in range(found):
        if values[k] < least or kept == NEAREST_SESSIONS:
            continue
        slot = touched[k]
        slots[kept], likeness[kept] = slot, values[k]
        kept += 1
        here = 0
        best = len(user.recent) + 1
        for p in range(window.lengths[slot]):
            place = places[window.items[slot, p]]
            if 0 < place < best:
                best, here = place, p
        for p in range(window.lengths[slot]):
            other = window.items[slot, p]
            value = values[k] * world.discounts[other]
            raw[_SESSIONS, other] += value * FADES[abs(p - here)]
            if p > here:
                raw[_NEXT, other] += value * _NEXT_FADES[p - here]
    for k in range(len(user.recent)):
        places[user.recent[k]] = 0
    return kept


@njit(cache=True, nogil=True)
def choose_candidates(
    user: User, world: World, dense: AnyArray, raw: AnyArray, each: int, marks: AnyArray, items: AnyArray
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
        if s not in (_LEXICAL_LAST, _FOLLOWED_LAST, _NEXT):
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
        _normalise(signals[:, at], 1.0)
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
