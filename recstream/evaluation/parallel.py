"""Many evaluations at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Hashable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TypeVar

from recstream.evaluation.job import Done, Job, run_job
from recstream.evaluation.log import Stage, read_log
from recstream.evaluation.recommender import evaluation_rules
from recstream.runtime.supervisor import JobError
from recstream.runtime.wiring import Wiring

__all__ = ["run_jobs"]

K = TypeVar("K", bound=Hashable)


def run_jobs(jobs: Mapping[K, Job], processes: int, stage: Stage) -> dict[K, Done]:
    """Run jobs by name, so many at a time; gives what came of them in the order of ``jobs``.

    What each finds does not depend on how many run at a time. Texts are encoded once, before.

    Raises:
        JobError: a process died; it was perhaps out of memory.
        FileFault, RejectLimitError, EncoderError, UnencodableError: as of one job.
    """
    if len(jobs) == 1:
        return {name: run_job(job, stage) for name, job in jobs.items()}
    _warm(next(iter(jobs.values())), stage)
    done: dict[K, Done] = {}
    stage("evaluate", lambda: len(done) / len(jobs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, initializer=_begin) as pool:
        try:
            waiting: dict[Future[Done], K] = {pool.submit(_run, job): name for name, job in jobs.items()}
            for future in as_completed(waiting):
                done[waiting[future]] = future.result()
        except BrokenProcessPool as error:
            msg = (
                f"an evaluating process died, {len(done)} of {len(jobs)} were done: perhaps memory ran out; "
                f"give fewer at a time (--jobs, now {processes})"
            )
            raise JobError(msg) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    return {name: done[name] for name in jobs}


def _warm(job: Job, stage: Stage) -> None:
    """Encode every text of the log into the cache, which all processes read."""
    wiring = Wiring(job.settings)
    try:
        read_log(wiring, evaluation_rules(wiring), job.events, job.items, job.limit, stage)
    finally:
        wiring.close()


def _begin() -> None:
    """A process of the pool ends at Ctrl-C without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(job: Job) -> Done:
    done = run_job(job, lambda *_: None)
    return replace(done, found=replace(done.found, vectors=done.found.vectors[:0]))
