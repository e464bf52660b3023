"""Apache Kafka goes and comes, hangs, is restarted broker by broker: the rows are as if nothing had been."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.apache_kafka import ApacheKafka, BrokerProcess
from tests.support.deployments import ITEMS, deployment_on
from tests.support.live_jobs import LiveJob, live_job, wait_until
from tests.support.logs import events
from tests.support.topics import produce


@pytest.fixture
def own() -> Iterator[ApacheKafka]:
    """One broker that may be stopped."""
    with ApacheKafka() as running:
        yield running


def restart(broker: BrokerProcess) -> None:
    broker.stop()
    broker.start()


def kill(broker: BrokerProcess) -> None:
    broker.kill()
    time.sleep(2.0)
    broker.start()


def hang(broker: BrokerProcess) -> None:
    broker.freeze()
    time.sleep(8.0)
    broker.thaw()


def disturbed(
    kafka: ApacheKafka, folder: Path, disturb: Callable[[], None], *, count: int = 1200, restarts: int = 0
) -> LiveJob:
    """Events come all the time while the brokers are disturbed; nothing of it shows in rows and lists."""
    log = events(count, items=ITEMS)
    with deployment_on(kafka, folder) as deployment:
        chosen = {**deployment.settings(), "RECSTREAM_RUN__RESTARTS": str(restarts)}
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:20], job)
            sending = threading.Thread(
                target=produce,
                args=(kafka.bootstrap, deployment.topics["events"], log[20 : count // 2]),
                kwargs={"outlast_s": 100.0},
            )
            sending.start()
            disturb()
            kafka.wait_until_it_answers()
            sending.join()
            produce(kafka.bootstrap, deployment.topics["events"], log[count // 2 :], outlast_s=100.0)
            wait_until(deployment.delivered(log), job.text, seconds=120.0)
            assert job.stop() == 0, job.text()
        assert "a process died" not in job.text()
        deployment.assert_as_without_trouble(log)
        return job


def test_a_broker_that_is_killed_and_comes_back_is_waited_for(own: ApacheKafka, tmp_path: Path) -> None:
    job = disturbed(own, tmp_path, lambda: kill(own.brokers[0]))
    assert "Traceback" not in job.text()


@pytest.mark.slow
@pytest.mark.parametrize("blow", [restart, hang])
def test_a_broker_that_is_restarted_or_hangs_is_waited_for(
    own: ApacheKafka, tmp_path: Path, blow: Callable[[BrokerProcess], None]
) -> None:
    disturbed(own, tmp_path, lambda: blow(own.brokers[0]))


@pytest.mark.slow
def test_brokers_may_be_restarted_one_after_the_other(kafka_cluster: ApacheKafka, tmp_path: Path) -> None:
    """As an upgrade of the brokers does it: leaders move, and move back."""

    def roll() -> None:
        for broker in kafka_cluster.brokers:
            restart(broker)
            kafka_cluster.wait_until_it_answers()

    disturbed(kafka_cluster, tmp_path, roll, count=4000)


@pytest.mark.slow
@pytest.mark.parametrize("blow", [kill, hang])
def test_two_of_three_brokers_may_go_for_a_while(
    kafka_cluster: ApacheKafka, tmp_path: Path, blow: Callable[[BrokerProcess], None]
) -> None:
    """Nothing can be written then: with one copy left there is no quorum."""

    def both() -> None:
        blows = [threading.Thread(target=blow, args=(broker,)) for broker in kafka_cluster.brokers[1:]]
        for one in blows:
            one.start()
        for one in blows:
            one.join()

    disturbed(kafka_cluster, tmp_path, both, count=2000)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_job_may_be_killed_while_brokers_are_restarted(
    kafka_cluster: ApacheKafka, tmp_path: Path, processes: int
) -> None:
    log = events(2000, items=ITEMS)
    with deployment_on(kafka_cluster, tmp_path) as deployment:
        for kill_at in range(3):
            part = log[: 500 * (kill_at + 1)]
            with live_job(deployment.log, deployment.settings(), "--processes", str(processes)) as job:
                deployment.up(part[500 * kill_at :], job) if kill_at == 0 else produce(
                    kafka_cluster.bootstrap, deployment.topics["events"], part[500 * kill_at :]
                )
                broker = kafka_cluster.brokers[kill_at]
                restarting = threading.Thread(target=restart, args=(broker,))
                restarting.start()
                time.sleep(1.5)
                job.kill()
                restarting.join()
                kafka_cluster.wait_until_it_answers()
        with live_job(deployment.log, deployment.settings(), "--processes", str(processes)) as job:
            produce(kafka_cluster.bootstrap, deployment.topics["events"], log[1500:])
            wait_until(deployment.delivered(log), job.text, seconds=120.0)
            assert job.stop() == 0, job.text()
        deployment.assert_as_without_trouble(log)
