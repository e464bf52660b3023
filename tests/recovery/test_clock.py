"""The clock is set, by hours, between runs and while running: nothing is lost, early, or stuck."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from recstream.dataflow.services import Services
from tests.recovery.settable_clock import SettableClock
from tests.support.builders import HOUR, Clock, WorkerHarness, arrived, event
from tests.support.deployments import ITEMS, Deployment
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import events
from tests.support.topics import produce

OFTEN = pytest.mark.parametrize("hours", [-3.0, 3.0], ids=["back", "ahead"])
NS = 10**9


class Set(WorkerHarness):
    """A worker whose wall clock is set apart from time itself."""

    @override
    def again(self) -> None:
        self.steady = Clock(self.clock.now)  # as `steady_clock` begins
        super().again()

    @override
    def services(self) -> Services:
        made = super().services()
        return Services(**{**made.__dict__, "steady": self.steady})

    def set(self, hours: float) -> None:
        """Somebody sets the clock."""
        self.clock.now += hours * HOUR

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds
        self.steady.now += seconds


@OFTEN
def test_an_event_waits_for_its_item_as_long_as_it_may_whatever_the_clock_says(hours: float) -> None:
    harness = Set(wait_for_item_s=60.0)
    harness.step(*arrived([event(1.0, "like", "late"), event(2.0, "like", "never")]))
    harness.set(hours)
    harness.later(30.0)
    harness.know("late")
    step = harness.step()
    assert [query.user_id for query in step.queries] == ["u1"]
    assert step.rejects == []
    harness.later(31.0)
    assert [reject.reason for reject in harness.step().rejects] == ["unknown_item"]


@OFTEN
def test_the_next_look_is_asked_for_on_the_clock_as_it_now_is(hours: float) -> None:
    harness = Set(wait_for_item_s=60.0, refresh_s=1.0)
    harness.step(event(1.0, "like", "late"))
    harness.set(hours)
    look = harness.worker.next_step()
    assert look is not None
    assert 0.0 <= look - harness.clock.now <= 1.0


def test_an_event_that_waited_when_the_clock_was_set_back_between_runs_waits_no_longer() -> None:
    harness = Set(wait_for_item_s=60.0)
    harness.step(event(1.0, "like", "never"))
    harness.flush()
    harness.set(-3.0)
    harness.again()
    for shard in range(harness.rules.shards):
        harness.worker.own_shard(shard, None)
    harness.step()
    harness.later(59.0)
    assert harness.step().rejects == []
    harness.later(2.0)
    assert [reject.reason for reject in harness.step().rejects] == ["unknown_item"]


@OFTEN
def test_a_session_closes_once_the_user_was_quiet_for_long_enough(hours: float) -> None:
    harness = Set(sessions=True, session_gap_s=1800.0, lateness_s=300.0)
    harness.know("a")
    harness.step(event(1.0, "view", "a"))
    harness.set(hours)
    harness.later(2000.0)
    assert harness.step().sessions == []
    harness.later(200.0)
    assert len(harness.step().sessions) == 1


@pytest.mark.parametrize("running", [False, True], ids=["between runs", "while running"])
@OFTEN
def test_rows_are_numbered_above_all_that_are_stored(hours: float, *, running: bool) -> None:
    """Other processes read what is numbered above what they have."""
    harness = Set()
    harness.know("a")
    harness.flush()
    (first,) = harness.items.changed_since(-1)
    harness.set(hours)
    if not running:
        harness.again()
    harness.know("b")
    harness.flush()
    assert [row.item_id for row in harness.items.changed_since(first.seq)] == ["b"]


@OFTEN
def test_what_another_process_writes_is_seen_at_the_next_refresh(hours: float) -> None:
    here = Set(refresh_s=1.0)
    there = Set(here.clock, refresh_s=1.0)
    there.items, there.users, there.statistics = here.items, here.users, here.statistics
    there.again()
    for turn, item_id in enumerate(("a", "b", "c")):
        there.know(item_id)
        there.flush()
        for one in (here, there):
            one.steady.now += 1.0
        here.clock.now += 1.0
        here.step()
        assert here.worker.replica.catalogue.known == turn + 1
        if turn == 0:
            here.set(hours)


def test_what_was_written_while_the_clock_was_ahead_hides_nothing() -> None:
    """One process wrote, the clock is set back, and another writes before it has looked."""
    here = Set(refresh_s=1.0)
    there = Set(here.clock, refresh_s=1.0)
    there.items, there.users, there.statistics = here.items, here.users, here.statistics
    there.again()
    here.know("a")
    here.flush()
    here.steady.now += 1.0
    here.step()  # has seen its own row
    here.set(-1.0)
    there.know("b")
    there.flush()
    here.steady.now += 1.0
    here.step()
    assert here.worker.replica.catalogue.known == 2


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [-7200, 7200], ids=["back", "ahead"])
def test_a_job_whose_clock_is_set_goes_on_at_once(
    deployment: Deployment, tmp_path: Path, seconds: int
) -> None:
    """Bytewax wakes an idle source by the wall clock: set back by hours, it would sleep for hours."""
    clock = SettableClock(tmp_path / "clock")
    log = events(150, items=ITEMS)
    chosen: dict[str, Any] = {**deployment.settings(), **clock.environ, "RECSTREAM_RUN__STOP_TIMEOUT_S": "3"}
    with live_job(deployment.log, chosen) as job:
        deployment.up(log[:50], job)
        clock.set(seconds)
        produce(deployment.bootstrap, deployment.topics["events"], log[50:100])
        wait_until(deployment.delivered(log[:100]), job.text)
        produce(deployment.bootstrap, deployment.topics["events"], log[100:])
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    assert ("the clock was set back by" in job.text()) == (seconds < 0)
    assert "a process died" not in job.text()
    deployment.assert_as_without_trouble(log)
