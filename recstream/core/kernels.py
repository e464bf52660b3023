"""Compiled loops (numba): bounded neighbour lists, and one pass over a list's scores.

Why compiled: an event touches some forty neighbour lists and a list's scores are read once an item; as
Python or as numpy temporaries these are the two costs that dominate (``tests/bench/bench_ranking.py``).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from recstream.core.arrays import AnyArray

__all__ = ["count_pairs", "pair_parts", "score_row", "select_top", "split_scores"]


@njit(cache=True, nogil=True)
def count_pairs(
    rows: AnyArray,
    others: AnyArray,
    followed: AnyArray,
    together: AnyArray,
    grown: AnyArray,
    neighbours: AnyArray,
    followed_by: AnyArray,
    together_with: AnyArray,
) -> None:
    """Add pair k (``others[k]`` seen with ``rows[k]``), times ``grown[k]``, to the bounded neighbour lists.

    ``neighbours`` is int32 of shape ``(n, cap)``, -1 where free; the two weight tables have its shape
    (float32). A full list drops its lightest neighbour (the first of equals).
    """
    cap = neighbours.shape[1]
    for k in range(len(rows)):
        row, other = rows[k], others[k]
        slot = -1
        lightest, least = 0, np.inf
        for j in range(cap):
            present = neighbours[row, j]
            if present == other or present < 0:
                slot = j
                break
            total = followed_by[row, j] + together_with[row, j]
            if total < least:
                lightest, least = j, total
        if slot < 0:
            slot = lightest
            neighbours[row, slot] = -1
        if neighbours[row, slot] < 0:
            neighbours[row, slot] = other
            followed_by[row, slot] = 0.0
            together_with[row, slot] = 0.0
        followed_by[row, slot] += grown[k] * followed[k]
        together_with[row, slot] += grown[k] * together[k]


@njit(cache=True, nogil=True)
def gather(
    recent: AnyArray,
    pair_weights: AnyArray,
    neighbours: AnyArray,
    table: AnyArray,
    root_counts: AnyArray,
    cosine: bool,
    scores: AnyArray,
    touched: AnyArray,
) -> int:
    """Sum the neighbours of ``recent`` into ``scores`` (zeros before); gives how many items were touched.

    With ``cosine`` a pair's weight is divided by the root of both items' counts (cosine between their
    user sets, Deshpande and Karypis, TOIS 2004); else by its row's sum (a transition probability).
    """
    found = 0
    for k in range(len(recent)):
        row = recent[k]
        if pair_weights[k] <= 0.0:
            continue
        norm = 1.0
        if cosine:
            norm = root_counts[row]
        else:
            norm = 0.0
            for j in range(neighbours.shape[1]):
                if neighbours[row, j] < 0:
                    break
                norm += table[row, j]
        if norm <= 0.0:
            continue
        for j in range(neighbours.shape[1]):
            other = neighbours[row, j]
            if other < 0:
                break
            weight = table[row, j]
            if weight <= 0.0:
                continue
            if cosine:
                weight = weight / root_counts[other]
            if scores[other] == 0.0:
                touched[found] = other
                found += 1
            scores[other] += pair_weights[k] * weight / norm
    return found


@njit(cache=True, nogil=True)
def score_row(
    scores: AnyArray,
    recent: AnyArray,
    followed_weights: AnyArray,
    together_weights: AnyArray,
    signal_weights: AnyArray,
    neighbours: AnyArray,
    followed_by: AnyArray,
    together_with: AnyArray,
    root_counts: AnyArray,
    excluded: AnyArray,
    scratch: AnyArray,
    touched: AnyArray,
    norms: AnyArray,
) -> None:
    """Add the two neighbour signals to one user's scores and rule out what must not be shown, in place.

    ``signal_weights`` is ``(followed, together)``; each signal is the square root of its raw sum over the
    list's largest, so in [0, 1]. ``norms`` receives the two largest raw sums (0 where there are none).
    ``scratch`` must be zeros, shape ``(n,)``, and is zeros again afterwards.
    """
    for signal in range(2):
        norms[signal] = 0.0
        if signal == 0:
            found = gather(
                recent, followed_weights, neighbours, followed_by, root_counts, False, scratch, touched
            )
        else:
            found = gather(
                recent, together_weights, neighbours, together_with, root_counts, True, scratch, touched
            )
        largest = 0.0
        for k in range(found):
            largest = max(largest, scratch[touched[k]])
        norms[signal] = largest
        for k in range(found):
            row = touched[k]
            if largest > 0.0:
                scores[row] += signal_weights[signal] * np.sqrt(scratch[row] / largest)
            scratch[row] = 0.0
    for k in range(len(excluded)):
        scores[excluded[k]] = -np.inf


@njit(cache=True, nogil=True)
def select_top(scores: AnyArray, n: int, rows: AnyArray, values: AnyArray) -> int:
    """Rows of the n largest finite scores into ``rows`` and ``values``, best first; gives how many.

    One pass with a bounded sorted buffer: equal scores keep the smaller row first. NaN and -inf are left out.
    """
    found = 0
    least = -np.inf
    for row in range(len(scores)):
        score = scores[row]
        if not score > least:
            continue
        at = found if found < n else n - 1
        while at > 0 and values[at - 1] < score:
            rows[at] = rows[at - 1]
            values[at] = values[at - 1]
            at -= 1
        rows[at] = row
        values[at] = score
        if found < n:
            found += 1
        if found == n:
            least = values[n - 1]
    return found


@njit(cache=True, nogil=True)
def pair_parts(
    rows: AnyArray,
    recent: AnyArray,
    followed_weights: AnyArray,
    together_weights: AnyArray,
    neighbours: AnyArray,
    followed_by: AnyArray,
    together_with: AnyArray,
    root_counts: AnyArray,
    parts: AnyArray,
) -> None:
    """What recent item r added to the raw sums of ``rows[k]``, into ``parts[signal, k, r]`` (zeros before).

    The same formula as in `score_row`, for the few items of a list.
    """
    for r in range(len(recent)):
        item = recent[r]
        total = 0.0
        for j in range(neighbours.shape[1]):
            if neighbours[item, j] < 0:
                break
            total += followed_by[item, j]
        for j in range(neighbours.shape[1]):
            other = neighbours[item, j]
            if other < 0:
                break
            for k in range(len(rows)):
                if rows[k] == other:
                    if total > 0.0:
                        parts[0, k, r] = followed_weights[r] * followed_by[item, j] / total
                    parts[1, k, r] = (
                        together_weights[r]
                        * together_with[item, j]
                        / (root_counts[item] * root_counts[other])
                    )
                    break


@njit(cache=True, nogil=True)
def split_scores(
    rows: AnyArray,
    recent: AnyArray,
    text: AnyArray,
    text_weights: AnyArray,
    norms: AnyArray,
    pair_weights: AnyArray,
    popularity: AnyArray,
    popularity_weights: AnyArray,
    pairs: AnyArray,
    parts: AnyArray,
    causes: AnyArray,
) -> None:
    """What each signal contributed to the scores of ``rows``, and the two recent items behind each most.

    With t taste directions, r recent items and p popularity scales: ``text`` is ``(rows, t + r)``, each row's
    product with the directions and with the recent items' texts, ``text_weights`` what these count for
    (``(t + r,)``); ``pairs`` is what `pair_parts` gives, ``(2, rows, r)``, ``norms`` what `score_row` gives.
    Filled are ``parts``, ``(rows, t + 2 + p)``, and ``causes``, ``(rows, 2)``: places in ``recent``, -1 where
    nothing contributed; the first of equals comes first.
    """
    count = len(recent)
    directions = text.shape[1] - count
    shares = np.zeros(2, np.float32)
    for k in range(len(rows)):
        for d in range(directions):
            parts[k, d] = text_weights[d] * text[k, d]
        for signal in range(2):
            total = np.float32(0.0)
            for r in range(count):
                total += pairs[signal, k, r]
            part = np.float32(0.0)
            if norms[signal] > 0.0:
                part = pair_weights[signal] * np.sqrt(total / norms[signal])
            parts[k, directions + signal] = part
            shares[signal] = part / total if total > 0.0 else 0.0
        for scale in range(len(popularity_weights)):
            parts[k, directions + 2 + scale] = popularity_weights[scale] * popularity[scale, rows[k]]
        causes[k, 0] = causes[k, 1] = -1
        best, second = np.float32(0.0), np.float32(0.0)
        for r in range(count):
            cause = text_weights[directions + r] * text[k, directions + r]
            cause += shares[0] * pairs[0, k, r] + shares[1] * pairs[1, k, r]
            if cause > best:
                second, causes[k, 1] = best, causes[k, 0]
                best, causes[k, 0] = cause, r
            elif cause > second:
                second, causes[k, 1] = cause, r
