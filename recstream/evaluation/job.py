"""Jobs: an evaluation as a value that any process can run, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from threadpoolctl import threadpool_limits

from recstream.config import Settings
from recstream.evaluation.log import Log, Stage, read_log
from recstream.evaluation.metrics import figures
from recstream.evaluation.passes import Pass, run_pass
from recstream.evaluation.protocol import Plan, Protocol, plan_of
from recstream.evaluation.recommender import Recommender, evaluation_rules
from recstream.runtime.wiring import Wiring

__all__ = ["Done", "Job", "run_job"]


@dataclass(frozen=True, slots=True)
class Job:
    """One pass over a log."""

    settings: Settings
    events: str
    items: str | None
    protocol: Protocol = field(default_factory=Protocol)
    against: tuple[str, ...] = ()
    ks: tuple[int, ...] = (10, 20)
    limit: int = 0
    """Read only the first so many events; 0: all."""
    own: bool = True
    """Whether recstream's own lists are made, beside the baselines'."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job; can be sent between processes."""

    job: Job
    name: str
    """Of the log."""
    found: Pass
    methods: dict[str, dict[str, Any]]
    """Figures by method."""
    events: int
    users: int
    rejected: dict[str, int]


def run_job(job: Job, stage: Stage) -> Done:
    """Read the log and work it off.

    Raises:
        FileFault, RejectLimitError, EncoderError, UnencodableError: the world is not as the job says.
    """
    wiring = Wiring(job.settings)
    try:
        rules = evaluation_rules(wiring)
        log = read_log(wiring, rules, job.events, job.items, job.limit, stage)
        known = frozenset(row.item_id for row in log.rows if not row.deleted)
        plan = plan_of(log.events, rules.user_state.decode.actions, known, job.protocol)
        recommender = Recommender(wiring, rules, log) if job.own else None
        return _done(job, log, plan, recommender, stage)
    finally:
        wiring.close()


def _done(job: Job, log: Log, plan: Plan, recommender: Recommender | None, stage: Stage) -> Done:
    share = [0.0]

    def on_progress(done: float) -> None:
        share[0] = done

    stage("evaluate", lambda: share[0])
    most = max(*job.ks, job.settings.ranking.top_n)
    # Scoring one list has too little to share between cores, and the result shall not depend on how many.
    with threadpool_limits(limits=1, user_api="blas"):
        found = run_pass(
            log, plan, job.protocol, recommender, job.against, most=most, on_progress=on_progress
        )
    stage("figures", None)
    methods = {name: figures(found, name, job.ks, seed=job.seed) for name in found.methods}
    users = len({event.user_id for event in log.events})
    return Done(job, log.name, found, methods, len(log.events), users, dict(log.rejected))
