"""A running job that loses its rights, or its credentials, waits and goes on; nothing of it shows in rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.apache_kafka import PASSWORD, USER, ApacheKafka
from tests.support.deployments import ITEMS, Deployment, deployment_on
from tests.support.live_jobs import live_job, probe, wait_until
from tests.support.logs import Record, events
from tests.support.ports import free_port
from tests.support.topics import produce

LASTS_S = 4.0


@contextmanager
def let_in(kafka: ApacheKafka, folder: Path) -> Iterator[Deployment]:
    """A deployment whose job has the rights that the docs name, and no others."""
    with deployment_on(kafka, folder) as deployment:
        topics = deployment.topics
        reads = {"topics": [topics["events"], topics["items"]], "groups": [topics["events"]]}
        writes = {"topics": [topics["lists"], topics["dead-letters"]]}
        kafka.grant("Read", **reads)
        kafka.grant("Write", **writes)
        try:
            yield deployment
        finally:
            kafka.revoke("Read", **reads)
            kafka.revoke("Write", **writes)


def parts(log: list[Record], count: int) -> list[list[Record]]:
    size = -(-len(log) // count)
    return [log[at : at + size] for at in range(0, len(log), size)]


def is_said(port: int, words: str) -> Callable[[], bool]:
    """Whether the job says them of why it is not ready."""
    return lambda: words in probe(port, "readyz")[1]


def chosen_settings(deployment: Deployment, kafka: ApacheKafka, port: int) -> dict[str, str]:
    """A job that is never started again, and looks often for partitions that were added."""
    return {
        **deployment.settings(),
        **kafka.environment(),
        "RECSTREAM_RUN__RESTARTS": "0",
        "RECSTREAM_RUN__METRICS_PORT": str(port),
        "RECSTREAM_KAFKA__PARTITIONS_EVERY_S": "0.5",
    }


@pytest.mark.slow
def test_rights_may_be_taken_away_from_a_running_job_and_given_back(
    secure_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """To read events, then to write lists, for some seconds each, while events come."""
    log, port = events(600, items=ITEMS), free_port()
    before, *others, after = parts(log, 6)
    with let_in(secure_kafka, tmp_path) as deployment:
        chosen = chosen_settings(deployment, secure_kafka, port)
        with live_job(deployment.log, chosen) as job:
            deployment.up(before, job)
            sent = before
            for right, name in (("Read", "events"), ("Write", "lists")):
                topic = deployment.topics[name]
                secure_kafka.revoke(right, topics=[topic])
                while_away, then = others.pop(0), others.pop(0)
                produce(deployment.bootstrap, deployment.topics["events"], while_away)
                wait_until(is_said(port, f"no right to {right.lower()}"), job.text)
                assert topic in probe(port, "readyz")[1]
                assert probe(port, "healthz") == (200, "ok\n")
                sent = sent + while_away
                time.sleep(LASTS_S)
                assert not deployment.delivered(sent)(), "there was nothing to wait for"
                secure_kafka.grant(right, topics=[topic])
                produce(deployment.bootstrap, deployment.topics["events"], then)
                sent = sent + then
                wait_until(deployment.delivered(sent), job.text)
                wait_until(lambda: probe(port, "readyz") == (200, "ok\n"), job.text)
            produce(deployment.bootstrap, deployment.topics["events"], after)
            wait_until(deployment.delivered(log), job.text)
            assert job.stop() == 0, job.text()
        back = [line for line in job.text().splitlines() if "Kafka answers again" in line]
        assert all(any(deployment.topics[name] in line for line in back) for name in ("events", "lists"))
        assert "started again" not in job.text()
        assert "Traceback" not in job.text()
        deployment.assert_as_without_trouble(log)


@pytest.fixture(scope="module")
def strict_kafka() -> Iterator[ApacheKafka]:
    """A broker that wants credentials again every few seconds."""
    with ApacheKafka(secure=True, connections_max_reauth_ms=2000) as running:
        yield running


def set_password(kafka: ApacheKafka, password: str) -> None:
    kafka.tool(
        *("configs", "--alter", "--entity-type", "users", "--entity-name", USER),
        *("--add-config", f"SCRAM-SHA-512=[password={password}]"),
    )


@pytest.mark.slow
def test_credentials_may_be_refused_to_a_running_job_and_taken_again(
    strict_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """As when a password is changed on the brokers first. Events come all the while."""
    log, port = events(400, items=ITEMS), free_port()
    before, meanwhile, after = parts(log, 3)
    with let_in(strict_kafka, tmp_path) as deployment:
        chosen = chosen_settings(deployment, strict_kafka, port)
        with live_job(deployment.log, chosen) as job:
            deployment.up(before, job)
            set_password(strict_kafka, "another")
            wait_until(is_said(port, "does not let us in"), job.text)
            produce(deployment.bootstrap, deployment.topics["events"], meanwhile)
            assert probe(port, "healthz") == (200, "ok\n")
            time.sleep(LASTS_S)
            assert not deployment.delivered(before + meanwhile)(), "there was nothing to wait for"
            set_password(strict_kafka, PASSWORD)
            produce(deployment.bootstrap, deployment.topics["events"], after)
            wait_until(deployment.delivered(log), job.text)
            wait_until(lambda: probe(port, "readyz") == (200, "ok\n"), job.text)
            assert job.stop() == 0, job.text()
        assert "started again" not in job.text()
        assert "Traceback" not in job.text()
        deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_credentials_that_stay_refused_end_the_job_once_and_it_goes_on_with_new_ones(
    strict_kafka: ApacheKafka, tmp_path: Path
) -> None:
    log = events(100, items=ITEMS)
    with let_in(strict_kafka, tmp_path) as deployment:
        chosen = {
            **deployment.settings(),
            **strict_kafka.environment(),
            "RECSTREAM_KAFKA__DOWN_AFTER_S": "4",
        }
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:50], job)
            set_password(strict_kafka, "another")
            produce(deployment.bootstrap, deployment.topics["events"], log[50:75])
            wait_until(lambda: job.process.poll() is not None, job.text)
            assert job.process.returncode == 1, job.text()
        said = job.text()
        assert "not let us in" in said
        assert "kafka.client" in said
        assert "a process died" not in said
        assert "Traceback" not in said
        with live_job(deployment.log, {**chosen, **strict_kafka.environment("another")}) as job:
            produce(deployment.bootstrap, deployment.topics["events"], log[75:])
            wait_until(deployment.delivered(log), job.text)
            assert job.stop() == 0, job.text()
        set_password(strict_kafka, PASSWORD)
        assert not {PASSWORD, "another"} & set(job.text().split())
        deployment.assert_as_without_trouble(log)
