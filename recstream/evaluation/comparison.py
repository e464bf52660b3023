"""Comparison of two methods on the same tests."""

from __future__ import annotations

from typing import NamedTuple

from recstream.evaluation.job import Done
from recstream.evaluation.metrics import Interval, bootstrap, gains
from recstream.evaluation.passes import OWN

__all__ = ["Difference", "best_baseline", "difference"]


class Difference(NamedTuple):
    """How much more one method has than another, with the 95 % interval of the difference."""

    hr: float
    hr_95: Interval
    ndcg: float
    ndcg_95: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the NDCG leaves no doubt about the sign."""
        return self.ndcg_95.low > 0.0 or self.ndcg_95.high < 0.0


def difference(one: tuple[Done, str], other: tuple[Done, str], k: int, *, seed: int = 0) -> Difference | None:
    """What the first (what came of a job, and a method of it) has more than the other; None without tests.

    The tests are paired: of the same log and protocol.

    Raises:
        ValueError: they are not of the same tests.
    """
    (mine, name), (theirs, rival) = one, other
    tests = mine.found.targets
    if tests.user.tolist() != theirs.found.targets.user.tolist():
        raise ValueError("these are not of the same tests: wanted two jobs of one log and one protocol")
    if not len(tests.user):
        return None
    ours, others = (gains(done.found.methods[m].ranks, k) for done, m in ((mine, name), (theirs, rival)))
    hr, ndcg = ours[0] - others[0], ours[1] - others[1]
    return Difference(
        float(hr.mean()),
        bootstrap(hr, tests.user, seed=seed),
        float(ndcg.mean()),
        bootstrap(ndcg, tests.user, seed=seed),
    )


def best_baseline(done: Done, k: int) -> str | None:
    """The baseline with the highest NDCG at ``k``; None without any."""
    names = [name for name in done.methods if name != OWN and name in done.job.against]
    return max(names, key=lambda name: done.methods[name][f"ndcg@{k}"] or 0.0, default=None)
