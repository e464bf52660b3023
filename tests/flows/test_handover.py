"""Guarantee G8: replayed or live, in pieces, overlapping or interrupted, a log gives the same users."""

from __future__ import annotations

import gzip
import random
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition

from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.support.commands import HASHING, command, environment, recstream
from tests.support.live_jobs import wait_until
from tests.support.logs import Record, events, read_lines, versions_after
from tests.support.scenarios import PlacedRecord, Scenario, rich_log, spread
from tests.support.topics import Reader, produce

pytestmark = pytest.mark.kafka

LOG = rich_log(600, twice=0.0)
MS = 1_700_000_000_000
"""Timestamp of the first message of a topic whose messages have timestamps of their own."""


@pytest.fixture(scope="module")
def scenario(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Where the whole log was replayed from a file into the store ``whole``."""
    made = Scenario(broker.bootstrap, tmp_path_factory.mktemp("handover"))
    made.replay("whole", made.file("whole.jsonl", LOG))
    assert made.versions("whole") == versions_after(LOG)
    return made


def assert_same(scenario: Scenario, store: str, wanted: str = "whole") -> None:
    found = scenario.compare(store, wanted)
    assert found.first == []
    assert found.equal == 8


def in_turn(log: Sequence[Record], partitions: int = 3) -> list[PlacedRecord]:
    """The log over partitions, one a second, but up to 100 s early or late by the messages' own times."""
    rng = random.Random("times")
    return [
        PlacedRecord(rng.randrange(partitions), record, MS + 1000 * (number + rng.randrange(201)))
        for number, record in enumerate(log)
    ]


# from a file to a topic


def test_a_topic_that_overlaps_the_file_replayed_before_it_counts_nothing_twice(scenario: Scenario) -> None:
    log = rich_log(600, with_id=1.0, twice=0.0)
    scenario.replay("whole-ids", scenario.file("ids.jsonl", log))
    scenario.replay("overlap", scenario.file("first.jsonl", log[:400]))
    topic = scenario.events(spread(log[250:500], 3), partitions=3)
    with scenario.live("overlap", topic) as live:
        live.until(log[:500])
        scenario.send(topic, spread(log[500:], 3))
        live.until(log)
        account = live.stop()
    assert (account.read, account.duplicate, account.applied) == (350, 150, 200)
    assert_same(scenario, "overlap", "whole-ids")


def test_a_topic_that_goes_on_where_the_file_ended_needs_no_ids(scenario: Scenario) -> None:
    scenario.replay("goes-on", scenario.file("first.jsonl", LOG[:400]))
    topic = scenario.events(spread(LOG[400:], 3), partitions=3)
    with scenario.live("goes-on", topic) as live:
        live.until(LOG)
        assert live.stop().applied == 200
    assert_same(scenario, "goes-on")


# from a topic to the same topic


@pytest.mark.parametrize(
    "stop",
    ["end", pytest.param("offsets", marks=pytest.mark.slow), pytest.param("ts", marks=pytest.mark.slow)],
)
def test_what_was_replayed_of_a_topic_is_absorbed_when_the_job_reads_it(
    scenario: Scenario, stop: str
) -> None:
    placed = in_turn(LOG)
    topic = scenario.events(placed[:400], partitions=3)
    stops = {
        "end": ("end", 400),
        "ts": (f"ts={MS // 1000 + 305}", sum(one.ms < MS + 305_000 for one in placed[:400])),
        "offsets": ("offsets=" + orjson.dumps({f"{topic}/{k}": 70 for k in range(3)}).decode(), 210),
    }
    bound, count = stops[stop]
    store = f"absorbed-{stop}"
    assert scenario.replay(store, topic, backfill__stop=bound).applied == count
    with scenario.live(store, topic) as live:
        live.until(LOG[:400])
        scenario.send(topic, placed[400:])
        live.until(LOG)
        account = live.stop()
    assert (account.read, account.absorbed, account.applied) == (600, count, 600 - count)
    assert_same(scenario, store)


def test_the_part_before_a_job_that_began_at_the_end_can_be_replayed_later(scenario: Scenario) -> None:
    placed = spread(LOG, 3)
    topic = scenario.events(placed[:250], partitions=3)
    with scenario.live("latest", topic, kafka__start="latest") as live:
        asked = ask_until_answered(scenario, topic, live.lists)
        scenario.send(topic, placed[250:400])
        live.until(LOG[250:400])
        done = recstream(
            *("backfill", "--events", f"kafka:{topic}", "--state", scenario.store("latest"), *HASHING),
            *("--set", f"kafka.bootstrap={scenario.bootstrap}"),
        )
        assert done.returncode == 1, done.stderr
        assert "is in use by `recstream run`" in done.stderr
        assert live.stop().applied >= 150
    account = scenario.replay("latest", topic)
    assert account.read == 400 + asked
    assert account.absorbed == 150
    assert scenario.versions("latest") == versions_after(LOG[:400])
    with scenario.live("latest", topic, kafka__start="latest") as live:
        scenario.send(topic, placed[400:])
        live.until(LOG)
        assert live.stop().read == 200
    assert_same(scenario, "latest")
    assert scenario.replay("latest", topic).applied == 0, "what is there already counts no more"
    assert_same(scenario, "latest")


def ask_until_answered(scenario: Scenario, topic: str, lists: str) -> int:
    """Send requests, which change nothing, until a job that begins at the end answers; gives how many."""
    reader = Reader(scenario.bootstrap, lists)
    asked = 0

    def answered() -> bool:
        nonlocal asked
        produce(scenario.bootstrap, topic, [{"user_id": "u0", "ts": LOG[0]["ts"], "action": "request"}])
        asked += 1
        return bool(reader.poll())

    wait_until(answered, "the first list")
    reader.close()
    return asked


def test_a_replay_leaves_the_group_alone_by_which_the_lag_of_the_job_is_watched(scenario: Scenario) -> None:
    topic = scenario.events(spread(LOG, 3), partitions=3)
    group = f"group-{topic}"
    assert (
        scenario.replay(
            "group", topic, kafka__group=group, backfill__items=f"kafka:{scenario.items_topic}"
        ).read
        == 600
    )
    asker = Consumer({"bootstrap.servers": scenario.bootstrap, "group.id": group})
    parts = [TopicPartition(topic, number) for number in range(3)] + [TopicPartition(scenario.items_topic, 0)]
    assert {one.offset for one in asker.committed(parts, timeout=10)} == {OFFSET_INVALID}
    asker.close()


# a topic in pieces


@pytest.mark.parametrize("order", [1, -1])
def test_two_adjoining_windows_of_time_in_either_order_are_the_whole(scenario: Scenario, order: int) -> None:
    placed = in_turn(LOG)
    topic = scenario.events(placed, partitions=3)
    at = MS // 1000 + 300
    early = sum(one.ms < at * 1000 for one in placed)
    windows = [({"backfill__stop": f"ts={at}"}, early), ({"kafka__start": f"ts={at}"}, 600 - early)]
    store = f"windows{order}"
    for bounds, count in windows[::order]:
        account = scenario.replay(store, topic, **bounds)
        assert (account.read, account.applied) == (count, count)
    assert_same(scenario, store)


def test_a_window_holds_exactly_the_records_of_its_time(scenario: Scenario) -> None:
    placed = in_turn(LOG)
    topic = scenario.events(placed, partitions=3)
    begin, end = MS // 1000 + 100, MS // 1000 + 220
    inside = [one.record for one in placed if begin * 1000 <= one.ms < end * 1000]
    account = scenario.replay("window", topic, kafka__start=f"ts={begin}", backfill__stop=f"ts={end}")
    assert (account.read, account.applied) == (len(inside), len(inside))
    scenario.replay("window-wanted", scenario.file("window.jsonl", inside))
    assert_same(scenario, "window", "window-wanted")


@pytest.mark.parametrize("which", ["after a time", "before a time", "between offsets"])
def test_a_piece_of_the_events_knows_all_items_of_their_topic(scenario: Scenario, which: str) -> None:
    """Items sent before, within and after the window: it says nothing of them."""
    placed = in_turn(LOG[:200])
    topic = scenario.events(placed, partitions=3)
    items = scenario.topic("items")
    years = (MS - 10**10, MS + 150_000, MS + 10**10)
    scenario.send(items, [PlacedRecord(0, one, years[n % 3]) for n, one in enumerate(scenario.catalogue)])
    offsets = {f"{topic}/{partition}": 20 for partition in range(3)}
    bounds = {
        "after a time": {"kafka__start": f"ts={MS // 1000 + 150}"},
        "before a time": {"backfill__stop": f"ts={MS // 1000 + 150}"},
        "between offsets": {"kafka__start": f"offsets={orjson.dumps(offsets).decode()}"},
    }[which]
    account = scenario.replay(f"items {which}", topic, backfill__items=f"kafka:{items}", **bounds)
    assert account.rejected == 0
    assert account.applied == account.read > 0


@pytest.mark.parametrize(
    ("name", "pieces", "wanted"),
    [
        ("backwards", [(300, 450), (100, 350), (0, 120), (400, 600)], [150, 200, 100, 150]),
        ("gap", [(0, 120), (400, 600), (100, 350), (300, 450)], [120, 200, 230, 50]),
    ],
)
def test_pieces_between_offsets_may_be_replayed_in_any_order_and_overlap(
    scenario: Scenario, name: str, pieces: list[tuple[int, int]], wanted: list[int]
) -> None:
    topic = scenario.events(in_turn(LOG, 1))
    applied = []
    for start, stop in pieces:
        bounds = {"kafka__start": f'offsets={{"{topic}/0": {start}}}'}
        bounds["backfill__stop"] = f'offsets={{"{topic}/0": {stop}}}'
        account = scenario.replay(name, topic, **bounds)
        assert account.read == stop - start
        applied.append(account.applied)
        assert scenario.replay(name, topic, **bounds).read == 0, "the same again goes on where it was"
    assert applied == wanted
    assert_same(scenario, name)


def test_two_logs_may_be_replayed_into_one_store(scenario: Scenario) -> None:
    topics = [scenario.events(spread(part, 2), partitions=2) for part in (LOG[:200], LOG[200:400])]
    sources: list[str | Path] = [*topics, scenario.file("last.jsonl", LOG[400:])]
    for source in sources:
        assert scenario.replay("logs", source).applied == 200
    assert_same(scenario, "logs")


def test_the_rejects_of_every_replay_into_a_store_are_kept(scenario: Scenario) -> None:
    lost = [{**one, "item_id": "nowhere", "action": "view"} for one in LOG[:4]]
    topic = scenario.events([PlacedRecord(0, one) for one in lost[:3]])
    sources: list[tuple[str | Path, dict[str, str]]] = [
        (topic, {"backfill__stop": f'offsets={{"{topic}/0": 2}}'}),
        (topic, {"kafka__start": f'offsets={{"{topic}/0": 2}}'}),
        (scenario.file("lost.jsonl", lost[3:]), {}),
    ]
    for source, bounds in sources:
        assert scenario.replay("rejects", source, **bounds).rejected == (
            2 if "backfill__stop" in bounds else 1
        )
    for source, bounds in sources:
        for refresh in ("end", "event"):
            scenario.replay("rejects", source, **bounds, backfill__refresh=refresh)
    letters = [
        one for path in scenario.store("rejects").glob("dead-letter*.jsonl") for one in read_lines(path)
    ]
    assert {(one["source"]["partition"], one["source"]["offset"]) for one in letters} == {
        *((f"{topic}/0", offset) for offset in range(3)),
        ("lost.jsonl", 0),
    }


def test_lists_may_go_to_another_file_the_next_time(scenario: Scenario) -> None:
    outs = [scenario.folder / "one-lists.jsonl", scenario.folder / "other-lists.jsonl"]
    for out in outs:
        scenario.replay("outs", scenario.folder / "whole.jsonl", backfill__out=str(out))
    one, other = ([(list_["user_id"], list_["version"]) for list_ in read_lines(out)] for out in outs)
    assert one == other == sorted(scenario.versions("whole").items())


@pytest.mark.parametrize("kind", ["file", "topic"])
def test_a_log_replayed_twice_changes_nothing(scenario: Scenario, kind: str) -> None:
    source = (
        scenario.folder / "whole.jsonl" if kind == "file" else scenario.events(spread(LOG, 3), partitions=3)
    )
    store = f"twice-{kind}"
    assert scenario.replay(store, source).applied == 600
    assert scenario.replay(store, source).read == 0
    account = scenario.replay(store, source, backfill__refresh="batch")
    assert (account.read, account.absorbed) == (600, 600)
    assert_same(scenario, store)


# interrupted


@dataclass(frozen=True)
class Cut:
    """A log to be replayed with a list after each event, from anywhere to anywhere."""

    scenario: Scenario
    name: str
    source: str
    out: Path

    def options(self) -> list[str]:
        return [
            *("backfill", "--events", self.source, "--items", str(self.scenario.items_file)),
            *("--state", str(self.scenario.store(self.name)), "--out", str(self.out), "--refresh", "event"),
            *("--top-n", "5", "--set", f"kafka.bootstrap={self.scenario.bootstrap}", *HASHING),
            *("--set", "backfill.epoch_s=0.1", "--set", "kafka.poll_max=50"),
        ]

    def lists(self) -> list[Record]:
        content = (
            gzip.decompress(self.out.read_bytes()) if self.out.suffix == ".gz" else self.out.read_bytes()
        )
        assert content.endswith(b"\n")
        return [orjson.loads(line) for line in content.splitlines()]


LONG = events(2000, users=60, items=40)


@pytest.fixture(scope="module")
def uninterrupted(scenario: Scenario) -> Cut:
    run = Cut(
        scenario, "uninterrupted", str(scenario.file("long.jsonl", LONG)), scenario.folder / "lists.jsonl"
    )
    done = recstream(*run.options())
    assert done.returncode == 0, done.stderr
    assert [one["as_of"]["offset"] for one in run.lists()] == list(range(len(LONG)))
    return run


def cut_of(scenario: Scenario, kind: str, number: signal.Signals) -> Cut:
    name = f"cut-{kind}-{number.name}"
    if kind == "gz":
        source = scenario.folder / f"{name}.jsonl.gz"
        source.write_bytes(gzip.compress((scenario.folder / "long.jsonl").read_bytes()))
        return Cut(scenario, name, str(source), scenario.folder / f"{name}-lists.jsonl.gz")
    out = scenario.folder / f"{name}-lists.jsonl"
    if kind == "topic":
        return Cut(scenario, name, "kafka:" + scenario.events([PlacedRecord(0, one) for one in LONG]), out)
    return Cut(scenario, name, str(scenario.folder / "long.jsonl"), out)


SHORT = {("gz", signal.SIGKILL), ("topic", signal.SIGINT)}


def interruptions() -> Iterator[object]:
    for kind in ("plain", "gz", "topic"):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            marks = [] if (kind, number) in SHORT else [pytest.mark.slow]
            yield pytest.param(kind, number, marks=marks, id=f"{kind}-{number.name}")


def newest(lists: list[Record]) -> dict[str, int]:
    """Version of the last list of each user."""
    return {one["user_id"]: one["version"] for one in lists}


@pytest.mark.parametrize(("kind", "number"), list(interruptions()))
def test_an_interrupted_replay_ends_as_if_it_had_not_been(
    scenario: Scenario, uninterrupted: Cut, kind: str, number: signal.Signals
) -> None:
    run = cut_of(scenario, kind, number)
    for _ in range(2 if number is signal.SIGKILL else 1):
        size = run.out.stat().st_size if run.out.exists() else 0
        grown = size + (15_000 if kind == "gz" else 150_000)
        with subprocess.Popen(
            command(*run.options()), env=environment(), stderr=subprocess.PIPE, text=True
        ) as process:
            wait_until(
                lambda grown=grown: run.out.exists() and run.out.stat().st_size > grown,  # type: ignore[misc]
                "more lists",
            )
            process.send_signal(number)
            told = process.communicate(timeout=60)[1]
        assert process.returncode == (-9 if number is signal.SIGKILL else 130), told
    done = recstream(*run.options())
    assert done.returncode == 0, done.stderr
    lists, wanted = run.lists(), uninterrupted.lists()
    assert [one["user_id"] for one in lists] == [one["user_id"] for one in wanted]
    if number is signal.SIGKILL:
        # Killed between the store's write and the commit, the lists of that epoch are made again of the
        # state after it: as new as they should be, or newer.
        assert all(one["version"] >= other["version"] for one, other in zip(lists, wanted, strict=True))
        assert newest(lists) == newest(wanted)
    else:
        assert [one["as_of"]["offset"] for one in lists] == list(range(len(LONG)))
        parts = ("user_id", "version", "trigger")
        for one, other in zip(lists, wanted, strict=True):
            assert [one[part] for part in parts] == [other[part] for part in parts]
            mine, theirs = ([listed["item_id"] for listed in some["items"]] for some in (one, other))
            assert mine == theirs
            # What was learned is exact but for the last digits: decayed counts are stored as of a moment.
            scores = [[listed["score"] for listed in some["items"]] for some in (one, other)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    found = scenario.compare(run.name, uninterrupted.name)
    assert (found.first, found.equal) == ([], 60)
