"""The topics of a job may change: another one is read, one comes back with fewer partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import Record, events, item, versions_after
from tests.support.stored_users import stored_users
from tests.support.topics import Reader, produce

pytestmark = pytest.mark.kafka


def settings(
    broker: EmbeddedBroker, topics: dict[str, str], events_topic: str, state: Path
) -> dict[str, str]:
    return {
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_KAFKA__EVENTS_TOPIC": events_topic,
        "RECSTREAM_KAFKA__ITEMS_TOPIC": topics["items"],
        "RECSTREAM_KAFKA__LISTS_TOPIC": topics["lists"],
        "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": topics["dead-letters"],
        "RECSTREAM_STORE__PATH": str(state),
        "RECSTREAM_ENCODER__BACKEND": "hashing",
        "RECSTREAM_RUN__EPOCH_S": "0.2",
        "RECSTREAM_RUN__METRICS_PORT": "0",
        "RECSTREAM_RUN__RESTARTS": "0",
    }


def test_another_topic_is_read_and_the_first_goes_on_where_it_was(
    broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path
) -> None:
    topics = {name: topic(name) for name in ("items", "lists", "dead-letters")}
    first, other = topic("first", partitions=3), topic("other", partitions=2)
    produce(broker.bootstrap, topics["items"], [item(number) for number in range(40)])
    log = events(90, seed=5)
    lists = Reader(broker.bootstrap, topics["lists"])
    sent: list[Record] = []
    for where, part in ((first, log[:30]), (other, log[30:60]), (first, log[60:])):
        produce(broker.bootstrap, where, part)
        sent = sent + part
        with live_job(tmp_path / "job.log", settings(broker, topics, where, tmp_path / "state")) as job:
            wait_until(lambda sent=sent: lists.versions() == versions_after(sent), job.text)  # type: ignore[misc]
            assert job.stop() == 0, job.text()
    rows = stored_users(tmp_path / "state")
    assert {user: row.version for user, row in rows.items()} == versions_after(log)
    lists.close()


@pytest.mark.slow
def test_a_topic_that_came_back_with_fewer_partitions_is_read_from_the_start(
    broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path
) -> None:
    topics = {name: topic(name) for name in ("items", "lists", "dead-letters")}
    name = topic("shrinking", partitions=4)
    produce(broker.bootstrap, topics["items"], [item(number) for number in range(40)])
    log = events(60, seed=6)
    lists = Reader(broker.bootstrap, topics["lists"])
    produce(broker.bootstrap, name, log[:30])
    with live_job(tmp_path / "job.log", settings(broker, topics, name, tmp_path / "state")) as job:
        wait_until(lambda: lists.versions() == versions_after(log[:30]), job.text)
        assert job.stop() == 0, job.text()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([name])[name].result(10)
    assert ensure_topics(broker.bootstrap, {name: 1}) == [name]
    produce(broker.bootstrap, name, log[30:])
    with live_job(tmp_path / "job.log", settings(broker, topics, name, tmp_path / "state")) as job:
        wait_until(lambda: lists.versions() == versions_after(log), job.text)
        assert job.stop() == 0, job.text()
        assert "not read any more" in job.text()
    lists.close()
