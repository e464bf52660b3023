"""Evaluation runs: a replay of a log under given settings as a value, one alone or many in processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Hashable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from recstream.config import Settings
from recstream.evaluation.log import Log, Stage, read_log
from recstream.evaluation.protocol import Plan, Protocol, plan_of
from recstream.evaluation.replay_loop import ReplayResult, run_replay_loop
from recstream.evaluation.worker_driver import WorkerDriver, evaluation_rules
from recstream.runtime.faults import JobError
from recstream.runtime.wiring import Wiring

__all__ = ["EvaluationRun", "RunResult", "evaluate", "evaluate_all"]

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One replay of a log: what to read, under which settings, and what to score."""

    settings: Settings
    events: str
    """File of events."""
    items: str | None
    """File of items; None: events carry their items."""
    protocol: Protocol = field(default_factory=Protocol)
    against: tuple[str, ...] = ()
    """Names of the baselines."""
    ks: tuple[int, ...] = (10, 20)
    """Lengths at which lists are scored."""
    limit: int = 0
    """How many events are read; 0: all."""
    sort: bool = False
    """Whether the file is read in order of time."""
    own: bool = True
    """Whether recstream's own lists are made, beside those of the baselines."""
    seed: int = 0
    """Seed of the confidence intervals."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run found; it can be sent between processes."""

    run: EvaluationRun
    log_name: str
    replay: ReplayResult
    methods: dict[str, dict[str, Any]]
    """Figures by method."""
    events: int
    users: int
    rejected: dict[str, int]
    """Counts of rejected records, by reason."""
    late: int
    """Events that are older than one before them by more than ``profile.lateness_s``."""


def evaluate(run: EvaluationRun, stage: Stage) -> RunResult:
    """Read the log, replay it, and compute the figures of every method.

    Raises:
        FileFault, RejectLimitError, EncoderError, UnencodableError: The files or the encoder cannot be used.
    """
    wiring = Wiring(run.settings)
    try:
        rules = evaluation_rules(wiring)
        log = read_log(wiring, rules, run.events, run.items, run.limit, stage, sort=run.sort)
        known = frozenset(row.item_id for row in log.rows if not row.deleted)
        plan = plan_of(log.events, rules.user_state.decode.actions, known, run.protocol)
        driver = WorkerDriver(wiring, rules, log) if run.own else None
        return _replayed(run, log, plan, driver, stage)
    finally:
        wiring.close()


def evaluate_all(runs: Mapping[K, EvaluationRun], processes: int, stage: Stage) -> dict[K, RunResult]:
    """Evaluate runs by name, each in a process of its own and at most ``processes`` at a time.

    Results are in the order of ``runs`` and do not depend on ``processes``. Texts are encoded once, before.

    Raises:
        JobError: A process died, perhaps because memory ran out.
        FileFault, RejectLimitError, EncoderError, UnencodableError: As for `evaluate`.
    """
    if len(runs) == 1:
        return {name: evaluate(run, stage) for name, run in runs.items()}
    _fill_cache(next(iter(runs.values())), stage)
    results: dict[K, RunResult] = {}
    stage("evaluate", lambda: len(results) / len(runs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(runs)), context, initializer=_end_at_ctrl_c) as pool:
        try:
            pending: dict[Future[RunResult], K] = {
                pool.submit(_evaluate_in_child, run): name for name, run in runs.items()
            }
            for future in as_completed(pending):
                results[pending[future]] = future.result()
        except BrokenProcessPool as error:
            msg = (
                f"an evaluating process died after {len(results)} of {len(runs)} runs were done: perhaps "
                f"memory ran out; let fewer run at a time (--jobs, now {processes})"
            )
            raise JobError(msg) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    return {name: results[name] for name in runs}


def _replayed(
    run: EvaluationRun, log: Log, plan: Plan, driver: WorkerDriver | None, stage: Stage
) -> RunResult:
    share = [0.0]

    def on_progress(done: float) -> None:
        share[0] = done

    stage("evaluate", lambda: share[0])
    most = max(*run.ks, run.settings.ranking.top_n)
    # One list is too little work for several cores, and results must not depend on how many there are.
    with threadpool_limits(limits=1, user_api="blas"):
        replay = run_replay_loop(
            log, plan, run.protocol, driver, run.against, most=most, on_progress=on_progress
        )
    stage("figures", None)
    methods = {name: replay.figures(name, run.ks, seed=run.seed) for name in replay.methods}
    users = len({event.user_id for event in log.events})
    return RunResult(run, log.name, replay, methods, len(log.events), users, dict(log.rejected), log.late)


def _fill_cache(run: EvaluationRun, stage: Stage) -> None:
    """Encode every text of the log into the cache that all processes read."""
    wiring = Wiring(run.settings)
    try:
        read_log(wiring, evaluation_rules(wiring), run.events, run.items, run.limit, stage)
    finally:
        wiring.close()


def _end_at_ctrl_c() -> None:
    """Let Ctrl-C end a process of the pool without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _evaluate_in_child(run: EvaluationRun) -> RunResult:
    """Evaluate a run; the vectors, needed for the figures alone, are not sent to the parent."""
    result = evaluate(run, lambda *_: None)
    return replace(result, replay=replace(result.replay, vectors=result.replay.vectors[:0]))
