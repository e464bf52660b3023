"""Scoring: where each target stood in the list of its trial, and what the lists were like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["MISSED", "Board", "Scored"]

MISSED: Final = 1 << 30
"""Rank of a target that was not in the list."""


@dataclass(slots=True)
class Scored:
    """One method's lists under the protocol, all arrays in the order of the log."""

    ranks: npt.NDArray[np.int64]
    """Shape ``(targets,)``, from 0; `MISSED` where the list did not hold it, or there was none."""
    lists: npt.NDArray[np.int32]
    """Shape ``(trials, most)``: items by number, -1 where the list is shorter."""
    surprise: npt.NDArray[np.float32]
    """Shape ``(trials, most)``: -log2 of each item's share of all positives until then."""
    behind: npt.NDArray[np.int64]
    """Shape ``(trials,)``: events of the log between the making of the list and its use; -1: no list."""
    age_s: npt.NDArray[np.float64]
    """Shape ``(trials,)``: the same in seconds of event time; NaN without a list."""


class Board:
    """Collects the lists of one method and ranks the targets in them."""

    def __init__(self, trials: int, most: int) -> None:
        self._most = most
        self._ranks: list[list[int]] = [[] for _ in range(trials)]
        self._lists = np.full((trials, most), -1, np.int32)
        self._surprise = np.full((trials, most), np.nan, np.float32)
        self._behind = np.full(trials, -1, np.int64)
        self._age_s = np.full(trials, np.nan)

    def miss(self, trial: int, targets: Sequence[int]) -> None:
        """A trial for which there was no list."""
        self._ranks[trial] = [MISSED] * len(targets)

    def note(
        self,
        trial: int,
        listed: Sequence[int],
        targets: Sequence[int],
        popularity: npt.NDArray[np.float64],
        *,
        behind: int,
        age_s: float,
    ) -> None:
        """Score one trial's list, which is without what its user must not be shown.

        ``popularity`` are the positives of each item until now, shape ``(items,)``.
        """
        places = {item: rank for rank, item in reversed(list(enumerate(listed)))}
        self._ranks[trial] = [places.get(target, MISSED) for target in targets]
        kept = np.array(listed[: self._most], np.int32)
        self._lists[trial, : len(kept)] = kept
        share = (popularity[kept] + 1.0) / (popularity.sum() + len(popularity))
        self._surprise[trial, : len(kept)] = -np.log2(share)
        self._behind[trial] = behind
        self._age_s[trial] = age_s

    def scored(self) -> Scored:
        """All of it."""
        ranks = np.array([rank for some in self._ranks for rank in some], np.int64)
        return Scored(ranks, self._lists, self._surprise, self._behind, self._age_s)
