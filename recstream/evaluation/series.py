"""Series: quality over time, by the age of users, and what the signals weighed: what the report plots."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.evaluation.job import Done
from recstream.evaluation.metrics import gains

__all__ = ["Series", "by_age", "effects_over_time", "over_time"]

_AGES: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200)
"""Where the bins of users' prior events begin; before the first are those who come for the first time."""


class Series(NamedTuple):
    """One line of a plot."""

    name: str
    x: list[float]
    y: list[float]


def over_time(done: Done, k: int, bins: int = 20) -> list[Series]:
    """Mean NDCG of each method in so many parts of equal length of the tests, by their middle's time."""
    targets = done.found.targets
    parts = [part for part in np.array_split(np.arange(len(targets.ts)), bins) if len(part)]
    x = [float(np.median(targets.ts[part])) for part in parts]
    return [
        Series(name, x, [float(values[part].mean()) for part in parts]) for name, values in _ndcg(done, k)
    ]


def by_age(done: Done, k: int) -> tuple[list[str], list[Series]]:
    """Labels of bins of users by their events before, and the mean NDCG of each method in each.

    ``x`` numbers the bins; those without tests are left out.
    """
    prior = done.found.targets.prior
    which = np.searchsorted(_AGES, prior, side="right")
    used = np.unique(which).tolist()
    labels = [_label(bin_) for bin_ in used]
    x = [float(n) for n in range(len(used))]
    return labels, [
        Series(name, x, [float(values[which == bin_].mean()) for bin_ in used])
        for name, values in _ndcg(done, k)
    ]


def effects_over_time(done: Done, most: int) -> list[Series]:
    """What signals were worth, by place in the log: those worth most in the end, for or against.

    Nothing where nothing was learned.
    """
    learned = done.found.learned
    if not learned.examples:
        return []
    last = learned.effects[-1][1]
    places = [float(place) for place, _ in learned.effects]
    strongest = sorted(last, key=lambda name: -abs(last[name]))[:most]
    return [Series(name, places, [effects[name] for _, effects in learned.effects]) for name in strongest]


def _ndcg(done: Done, k: int) -> list[tuple[str, npt.NDArray[np.float64]]]:
    return [(name, gains(scored.ranks, k)[1]) for name, scored in done.found.methods.items()]


def _label(bin_: int) -> str:
    if bin_ == 0:
        return "0"
    first = _AGES[bin_ - 1]
    if bin_ == len(_AGES):
        return f"{first}+"
    last = _AGES[bin_] - 1
    return f"{first}" if last == first else f"{first}-{last}"
