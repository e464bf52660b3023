"""Killed or stopped, the job goes on where it was: the same rows, every last list, nothing twice."""

from __future__ import annotations

import os
import signal

import orjson
import pytest

from recstream.metrics.accounting import accounting
from tests.support.deployments import ITEMS, Deployment
from tests.support.live_jobs import alive, live_job, wait_until
from tests.support.logs import events, versions_after
from tests.support.stored_users import stored_users
from tests.support.topics import produce, producing

pytestmark = pytest.mark.kafka


@pytest.mark.slow
def test_a_killed_dataflow_is_started_again_and_loses_nothing(deployment: Deployment) -> None:
    log = events(400, items=ITEMS)
    with live_job(deployment.log, deployment.settings()) as job:
        deployment.up(log[:20], job)
        thread = producing(deployment.bootstrap, deployment.topics["events"], log[20:], pace_s=0.15)
        for share in (0.2, 0.6):
            wait_until(lambda share=share: sum(deployment.lists.versions().values()) > share * 400, job.text)  # type: ignore[misc]
            (child,) = job.children()
            os.kill(child, signal.SIGKILL)
            wait_until(lambda child=child: job.children() not in ([], [child]), job.text)  # type: ignore[misc]
        thread.join()
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
        assert "a process died" in job.text()
    deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_a_killed_supervisor_leaves_no_orphan_and_a_new_one_goes_on(deployment: Deployment) -> None:
    log = events(300, items=ITEMS, seed=1)
    with live_job(deployment.log, deployment.settings()) as job:
        deployment.up(log[:20], job)
        thread = producing(deployment.bootstrap, deployment.topics["events"], log[20:], pace_s=0.3)
        wait_until(lambda: sum(deployment.lists.versions().values()) > 100, job.text)
        (child,) = job.children()
        job.kill()
        wait_until(lambda: not alive(child), "the end of the orphan", seconds=5)
    with live_job(deployment.log, deployment.settings()) as job:
        thread.join()
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    account = accounting(deployment.summary())
    assert account.balanced
    assert account.applied + account.absorbed == account.read < len(log)
    deployment.assert_as_without_trouble(log)


def test_after_a_clean_stop_nothing_is_replayed(deployment: Deployment) -> None:
    log = events(200, items=ITEMS, seed=2)
    produce(deployment.bootstrap, deployment.topics["events"], log[:150])
    with live_job(deployment.log, deployment.settings()) as job:
        wait_until(deployment.delivered(log[:150]), job.text)
        assert job.stop() == 0, job.text()
        assert accounting(deployment.summary()) == (150, 150, 0, 0, 0, 0, True)
    before = len(deployment.lists.poll())
    with live_job(deployment.log, deployment.settings()) as job:
        produce(deployment.bootstrap, deployment.topics["events"], log[150:])
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    assert accounting(deployment.summary()) == (50, 50, 0, 0, 0, 0, True)
    again = [orjson.loads(message.value()) for message in deployment.lists.messages[before:]]
    assert {one["user_id"] for one in again} == {one["user_id"] for one in log[150:]}
    deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one_and_one_goes_on_from_two(deployment: Deployment) -> None:
    log = events(400, items=ITEMS, seed=3)
    produce(deployment.bootstrap, deployment.topics["events"], log[:100])
    with live_job(deployment.log, deployment.settings(), "--processes", "2") as job:
        produce(deployment.bootstrap, deployment.topics["events"], log[100:250], pace_s=0.1)
        wait_until(deployment.delivered(log[:250]), job.text)
        assert len(job.children()) == 2
        assert job.stop() == 0, job.text()
    assert accounting(deployment.summary(2)) == (250, 250, 0, 0, 0, 0, True)
    rows = stored_users(deployment.state)
    assert {user: row.version for user, row in rows.items()} == versions_after(log[:250])
    with live_job(deployment.log, deployment.settings()) as job:
        produce(deployment.bootstrap, deployment.topics["events"], log[250:])
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
    assert accounting(deployment.summary()) == (150, 150, 0, 0, 0, 0, True)
    deployment.assert_as_without_trouble(log)


@pytest.mark.slow
@pytest.mark.parametrize("known_to_run", [True, False])
def test_one_dead_process_of_two_restarts_both_and_loses_nothing(
    deployment: Deployment, *, known_to_run: bool
) -> None:
    log = events(300, items=ITEMS, seed=4)
    sent = 20 if known_to_run else 0  # else events come before their items, and wait for them over the kill
    with live_job(deployment.log, deployment.settings(), "--processes", "2") as job:
        if known_to_run:
            deployment.up(log[:sent], job)
        thread = producing(deployment.bootstrap, deployment.topics["events"], log[sent:], pace_s=0.15)
        wait_until(lambda: sum(deployment.lists.versions().values()) > 60, job.text)
        first = job.children()
        os.kill(first[1], signal.SIGKILL)
        wait_until(lambda: len(job.children()) == 2 and not {*job.children()} & {*first}, job.text)
        thread.join()
        wait_until(deployment.delivered(log), job.text)
        assert job.stop() == 0, job.text()
        assert not any(alive(pid) for pid in first)
    deployment.assert_as_without_trouble(log)
