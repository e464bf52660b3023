"""Compiled loops (numba) that choose the candidates of a list, and lay their signals side by side."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from recstream.items.jit import compiled, dot, top_k_threshold
from recstream.ranking.kernels.structs import LATER, SPARSE, CatalogueArrays, UserArrays, Workspace
from recstream.ranking.signals import COLUMN
from recstream.records.arrays import AnyArray

__all__ = ["MORE", "NO_MORE", "candidate_signals", "choose_candidates"]

_BLOCK: Final = 32
"""Scores looked at together: most blocks hold none of the best."""
_LANES: Final = 16
_SPARE: Final = 16
"""Candidates more than wanted of each signal are looked for, for some may not be shown."""
NO_MORE: Final = -1
"""Behind the last of the most popular items: there are no others;"""
MORE: Final = -2
"""there are, and which of them are best is not said."""
_NEWCOMER_TICKS: Final = 3000.0
_YEAR_S: Final = 365.0 * 86400.0
_OF_SPARSE: Final = np.array([COLUMN[name] for name in SPARSE])
_OF_LATER: Final = np.array([COLUMN[name] for name in LATER])
_DISLIKED: Final = COLUMN["disliked"]
_TURNED_AWAY: Final = COLUMN["turned_away"]
_RISING: Final = COLUMN["rising"]
_FRESH: Final = COLUMN["fresh"]
_NEWCOMER: Final = COLUMN["newcomer"]
_REPEAT: Final = COLUMN["repeat"]
_PASSED_OVER: Final = COLUMN["passed_over"]


@compiled
def choose_candidates(
    user: UserArrays,
    arrays: CatalogueArrays,
    products: AnyArray,
    raw: AnyArray,
    each: int,
    wanted: int,
    workspace: Workspace,
    items: AnyArray,
) -> int:
    """Collect the best items of each signal that may be shown, into ``items``; gives how many.

    Of equally good ones those of the greater ``world.filling`` come first: a hash, in every process the same.
    """
    marks = workspace.marks
    for k in range(len(user.excluded)):
        marks[user.excluded[k]] = 1
    found = 0
    for s in range(len(user.products)):
        if user.products[s] >= 0:
            found = _add_best(products[user.products[s]], each, arrays, workspace, items, found)
    for s in range(len(raw) - 1):
        found = _add_best(raw[s], each, arrays, workspace, items, found)
    scales = len(arrays.popularity)
    for scale in range(scales + 1):
        before = found
        if len(arrays.tops):
            found = _add_top(arrays.tops[scale], each, marks, items, found)
        if found < 0 or not len(arrays.tops):
            scores = arrays.popularity[scale] if scale < scales else arrays.since
            found = _add_best(scores, each, arrays, workspace, items, before)
    for k in range(len(user.again)):
        row = user.again[k]
        if k < each and marks[row] == 0 and arrays.available[row]:
            marks[row] = 2
            items[found] = row
            found += 1
    if found < wanted:  # a young stream: what nothing is known of fills the list up
        missing = min(wanted, len(items)) - found
        for k in range(found):
            marks[items[k]] = 1
        if missing > 0:
            found = _add_best(arrays.filling, missing, arrays, workspace, items, found)
    for k in range(len(user.excluded)):
        marks[user.excluded[k]] = 0
    for k in range(found):
        marks[items[k]] = 0
    return found


@compiled
def _add_best(
    scores: AnyArray, most: int, arrays: CatalogueArrays, workspace: Workspace, items: AnyArray, found: int
) -> int:
    """Add the best items that may be shown, so many, passing over whole blocks of scores too small."""
    marks, rows = workspace.marks, workspace.rows
    largest = np.empty((len(scores) + _BLOCK - 1) // _BLOCK, scores.dtype)
    _find_largest(scores, largest)
    nothing = scores.dtype.type(0)
    least = nothing
    if len(largest) > most + _SPARE:  # so many blocks hold one that is as good
        least = top_k_threshold(largest, most + _SPARE, most + 2 * _SPARE)
    count = _find(scores, largest, least, arrays.available, marks, rows)
    if count < most and least > nothing:  # too many of these may not be shown
        count = _find(scores, largest, nothing, arrays.available, marks, rows)
    if count > most:
        count = _keep_best(scores, most, arrays.filling, rows[:count])
    for k in range(count):
        if marks[rows[k]] == 0:
            marks[rows[k]] = 2
            items[found] = rows[k]
            found += 1
    return found


@compiled
def _keep_best(scores: AnyArray, most: int, filling: AnyArray, rows: AnyArray) -> int:
    """Bring so many of the rows to the front: the best, of equals those of more filling; gives ``most``."""
    values = np.empty(len(rows), scores.dtype)
    for k in range(len(rows)):
        values[k] = scores[rows[k]]
    bound = top_k_threshold(values, most, most)
    kept = 0
    for k in range(len(rows)):
        kept += values[k] >= bound
    if kept > most:  # some are equal
        bound = np.partition(values, len(values) - most)[len(values) - most]
    kept = 0
    ties = np.empty(len(rows), np.int32)
    tied = 0
    for k in range(len(rows)):
        row = rows[k]
        ties[tied] = row
        tied += values[k] == bound
        rows[kept] = row
        kept += values[k] > bound
    if kept < most:
        order = np.argsort(filling[ties[:tied]])[::-1]
        for k in range(most - kept):
            rows[kept + k] = ties[order[k]]
    return most


@compiled
def _add_top(top: AnyArray, each: int, marks: AnyArray, items: AnyArray, found: int) -> int:
    """Add the first items of a sorted row that may be shown; -1 if it does not hold enough of them."""
    taken = 0
    begin = found
    for k in range(len(top)):
        row = top[k]
        if row == NO_MORE or taken == each:
            return found
        if row == MORE:
            break
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


@compiled
def _find_largest(scores: AnyArray, largest: AnyArray) -> None:
    """The largest score of each block of `_BLOCK`, in lanes that the compiler takes together."""
    lanes = np.empty(_LANES, scores.dtype)
    whole = len(scores) // _BLOCK
    for block in range(whole):
        begin = block * _BLOCK
        for lane in range(_LANES):
            lanes[lane] = scores[begin + lane]
        for at in range(begin + _LANES, begin + _BLOCK, _LANES):
            for lane in range(_LANES):
                score = scores[at + lane]
                lanes[lane] = score if score > lanes[lane] else lanes[lane]
        top = lanes[0]
        for lane in range(1, _LANES):
            top = lanes[lane] if lanes[lane] > top else top
        largest[block] = top
    if whole < len(largest):
        largest[whole] = scores[whole * _BLOCK :].max()


@compiled
def _find(
    scores: AnyArray, largest: AnyArray, least: float, available: AnyArray, marks: AnyArray, rows: AnyArray
) -> int:
    """Write the items that may be shown and whose scores are at least so much, and above 0, into ``rows``."""
    count = 0
    for block in range(len(largest)):
        if largest[block] < least or not largest[block] > 0.0:
            continue
        for row in range(block * _BLOCK, min((block + 1) * _BLOCK, len(scores))):
            if scores[row] >= least and scores[row] > 0.0 and marks[row] != 1 and available[row]:
                rows[count] = row
                count += 1
    return count


@compiled
def candidate_signals(
    user: UserArrays,
    arrays: CatalogueArrays,
    products: AnyArray,
    raw: AnyArray,
    later: AnyArray,
    items: AnyArray,
    used: AnyArray,
    places: AnyArray,
    columns: AnyArray,
) -> None:
    """Fill ``columns``, ``(signals, candidates)``: square roots of each measure over the list's largest.

    ``raw`` and ``later`` are the measures of `SPARSE`, one an item, and of `LATER`, one a candidate;
    ``places``, one an item, says which candidate it is: from 1, and 0 for none. Signals that are not ``used``
    stay zeros.
    """
    columns[:] = 0.0
    for s in range(len(user.products)):
        if user.products[s] >= 0:
            _take(products[user.products[s]], items, columns[s])
            _normalise(columns[s], user.strengths[s])
    if user.strengths[_DISLIKED] > 0.0:
        for k in range(len(items)):
            columns[_DISLIKED, k] = dot(arrays.text[items[k]], user.disliked)
        _normalise(columns[_DISLIKED], user.strengths[_DISLIKED])
    for s in range(len(raw)):
        _take(raw[s], items, columns[_OF_SPARSE[s]])
        _normalise(columns[_OF_SPARSE[s]], 1.0)
    for s in range(len(later)):
        columns[_OF_LATER[s]] = later[s]
        _normalise(columns[_OF_LATER[s]], user.turned_strength if _OF_LATER[s] == _TURNED_AWAY else 1.0)
    for s in range(len(arrays.popularity)):
        _root_of_share(arrays.popularity[s], items, columns[_RISING + s])
    published, since = arrays.published, arrays.since
    for k in range(len(items)):
        row = items[k]
        age = (user.now - published[row]) / _YEAR_S
        if age >= 0.0:
            columns[_FRESH, k] = 1.0 / math.sqrt(1.0 + age)
        elif age < 0.0:  # not where it is not known
            columns[_FRESH + 1, k] = 1.0
        if since[row] == 0.0:
            columns[_NEWCOMER + 1, k] = 1.0
        else:
            columns[_NEWCOMER, k] = math.exp(0.5 * (since[row] - arrays.tick) / _NEWCOMER_TICKS)
    for j in range(len(user.again)):
        k = places[user.again[j]] - 1
        if k >= 0:
            columns[_REPEAT, k] = user.again_weights[j]
    _normalise(columns[_REPEAT], 1.0)
    for j in range(len(user.passed)):
        k = places[user.passed[j]] - 1
        if k >= 0:
            columns[_PASSED_OVER, k] = 1.0
    for s in range(len(columns)):
        if not used[s]:
            columns[s] = 0.0


@compiled
def _root_of_share(scores: AnyArray, items: AnyArray, column: AnyArray) -> None:
    largest = 1e-300
    for k in range(len(items)):
        largest = max(largest, scores[items[k]])
    for k in range(len(items)):
        column[k] = math.sqrt(scores[items[k]] / largest)


@compiled
def _take(scores: AnyArray, items: AnyArray, column: AnyArray) -> None:
    for k in range(len(items)):
        column[k] = scores[items[k]]


@compiled
def _normalise(column: AnyArray, strength: float) -> None:
    largest = np.float32(0.0)
    for k in range(len(column)):
        largest = max(largest, column[k])
    if largest <= 0.0:
        column[:] = 0.0
        return
    factor = np.float32(strength)
    for k in range(len(column)):
        column[k] = factor * np.sqrt(max(column[k], np.float32(0.0)) / largest)
