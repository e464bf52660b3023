"""Starts, stops, resumes: nothing lost, nothing twice."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution, StatefulSourcePartition
from bytewax.testing import TestingSink
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from recstream.connectors.kafka.admin import Watermarks, ensure_topics, overview, watermarks
from recstream.connectors.kafka.bounds import Position, first_offset, loss_since
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.client import KafkaFault, KafkaSettingsFault, NoAnswerFault, StayedAwayFault
from recstream.connectors.kafka.losses import loss_fault
from recstream.connectors.kafka.sink import TopicWriter
from recstream.connectors.kafka.source import KafkaSource
from recstream.records.bounds import parse_bound
from recstream.records.transport import Message, RawBatch
from tests.recovery.kafka_proxy import KafkaProxy

pytestmark = pytest.mark.kafka
Topics = Callable[..., str]
Run = Callable[..., None]
Rows = list[tuple[str, int, bytes]]
Read = Callable[..., list[RawBatch]]
T0 = 1_700_000_000_000


def _fill(bootstrap: str, topic: str, count: int, *, partitions: int = 1, first: int = 0) -> None:
    """Record i goes to partition i modulo ``partitions``, with the timestamp T0 + i seconds."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for i in range(first, first + count):
        producer.produce(topic, b"%d" % i, partition=i % partitions, timestamp=T0 + i * 1000)
    assert producer.flush(10) == 0


def _source(
    bootstrap: str,
    topics: list[str],
    *,
    start: str | Mapping[str, int] = "earliest",
    stop: str | Mapping[str, int] | None = None,
    poll_max: int = 1000,
    down_after_s: float = 60.0,
    **options: Any,
) -> KafkaSource:
    """A source whose bounds may be written as settings say them."""
    return KafkaSource(
        bootstrap,
        topics,
        start=parse_bound(start, "start") if isinstance(start, str) else start,
        stop=parse_bound(stop, "stop") if isinstance(stop, str) else stop,
        poll_max=poll_max,
        down_after_s=down_after_s,
        skips_losses=False,
        **options,
    )


def _rows(batches: list[RawBatch]) -> Rows:
    return [
        (batch.partition.name, offset, value)
        for batch in batches
        for offset, value in zip(batch.offsets, batch.values, strict=True)
    ]


def _numbers(batches: list[RawBatch]) -> list[int]:
    return sorted(int(value) for _, _, value in _rows(batches))


def _flow(source: KafkaSource, out: list[RawBatch]) -> Dataflow:
    df = Dataflow("source")
    op.output("out", op.input("in", df, source), TestingSink(out))
    return df


@pytest.fixture
def read(run_flow: Run) -> Callable[..., list[RawBatch]]:
    """Runs a flow of the source alone to its end and gives what came out."""

    def run(source: KafkaSource, *, store: Path | None = None) -> list[RawBatch]:
        out: list[RawBatch] = []
        run_flow(_flow(source, out), store=store)
        return out

    return run


def _until(count: int, out: list[RawBatch], *, seconds: float = 20.0) -> Callable[[], bool]:
    """A stop flag that is set once so many records came out."""
    deadline = time.monotonic() + seconds

    def stopping() -> bool:
        assert time.monotonic() < deadline, f"{len(_rows(out))} of {count} records came"
        return len(_rows(out)) >= count

    return stopping


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_is_read_once_and_in_order(
    broker: EmbeddedBroker, topic: Topics, workers: int, run_flow: Run
) -> None:
    name = topic("events", partitions=3)
    _fill(broker.bootstrap, name, 3000, partitions=3)
    out: list[RawBatch] = []
    source = _source(broker.bootstrap, [name], stop="end", poll_max=100)
    run_flow(_flow(source, out), workers=workers, epoch=timedelta(milliseconds=20))
    assert _numbers(out) == list(range(3000))
    for number in range(3):
        offsets = [offset for part, offset, _ in _rows(out) if part == f"{name}/{number}"]
        assert offsets == list(range(1000))
    assert max(len(batch.values) for batch in out) <= 100
    assert {batch.partition.identity.rpartition("@")[0] for batch in out} == {f"{name}/{n}" for n in range(3)}


def test_several_topics_are_one_source(broker: EmbeddedBroker, topic: Topics, read: Read) -> None:
    one, two = topic("one"), topic("two", partitions=2)
    _fill(broker.bootstrap, one, 10)
    _fill(broker.bootstrap, two, 10, partitions=2, first=10)
    out = read(_source(broker.bootstrap, [one, two], stop="end"))
    assert _numbers(out) == list(range(20))
    assert {batch.partition.name for batch in out} == {f"{one}/0", f"{two}/0", f"{two}/1"}


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [
        ("earliest", "end", 0, 99),
        ("ts=1700000040", "end", 40, 99),
        ("ts=2023-11-14T22:14:00Z", "end", 40, 99),
        ("ts=1700000040", "ts=1700000060.5", 40, 60),
        ("earliest", "ts=1700000007", 0, 6),
        ({"/0": 20, "/1": 30}, {"/0": 45, "/1": 45}, None, None),
        ("latest", "end", 100, 99),
        ("ts=1800000000", "end", 100, 99),
    ],
)
def test_starts_and_stops(
    broker: EmbeddedBroker,
    topic: Topics,
    start: str | Mapping[str, int],
    stop: str | Mapping[str, int],
    first: int | None,
    last: int | None,
    read: Read,
) -> None:
    name = topic("events", partitions=2)
    _fill(broker.bootstrap, name, 100, partitions=2)

    def named(bound: str | Mapping[str, int]) -> str | Mapping[str, int]:
        return bound if isinstance(bound, str) else {name + key: value for key, value in bound.items()}

    out = read(_source(broker.bootstrap, [name], start=named(start), stop=named(stop)))
    if first is None or last is None:
        assert [r[1] for r in _rows(out) if r[0].endswith("/0")] == list(range(20, 45))
        assert [r[1] for r in _rows(out) if r[0].endswith("/1")] == list(range(30, 45))
    else:
        assert _numbers(out) == list(range(first, last + 1))


def test_latest_sees_only_what_comes_later(broker: EmbeddedBroker, topic: Topics, run_flow: Run) -> None:
    name = topic("events")
    _fill(broker.bootstrap, name, 50)
    out: list[RawBatch] = []
    source = _source(broker.bootstrap, [name], start="latest", stopping=_until(5, out))
    thread = threading.Timer(0.5, _fill, (broker.bootstrap, name, 5), {"first": 50})
    thread.start()
    run_flow(_flow(source, out), epoch=timedelta(milliseconds=50))
    thread.join()
    assert _rows(out)[0] == (f"{name}/0", 50, b"50")


def test_a_tombstone_is_empty_bytes_and_comes_with_its_key(
    broker: EmbeddedBroker, topic: Topics, read: Read
) -> None:
    name = topic("items")
    writer = TopicWriter(broker.bootstrap, name, timeout_s=30.0, down_after_s=30.0)
    nulls = [Message(b"i1", None), Message(None, None)]
    writer.write_batch([Message(b"i1", b"{}"), *nulls, Message(b"i2", b"")])
    writer.snapshot()
    batches = read(_source(broker.bootstrap, [name], stop="end"))
    assert [r[2] for r in _rows(batches)] == [b"{}", b"", b"", b""]
    found = {offset: key for batch in batches for offset, key in batch.tombstones.items()}
    assert found == {1: b"i1", 2: None}, "an empty record is no tombstone"


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_or_twice_across_clean_stops(
    broker: EmbeddedBroker, topic: Topics, tmp_path: Path, workers: int, run_flow: Run
) -> None:
    name = topic("events", partitions=3)
    _fill(broker.bootstrap, name, 900, partitions=3)
    whole: list[RawBatch] = []
    for upto in (250, 251, 700, 900):
        source = _source(broker.bootstrap, [name], poll_max=40, stopping=_until(upto, whole))
        flow = _flow(source, whole)
        run_flow(flow, workers=workers, epoch=timedelta(milliseconds=20), store=tmp_path)
    assert _numbers(whole) == list(range(900))


def test_an_abort_repeats_the_open_epoch_and_loses_nothing(
    broker: EmbeddedBroker, topic: Topics, tmp_path: Path, read: Read, run_flow: Run
) -> None:
    name = topic("events")
    _fill(broker.bootstrap, name, 500)
    whole: list[RawBatch] = []

    def abort_at(count: int) -> Callable[[], bool]:
        def stopping() -> bool:
            if len(_rows(whole)) >= count:
                raise AbortExecution
            return False

        return stopping

    for upto in (100, 300):
        source = _source(broker.bootstrap, [name], poll_max=10, stopping=abort_at(upto))
        run_flow(_flow(source, whole), store=tmp_path)
    whole += read(_source(broker.bootstrap, [name], stop="end"), store=tmp_path)
    offsets = [offset for _, offset, _ in _rows(whole)]
    assert sorted(set(offsets)) == list(range(500))
    assert len(offsets) <= 500 + 2 * 50, "only the epochs in flight are repeated"


def test_a_replay_resumed_after_its_end_reads_only_what_is_new(
    broker: EmbeddedBroker, topic: Topics, tmp_path: Path, read: Read
) -> None:
    name = topic("events")
    for first in (0, 60):
        _fill(broker.bootstrap, name, 60, first=first)
        out = read(_source(broker.bootstrap, [name], start="ts=1700000030", stop="end"), store=tmp_path)
        assert _numbers(out) == list(range(max(30, first), first + 60))


def test_a_topic_made_again_is_read_from_the_configured_start(
    broker: EmbeddedBroker, topic: Topics, tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Read
) -> None:
    name = topic("events")
    _fill(broker.bootstrap, name, 30)
    before = read(_source(broker.bootstrap, [name], stop="end"), store=tmp_path)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([name])[name].result(5)
    ensure_topics(broker.bootstrap, {name: 1})
    _fill(broker.bootstrap, name, 40)
    with caplog.at_level(logging.WARNING):
        after = read(_source(broker.bootstrap, [name], stop="end"), store=tmp_path)
    assert _numbers(after) == list(range(40))
    assert after[0].partition.identity != before[0].partition.identity
    assert "re-created" in caplog.text


def test_the_end_is_exact_for_batches_of_records(broker: EmbeddedBroker, topic: Topics) -> None:
    """Tansu's answer to ListOffsets counts the last batch as one record."""
    name = topic("events", partitions=2)
    _fill(broker.bootstrap, name, 200, partitions=2)
    found = watermarks(broker.bootstrap, [(name, 0), (name, 1)])
    assert found == {(name, 0): Watermarks(0, 100), (name, 1): Watermarks(0, 100)}


def test_positions_are_mirrored_to_the_group(
    broker: EmbeddedBroker, topic: Topics, tmp_path: Path, read: Read
) -> None:
    name = topic("events")
    _fill(broker.bootstrap, name, 77)
    read(_source(broker.bootstrap, [name], stop="end", group=f"g-{name}"), store=tmp_path)
    asker = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"g-{name}"})
    assert asker.committed([TopicPartition(name, 0)], timeout=5)[0].offset == 77
    asker.close()


def test_the_mirror_follows_one_snapshot_behind(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("events")
    _fill(broker.bootstrap, name, 50)
    source = _source(broker.bootstrap, [name], group=f"g-{name}", poll_max=10)
    source.list_parts()
    part = source.build_part("in", f"{name}/0", None)
    asker = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": f"g-{name}"})
    taken = []
    for _ in range(2):
        _poll(part)
        taken.append(part.snapshot()["offset"])
    deadline = time.monotonic() + 5
    seen = -1001
    while seen < 0 and time.monotonic() < deadline:
        part.next_batch()
        seen = asker.committed([TopicPartition(name, 0)], timeout=5)[0].offset
    assert seen == taken[0] < taken[1]
    part.close()
    assert asker.committed([TopicPartition(name, 0)], timeout=5)[0].offset == taken[1]
    asker.close()


def _poll(part: StatefulSourcePartition[RawBatch, Position], *, seconds: float = 8.0) -> list[RawBatch]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if batches := list(part.next_batch()):
            return batches
        time.sleep(0.002)
    pytest.fail(f"no batch within {seconds} s")


def test_lag_is_told(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("events")
    _fill(broker.bootstrap, name, 50)
    told: list[tuple[str, int]] = []
    source = _source(broker.bootstrap, [name], poll_max=10, on_lag=lambda part, lag: told.append((part, lag)))
    source.list_parts()
    part = source.build_part("in", f"{name}/0", None)
    began = time.monotonic()
    first = _poll(part)[0]
    # Polls before the broker's first answer count as well: nothing is read then.
    assert told[0] in {(f"{name}/0", 50), (f"{name}/0", 50 - len(first.offsets))}
    for _ in range(4):
        _poll(part)
    assert len(told) <= 1 + int(time.monotonic() - began), "at most once a second"
    time.sleep(1.0)
    part.next_batch()
    assert told[-1] == (f"{name}/0", 0)
    part.close()


def test_the_lag_is_known_before_the_first_record_and_where_there_is_none(
    broker: EmbeddedBroker, topic: Topics
) -> None:
    name = topic("events", partitions=2)
    _fill(broker.bootstrap, name, 5)
    told: dict[str, int] = {}
    source = _source(broker.bootstrap, [name], on_lag=told.__setitem__, poll_max=1)
    for key in source.list_parts():
        part = source.build_part("in", key, None)
        part.next_batch()
        part.close()
    assert told.keys() == {f"{name}/0", f"{name}/1"}
    assert told[f"{name}/0"] in {4, 5}
    assert told[f"{name}/1"] == 0


def test_each_snapshot_tells_of_an_epoch(broker: EmbeddedBroker, topic: Topics) -> None:
    told: list[bool] = []
    source = _source(broker.bootstrap, [topic("events")], on_epoch=lambda: told.append(True))
    part = source.build_part("in", source.list_parts()[0], None)
    part.snapshot()
    part.snapshot()
    part.close()
    assert len(told) == 2


@pytest.mark.parametrize("waits", [True, False])
def test_a_cluster_that_is_away_at_the_start_is_waited_for_by_a_live_job(waits: bool) -> None:
    told: list[str] = []
    source = _source(
        "127.0.0.1:1",
        ["events"],
        down_after_s=1.5,
        timeout_s=0.5,
        waits=waits,
        on_trouble=lambda _, trouble: told.append(trouble),
    )
    with pytest.raises(KafkaFault, match=r"127\.0\.0\.1:1") as caught:
        source.list_parts()
    assert isinstance(caught.value, StayedAwayFault) == waits
    assert bool(told) == waits


def test_a_cluster_that_comes_while_it_is_waited_for_is_read(topic: Topics, broker: EmbeddedBroker) -> None:
    name, told = topic("events"), list[str]()
    source = _source(broker.bootstrap, [name], waits=True, on_trouble=lambda _, trouble: told.append(trouble))
    look, looks = source._look, itertools.count()

    def away_at_first(timeout_s: float) -> Any:
        if next(looks) == 0:
            raise NoAnswerFault("no answer")
        return look(timeout_s)

    source._look = away_at_first  # type: ignore[method-assign]
    assert source.list_parts() == [f"{name}/0"]
    assert told == ["no answer", ""]


@pytest.mark.parametrize("listens", [False, True], ids=["refused", "hangs up"])
def test_the_address_that_a_broker_sends_its_clients_to_is_named_where_it_cannot_be_reached(
    listens: bool,
) -> None:
    proxy = KafkaProxy()
    with EmbeddedBroker(advertised=proxy.address) as own:
        proxy.target = int(own.bootstrap.split(":")[1])
        ensure_topics(own.bootstrap, {"events": 2})
        assert overview(own.bootstrap, ["events"]).out_of_reach == {}
        if listens:
            proxy.target = 1  # where nobody listens
        else:
            proxy.close()
        assert list(overview(own.bootstrap, ["events"]).out_of_reach) == [proxy.address]
        with pytest.raises(NoAnswerFault, match=rf"sends its clients to {proxy.address}, .*advertised"):
            _source(own.bootstrap, ["events"], timeout_s=1.0).list_parts()


def test_polling_never_blocks(broker: EmbeddedBroker, topic: Topics) -> None:
    source = _source(broker.bootstrap, [topic("events")])
    part = source.build_part("in", source.list_parts()[0], None)
    slowest = 0.0
    for _ in range(200):
        began = time.perf_counter()
        assert part.next_batch() == []
        slowest = max(slowest, time.perf_counter() - began)
        assert part.next_awake() is not None
    part.close()
    assert slowest < 0.5, "a wait would show; scheduling noise does not"


def test_a_broker_that_stays_away_is_a_fault_and_stopping_is_quick() -> None:
    with EmbeddedBroker() as own:
        ensure_topics(own.bootstrap, {"events": 1})
        _fill(own.bootstrap, "events", 10)
        told: list[tuple[str, str]] = []
        source = _source(
            own.bootstrap,
            ["events"],
            down_after_s=1.0,
            group="g",
            on_trouble=lambda place, trouble: told.append((place, trouble)),
        )
        source.list_parts()
        part = source.build_part("in", "events/0", None)
        _poll(part)
        part.snapshot()
        own.kill()
        began = time.monotonic()
        with pytest.raises(StayedAwayFault, match=r"no broker of events at .*restart goes on"):
            _poll(part)
        assert told == [(f"events at {own.bootstrap}", "no broker answers")]
        assert part.snapshot()["offset"] == 10
        part.close()
        del part
        assert time.monotonic() - began < 8


def test_a_broker_that_hangs_is_noticed_though_nothing_is_written_and_the_client_is_patient() -> None:
    """The client alone would wait for an answer longer than the job waits for the broker."""
    with EmbeddedBroker() as own:
        ensure_topics(own.bootstrap, {"events": 2})
        told: list[str] = []
        source = _source(
            own.bootstrap,
            ["events"],
            down_after_s=2.0,
            group="g",
            client={"socket.timeout.ms": "120000"},
            on_trouble=lambda _, trouble: told.append(trouble),
        )
        parts = _parts(source)

        def ask(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                for part in parts:
                    assert not part.next_batch()
                time.sleep(0.002)

        ask(2.0)
        assert told == [], "a broker with nothing new is there"
        assert own.pid is not None
        os.kill(own.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StayedAwayFault, match=r"no broker of events at .*restart goes on"):
                ask(30.0)
            assert told == ["no broker answers"]
            for part in parts:
                part.close()
        finally:
            os.kill(own.pid, signal.SIGCONT)


def _parts(source: KafkaSource) -> list[StatefulSourcePartition[RawBatch, Position]]:
    return [source.build_part("in", name, None) for name in source.list_parts()]


def _turns(parts: list[StatefulSourcePartition[RawBatch, Position]], count: int) -> list[RawBatch]:
    """Ask partitions in turns, as bytewax does, until so many records came of all together."""
    out: list[RawBatch] = []
    deadline = time.monotonic() + 15
    while len(_rows(out)) < count:
        assert time.monotonic() < deadline, f"{len(_rows(out))} of {count} records came"
        for part in parts:
            out += part.next_batch()
        time.sleep(0.001)
    return out


def test_the_partitions_of_a_source_share_one_consumer(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("events", partitions=32)
    _fill(broker.bootstrap, name, 320, partitions=32)
    parts = _parts(_source(broker.bootstrap, [name]))
    before = len(os.listdir("/proc/self/task"))
    out = _turns(parts, 320)
    assert len(os.listdir("/proc/self/task")) - before < 16
    for part in parts:
        part.close()
    assert _numbers(out) == list(range(320))
    assert all(part.snapshot()["offset"] == 10 for part in parts)


def test_idle_partitions_are_asked_again_together_and_less_often_the_more_there_are(
    broker: EmbeddedBroker, topic: Topics
) -> None:
    parts = _parts(_source(broker.bootstrap, [topic("events", partitions=256)], idle_s=0.05))
    asked = datetime.now(timezone.utc)
    for part in parts:
        assert part.next_batch() == []
    awake = {part.next_awake() for part in parts}
    assert len(awake) == 1
    first = awake.pop()
    assert first is not None
    assert first - asked >= timedelta(seconds=0.1)
    for part in parts:
        part.close()


@pytest.mark.parametrize("count", [40, 2000], ids=["few records", "more than there is room for"])
def test_a_partition_that_takes_nothing_does_not_stop_the_others_and_loses_nothing(
    broker: EmbeddedBroker, topic: Topics, count: int
) -> None:
    """As one does whose epoch is not closed yet."""
    name = topic("events", partitions=3)
    _fill(broker.bootstrap, name, 3 * count, partitions=3)
    parts = _parts(_source(broker.bootstrap, [name], poll_max=20))
    out = _turns(parts[1:], 2 * count)
    assert parts[0].snapshot()["offset"] == 0
    out += _turns(parts[:1], count)
    for number, part in enumerate(parts):
        assert [row[1] for row in _rows(out) if row[0] == f"{name}/{number}"] == list(range(count))
        assert part.snapshot()["offset"] == count
        part.close()


def test_a_partition_that_ended_does_not_stop_the_others(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("events", partitions=3)
    _fill(broker.bootstrap, name, 900, partitions=3)
    source = _source(
        broker.bootstrap, [name], poll_max=20, stop={f"{name}/0": 7, f"{name}/1": 300, f"{name}/2": 0}
    )
    parts = _parts(source)
    out: list[RawBatch] = []
    deadline = time.monotonic() + 15
    while parts:
        assert time.monotonic() < deadline
        for part in list(parts):
            try:
                out += part.next_batch()
            except StopIteration:
                part.close()
                parts.remove(part)
    assert [row[1] for row in _rows(out) if row[0] == f"{name}/0"] == list(range(7))
    assert [row[1] for row in _rows(out) if row[0] == f"{name}/1"] == list(range(300))


def test_a_log_that_was_cut_is_another_one_from_there_on(broker: EmbeddedBroker, topic: Topics) -> None:
    """Also for who reads it from its beginning: users know what they absorbed of each."""
    name = topic("events")
    _fill(broker.bootstrap, name, 100)
    source = _source(broker.bootstrap, [name], poll_max=1000)
    (key,) = source.list_parts()
    fresh = source.build_part("in", key, None)
    identity = fresh.snapshot()["identity"]
    fresh.close()
    cut = Position(identity=identity, offset=0, from_ms=None, since=0, cuts=[40, 70])
    part = source.build_part("in", key, cut)
    found = {
        batch.partition.identity: (batch.offsets[0], batch.offsets[-1], batch.partition.since)
        for batch in _turns([part], 100)
    }
    assert found == {
        identity: (0, 39, 0),
        f"{identity}.1": (40, 69, 40),
        f"{identity}.2": (70, 99, 70),
    }
    kept = part.snapshot()
    assert (kept["identity"], kept["offset"], kept["cuts"], kept["since"]) == (identity, 100, [40, 70], 70)
    part.close()


def test_a_missing_topic_is_a_fault(broker: EmbeddedBroker) -> None:
    with pytest.raises(KafkaSettingsFault, match=r"no topic \['never-made'\]; create it"):
        _source(broker.bootstrap, ["never-made"]).check()


def test_offsets_must_name_every_partition(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("events", partitions=2)
    with pytest.raises(KafkaSettingsFault, match=rf"nothing for \['{name}/1'\], unknown \['typo/0'\]"):
        _source(broker.bootstrap, [name], start={f"{name}/0": 0, "typo/0": 1}).list_parts()


def test_a_position_lost_to_retention_is_a_fault_not_a_gap() -> None:
    position = Position(identity="e/0@1", offset=5, from_ms=None)
    mend = r'kafka.on_loss = "skip".*recstream positions --to'
    with pytest.raises(KafkaSettingsFault, match=rf"15 offsets are lost to retention; .*{mend}"):
        raise loss_fault("e/0", loss_since(position, [], Watermarks(20, 90)))
    with pytest.raises(KafkaSettingsFault, match=rf"beyond the end, 3.*{mend}"):
        raise loss_fault("e/0", loss_since(position, [], Watermarks(0, 3)))
    with pytest.raises(KafkaSettingsFault, match=r"start offset 7 is below.*name an offset that is held"):
        first_offset("e/0", {"e/0": 7}, Watermarks(20, 90), None)
