"""A broker that throttles is waited for, however long it takes in all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import TopicWriter
from recstream.records.transport import Message
from tests.support.apache_kafka import ApacheKafka
from tests.support.deployments import ITEMS, deployment_on
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import events
from tests.support.topics import produce


def test_a_quota_makes_writing_slow_and_nothing_else(kafka: ApacheKafka) -> None:
    """In all it takes several times as long as a confirmation may. Nothing is sent twice."""
    name = f"quota-{uuid.uuid4().hex}"
    kafka.create(name)
    kafka.tool(
        *("configs", "--alter", "--add-config", "producer_byte_rate=40000"),
        *("--entity-type", "clients", "--entity-name", name),
    )
    told: list[str] = []
    held: list[float] = []
    writer = TopicWriter(
        kafka.bootstrap,
        name,
        client={"client.id": name},
        timeout_s=1.5,
        down_after_s=60.0,
        on_trouble=lambda _, trouble: told.append(trouble),
        on_throttled=lambda _, seconds: held.append(seconds),
    )
    sent = [Message(b"u%d" % number, os.urandom(5_000)) for number in range(100)]
    writer.write_batch(sent)
    writer.snapshot()
    writer.close()
    assert sum(held) > 2
    assert any("throttled by the broker" in one for one in told)
    assert told[-1] == ""
    read = read_topic(kafka.bootstrap, name, start="earliest", follow=False)
    assert sorted(one.value or b"" for one in read) == sorted(one.value or b"" for one in sent)


@pytest.mark.slow
def test_a_clean_stop_under_a_quota_waits_for_what_is_left_and_loses_nothing(
    kafka: ApacheKafka, tmp_path: Path
) -> None:
    """It takes several times as long as a stop may where nothing is throttled."""
    log, quota = events(1500, items=ITEMS, users=1500), f"quota-{uuid.uuid4().hex}"
    kafka.tool(
        *("configs", "--alter", "--add-config", "producer_byte_rate=30000"),
        *("--entity-type", "clients", "--entity-name", quota),
    )
    with deployment_on(kafka, tmp_path) as deployment:
        chosen = {**deployment.settings(), "RECSTREAM_RUN__STOP_TIMEOUT_S": "3"}
        slow = {**chosen, "RECSTREAM_KAFKA__CLIENT__CLIENT_ID": quota}
        with live_job(deployment.log, slow) as job:
            deployment.up(log[:20], job)
            produce(kafka.bootstrap, deployment.topics["events"], log[20:])
            wait_until(lambda: "throttled by the broker" in job.text(), job.text, seconds=60.0)
            assert not deployment.delivered(log)(), "there was nothing to wait for"
            assert job.stop(120.0) == 0, job.text()
        with live_job(deployment.log, chosen) as job:
            wait_until(lambda: bool(job.children()), job.text)
            wait_until(deployment.delivered(log), job.text, seconds=60.0)
            assert job.stop() == 0, job.text()
        deployment.assert_as_without_trouble(log)
