"""A store and its positions, left by the release before, are taken up as if nothing had moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import orjson
import pytest

from recstream.connectors.kafka.admin import ensure_topics, topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.metrics.accounting import accounting
from tests.golden.stores import FIRST, SETTINGS, replace_identities, unpacked
from tests.support.commands import recstream
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import read_lines
from tests.support.topics import Reader, produce

TOPICS = {"events": 2, "items": 1, "lists": 1, "dead_letter": 1}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return unpacked(tmp_path, 3)


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    """A broker that has no topics of these names yet: those of the stored positions."""
    with EmbeddedBroker() as broker:
        yield broker


def expected(golden: Path) -> Any:
    """What the release before showed of the stores, and made of them."""
    return orjson.loads((golden / "expected.json").read_bytes())


def assert_same(got: Any, wanted: Any, where: str = "") -> None:
    """Equal, numbers but for what another machine's arithmetic may change."""
    if isinstance(wanted, dict):
        assert sorted(got) == sorted(wanted), where
        for key, value in wanted.items():
            assert_same(got[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), where
        for number, value in enumerate(wanted):
            assert_same(got[number], value, f"{where}[{number}]")
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-3, abs=1e-3), where
    else:
        assert got == wanted, where


def made_at(store: Path) -> int:
    """When that release made the store, Unix milliseconds: later stores count versions anew."""
    (row,) = lancedb.connect(str(store)).open_table("meta").to_arrow().to_pylist()
    return int(row["created_at"] * 1000)


def shown(golden: Path, *what: str) -> Any:
    done = recstream("show", *what, "--json", "--state", "live", env=SETTINGS, cwd=golden)
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout)


@pytest.mark.parametrize("user", ["plain", "words", "waits", "hides", "o'neil ü", "probe"])
def test_users_and_their_lists_are_what_they_were(golden: Path, user: str) -> None:
    wanted = expected(golden)["show"][user]
    got = shown(golden, user)
    del got["list"]["generated_at"]
    assert got["list"].pop("generation") == made_at(golden / "live"), "the release before wrote none"
    assert_same(got, wanted)


def test_learned_weights_and_their_words_are_what_they_were(golden: Path) -> None:
    wanted = expected(golden)["model"]
    assert wanted["examples"] > 0, "there is something to keep"
    got = shown(golden, "--model")
    for one in (*got["signals"], *wanted["signals"]):
        del one["measures"]
    assert_same(got, wanted)


def test_a_replay_goes_on_and_makes_the_same_lists(golden: Path) -> None:
    """Event by event, so that each list follows from the store and the log alone."""
    done = recstream(
        *("backfill", "--events", "events.jsonl", "--items", "late.jsonl", "--state", "backfill"),
        *("--refresh", "event", "--out", "lists.jsonl", "--max-rejects", "99"),
        env=SETTINGS,
        cwd=golden,
    )
    assert done.returncode == 0, done.stderr
    lists = read_lines(golden / "lists.jsonl")
    for one in lists:
        del one["generated_at"]
        assert one.pop("generation") == made_at(golden / "backfill"), "the release before wrote none"
    assert_same(lists, expected(golden)["lists"])


def test_a_replay_resumes_at_the_stored_position(golden: Path) -> None:
    done = recstream(
        *("backfill", "--events", "events.jsonl", "--items", "late.jsonl", "--state", "backfill"),
        env=SETTINGS,
        cwd=golden,
    )
    assert f"read {FIRST} = applied {FIRST} + " in done.stderr, done.stderr


@pytest.mark.kafka
def test_a_live_job_resumes_at_the_stored_positions_and_applies_what_waited(
    golden: Path, own_broker: EmbeddedBroker
) -> None:
    broker = own_broker
    names = {kind: f"golden-{kind}" for kind in TOPICS}
    before = expected(golden)["show"]
    log, probe = read_lines(golden / "events.jsonl"), {"user_id": "probe", "action": "view", "item_id": "i0"}
    ensure_topics(broker.bootstrap, {names[kind]: parts for kind, parts in TOPICS.items()})
    produce(broker.bootstrap, names["events"], [{**probe, "ts": 1_700_000_000}])
    produce(broker.bootstrap, names["events"], [*log[:FIRST], {**probe, "ts": 1_700_100_000}])
    produce(broker.bootstrap, names["items"], read_lines(golden / "items.jsonl"))
    found = topics(broker.bootstrap, [names["events"], names["items"]])
    replace_identities(
        golden / "live",
        {
            b"golden-events/0@2598722d": found[names["events"]].identity(0).encode(),
            b"golden-events/1@2598722d": found[names["events"]].identity(1).encode(),
            b"golden-items/0@42fbbe3c": found[names["items"]].identity(0).encode(),
        },
    )
    settings = {
        **SETTINGS,
        **{f"RECSTREAM_KAFKA__{kind.upper()}_TOPIC": name for kind, name in names.items()},
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_STORE__PATH": str(golden / "live"),
        "RECSTREAM_EVENTS__WAIT_FOR_ITEM_S": "1e9",
    }
    lists = Reader(broker.bootstrap, names["lists"])
    with live_job(golden / "job.log", settings) as job:
        produce(broker.bootstrap, names["items"], read_lines(golden / "late.jsonl"))
        wanted = before["waits"]["version"] + before["waits"]["waiting"]
        wait_until(lambda: lists.versions().get("waits") == wanted, job.text)
        produce(broker.bootstrap, names["events"], log[FIRST:])
        last = {user: one["version"] for user, one in before.items() if user != "probe"}
        last["waits"] = wanted
        for event in log[FIRST:]:
            last[event["user_id"]] += 1
        wait_until(lambda: {user: lists.versions().get(user) for user in last} == last, job.text)
        assert job.stop() == 0, job.text()
    lists.close()
    assert "re-created" not in job.text()
    account = accounting(orjson.loads((golden / "live" / "summaries" / "0.json").read_bytes()))
    assert (account.read, account.absorbed, account.rejected) == (len(log) - FIRST, 0, 0)
    assert account.balanced
