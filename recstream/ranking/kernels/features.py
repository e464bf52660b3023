"""Kernels that compute the features of a list's candidates: one compiled call for some lists.

A list looks at some thousand neighbours, postings and sessions, and reads each signal once an item. As numpy
temporaries that would cost several times the whole budget of a list.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from recstream.items.jit import compiled, dot, top_k_threshold
from recstream.items.session_index import SESSION_ITEMS
from recstream.items.tfidf_index import match_terms, score_terms
from recstream.ranking.kernels.candidates import choose_candidates
from recstream.ranking.kernels.structs import (
    PER_CANDIDATE,
    PER_ITEM,
    RECENCY_WEIGHTS,
    TEXT,
    CatalogueArrays,
    Neighbours,
    SignalColumns,
    UserArrays,
    UserBatchArrays,
    Workspace,
    user_arrays_of,
)
from recstream.records.arrays import AnyArray

__all__ = ["FOLLOWED_ITEMS", "NEAREST_SESSIONS", "extract_features", "finish_directions", "rarity"]

NEAREST_SESSIONS: Final = 200
"""Sessions most like the user's own that count; all others are ignored."""
FOLLOWED_ITEMS: Final = 3
"""How many of the user's last items count for ``followed``."""
_NEXT_WEIGHTS: Final = np.exp(-np.arange(SESSION_ITEMS + 1) / 3.0).astype(np.float32)
"""What an item of a session weighs in ``sessions_next``, by how many places it came after a shared one."""
_YOUNG: Final = 1000.0
"""Events added to a session's age and the stream's: in a stream shorter than this, age matters little."""
_NEWCOMER_TICKS: Final = 3000.0
"""Events of the stream after which ``newcomer`` has fallen to e^-0.5."""
_YEAR_S: Final = 365.0 * 86400.0
_SHORT_TERM: Final = TEXT.index("short_term")
_LEXICAL: Final = PER_ITEM.index("lexical")
_FOLLOWED: Final = PER_ITEM.index("followed")
_TOGETHER: Final = PER_ITEM.index("together")
_SESSIONS: Final = PER_ITEM.index("sessions")
_SESSIONS_NEXT: Final = PER_ITEM.index("sessions_next")
_LEXICAL_LAST: Final = PER_CANDIDATE.index("lexical_last")
_CATEGORY: Final = PER_CANDIDATE.index("category")
_FOLLOWED_LAST: Final = PER_CANDIDATE.index("followed_last")
_TURNED_AWAY: Final = PER_CANDIDATE.index("turned_away")


@compiled
def extract_features(
    users: UserBatchArrays,
    arrays: CatalogueArrays,
    columns: SignalColumns,
    products: AnyArray,
    measures: AnyArray,
    each: int,
    wanted: int,
    workspace: Workspace,
    slots: AnyArray,
    likeness: AnyArray,
    sessions_found: AnyArray,
    items: AnyArray,
    signals: AnyArray,
    ends: AnyArray,
) -> None:
    """Choose the candidates of some users' lists and compute their signals.

    User k's are row k of ``slots`` and ``likeness`` (as many as ``sessions_found`` says), and what ``items``
    and the columns of ``signals`` hold from ``ends[k]`` to ``ends[k + 1]``. It is one call for all of them,
    because each one hands over some sixty arrays, and what runs between two of them is fetched from memory
    anew. ``measures`` is room for those of `PER_ITEM`.
    """
    ends[0] = 0
    for k in range(len(sessions_found)):
        begin = ends[k]
        sessions_found[k], count = _extract_list(
            user_arrays_of(users, k),
            arrays,
            columns,
            products,
            measures,
            each,
            wanted,
            workspace,
            slots[k],
            likeness[k],
            items[begin:],
            signals[:, begin:],
        )
        ends[k + 1] = begin + count


@compiled
def _extract_list(
    user: UserArrays,
    arrays: CatalogueArrays,
    columns: SignalColumns,
    products: AnyArray,
    measures: AnyArray,
    each: int,
    wanted: int,
    workspace: Workspace,
    slots: AnyArray,
    likeness: AnyArray,
    items: AnyArray,
    signals: AnyArray,
) -> tuple[int, int]:
    """The same for one list; gives how many sessions and how many candidates were found."""
    measures[:] = 0.0
    _measure_items(user, arrays, workspace.terms, measures)
    found = find_sessions(user, arrays, workspace, slots, likeness, measures)
    count = choose_candidates(user, arrays, columns, products, measures, each, wanted, workspace, items)
    # The first place takes up what belongs to no candidate.
    of_candidates = np.zeros((len(PER_CANDIDATE), count + 1), np.float32)
    places, chosen = workspace.places, items[:count]
    for k in range(count):
        places[items[k]] = k + 1
    _measure_candidates(user, arrays, workspace.terms, chosen, places, of_candidates)
    _fill_signals(
        user,
        arrays,
        columns,
        products,
        measures,
        of_candidates[:, 1:],
        chosen,
        places,
        signals[:, :count],
    )
    for k in range(count):
        places[items[k]] = 0
    return found, count


@compiled
def _measure_items(user: UserArrays, arrays: CatalogueArrays, terms: AnyArray, measures: AnyArray) -> None:
    """Add up the measures of `PER_ITEM`, those of sessions apart, in zeros of shape ``(PER_ITEM, items)``.

    ``terms`` is zeros, one a term, and zeros again afterwards. ``followed`` is a transition probability,
    ``together`` a cosine between the items' audiences (Deshpande and Karypis, TOIS 2004).
    """
    recent = user.recent
    score_terms(arrays.lexicon, recent, RECENCY_WEIGHTS[: len(recent)], terms, measures[_LEXICAL])
    for k in range(min(len(recent), FOLLOWED_ITEMS)):
        _add_followed(recent[k], 1.0 / (1 + k), arrays.neighbours, measures[_FOLLOWED])
    for k in range(len(recent)):
        _add_together(recent[k], RECENCY_WEIGHTS[k], arrays.neighbours, measures[_TOGETHER])


@compiled
def _measure_candidates(
    user: UserArrays,
    arrays: CatalogueArrays,
    terms: AnyArray,
    items: AnyArray,
    places: AnyArray,
    measures: AnyArray,
) -> None:
    """Add up the measures of `PER_CANDIDATE`, in zeros of shape ``(PER_CANDIDATE, 1 + candidates)``.

    ``items`` are the candidates, ``places[i]`` says which one item i is: from 1, and 0 for none.
    """
    recent, disliked = user.recent, user.disliked_items
    last = recent[:1]
    score_terms(arrays.lexicon, last, RECENCY_WEIGHTS[: len(last)], terms, measures[_LEXICAL_LAST], places)
    match_terms(
        arrays.categories, recent, RECENCY_WEIGHTS[: len(recent)], terms, items, measures[_CATEGORY, 1:]
    )
    if len(recent):
        _add_followed(recent[0], 1.0, arrays.neighbours, measures[_FOLLOWED_LAST], places)
    score_terms(
        arrays.lexicon, disliked, RECENCY_WEIGHTS[: len(disliked)], terms, measures[_TURNED_AWAY], places
    )
    for k in range(len(disliked)):
        _add_together(disliked[k], RECENCY_WEIGHTS[k], arrays.neighbours, measures[_TURNED_AWAY], places)


@compiled
def _add_followed(
    row: int, weight: float, neighbours: Neighbours, scores: AnyArray, places: AnyArray | None = None
) -> None:
    if row >= len(neighbours.items):
        return
    others, followed = neighbours.items[row], neighbours.followed_by[row]
    total = followed.sum()
    if total <= 0.0:
        return
    weight /= total
    for j in range(len(others)):
        other = others[j]
        if other < 0:
            break
        if places is None:
            scores[other] += weight * followed[j]
        else:
            scores[places[other]] += weight * followed[j]


@compiled
def _add_together(
    row: int, weight: float, neighbours: Neighbours, scores: AnyArray, places: AnyArray | None = None
) -> None:
    if row >= len(neighbours.items):
        return
    others, together, scales = neighbours.items[row], neighbours.together_with[row], neighbours.scales
    weight *= scales[row]
    for j in range(len(others)):
        other = others[j]
        if other < 0:
            break
        if places is None:
            scores[other] += weight * together[j] * scales[other]
        else:
            scores[places[other]] += weight * together[j] * scales[other]


@compiled
def rarity(arrays: CatalogueArrays, item: int) -> float:
    """What an item that two sessions share weighs: ln(1 + events / (1 + events of the item))."""
    return math.log(1.0 + arrays.tick / (1.0 + arrays.popularity[-1, item]))


@compiled
def find_sessions(
    user: UserArrays,
    arrays: CatalogueArrays,
    workspace: Workspace,
    slots: AnyArray,
    likeness: AnyArray,
    measures: AnyArray,
) -> int:
    """Find the sessions most like the user's last items and measure what they hold; gives how many they are.

    V-STAN (Ludewig, Mauro, Latifi and Jannach, UMUAI 2021) with popularity discounted. The likeness of a
    session grows with the items it shares: the recent ones (weights fall by e every five places) and the rare
    ones count most. It is divided by the root of the session's length, and multiplied by the share of the
    stream there was at its newest item, to the power of 2.5. A session speaks for its items the more, the
    nearer they are to the shared one that is most recent with the user.

    ``slots`` and ``likeness``, with room for `NEAREST_SESSIONS`, receive the sessions found.
    """
    sums, places, met = workspace.slots, workspace.places, workspace.slots_met
    window = arrays.sessions
    recent, cycle, most = user.recent, window.cycle, len(workspace.slots)
    oldest = window.next - most
    found = 0
    for k in range(len(recent)):
        item = recent[k]
        places[item] = k + 1
        if item >= len(window.of_item):
            continue
        weight = RECENCY_WEIGHTS[k] * rarity(arrays, item)
        if weight <= 0.0:  # before the first event was counted
            continue
        ring = window.of_item[item]
        for j in range(len(ring)):
            number = ring[j]
            if number < 0:
                break
            if number < oldest or number == user.session:
                continue
            slot = number - cycle if number >= cycle else number - cycle + most
            met[found] = slot
            found += sums[slot] == 0.0
            sums[slot] += weight
    values = np.empty(found, np.float32)
    for k in range(found):
        slot = met[k]
        age = min((window.ticks[slot] + _YOUNG) / (arrays.tick + _YOUNG), 1.0)
        values[k] = sums[slot] * window.scales[slot] * age * age * math.sqrt(age)
        sums[slot] = 0.0
    if found > NEAREST_SESSIONS:
        found = _keep_nearest(values, met[:found], window.next - cycle)
    together, following = measures[_SESSIONS], measures[_SESSIONS_NEXT]
    discounts, lengths = arrays.discounts, window.lengths
    kept = 0
    for k in range(found):
        if values[k] <= 0.0:
            continue
        slot = met[k]
        slots[kept], likeness[kept] = slot, values[k]
        kept += 1
        items = window.items[slot, : lengths[slot]]
        here = 0
        best = len(recent) + 1
        for p in range(len(items)):
            place = places[items[p]]
            if 0 < place < best:
                best, here = place, p
        for p in range(len(items)):
            value = values[k] * discounts[items[p]]
            together[items[p]] += value * RECENCY_WEIGHTS[abs(p - here)]
            if p > here:
                following[items[p]] += value * _NEXT_WEIGHTS[p - here]
    for k in range(len(recent)):
        places[recent[k]] = 0
    return kept


@compiled
def _keep_nearest(values: AnyArray, slots: AnyArray, next_slot: int) -> int:
    """Bring the greatest values and their slots to the front, `NEAREST_SESSIONS` of them; gives how many.

    Of equal ones those that began last come first. Slots hold the sessions in their order, beginning at
    ``next_slot``.
    """
    least = top_k_threshold(values, NEAREST_SESSIONS, NEAREST_SESSIONS)
    reach = (values >= least).sum()
    if reach > NEAREST_SESSIONS:  # some are equal
        least = np.partition(values, len(values) - NEAREST_SESSIONS)[len(values) - NEAREST_SESSIONS]
    ties = slots[values == least]
    kept = 0
    for k in range(len(values)):
        if values[k] > least:
            values[kept], slots[kept] = values[k], slots[k]
            kept += 1
    ages = np.where(ties < next_slot, next_slot - ties, np.int32(1 << 30) - ties)
    for tie in ties[np.argsort(ages)]:
        if kept == NEAREST_SESSIONS:
            break
        values[kept], slots[kept] = least, tie
        kept += 1
    return kept


@compiled
def _fill_signals(
    user: UserArrays,
    arrays: CatalogueArrays,
    columns: SignalColumns,
    products: AnyArray,
    of_items: AnyArray,
    of_candidates: AnyArray,
    items: AnyArray,
    places: AnyArray,
    signals: AnyArray,
) -> None:
    """Fill ``signals``, ``(signals, candidates)``: square roots of each measure over the list's largest.

    ``of_items`` and ``of_candidates`` are the measures of `PER_ITEM` and `PER_CANDIDATE`; ``places``, one an
    item, says which candidate it is: from 1, and 0 for none. Signals that are not used stay zeros, as do
    those that the kernels do not know.
    """
    signals[:] = 0.0
    for s in range(len(columns.text)):
        column = signals[columns.text[s]]
        if user.products[s] >= 0:
            _take(products[user.products[s]], items, column)
        elif user.strengths[s] > 0.0:
            for k in range(len(items)):
                column[k] = dot(arrays.text[items[k]], user.directions[s])
        _normalise(column, user.strengths[s])
    for s in range(len(of_items)):
        _take(of_items[s], items, signals[columns.per_item[s]])
        _normalise(signals[columns.per_item[s]], 1.0)
    for s in range(len(of_candidates)):
        signals[columns.per_candidate[s]] = of_candidates[s]
        _normalise(signals[columns.per_candidate[s]], user.dislike_strength if s == _TURNED_AWAY else 1.0)
    for s in range(len(arrays.popularity)):
        _root_of_share(arrays.popularity[s], items, signals[columns.popularity[s]])
    published, since = arrays.published, arrays.since
    for k in range(len(items)):
        row = items[k]
        age = (user.now - published[row]) / _YEAR_S
        if age >= 0.0:
            signals[columns.fresh, k] = 1.0 / math.sqrt(1.0 + age)
        elif age < 0.0:  # not where it is not known
            signals[columns.upcoming, k] = 1.0
        if since[row] == 0.0:
            signals[columns.untried, k] = 1.0
        else:
            signals[columns.newcomer, k] = math.exp(0.5 * (since[row] - arrays.tick) / _NEWCOMER_TICKS)
    for j in range(len(user.repeatable)):
        k = places[user.repeatable[j]] - 1
        if k >= 0:
            signals[columns.repeat, k] = user.repeatable_weights[j]
    _normalise(signals[columns.repeat], 1.0)
    for j in range(len(user.passed_over)):
        k = places[user.passed_over[j]] - 1
        if k >= 0:
            signals[columns.passed_over, k] = 1.0
    for s in range(len(signals)):
        if not columns.used[s]:
            signals[s] = 0.0


@compiled
def _root_of_share(scores: AnyArray, items: AnyArray, column: AnyArray) -> None:
    """Write the square roots of the items' scores over the largest of them."""
    largest = 1e-300
    for k in range(len(items)):
        largest = max(largest, scores[items[k]])
    for k in range(len(items)):
        column[k] = math.sqrt(scores[items[k]] / largest)


@compiled
def _take(scores: AnyArray, items: AnyArray, column: AnyArray) -> None:
    """Write the items' scores."""
    for k in range(len(items)):
        column[k] = scores[items[k]]


@compiled
def _normalise(column: AnyArray, strength: float) -> None:
    """Replace values by the square roots of their shares of the largest, times ``strength``."""
    largest = np.float32(0.0)
    for k in range(len(column)):
        largest = max(largest, column[k])
    if largest <= 0.0:
        column[:] = 0.0
        return
    factor = np.float32(strength)
    for k in range(len(column)):
        column[k] = factor * np.sqrt(max(column[k], np.float32(0.0)) / largest)


@compiled
def finish_directions(
    directions: AnyArray,
    strengths: AnyArray,
    recent: AnyArray,
    weights: AnyArray,
    ends: AnyArray,
    text: AnyArray,
) -> None:
    """Add the short term to ``directions``, and make all of them unit vectors: zeros have no strength."""
    for k in range(len(directions)):
        mine = directions[k]
        for at in range(ends[k], ends[k + 1]):
            row, weight = text[recent[at]], weights[at]
            for d in range(len(row)):
                mine[_SHORT_TERM, d] += weight * row[d]
            strengths[k, _SHORT_TERM] = 1.0
        for one in range(len(mine)):
            length = np.float32(0.0)
            for d in range(mine.shape[1]):
                length += mine[one, d] * mine[one, d]
            length = math.sqrt(length)
            if length > 1e-6:
                for d in range(mine.shape[1]):
                    mine[one, d] /= length
            else:
                strengths[k, one] = 0.0
