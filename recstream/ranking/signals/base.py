"""What a signal is: its row in the table, and what computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from recstream.records.arrays import Handles

if TYPE_CHECKING:  # a query is made by the table of signals, and the others take long to import
    from recstream.items.catalogue import Catalogue
    from recstream.items.statistics import ItemStatistics
    from recstream.ranking.query import Query
    from recstream.users.state import UserState

__all__ = ["CandidateBlock", "Capture", "Column", "Compute", "Signal"]


class CandidateBlock(NamedTuple):
    """All candidates of some lists, and what their features are computed from."""

    queries: Sequence[Query]
    """One a list."""
    items: Handles
    """Catalogue handles of the candidates, those of one list after those of the list before."""
    ends: npt.NDArray[np.int64]
    """Shape ``(lists + 1,)``: list k's candidates are from ``ends[k]`` up to ``ends[k + 1]``."""
    catalogue: Catalogue
    statistics: ItemStatistics


Column: TypeAlias = npt.NDArray[np.float32]
"""Values of one signal, shape ``(candidates,)``, zeros before they are computed."""
Compute: TypeAlias = Callable[[CandidateBlock, Column], None]
"""Writes the signal's value of each candidate, a share from 0 to 1, into the column."""
Capture: TypeAlias = "Callable[[UserState], object]"
"""Copies what the signal needs of a user: picklable, and not changed by later events."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A number from 0 to 1 that says something for or against an item of a user's list.

    Those without ``compute`` are filled in by the compiled kernel (`recstream.ranking.kernels`), by name.

    Raises:
        ValueError: it nominates and has a ``compute`` of its own, which is called with the candidates.
    """

    name: str
    """In settings, lists, stored weights and metrics: a change forgets what was learned of it."""
    meaning: str
    """What it measures, for those who read explanations."""
    default_weight: float
    """What a model weighs it before anything was learned. Signals of weight 0 are not computed."""
    max_weight: float = math.inf
    """Greatest weight that may be learned: 0 or less for what speaks against an item."""
    groups: tuple[str, ...] = ()
    """Names under which ``recstream eval --ablate`` leaves it out together with others."""
    nominates: bool = False
    """Whether the items for which it is greatest become candidates."""
    capture: Capture | None = None
    """What it needs of a user, found again as ``query.captured[name]``; None: what every query holds."""
    compute: Compute | None = None
    """Called once for each block of lists."""

    def __post_init__(self) -> None:
        if self.nominates and self.compute is not None:
            msg = (
                f"signal {self.name!r} nominates candidates and has a compute of its own, which is called "
                "once the candidates are known: leave nominates at False"
            )
            raise ValueError(msg)
