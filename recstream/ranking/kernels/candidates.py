"""Kernels that choose the candidates of a list by its signals, and the best of them by their scores."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recstream.items.jit import compiled, top_k_threshold
from recstream.ranking.kernels.structs import CatalogueArrays, SignalColumns, UserArrays, Workspace
from recstream.records.arrays import AnyArray

__all__ = ["MORE", "NO_MORE", "best_places", "choose_candidates"]

_BLOCK: Final = 32
"""Scores looked at together: most blocks hold none of the best."""
_LANES: Final = 16
"""Scores that the compiler compares in one instruction."""
_SPARE: Final = 16
"""Candidates of each signal looked for beyond those wanted, because some may not be shown."""
NO_MORE: Final = -1
"""Ends a row of top items that holds all there are."""
MORE: Final = -2
"""Ends a row of top items behind which there are others, in an order that is not known."""


@compiled
def choose_candidates(
    user: UserArrays,
    arrays: CatalogueArrays,
    columns: SignalColumns,
    products: AnyArray,
    measures: AnyArray,
    each: int,
    wanted: int,
    workspace: Workspace,
    items: AnyArray,
) -> int:
    """Write the best items of each signal that nominates into ``items``; gives how many they are.

    Only items that may be shown. ``measures`` are those of `PER_ITEM`. Of equal items those with the greater
    ``arrays.tiebreak`` come first, in every process the same.
    """
    marks = workspace.marks
    for k in range(len(user.excluded)):
        marks[user.excluded[k]] = 1
    found = 0
    for s in range(len(user.products)):
        if user.products[s] >= 0:
            found = _add_best(products[user.products[s]], each, arrays, workspace, items, found)
    for s in range(len(measures)):
        if columns.nominates[columns.per_item[s]]:
            found = _add_best(measures[s], each, arrays, workspace, items, found)
    scales = len(arrays.popularity)
    for scale in range(scales + 1):
        if not columns.nominates[columns.popularity[scale] if scale < scales else columns.newcomer]:
            continue
        before = found
        if len(arrays.top_items):
            found = _add_top(arrays.top_items[scale], each, marks, items, found)
        if found < 0 or not len(arrays.top_items):
            scores = arrays.popularity[scale] if scale < scales else arrays.since
            found = _add_best(scores, each, arrays, workspace, items, before)
    for k in range(min(each, len(user.repeatable)) if columns.nominates[columns.repeat] else 0):
        row = user.repeatable[k]
        if marks[row] == 0 and arrays.available[row]:
            marks[row] = 2
            items[found] = row
            found += 1
    if found < wanted:  # a young stream: items of which nothing is known fill the list up
        missing = min(wanted, len(items)) - found
        for k in range(found):
            marks[items[k]] = 1
        if missing > 0:
            found = _add_best(arrays.tiebreak, missing, arrays, workspace, items, found)
    for k in range(len(user.excluded)):
        marks[user.excluded[k]] = 0
    for k in range(found):
        marks[items[k]] = 0
    return found


@compiled
def _add_best(
    scores: AnyArray, most: int, arrays: CatalogueArrays, workspace: Workspace, items: AnyArray, found: int
) -> int:
    """Add the ``most`` best items that may be shown. Blocks whose scores are all too small are skipped."""
    marks, rows = workspace.marks, workspace.rows
    largest = np.empty((len(scores) + _BLOCK - 1) // _BLOCK, scores.dtype)
    _find_largest(scores, largest)
    nothing = scores.dtype.type(0)
    least = nothing
    if len(largest) > most + _SPARE:  # a bound that the largest of so many blocks reach leaves enough
        least = top_k_threshold(largest, most + _SPARE, most + 2 * _SPARE)
    count = _find(scores, largest, least, arrays.available, marks, rows)
    if count < most and least > nothing:  # too many of these may not be shown
        count = _find(scores, largest, nothing, arrays.available, marks, rows)
    if count > most:
        count = _keep_best(scores, most, arrays.tiebreak, rows[:count])
    for k in range(count):
        if marks[rows[k]] == 0:
            marks[rows[k]] = 2
            items[found] = rows[k]
            found += 1
    return found


@compiled
def _keep_best(scores: AnyArray, most: int, tiebreak: AnyArray, rows: AnyArray) -> int:
    """Bring the ``most`` best rows to the front, by scores, then by tiebreaks; gives ``most``."""
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
        order = np.argsort(tiebreak[ties[:tied]])[::-1]
        for k in range(most - kept):
            rows[kept + k] = ties[order[k]]
    return most


@compiled
def _add_top(top: AnyArray, each: int, marks: AnyArray, items: AnyArray, found: int) -> int:
    """Add the first items of a row of top items that may be shown; -1 if it does not hold enough of them."""
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
    """Write the largest score of each block of `_BLOCK`, in lanes that the compiler takes together."""
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
    """Write the items that may be shown and score ``least`` or more, and above 0, into ``rows``."""
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
def best_places(
    scores: AnyArray, ends: AnyArray, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Places of the greatest scores of each list, greatest first, ``(lists, most)``; -1: no more.

    List k's scores are those from ``ends[k]`` up to ``ends[k + 1]``. The second array says which lists hold a
    score twice, among those places or just behind them.

    >>> best_places(np.array([1.0, 3.0, 2.0, 5.0, 5.0], "f4"), np.array([0, 3, 5]), 2)
    (array([[1, 2],
           [3, 4]]), array([False,  True]))
    """
    best = np.full((len(ends) - 1, most), -1, np.int64)
    tied = np.zeros(len(best), np.bool_)
    places = np.empty(most + 1, np.int64)
    for k in range(len(best)):
        count = 0
        for place in range(ends[k], ends[k + 1]):
            if count > most and scores[place] <= scores[places[most]]:
                continue
            at = min(count, most)
            while at > 0 and scores[places[at - 1]] < scores[place]:
                places[at] = places[at - 1]
                at -= 1
            places[at] = place
            count = min(count + 1, most + 1)
        for at in range(min(count, most)):
            best[k, at] = places[at]
        for at in range(1, count):
            tied[k] = tied[k] or scores[places[at]] == scores[places[at - 1]]
    return best, tied
