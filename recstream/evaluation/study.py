"""A study: one job with baselines, and beside it the same without each signal, or at the points of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recstream.config import Settings
from recstream.evaluation.comparison import Difference, best_baseline, difference
from recstream.evaluation.job import Done, Job
from recstream.evaluation.log import Stage
from recstream.evaluation.parallel import run_jobs
from recstream.evaluation.passes import OWN
from recstream.evaluation.variants import left_out

__all__ = ["AS_EMITTED", "Study", "run_study"]

AS_EMITTED = f"{OWN} as emitted"
"""Row of our own lists as they were left from the user's last event, beside those at request time."""


@dataclass(frozen=True, slots=True)
class Study:
    """What came of it."""

    base: Done
    emitted: Done | None
    without: dict[str, Done]
    """By the signal, or the group of signals, left out."""
    grid: list[tuple[str, Done]]
    """By what was set, the best NDCG first."""

    @property
    def k(self) -> int:
        """The length of list by which methods are compared: the first that was asked for."""
        return self.base.job.ks[0]

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """Figures by method."""
        rows = dict(self.base.methods)
        if self.emitted is not None:
            own = rows.pop(OWN)
            rows = {OWN: own, AS_EMITTED: self.emitted.methods[OWN], **rows}
        return rows

    @property
    def ablation(self) -> dict[str, Difference]:
        """How the figures change without each signal."""
        found = {}
        for name, done in self.without.items():
            change = difference((done, OWN), (self.base, OWN), self.k, seed=self.base.job.seed)
            if change is not None:
                found[name] = change
        return found

    @property
    def lead(self) -> tuple[str, Difference] | None:
        """The best baseline and how far our own lists are ahead of it; None where there is nothing to say."""
        rival = best_baseline(self.base, self.k)
        if rival is None:
            return None
        ahead = difference((self.base, OWN), (self.base, rival), self.k, seed=self.base.job.seed)
        return None if ahead is None else (rival, ahead)


def run_study(
    job: Job,
    processes: int,
    stage: Stage,
    *,
    emitted: bool = False,
    ablate: Sequence[str] = (),
    grid: Mapping[str, Settings] | None = None,
) -> Study:
    """Run all of it, so many processes at a time; ``ablate`` are names for `left_out`.

    Raises:
        ConfigError: a name of ``ablate`` is unknown.
        JobError, FileFault, RejectLimitError, EncoderError, UnencodableError: as `run_jobs`.
    """
    alone = replace(job, against=())
    jobs = {("base", ""): job}
    if emitted:
        jobs["emitted", ""] = replace(alone, protocol=replace(job.protocol, when="emitted"))
    for name, settings in left_out(job.settings, ablate).items():
        jobs["without", name] = replace(alone, settings=settings)
    for name, settings in (grid or {}).items():
        jobs["grid", name] = replace(alone, settings=settings)
    done = run_jobs(jobs, processes, stage)
    points = [(name, one) for (kind, name), one in done.items() if kind == "grid"]
    key = f"ndcg@{job.ks[0]}"
    return Study(
        base=done["base", ""],
        emitted=done.get(("emitted", "")),
        without={name: one for (kind, name), one in done.items() if kind == "without"},
        grid=sorted(points, key=lambda point: -(point[1].methods[OWN][key] or 0.0)),
    )
