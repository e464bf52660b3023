"""The broker goes and comes, is slow, comes back empty, loses topics: nothing that was learned is lost."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from recstream.connectors.kafka.admin import ensure_topics, topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.client import KafkaFault
from recstream.connectors.kafka.source import KafkaSource
from recstream.records.bounds import Bound
from recstream.runtime.positions import read_identities
from tests.recovery.kafka_proxy import KafkaProxy
from tests.support.deployments import ITEMS, Deployment
from tests.support.live_jobs import LiveJob, live_job, probe, wait_until
from tests.support.logs import Record, events, item, versions_after
from tests.support.stored_users import stored_users
from tests.support.topics import Reader, produce

pytestmark = pytest.mark.kafka

TOPICS = {"events": 2, "lists": 1, "items": 1, "dead-letters": 1}
NAMES = {name: name for name in TOPICS}


@pytest.fixture
def own() -> Iterator[EmbeddedBroker]:
    """A broker that may be stopped."""
    with EmbeddedBroker() as running:
        fill(running.bootstrap)
        yield running
        if running.pid is not None:
            os.kill(running.pid, signal.SIGCONT)


@pytest.fixture
def proxy() -> Iterator[KafkaProxy]:
    made = KafkaProxy()
    yield made
    made.close()


def fill(bootstrap: str) -> None:
    """Make the topics, with items in them."""
    ensure_topics(bootstrap, TOPICS)
    produce(bootstrap, "items", [item(number) for number in range(ITEMS)])


@contextmanager
def deployment_at(bootstrap: str, folder: Path, **topics: str) -> Iterator[Deployment]:
    reader = Reader(bootstrap, "lists")
    try:
        yield Deployment(bootstrap, folder, {**NAMES, **topics}, reader)
    finally:
        reader.close()


def settings(deployment: Deployment, **more: str) -> dict[str, str]:
    return {**deployment.settings(), **{f"RECSTREAM_{name}": value for name, value in more.items()}}


def send_to(bootstrap: str, topic: str, partition: int, records: list[Record]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for record in records:
        producer.produce(topic, orjson.dumps(record), partition=partition)
    assert producer.flush(20) == 0


def delete(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([name])[name].result(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def hung(broker: EmbeddedBroker) -> int:
    """The broker answers nobody, but its connections stay: as if it hung."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    return broker.pid


def ended(job: LiveJob, *, seconds: float = 90.0) -> int:
    """Exit code of a job that ends by itself."""
    wait_until(lambda: job.process.poll() is not None, job.text, seconds=seconds)
    return int(job.process.returncode)


def one_line(job: LiveJob) -> str:
    """Its log, without the breaks of lines."""
    return " ".join(job.text().split())


def last_of(before: list[Record], after: list[Record]) -> dict[str, int]:
    """The last version of those who have come back."""
    versions = versions_after(before + after)
    return {record["user_id"]: versions[record["user_id"]] for record in after}


def test_a_broker_that_hangs_for_a_while_is_waited_for(own: EmbeddedBroker, tmp_path: Path) -> None:
    """Longer than ``kafka.delivery_timeout_s``, with events to be read and lists to be written.

    Probes know: the job lives, and it is not ready.
    """
    log = events(400, items=ITEMS)
    port = free_port()
    with deployment_at(own.bootstrap, tmp_path) as deployment:
        chosen = settings(deployment, KAFKA__DELIVERY_TIMEOUT_S="1", RUN__METRICS_PORT=str(port))
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:20], job)
            wait_until(lambda: probe(port, "readyz") == (200, "ok\n"), job.text)
            produce(deployment.bootstrap, "events", log[20:300])
            pid = hung(own)
            wait_until(lambda: "no broker answers" in probe(port, "readyz")[1], job.text)
            assert probe(port, "readyz")[0] == 503
            assert probe(port, "healthz") == (200, "ok\n")
            assert not deployment.delivered(log[:300])(), "there was nothing to wait for"
            os.kill(pid, signal.SIGCONT)
            produce(deployment.bootstrap, "events", log[300:])
            wait_until(deployment.delivered(log), job.text)
            wait_until(lambda: probe(port, "readyz") == (200, "ok\n"), job.text)
            assert job.stop() == 0, job.text()
        assert "a process died" not in job.text()
        summary = deployment.summary()
        assert summary["kafka_lag"].keys() == {"events/0", "events/1", "items/0"}
        assert summary["last_epoch"].keys() == {"events", "items"}
        deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_a_broker_that_hangs_until_it_is_taken_for_away_is_waited_for(
    own: EmbeddedBroker, tmp_path: Path
) -> None:
    log = events(200, items=ITEMS)
    with deployment_at(own.bootstrap, tmp_path) as deployment:
        chosen = settings(
            deployment, KAFKA__DELIVERY_TIMEOUT_S="30", KAFKA__DOWN_AFTER_S="6", RUN__RESTARTS="0"
        )
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:20], job)
            produce(deployment.bootstrap, "events", log[20:100])
            pid = hung(own)
            wait_until(lambda: "no broker answers, waiting up to 6 s" in one_line(job), job.text)
            os.kill(pid, signal.SIGCONT)
            produce(deployment.bootstrap, "events", log[100:])
            wait_until(deployment.delivered(log), job.text)
            assert job.stop() == 0, job.text()
        assert "Kafka answers again" in one_line(job)
        assert "a process died" not in job.text()
        deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_lists_that_are_not_confirmed_in_time_are_sent_again(proxy: KafkaProxy, tmp_path: Path) -> None:
    """By a broker that answers all else: the processes start again until it confirms, and nothing is lost."""
    with EmbeddedBroker(advertised=proxy.address) as own:
        proxy.target = int(own.bootstrap.split(":")[1])
        fill(proxy.address)
        log = events(400, items=ITEMS)
        with deployment_at(proxy.address, tmp_path) as deployment:
            with live_job(deployment.log, settings(deployment, KAFKA__DELIVERY_TIMEOUT_S="2")) as job:
                deployment.up(log[:20], job)
                produce(own.bootstrap, "events", log[20:])
                proxy.confirms = False
                wait_until(lambda: "a process died" in job.text(), job.text)
                proxy.confirms = True
                # The broker has the lists of the epoch that failed: only rows tell that it was committed.
                wait_until(
                    lambda: (
                        {user: row.version for user, row in stored_users(deployment.state).items()}
                        == versions_after(log)
                    ),
                    job.text,
                )
                wait_until(deployment.delivered(log), job.text)
                assert job.stop() == 0, job.text()
            assert "topic 'lists' at" in job.text()
            assert "check that the broker runs and is reachable; a restart sends the epoch again" in one_line(
                job
            )
            deployment.assert_as_without_trouble(log)


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "hung"])
@pytest.mark.parametrize("in_flight", [True, False], ids=["lists in flight", "idle"])
def test_a_broker_that_stays_away_ends_the_job_without_restarts(
    own: EmbeddedBroker, tmp_path: Path, blow: signal.Signals, in_flight: bool
) -> None:
    """Though a write may take a hundred times as long."""
    log = events(100, items=ITEMS)
    with deployment_at(own.bootstrap, tmp_path) as deployment:
        chosen = settings(deployment, KAFKA__DELIVERY_TIMEOUT_S="600", KAFKA__DOWN_AFTER_S="6")
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:50], job)
            if in_flight:
                produce(deployment.bootstrap, "events", log[50:])
            assert own.pid is not None
            os.kill(own.pid, blow)
            assert ended(job) == 1
        assert "a process died" not in job.text()
        assert "has answered for 6 s" in one_line(job)
        assert "what the job reads or writes stayed away" in one_line(job)


@pytest.mark.slow
def test_a_job_that_ended_for_a_broker_that_stayed_away_goes_on(own: EmbeddedBroker, tmp_path: Path) -> None:
    log = events(200, items=ITEMS)
    with deployment_at(own.bootstrap, tmp_path) as deployment:
        chosen = settings(deployment, KAFKA__DOWN_AFTER_S="2")
        with live_job(deployment.log, chosen) as job:
            deployment.up(log[:100], job)
            produce(deployment.bootstrap, "events", log[100:150])
            pid = hung(own)
            assert ended(job) == 1
        os.kill(pid, signal.SIGCONT)
        with live_job(deployment.log, chosen) as job:
            produce(deployment.bootstrap, "events", log[150:])
            wait_until(deployment.delivered(log), job.text)
            assert job.stop() == 0, job.text()
        deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_with_a_slow_broker_everything_is_late_and_nothing_else(proxy: KafkaProxy, tmp_path: Path) -> None:
    with EmbeddedBroker(advertised=proxy.address) as own:
        proxy.target = int(own.bootstrap.split(":")[1])
        fill(proxy.address)
        log = events(200, items=ITEMS)
        with deployment_at(proxy.address, tmp_path) as deployment:
            with live_job(deployment.log, settings(deployment)) as job:
                deployment.up(log[:20], job)
                proxy.delay_s = 0.3
                produce(deployment.bootstrap, "events", log[20:])
                wait_until(deployment.delivered(log), job.text)
                assert job.stop() == 0, job.text()
            proxy.delay_s = 0.0
            assert "a process died" not in job.text()
            deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_a_broker_that_came_back_empty_is_read_from_the_start_and_the_state_stays(tmp_path: Path) -> None:
    """Its topics are other ones under the same names: their events count, too, from the first on."""
    before, after = events(100, items=ITEMS), events(100, items=ITEMS, seed=1, first=1000)
    with ExitStack() as stack:
        first = stack.enter_context(EmbeddedBroker())
        fill(first.bootstrap)
        with deployment_at(first.bootstrap, tmp_path) as deployment:
            chosen = settings(deployment, KAFKA__DELIVERY_TIMEOUT_S="2", RUN__RESTARTS="1")
            job = stack.enter_context(live_job(deployment.log, chosen))
            deployment.up(before, job)
        first.stop()
        second = stack.enter_context(EmbeddedBroker(port=int(first.bootstrap.split(":")[1])))
        assert ended(job) == 2, "its topics are not there"
        assert "has no topic" in job.text()
        assert "create it" in job.text()
        fill(second.bootstrap)
        rows = stored_users(deployment.state)
        assert {user: row.version for user, row in rows.items()} == versions_after(before)
        with (
            deployment_at(second.bootstrap, tmp_path) as deployment,
            live_job(deployment.log, chosen) as again,
        ):
            produce(second.bootstrap, "events", after)
            wait_until(
                lambda: deployment.lists.versions().items() >= last_of(before, after).items(), again.text
            )
            assert again.stop() == 0, again.text()
        assert "the topic was re-created, starting at earliest" in again.text()
        rows = stored_users(deployment.state)
        assert {user: row.version for user, row in rows.items()} == versions_after(before + after)


@pytest.mark.slow
def test_a_topic_deleted_under_the_job_ends_it_and_made_again_it_goes_on(
    own: EmbeddedBroker, tmp_path: Path
) -> None:
    before, after = events(100, items=ITEMS), events(100, items=ITEMS, seed=1, first=1000)
    with deployment_at(own.bootstrap, tmp_path) as deployment:
        chosen = settings(deployment, RUN__RESTARTS="1")
        with live_job(deployment.log, chosen) as job:
            deployment.up(before, job)
            delete(own.bootstrap, "events")
            assert ended(job) == 2
        assert "has no topic ['events']; create it" in one_line(job)
        rows = stored_users(deployment.state)
        assert {user: row.version for user, row in rows.items()} == versions_after(before)
        ensure_topics(own.bootstrap, TOPICS)
        with live_job(deployment.log, chosen) as job:
            produce(own.bootstrap, "events", after)
            wait_until(
                lambda: deployment.lists.versions().items() >= last_of(before, after).items(), job.text
            )
            assert job.stop() == 0, job.text()
        rows = stored_users(deployment.state)
        assert {user: row.version for user, row in rows.items()} == versions_after(before + after)


@pytest.mark.parametrize("name", ["events", pytest.param("lists", marks=pytest.mark.slow)])
def test_a_topic_missing_at_the_start_is_named_with_the_mend_before_anything_is_started(
    own: EmbeddedBroker, tmp_path: Path, name: str
) -> None:
    delete(own.bootstrap, name)
    deployment = Deployment(own.bootstrap, tmp_path, NAMES, None)  # type: ignore[arg-type]  # no lists are read
    with live_job(deployment.log, settings(deployment)) as job:
        assert ended(job) == 2
    assert f"error: Kafka at {own.bootstrap} has no topic ['{name}']; create it" in one_line(job)
    assert "process=0" not in job.text()


def identities_in(folder: Path) -> set[str]:
    """Identities of the partitions with a position; none while the recovery store is being made."""
    try:
        return read_identities(folder, itemgetter("identity"))
    except sqlite3.OperationalError:
        return set()


def test_a_partition_added_to_a_topic_is_read_from_its_beginning(proxy: KafkaProxy, tmp_path: Path) -> None:
    """Though ``kafka.start`` is latest, as its records came after the job began. No failure, no replay."""
    with EmbeddedBroker(advertised=proxy.address) as own:
        proxy.target = int(own.bootstrap.split(":")[1])
        fill(proxy.address)
        ensure_topics(proxy.address, {"growing": 3})
        log = events(150, items=ITEMS)
        newcomers = [{**one, "user_id": f"new-{one['user_id']}"} for one in events(100, items=ITEMS, seed=1)]
        send_to(proxy.address, "growing", 2, newcomers)
        proxy.shown = {"growing": 2}
        with deployment_at(proxy.address, tmp_path, events="growing") as deployment:
            chosen = settings(
                deployment, KAFKA__START="latest", KAFKA__PARTITIONS_EVERY_S="0.5", RUN__RESTARTS="0"
            )
            with live_job(deployment.log, chosen) as job:
                kept = deployment.state / "positions" / "recommend"
                wait_until(lambda: len(identities_in(kept)) == 3, job.text)
                deployment.up(log[:50], job)
                first = job.children()
                proxy.shown = {}
                send_to(deployment.bootstrap, "growing", 0, log[50:100])
                wait_until(lambda: job.children() not in ([], first), job.text)
                send_to(deployment.bootstrap, "growing", 1, log[100:])
                wait_until(deployment.delivered(log + newcomers), job.text)
                assert job.stop() == 0, job.text()
            assert "topic growing has 3 partitions, of which 2 are read" in job.text()
            assert "partition=growing/2: new in a topic that was read before" in job.text()
            assert "a process died" not in job.text()
            assert deployment.summary()["events_absorbed"] == 0
            rows = stored_users(deployment.state)
            assert {user: row.version for user, row in rows.items()} == versions_after(log + newcomers)


@pytest.mark.parametrize("by_offsets", [False, True], ids=["latest", "offsets"])
def test_of_a_known_topic_a_new_partition_begins_at_its_beginning(
    broker: EmbeddedBroker, topic: Callable[..., str], by_offsets: bool
) -> None:
    name = topic("growing", partitions=3)
    start: Bound = {f"{name}/{number}": 0 for number in range(2)} if by_offsets else "latest"
    send_to(broker.bootstrap, name, 2, events(3))
    made = topics(broker.bootstrap, [name])[name]
    known = [made.identity(number) for number in range(2)]
    source = KafkaSource(
        broker.bootstrap,
        [name],
        poll_max=1000,
        down_after_s=60.0,
        skips_losses=False,
        start=start,
        known=known,
    )
    assert source.list_parts() == [f"{name}/{number}" for number in range(3)]
    part = source.build_part("in", f"{name}/2", None)
    assert part.snapshot()["offset"] == 0
    part.close()
    with pytest.raises(KafkaFault, match=r"nothing for .*/2"):
        KafkaSource(
            broker.bootstrap,
            [name],
            poll_max=1000,
            down_after_s=60.0,
            skips_losses=False,
            start={f"{name}/0": 0, f"{name}/1": 0},
        ).list_parts()
