"""Positions of the live job are shown while it runs, set while it does not, and then gone on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink
from confluent_kafka.admin import AdminClient

from recstream.cli.positions import _bound
from recstream.config import Settings
from recstream.connectors.base import ConnectorError, PartitionPosition, ReadOptions
from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.connector import KafkaConnector
from recstream.operations.positions import Move, set_job_positions
from recstream.records.bounds import parse_bound
from recstream.records.transport import RawBatch
from recstream.runtime.locks import StoreBusyError, job_lock
from recstream.runtime.positions import LIVE, committed_positions, compared_positions, positions_dir
from tests.support.commands import recstream
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import events, item, versions_after
from tests.support.stored_users import stored_users
from tests.support.topics import Reader, produce

pytestmark = pytest.mark.kafka

Topics = Callable[..., str]
Read = Callable[..., list[tuple[str, int]]]


@pytest.fixture
def settings(broker: EmbeddedBroker, topic: Topics, tmp_path: Path) -> Settings:
    """Of a job whose events have two partitions of 30 records each, and items one of 10."""
    chosen: dict[str, object] = {
        "kafka.bootstrap": broker.bootstrap,
        "kafka.events_topic": topic("events", partitions=2),
        "kafka.items_topic": topic("items"),
        "kafka.lists_topic": topic("lists"),
        "kafka.dead_letter_topic": topic("dead-letters"),
        "store.path": str(tmp_path / "state"),
        "encoder.backend": "hashing",
        "run.metrics_port": 0,
    }
    return Settings.load(None, {}, chosen)


@pytest.fixture
def read(settings: Settings, run_flow: Callable[..., None]) -> Read:
    """Read what is there by the sources and step names of the live job; what it makes of it is not made."""

    def run(*, workers: int = 1) -> list[tuple[str, int]]:
        connector = KafkaConnector(settings.options_of("kafka"))
        out: list[RawBatch] = []
        df = Dataflow(LIVE)
        for stream, address in (("events", settings.live.events), ("items", settings.live.items)):
            source = connector.source(address, ReadOptions(stop="end"))
            op.output(f"out_{stream}", op.input(stream, df, source), TestingSink(out))
        run_flow(df, workers=workers, store=positions_dir(settings.store_dir, LIVE))
        return sorted((batch.partition.name, offset) for batch in out for offset in batch.offsets)

    return run


def fill(settings: Settings) -> None:
    kafka = settings.kafka
    produce(kafka.bootstrap, kafka.events_topic, [{"user_id": f"u{n}"} for n in range(60)])
    produce(kafka.bootstrap, kafka.items_topic, [{"item_id": f"i{n}"} for n in range(10)])


def stored(settings: Settings, stream: str = "events") -> dict[str, int]:
    return {name: at["offset"] for name, at in committed_positions(settings.store_dir, stream).items()}


def shown(settings: Settings) -> dict[str, PartitionPosition]:
    return {one.partition: one for one in compared_positions(settings)}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("to", ["earliest", "latest", "offsets", "ts"])
def test_the_job_goes_on_where_it_was_told(settings: Settings, read: Read, workers: int, to: str) -> None:
    """The events do; items are read anew from the earliest only."""
    fill(settings)
    whole = read()
    name = settings.kafka.events_topic
    ends = stored(settings)
    if to in ("offsets", "ts"):
        at = {f"{name}/0": 7, f"{name}/1": 11}
        bound: Any = at if to == "offsets" else parse_bound("ts=0", "start")
    else:
        at, bound = (dict.fromkeys(ends, 0) if to == "earliest" else ends), to
    if to == "ts":
        at = dict.fromkeys(ends, 0)
    if to == "latest":
        set_job_positions(settings, "earliest")
    before = stored(settings)
    moves = set_job_positions(settings, bound)
    items = {settings.kafka.items_topic + "/0"} if to == "earliest" else set()
    assert {move.partition for move in moves} == set(at) | items
    assert {m.partition: (m.before, m.after) for m in moves if m.partition in at} == {
        part: (before[part], at[part]) for part in at
    }
    assert stored(settings) == at
    wanted = [(part, offset) for part, offset in whole if part in at and offset >= at[part]]
    if to in ("earliest", "latest"):  # for latest they were set back above
        wanted += [(part, offset) for part, offset in whole if part not in at]
    assert read(workers=workers) == sorted(wanted)
    assert stored(settings) == ends
    assert read(workers=3 - workers) == []


def test_a_single_partition_is_set_and_the_others_stay(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    one = f"{settings.kafka.events_topic}/1"
    assert set_job_positions(settings, {one: 4}) == [Move(one, stored_end(settings, one), 4)]
    assert {part for part, _ in read()} == {one}


def stored_end(settings: Settings, part: str) -> int:
    last = shown(settings)[part].last
    assert last is not None
    return last + 1


def test_a_dry_run_sets_nothing_and_says_the_same(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    before = stored(settings)
    would = set_job_positions(settings, "earliest", dry_run=True)
    assert stored(settings) == before
    assert set_job_positions(settings, "earliest") == would


def test_nothing_is_set_while_a_job_holds_the_store_and_all_is_shown(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    before = stored(settings)
    with job_lock(settings.store_dir, "run"):
        with pytest.raises(StoreBusyError, match="recstream run"):
            set_job_positions(settings, "earliest")
        assert set_job_positions(settings, "earliest", dry_run=True)
        assert shown(settings).keys() == before.keys() | stored(settings, "items").keys()
    assert stored(settings) == before


def test_what_is_behind_is_counted(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    name = f"{settings.kafka.events_topic}/0"
    end = stored_end(settings, name)
    for one in shown(settings).values():
        assert (one.lag, one.lag_s, one.lag_share, one.trouble) == (0, 0.0, 0.0, "")
    set_job_positions(settings, {name: end - 5})
    found = shown(settings)[name]
    assert (found.position, found.first, found.last, found.lag) == (end - 5, 0, end - 1, 5)
    assert found.lag_share == 5 / end
    assert found.lag_s is not None
    assert 0 < found.lag_s < 600


@pytest.mark.parametrize("offset", [-1, 10_000])
def test_an_offset_that_is_not_held_is_refused(settings: Settings, read: Read, offset: int) -> None:
    fill(settings)
    read()
    before = stored(settings)
    with pytest.raises(ConnectorError, match="start offset") as caught:
        set_job_positions(settings, {f"{settings.kafka.events_topic}/0": offset})
    assert caught.value.exit_code == 2
    assert stored(settings) == before


def test_a_partition_or_topic_that_is_not_read_is_refused(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    for bad in ({"other/0": 1}, {f"{settings.kafka.events_topic}/7": 1}):
        with pytest.raises(Exception, match="wanted"):
            set_job_positions(settings, bad)
    with pytest.raises(Exception, match="wanted what the job reads"):
        set_job_positions(settings, "earliest", names=["other"])


def test_a_topic_may_be_named(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    items = settings.kafka.items_topic
    assert [one.partition for one in set_job_positions(settings, "earliest", names=[items])] == [f"{items}/0"]


def test_a_topic_that_was_made_again_is_said(settings: Settings, read: Read) -> None:
    fill(settings)
    read()
    name = settings.kafka.events_topic
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    admin.delete_topics([name])[name].result(10)
    assert "does not exist" in shown(settings)[f"{name}/0"].trouble
    ensure_topics(settings.kafka.bootstrap, {name: 2})
    assert "made again" in shown(settings)[f"{name}/0"].trouble


def test_the_words_of_the_command_line_are_bounds() -> None:
    assert _bound(["e/0=5", "e/1=7"]) == {"e/0": 5, "e/1": 7}
    assert _bound(["latest"]) == "latest"
    assert _bound(["ts=5"]) == parse_bound("ts=5", "start")
    for bad in (["end"], ["latest", "e/0=5"], ["e=5"], ["e/0=-1"]):
        with pytest.raises(Exception, match="wanted"):
            _bound(bad)


def job_environment(settings: Settings) -> dict[str, str]:
    plain = settings.environ_for_child()
    return {name: value for name, value in plain.items() if name.startswith("RECSTREAM_")}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_going_back_counts_nothing_twice(settings: Settings, tmp_path: Path, processes: int) -> None:
    """On the real job, and `recstream positions` as an operator gives it."""
    kafka, log = settings.kafka, events(80, seed=3)
    produce(kafka.bootstrap, kafka.items_topic, [item(number) for number in range(40)])
    produce(kafka.bootstrap, kafka.events_topic, log[:60])
    environment = job_environment(settings) | {"RECSTREAM_RUN__PROCESSES": str(processes)}
    lists = Reader(kafka.bootstrap, kafka.lists_topic)
    with live_job(tmp_path / "log", environment) as job:
        wait_until(lambda: lists.versions() == versions_after(log[:60]), job.text, seconds=120.0)
        told = recstream("positions", "--json", env=environment)
        assert told.returncode == 0, told.stderr
        assert {one["partition"] for one in orjson.loads(told.stdout)} >= {f"{kafka.events_topic}/0"}
        refused = recstream("positions", "--to", "earliest", env=environment)
        assert refused.returncode == 1
        assert "in use" in refused.stderr
        assert job.stop() == 0, job.text()
    before = stored_users(settings.store_dir)
    done = recstream("positions", "--to", "earliest", env=environment)
    assert done.returncode == 0, done.stderr
    assert f"set {kafka.events_topic}/0: " in done.stdout
    with live_job(tmp_path / "log", environment) as job:
        wait_until(lambda: set(stored(settings).values()) != {0}, job.text)
        produce(kafka.bootstrap, kafka.events_topic, log[60:])
        wait_until(lambda: lists.versions() == versions_after(log), job.text, seconds=120.0)
        assert job.stop() == 0, job.text()
        assert "already absorbed 60" in job.text()
    rows = stored_users(settings.store_dir)
    assert {user: row.version for user, row in rows.items()} == versions_after(log)
    assert before.keys() <= rows.keys()
    lists.close()
