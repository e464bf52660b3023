"""Decayed sums of vectors, which do not depend on the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recstream.records.arrays import Sum, Vector

__all__ = ["DecayedSum", "decay"]


def decay(age_s: float, half_life_s: float) -> float:
    """Share of a weight that is left after ``age_s`` seconds. A negative age counts as 0.

    >>> decay(0.0, 60.0), decay(60.0, 60.0), decay(120.0, 60.0), decay(-5.0, 60.0)
    (1.0, 0.5, 0.25, 1.0)
    """
    return float(2.0 ** -(age_s / half_life_s)) if age_s > 0.0 else 1.0


@dataclass(slots=True, eq=False)
class DecayedSum:
    """Weighted sum of vectors in which each weight halves every half-life of *event* time.

    Forward decay (Cormode et al., ICDE 2009) with the newest event as landmark: a late event decays itself
    instead of the sum, so arrival order does not matter (float64; relative error about 1e-15 an event).

    >>> hour = 3600.0
    >>> early, late = np.array([1, 0], "f4"), np.array([0, 1], "f4")
    >>> a, b = DecayedSum.empty(2), DecayedSum.empty(2)
    >>> a.add(early, 1.0, 0.0, hour); a.add(late, 1.0, hour, hour)
    >>> b.add(late, 1.0, hour, hour); b.add(early, 1.0, 0.0, hour)
    >>> a.total.tolist(), a.weight, a.total.tolist() == b.total.tolist()
    ([0.5, 1.0], 1.5, True)
    """

    total: Sum
    """Sum of ``weight * vector`` as of ``as_of``."""
    weight: float
    """Sum of the weights as of ``as_of``: ``total - weight * mean`` is the sum of the centred vectors."""
    as_of: float
    """Time of the newest event in the sum, Unix seconds; ``-inf`` without one."""

    @classmethod
    def empty(cls, dim: int) -> DecayedSum:
        """Make a sum of no vectors, for vectors of shape ``(dim,)``."""
        return cls(np.zeros(dim), 0.0, float("-inf"))

    def add(self, vector: Vector, weight: float, ts: float, half_life_s: float) -> None:
        """Add one vector, in place.

        Raises:
            ValueError: ``vector`` is not shaped like ``total``.
        """
        if vector.shape != self.total.shape:
            msg = f"vector has shape {vector.shape}, this sum {self.total.shape}"
            raise ValueError(msg)
        if ts > self.as_of:
            left = decay(ts - self.as_of, half_life_s)
            self.total *= left
            self.weight = self.weight * left + weight
            self.as_of = ts
        else:
            weight *= decay(self.as_of - ts, half_life_s)
            self.weight += weight
        if weight == 1.0:  # the usual one; the product would be the vector itself
            self.total += vector
        else:
            product = vector.astype(np.float64)
            product *= weight
            self.total += product
