"""An experiment: one run with baselines, compared with ablations of it and with the points of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from recstream.config import Settings
from recstream.evaluation.ablations import ablated_settings
from recstream.evaluation.log import Stage
from recstream.evaluation.metrics import Interval, bootstrap, gains
from recstream.evaluation.replay_loop import OWN
from recstream.evaluation.runs import EvaluationRun, RunResult, evaluate_all

__all__ = [
    "AS_EMITTED",
    "Experiment",
    "PairedDifference",
    "best_baseline",
    "paired_difference",
    "run_experiment",
]

AS_EMITTED = f"{OWN} as emitted"
"""Row of recstream's lists as left from the user's last event, beside those made at request time."""


class PairedDifference(NamedTuple):
    """Difference of two methods' means on the same tests, with its 95 % interval."""

    hr: float
    hr_95: Interval
    ndcg: float
    ndcg_95: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the NDCG excludes 0."""
        return self.ndcg_95.low > 0.0 or self.ndcg_95.high < 0.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """Results of all runs of an experiment."""

    base: RunResult
    """The run with the baselines."""
    emitted: RunResult | None
    """The same with lists as left from the user's last event."""
    without: dict[str, RunResult]
    """Ablations, by the signal or group of signals left out."""
    grid: list[tuple[str, RunResult]]
    """Runs at the points of the grid, by what was set, the best NDCG first."""

    @property
    def k(self) -> int:
        """Length of list by which methods are compared: the first of the run's."""
        return self.base.run.ks[0]

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """Figures by method."""
        rows = dict(self.base.methods)
        if self.emitted is not None:
            own = rows.pop(OWN)
            rows = {OWN: own, AS_EMITTED: self.emitted.methods[OWN], **rows}
        return rows

    @property
    def ablation(self) -> dict[str, PairedDifference]:
        """How the figures change without each signal or group."""
        changes = {}
        for name, result in self.without.items():
            change = paired_difference((result, OWN), (self.base, OWN), self.k, seed=self.base.run.seed)
            if change is not None:
                changes[name] = change
        return changes

    @property
    def lead(self) -> tuple[str, PairedDifference] | None:
        """The best baseline and recstream's lead over it; None without baselines or tests."""
        rival = best_baseline(self.base, self.k)
        if rival is None:
            return None
        lead = paired_difference((self.base, OWN), (self.base, rival), self.k, seed=self.base.run.seed)
        return None if lead is None else (rival, lead)


def run_experiment(
    run: EvaluationRun,
    processes: int,
    stage: Stage,
    *,
    emitted: bool = False,
    ablate: Sequence[str] = (),
    grid: Mapping[str, Settings] | None = None,
) -> Experiment:
    """Evaluate the run and what it is compared with, at most ``processes`` runs at a time.

    ``ablate`` names signals or groups of them, as for `ablated_settings`.

    Raises:
        ConfigError: A name in ``ablate`` is unknown.
        JobError, FileFault, RejectLimitError, EncoderError, UnencodableError: As for `evaluate_all`.
    """
    alone = replace(run, against=())
    runs = {("base", ""): run}
    if emitted:
        runs["emitted", ""] = replace(alone, protocol=replace(run.protocol, when="emitted"))
    for name, settings in ablated_settings(run.settings, ablate).items():
        runs["without", name] = replace(alone, settings=settings)
    for name, settings in (grid or {}).items():
        runs["grid", name] = replace(alone, settings=settings)
    results = evaluate_all(runs, processes, stage)
    points = [(name, result) for (kind, name), result in results.items() if kind == "grid"]
    key = f"ndcg@{run.ks[0]}"
    return Experiment(
        base=results["base", ""],
        emitted=results.get(("emitted", "")),
        without={name: result for (kind, name), result in results.items() if kind == "without"},
        grid=sorted(points, key=lambda point: -(point[1].methods[OWN][key] or 0.0)),
    )


def paired_difference(
    one: tuple[RunResult, str], other: tuple[RunResult, str], k: int, *, seed: int = 0
) -> PairedDifference | None:
    """Figures of the first (a result and a method of it) minus those of the other; None without tests.

    Raises:
        ValueError: The two results are not of the same tests.
    """
    (result, method), (other_result, other_method) = one, other
    targets = result.replay.targets
    if targets.user.tolist() != other_result.replay.targets.user.tolist():
        raise ValueError("these are not of the same tests: wanted two runs of one log and one protocol")
    if not len(targets.user):
        return None
    gained = gains(result.replay.methods[method].ranks, k)
    other_gained = gains(other_result.replay.methods[other_method].ranks, k)
    hr, ndcg = gained[0] - other_gained[0], gained[1] - other_gained[1]
    return PairedDifference(
        float(hr.mean()),
        bootstrap(hr, targets.user, seed=seed),
        float(ndcg.mean()),
        bootstrap(ndcg, targets.user, seed=seed),
    )


def best_baseline(result: RunResult, k: int) -> str | None:
    """The baseline with the highest NDCG at ``k``; None without any."""
    names = [name for name in result.methods if name != OWN and name in result.run.against]
    return max(names, key=lambda name: result.methods[name][f"ndcg@{k}"] or 0.0, default=None)
