"""Reading from Apache Kafka: rights that go, records that are gone, logs that were cut, many partitions."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bytewax.inputs import StatefulSourcePartition
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from recstream.config import Settings
from recstream.connectors.base import ReadOptions, never
from recstream.connectors.kafka.admin import Watermarks, watermarks
from recstream.connectors.kafka.bounds import Position
from recstream.connectors.kafka.client import KafkaFault, KafkaSettingsFault, StayedAwayFault
from recstream.connectors.kafka.connector import KafkaConnector
from recstream.connectors.kafka.positions import TopicPositions
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.source import KafkaSource
from recstream.connectors.kafka.watch import TopicWatch
from recstream.records.transport import RawBatch
from tests.support.apache_kafka import ApacheKafka

Part = StatefulSourcePartition[RawBatch, Position]


def fill(bootstrap: str, topic: str, count: int, *, first: int = 0, **client: Any) -> None:
    """The values are numbers; all go to partition 0."""
    producer = Producer({"bootstrap.servers": bootstrap, **client})
    for number in range(first, first + count):
        producer.produce(topic, b"%d" % number, partition=0)
    assert producer.flush(30) == 0


def source_of(bootstrap: str, topic: str, **options: Any) -> KafkaSource:
    return KafkaSource(
        bootstrap, [topic], **{"poll_max": 100, "down_after_s": 30.0, "skips_losses": False, **options}
    )


def only(source: KafkaSource, position: Position | None = None) -> Part:
    (name,) = source.list_parts()
    return source.build_part("in", name, position)


def read(part: Part, count: int, *, seconds: float = 20.0) -> list[RawBatch]:
    """Poll until so many records came."""
    return read_until(part, lambda out: len(values(out)) >= count, seconds=seconds)


def read_until(
    part: Part, is_enough: Callable[[list[RawBatch]], bool], *, seconds: float = 20.0
) -> list[RawBatch]:
    out: list[RawBatch] = []

    def turn() -> bool:
        out.extend(part.next_batch())
        return is_enough(out)

    wait(turn, seconds=seconds)
    return out


def wait(is_so: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.002)


def values(batches: list[RawBatch]) -> list[int]:
    return [int(value) for batch in batches for value in batch.values]


def delete_before(kafka: ApacheKafka, topic: str, offset: int, folder: Path) -> None:
    """What retention does, at once."""
    path = folder / "offsets.json"
    parts = [{"topic": topic, "partition": 0, "offset": offset}]
    path.write_text(json.dumps({"version": 1, "partitions": parts}))
    kafka.tool("delete-records", "--offset-json-file", str(path))


def test_of_many_partitions_all_is_read_by_few_threads(kafka: ApacheKafka) -> None:
    kafka.create("many", partitions=256)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(2560):
        producer.produce("many", b"%d" % number, partition=number % 256)
    assert producer.flush(30) == 0
    source = source_of(kafka.bootstrap, "many")
    names = source.list_parts()
    before = len(os.listdir("/proc/self/task"))
    parts = [source.build_part("in", name, None) for name in names]
    out: list[RawBatch] = []

    def all_came() -> bool:
        for part in parts:
            out.extend(part.next_batch())
        return len(values(out)) >= 2560

    wait(all_came)
    assert len(os.listdir("/proc/self/task")) - before < 16
    assert sorted(values(out)) == list(range(2560))
    assert {part.snapshot()["offset"] for part in parts} == {10}
    for part in parts:
        part.close()


def test_offsets_behind_transactions_are_read_to_the_end(kafka: ApacheKafka) -> None:
    kafka.create("transactions", partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "t"})
    producer.init_transactions(30)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        for number in range(3):
            producer.produce("transactions", b"%d" % number)
        producer.flush(10)
        end(30)
    part = only(source_of(kafka.bootstrap, "transactions", stop="end"))
    assert values(read(part, 3)) == [0, 1, 2]
    with pytest.raises(StopIteration):
        read(part, 1)
    kept = part.snapshot()
    assert (kept["offset"], kept["read"]) == (8, (3, 0)), "the last record, not the markers behind it"
    part.close()


def test_no_right_on_any_group_is_needed_to_read(secure_kafka: ApacheKafka) -> None:
    """The mirror of positions needs one, and says so."""
    kafka = secure_kafka
    kafka.create("ungrouped", partitions=2)
    fill(kafka.bootstrap, "ungrouped", 20)
    kafka.grant("Read", "Describe", topics=["ungrouped"])
    client = kafka.client()
    try:
        for _ in range(3):  # what was refused came now before, now after what was asked
            marks = watermarks(kafka.secure, [("ungrouped", 0), ("ungrouped", 1)], client=client)
            assert marks == {("ungrouped", 0): Watermarks(0, 20), ("ungrouped", 1): Watermarks(0, 0)}
            found = read_topic(kafka.secure, "ungrouped", start="earliest", follow=False, client=client)
            assert len(list(found)) == 20
        source = source_of(kafka.secure, "ungrouped", client=client)
        parts = [source.build_part("in", name, None) for name in source.list_parts()]
        assert values(read(parts[0], 20)) == list(range(20))
        for part in parts:
            part.close()
    finally:
        kafka.revoke("Read", "Describe", topics=["ungrouped"])


def test_who_neither_joins_nor_commits_names_the_group_of_the_settings_and_needs_no_right_on_it(
    secure_kafka: ApacheKafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = secure_kafka
    kafka.create("named", partitions=2)
    fill(kafka.bootstrap, "named", 20)
    kafka.grant("Read", "Describe", topics=["named"])
    client = {**kafka.client(), "debug": "cgrp"}
    chosen: dict[str, object] = {"kafka.bootstrap": kafka.secure, "kafka.group": "ours"}
    chosen |= {f"kafka.client.{name}": value for name, value in client.items()}
    connector = KafkaConnector(Settings.load(None, {}, chosen).options_of("kafka"))
    stored: dict[str, Position] = {}
    try:
        with caplog.at_level(logging.DEBUG):
            assert len(list(connector.records("kafka:named"))) == 20
            source = connector.source("kafka:named", ReadOptions(stop="end"))
            for name in source.list_parts():
                part = source.build_part("in", name, None)
                with pytest.raises(StopIteration):
                    wait(lambda part=part: not part.next_batch() and False)  # type: ignore[misc]
                stored[name] = part.snapshot()
                part.close()
            for _ in range(2):
                found = connector.positions("kafka:named", stored)
                assert [(one.position, one.trouble) for one in found] == [(20, ""), (0, "")]
                connector.source("kafka:named", ReadOptions(positions=list(stored.values()))).list_parts()
        assert set(re.findall(r'Group "([^"]*)"', caplog.text)) == {"ours"}
        assert "may not be mirrored" not in caplog.text, "nobody wanted to"
    finally:
        kafka.revoke("Read", "Describe", topics=["named"])


def test_a_group_that_may_not_be_used_is_named_and_reading_goes_on(
    secure_kafka: ApacheKafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = secure_kafka
    kafka.create("unmirrored", partitions=1)
    fill(kafka.bootstrap, "unmirrored", 20)
    kafka.grant("Read", "Describe", topics=["unmirrored"])
    try:
        part = only(source_of(kafka.secure, "unmirrored", client=kafka.client(), group="not-ours"))
        assert values(read(part, 20)) == list(range(20))
        for _ in range(2):
            part.snapshot()
        fill(kafka.bootstrap, "unmirrored", 5, first=20)
        assert values(read(part, 5)) == list(range(20, 25))
        part.close()
        assert "group=not-ours" in caplog.text
    finally:
        kafka.revoke("Read", "Describe", topics=["unmirrored"])


def test_a_right_that_is_taken_away_is_waited_for(secure_kafka: ApacheKafka) -> None:
    kafka = secure_kafka
    kafka.create("guarded", partitions=1)
    fill(kafka.bootstrap, "guarded", 10)
    kafka.grant("Read", "Describe", topics=["guarded"])
    told: list[str] = []
    source = source_of(
        kafka.secure, "guarded", client=kafka.client(), on_trouble=lambda _, trouble: told.append(trouble)
    )
    part = only(source)
    assert values(read(part, 10)) == list(range(10))
    kafka.revoke("Read", topics=["guarded"])
    out = read_until(part, lambda _: bool(told))
    assert "no right to read guarded" in told[0]
    fill(kafka.bootstrap, "guarded", 10, first=10)
    kafka.grant("Read", topics=["guarded"])
    out += read(part, 10 - len(values(out)))
    assert values(out) == list(range(10, 20))
    assert told[-1] == ""
    part.close()
    kafka.revoke("Read", "Describe", topics=["guarded"])


def test_a_right_that_stays_away_ends_the_reading_and_is_named(secure_kafka: ApacheKafka) -> None:
    kafka = secure_kafka
    kafka.create("shut", partitions=1)
    fill(kafka.bootstrap, "shut", 10)
    kafka.grant("Read", "Describe", topics=["shut"])
    part = only(source_of(kafka.secure, "shut", client=kafka.client(), down_after_s=2.0))
    assert values(read(part, 10)) == list(range(10))
    kafka.revoke("Read", topics=["shut"])
    with pytest.raises(StayedAwayFault, match=r"no right to read shut.* for 2 s; grant Read and Describe"):
        wait(lambda: bool(part.next_batch()))
    part.close()
    kafka.revoke("Describe", topics=["shut"])


@pytest.mark.parametrize("is_running", [False, True], ids=["at the start", "while it runs"])
def test_records_that_are_gone_end_the_reading_at_once(
    kafka: ApacheKafka, tmp_path: Path, is_running: bool
) -> None:
    topic = f"gone-{is_running}"
    kafka.create(topic, partitions=1)
    fill(kafka.bootstrap, topic, 50)
    source = source_of(kafka.bootstrap, topic)
    part = only(source)
    position = part.snapshot()
    if not is_running:
        part.close()
    delete_before(kafka, topic, 30, tmp_path)
    with pytest.raises(KafkaSettingsFault, match=r'30 offsets are lost .*kafka\.on_loss = "skip".*positions'):
        wait(lambda: bool(part.next_batch())) if is_running else only(source, position)
    if is_running:
        part.close()


@pytest.mark.parametrize("is_running", [False, True], ids=["at the start", "while it runs"])
def test_records_that_are_gone_are_skipped_where_it_is_wished(
    kafka: ApacheKafka, tmp_path: Path, is_running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"skipped-{is_running}"
    kafka.create(topic, partitions=1)
    fill(kafka.bootstrap, topic, 50)
    told: list[tuple[str, int]] = []
    source = source_of(
        kafka.bootstrap, topic, skips_losses=True, on_loss=lambda name, count: told.append((name, count))
    )
    part = only(source)
    position = part.snapshot()
    if not is_running:
        part.close()
    delete_before(kafka, topic, 30, tmp_path)
    if not is_running:
        part = only(source, position)
    batches = read(part, 20)
    assert values(batches) == list(range(30, 50))
    assert batches[0].partition == (f"{topic}/0", position["identity"], 30), "the run is broken there"
    assert told == [(f"{topic}/0", 30)]
    assert "30 offsets are lost" in caplog.text
    fill(kafka.bootstrap, topic, 1, first=50)
    assert values(read(part, 1)) == [50]
    part.close()


def test_a_position_beyond_the_end_is_a_fault_or_skipped(kafka: ApacheKafka) -> None:
    kafka.create("short", partitions=1)
    fill(kafka.bootstrap, "short", 10)
    source = source_of(kafka.bootstrap, "short")
    part = only(source)
    beyond = Position(identity=part.snapshot()["identity"], offset=25, from_ms=None, since=0)
    part.close()
    with pytest.raises(KafkaSettingsFault, match="beyond the end, 10"):
        only(source, beyond)
    part = only(source_of(kafka.bootstrap, "short", skips_losses=True), beyond)
    wait(lambda: not part.next_batch() and part.snapshot()["offset"] == 10)
    fill(kafka.bootstrap, "short", 5, first=10)
    batches = read(part, 5)
    assert values(batches) == list(range(10, 15))
    assert batches[0].partition.identity == f"{beyond['identity']}.1"
    part.close()


def cut(kafka: ApacheKafka, topic: str) -> None:
    """An unclean leader election: of 100 records 60 are left, then 80 others come.

    The follower is away while the last 40 are written, and leads once the leader is away.
    """
    new = NewTopic(
        topic,
        1,
        replica_assignment=[[1, 2]],
        config={"unclean.leader.election.enable": "true", "min.insync.replicas": "1"},
    )
    admin = kafka.admin()  # kept: its requests die with it
    admin.create_topics([new])[topic].result(30)
    fill(kafka.bootstrap, topic, 60, acks="all")
    kafka.brokers[2].stop()
    fill(kafka.bootstrap, topic, 40, first=60, acks="1")


def lead_by_follower(kafka: ApacheKafka, topic: str) -> None:
    kafka.brokers[1].kill()
    kafka.brokers[2].start()

    def leads() -> bool:
        try:
            found = kafka.admin().list_topics(topic, timeout=5).topics[topic].partitions[0]
        except KafkaException:
            return False  # there is no controller just now
        return bool(found.leader == 2)

    wait(leads, seconds=90)
    fill(kafka.bootstrap, topic, 80, first=1000, acks="1")


def goes_on_where_it_is_told(kafka: ApacheKafka, topic: str, position: Position) -> None:
    """A position in a log that was cut is set: the records that took the place of others are new ones."""
    name, positions = f"{topic}/0", TopicPositions(kafka.bootstrap, topic, group="cut")
    (shown,) = positions.compared({name: position})
    assert "the log was cut at 60" in shown.trouble
    for to, number in (("latest", 2000), ("earliest", 0)):
        moved = positions.moved({name: position}, to)  # type: ignore[arg-type]  # a word
        assert positions.compared(moved)[0].trouble == ""
        part = only(source_of(kafka.bootstrap, topic, positions=[*moved.values(), position]), moved[name])
        if to == "latest":
            fill(kafka.bootstrap, topic, 1, first=number, acks="1")
        first = read(part, 1)
        assert values(first)[0] == number
        assert first[0].partition.identity == position["identity"] + (".1" if number else "")
        part.close()


@pytest.mark.slow
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("is_running", [False, True], ids=["at the start", "while it runs"])
def test_a_log_that_was_cut_is_noticed_though_it_has_grown_again(
    kafka_cluster: ApacheKafka, skips: bool, is_running: bool
) -> None:
    """Its offsets are those of other records now, which users have not absorbed."""
    kafka, topic = kafka_cluster, f"cut-{skips}-{is_running}"
    cut(kafka, topic)
    told: list[tuple[str, int]] = []
    source = source_of(
        kafka.bootstrap,
        topic,
        skips_losses=skips,
        on_loss=lambda name, count: told.append((name, count)),
        down_after_s=120.0,
    )
    part = only(source)
    first = read(part, 100)
    assert values(first) == list(range(100))
    position = part.snapshot()
    if not is_running:
        part.close()
    lead_by_follower(kafka, topic)
    try:
        if not is_running:
            part = only(source, position)
        if skips:
            batches = read(part, 80, seconds=60)
            assert values(batches) == list(range(1000, 1080))
            assert batches[0].partition == (f"{topic}/0", f"{position['identity']}.1", 60)
            assert told == [(f"{topic}/0", 40)]
            assert part.snapshot()["cuts"] == [60]
        else:
            with pytest.raises(KafkaSettingsFault, match="beyond the end, 60"):
                wait(lambda: bool(part.next_batch()), seconds=60)
            goes_on_where_it_is_told(kafka, topic, position)
        part.close()
        is_read_anew_as_two_logs(kafka, topic, position)
    finally:
        kafka.brokers[1].start()
        kafka.wait_until_it_answers()


def is_read_anew_as_two_logs(kafka: ApacheKafka, topic: str, position: Position) -> None:
    """By a backfill, and by a job whose position is its beginning: what was read stays known."""
    base = position["identity"]
    moved: Position = {**position, "offset": 0, "since": 0}
    stored = [position, moved]
    for state in (None, moved):
        part = only(source_of(kafka.bootstrap, topic, positions=stored, poll_max=20), state)
        read(part, 20)
        stored.append(part.snapshot())  # what an earlier epoch has left
        found: dict[str, tuple[int, int]] = {}
        for batch in read(part, 120):
            found.setdefault(batch.partition.identity, (batch.offsets[0], batch.partition.since))
        assert found == {base: (20, 0), f"{base}.1": (60, 60)}
        part.close()
        stored.append(part.snapshot())
        assert stored[-1].get("cuts") == [60], "the cut that is known is no other one"


@pytest.mark.slow
def test_a_leader_that_hangs_is_noticed_though_nothing_is_written(kafka_cluster: ApacheKafka) -> None:
    """The other brokers answer, and have no copy."""
    kafka, told = kafka_cluster, list[str]()
    admin = kafka.admin()  # kept: its requests die with it
    new = NewTopic("lonely", 1, replica_assignment=[[2]], config={"min.insync.replicas": "1"})
    admin.create_topics([new])["lonely"].result(30)
    client = {"socket.timeout.ms": "120000"}
    source = source_of(
        kafka.bootstrap,
        "lonely",
        down_after_s=60.0,
        client=client,
        on_trouble=lambda _, trouble: told.append(trouble),
    )
    part = only(source)
    kafka.brokers[2].freeze()
    try:
        wait(lambda: bool(part.next_batch() or told), seconds=60)
    finally:
        kafka.brokers[2].thaw()
    wait(lambda: not part.next_batch() and told[-1] == "", seconds=60)
    fill(kafka.bootstrap, "lonely", 1)
    assert values(read(part, 1)) == [0]
    part.close()


def test_positions_are_mirrored_for_all_partitions_at_once(kafka: ApacheKafka) -> None:
    kafka.create("mirrored", partitions=8)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(80):
        producer.produce("mirrored", b"%d" % number, partition=number % 8)
    assert producer.flush(30) == 0
    source = source_of(kafka.bootstrap, "mirrored", group="mirrored", stop="end")
    parts = [source.build_part("in", name, None) for name in source.list_parts()]
    while parts:
        for part in list(parts):
            try:
                part.next_batch()
            except StopIteration:
                part.snapshot()
                part.close()
                parts.remove(part)
    asker = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "mirrored"})
    found = asker.committed([TopicPartition("mirrored", number) for number in range(8)], timeout=10)
    asker.close()
    assert [one.offset for one in found] == [10] * 8


def test_a_topic_deleted_or_made_again_while_it_is_read_is_noticed(kafka: ApacheKafka) -> None:
    """A consumer does not notice it."""
    kafka.create("deleted", partitions=2)
    with TopicWatch(kafka.bootstrap, ["deleted"], every_s=0.1) as watch:
        watch.begin(never)
        assert watch.grown() == ""
        admin = kafka.admin()  # kept: its requests die with it
        admin.delete_topics(["deleted"])["deleted"].result(10)
        wait(lambda: watch.grown() == "topic deleted is gone")
        kafka.create("deleted", partitions=2)
        wait(lambda: watch.grown() == "topic deleted was made again")
        watch.begin(never)
        assert watch.grown() == ""


def test_a_topic_made_again_that_is_shorter_is_no_loss(kafka: ApacheKafka) -> None:
    kafka.create("again", partitions=1)
    fill(kafka.bootstrap, "again", 20)
    part = only(source_of(kafka.bootstrap, "again", skips_losses=True))
    assert values(read(part, 20)) == list(range(20))
    admin = kafka.admin()  # kept: its requests die with it
    admin.delete_topics(["again"])["again"].result(10)
    kafka.create("again", partitions=1)
    fill(kafka.bootstrap, "again", 5)
    with pytest.raises(KafkaFault, match="re-created"):
        wait(lambda: bool(part.next_batch()), seconds=40)
    part.close()
