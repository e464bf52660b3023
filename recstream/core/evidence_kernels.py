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
from recstream.core.session_window import SessionArrays

__all__ = [
    "DENSE",
    "NEAREST_SESSIONS",
    "SPARSE",
    "Neighbours",
    "User",
    "World",
    "candidate_signals",
    "choose_candidates",
    "find_sessions",
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
_FOLLOWED_ITEMS: Final = 3
_WINDOW: Final = 5.0
"""An item's weight falls by e every so many places back."""
_NEXT_WINDOW: Final = 3.0
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
    tick: float


class Neighbours(NamedTuple):
    """What goes with what: see `recstream.core.statistics`."""

    items: Handles
    followed_by: npt.NDArray[np.float32]
    together_with: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float64]
    """What each item's engagements weigh."""


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


@njit(cache=True, nogil=True)
def gather_sparse(
    user: User, near: Neighbours, lexicon: Postings, categories: Postings, terms: AnyArray, raw: AnyArray
) -> None:
    """Add up the sparse signals but those of sessions into ``raw``, zeros of shape ``(SPARSE, items)``.

    ``terms`` is zeros, one a term, and is zeros again afterwards. ``followed`` is a transition probability,
    ``together`` a cosine between the items' audiences (Deshpande and Karypis, TOIS 2004).
    """
    count = len(user.recent)
    weights = np.exp(-np.arange(count) / _WINDOW).astype(np.float32)
    score_terms(lexicon, user.recent, weights, terms, raw[_LEXICAL])
    score_terms(lexicon, user.recent[:1], weights, terms, raw[_LEXICAL_LAST])
    score_terms(categories, user.recent, weights, terms, raw[_CATEGORY])
    for k in range(count):
        row = user.recent[k]
        if row >= len(near.items):
            continue
        if k < _FOLLOWED_ITEMS:
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
            _add_together(user.turned[k], math.exp(-k / _WINDOW), near, raw[_TURNED_AWAY])


@njit(cache=True, nogil=True)
def _add_together(row: int, weight: float, near: Neighbours, scores: AnyArray) -> None:
    weight /= math.sqrt(near.weights[row] + 1.0)
    for j in range(near.items.shape[1]):
        other = near.items[row, j]
        if other < 0:
            break
        scores[other] += weight * near.together_with[row, j] / math.sqrt(near.weights[other] + 1.0)


@njit(cache=True, nogil=True)
def rarity(world: World, item: int) -> float:
    """How much an item that two sessions share says: ln(1 + events / (1 + its own))."""
    return math.log(1.0 + world.tick / (1.0 + world.popularity[-1, item]))


@njit(cache=True, nogil=True)
def find_sessions(
    user: User,
    world: World,
    window: SessionArrays,
    scratch: AnyArray,
    places: AnyArray,
    slots: AnyArray,
    likeness: AnyArray,
    raw: AnyArray,
) -> int:
    """Find the sessions most like the user's last items, and add what they hold to ``raw``; gives how many.

    V-STAN (Ludewig, Mauro, Latifi and Jannach, UMUAI 2021) with popularity discounted: a session is as like
    as the items it shares are recent with the user (weights falling by e every five places) and rare, over
    the root of its length, and newer ones count more; it speaks for its items the more, the nearer they
    are to the one shared that is most recent with the user.

    ``scratch`` (one a slot) and ``places`` (one an item) are zeros, and zeros again afterwards; ``slots`` and
    ``likeness`` (at least `NEAREST_SESSIONS`) receive the sessions found.
    """
    touched = np.empty(len(scratch), np.int32)
    found = 0
    counts = world.popularity[-1]
    slots_used = len(window.lengths)
    for k in range(len(user.recent)):
        item = user.recent[k]
        places[item] = k + 1
        if item >= len(window.of_item):
            continue
        weight = math.exp(-k / _WINDOW) * rarity(world, item)
        for j in range(window.of_item.shape[1]):
            number = window.of_item[item, j]
            if number < 0:
                break
            slot = number % len(scratch)
            if number == user.session or slot >= slots_used or window.numbers[slot] != number:
                continue
            if scratch[slot] == 0.0:
                touched[found] = slot
                found += 1
            scratch[slot] += weight
    values = np.empty(found, np.float32)
    for k in range(found):
        slot = touched[k]
        age = (window.ticks[slot] + _YOUNG) / (world.tick + _YOUNG)
        values[k] = scratch[slot] / math.sqrt(window.lengths[slot]) * min(age, 1.0) ** _AGING
        scratch[slot] = 0.0
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
            value = values[k] / math.sqrt(math.sqrt(1.0 + counts[other]))
            raw[_SESSIONS, other] += value * math.exp(-abs(p - here) / _WINDOW)
            if p > here:
                raw[_NEXT, other] += value * math.exp(-(p - here) / _NEXT_WINDOW)
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
        if s not in (_LEXICAL_LAST, _FOLLOWED_LAST):
            found = _add_best(raw[s], world.available, marks, values, best, items, found)
    for scale in range(len(world.popularity)):
        found = _add_best(world.popularity[scale], world.available, marks, values, best, items, found)
    found = _add_newest(world, marks, values, best, items, found)
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
    each = len(best)
    count = 0
    least = 0.0
    for row in range(len(scores)):
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
        if count < each:
            count += 1
        if count == each:
            least = values[each - 1]
    for k in range(count):
        if marks[best[k]] == 0:
            marks[best[k]] = 2
            items[found] = best[k]
            found += 1
    return found


@njit(cache=True, nogil=True)
def _add_newest(
    world: World, marks: AnyArray, values: AnyArray, best: AnyArray, items: AnyArray, found: int
) -> int:
    since = np.empty(len(world.since))
    for row in range(len(since)):
        since[row] = world.since[row] if world.since[row] < np.inf else 0.0
    return _add_best(since, world.available, marks, values, best, items, found)


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
        if math.isinf(world.since[row]):
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
