"""A job goes on from a store of an older layout as if it had written it, and refuses what it must not mix."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import lancedb
import msgspec
import orjson
import pytest

from recstream.connectors.kafka.admin import ensure_topics, topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.items.catalogue import Catalogue
from recstream.items.codec import ItemRow
from recstream.items.terms import unpack
from recstream.metrics.accounting import accounting
from recstream.records.actions import actions_with
from recstream.stores.lance import LanceDatabase
from recstream.stores.lance.meta import write_meta
from recstream.testing.stores import same_row
from recstream.users.codec import user_state_of
from recstream.users.counting_rules import counting_rules
from recstream.users.state import UserState
from recstream.users.state_diff import differences
from tests.golden.stores import FIRST, LATE, SETTINGS, contents, replace_identities, unpacked
from tests.support.commands import recstream
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import read_lines, write_lines
from tests.support.stores import open_lance
from tests.support.topics import Reader, produce

TOPICS = {"events": 2, "items": 1, "lists": 1, "dead_letter": 1}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return unpacked(tmp_path)


def database(store: Path) -> LanceDatabase:
    meta = LanceDatabase.inspect(store)
    assert meta is not None
    return open_lance(store, meta, create=False)


def profiles(store: Path) -> tuple[dict[str, UserState], list[str]]:
    """All users, and the item ids of their handles."""
    users, catalogue = database(store).users, Catalogue(8)
    rows = users.fetch(users.ids())
    return {user: user_state_of(row, catalogue) for user, row in rows.items()}, catalogue.ids


def assert_same_stores(one: Path, other: Path) -> None:
    """Every user and all that was learned of items is the same."""
    (mine, ids), (theirs, other_ids) = profiles(one), profiles(other)
    assert sorted(mine) == sorted(theirs)
    for user, profile in mine.items():
        assert differences(profile, theirs[user], ids, other_ids) == [], user


def tables(store: Path) -> dict[Path, bytes]:
    return {
        path: raw for path, raw in contents(store).items() if any(".lance" in part for part in path.parts)
    }


def statistics_of(store: Path) -> dict[str, tuple[float, float, list[str]]]:
    """Of each item how often it was engaged with, lately and ever, and with what (its pairs weigh anew)."""
    found = {}
    for row in database(store).statistics.changed_since(-1):
        others, _ = msgspec.msgpack.decode(row.state[1:])
        popular = row.counts[2] if row.state[0] == 1 else row.counts[3]
        found[row.item_id] = (round(row.counts[0], 9), popular, sorted(others))
    return found


def assert_same_statistics(store: Path, before: Path) -> None:
    """What fades with the events differs a little: an earlier release counted a micro-batch in no order."""
    found, wanted = statistics_of(store), statistics_of(before)
    assert {item: one[1:] for item, one in found.items()} == {item: one[1:] for item, one in wanted.items()}
    assert {item: one[0] for item, one in found.items()} == pytest.approx(
        {item: one[0] for item, one in wanted.items()}, rel=0.25
    )


def upgraded(store: Path, **settings: str) -> None:
    done = recstream("upgrade", "--state", store, env={**SETTINGS, **settings})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("run", "--processes", "2"), marks=pytest.mark.slow),
        ("backfill", "--events", "events.jsonl"),
        pytest.param(("catalogue", "load", "late.jsonl"), marks=pytest.mark.slow),
        pytest.param(("show", "plain"), marks=pytest.mark.slow),
        pytest.param(("forget", "plain", "--offline"), marks=pytest.mark.slow),
    ],
    ids=lambda command: command[0],
)
def test_an_old_store_is_refused_with_a_command_that_mends_it(golden: Path, command: tuple[str, ...]) -> None:
    done = recstream(*command, "--state", "backfill", env=SETTINGS, cwd=golden)
    assert done.returncode == 2, done.stderr
    assert "has layout 1, this release works on 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert "a process died" not in done.stderr, "starting again is no use"
    mend = done.stderr.partition("run `recstream ")[2].partition("`")[0]
    dry = recstream(*shlex.split(mend), "--dry-run", env=SETTINGS, cwd=golden)
    assert (dry.returncode, dry.stdout.count("would do: ")) == (0, 5), dry.stderr
    done = recstream(*shlex.split(mend), env=SETTINGS, cwd=golden)
    assert (done.returncode, done.stdout.count("done: ")) == (0, 5), done.stderr
    again = recstream(*shlex.split(mend), env=SETTINGS, cwd=golden)
    assert (again.returncode, again.stdout.split(":")[0]) == (0, "nothing to do")
    shown = recstream("show", "plain", "--state", "backfill", env=SETTINGS, cwd=golden)
    assert "user plain: " in shown.stdout, shown.stderr


@pytest.mark.parametrize("layout", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_replay_goes_on_from_an_upgraded_store_as_if_it_had_written_it(tmp_path: Path, layout: int) -> None:
    golden = unpacked(tmp_path, layout)
    upgraded(golden / "backfill")
    replay = ("backfill", "--events", "events.jsonl", "--items")
    first = (*replay, "items.jsonl", "--limit", str(FIRST), "--max-rejects", str(LATE), "--state", "new")
    done = recstream(*first, env=SETTINGS, cwd=golden)
    assert done.returncode == 0, done.stderr
    for last in (False, True):
        assert_same_stores(golden / "new", golden / "backfill")
        assert_same_statistics(golden / "new", golden / "backfill")
        for store in () if last else ("new", "backfill"):
            done = recstream(*replay, "late.jsonl", "--state", store, env=SETTINGS, cwd=golden)
            assert done.returncode == 0, done.stderr


def items_of(store: Path) -> dict[str, ItemRow]:
    return {row.item_id: row._replace(seq=0) for row in database(store).items.changed_since(-1)}


def test_a_catalogue_that_is_loaded_again_gives_the_items_of_an_upgraded_store_their_terms(
    tmp_path: Path,
) -> None:
    """And nothing else of them changes; what has its terms is left alone the next time."""
    golden = unpacked(tmp_path, 2)
    said = recstream("upgrade", "--state", "backfill", env=SETTINGS, cwd=golden).stdout
    assert "load the catalogue again (`recstream catalogue load`)" in said
    before = items_of(golden / "backfill")
    assert {row.terms for row in before.values()} == {b""}
    for store in ("backfill", "new", "backfill"):
        version = database(golden / "backfill").items.version()
        done = recstream("catalogue", "load", "items.jsonl", "--state", store, env=SETTINGS, cwd=golden)
        assert done.returncode == 0, done.stderr
    assert database(golden / "backfill").items.version() == version, "nothing was written the second time"
    after, new = items_of(golden / "backfill"), items_of(golden / "new")
    assert all(len(unpack(row.terms).buckets) > 1 for row in after.values())
    for item, row in after.items():
        assert same_row(row, new[item])
        assert same_row(row._replace(terms=b""), before[item])


def test_positions_and_fences_of_an_upgraded_store_keep_events_from_counting_twice(golden: Path) -> None:
    upgraded(golden / "backfill")
    total = len(read_lines(golden / "events.jsonl"))
    replay = ("backfill", "--events", "events.jsonl", "--items", "late.jsonl", "--state", "backfill")
    done = recstream(*replay, env=SETTINGS, cwd=golden)
    assert f"read {total - FIRST} = applied {total - FIRST} + " in done.stderr, done.stderr
    before = profiles(golden / "backfill")
    shutil.rmtree(golden / "backfill" / "positions")
    done = recstream(*replay, env=SETTINGS, cwd=golden)
    assert f"read {total} = applied 0 + duplicate 0 + already absorbed {total} + " in done.stderr, done.stderr
    after = profiles(golden / "backfill")
    assert {user: one.version for user, one in after[0].items()} == {
        user: one.version for user, one in before[0].items()
    }


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param(
            ("RECSTREAM_EVENTS__ACTIONS__LIKE", "7"),
            "events.actions.like was 2.0, is 7.0",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("RECSTREAM_ENCODER__DIM", "16"),
            "hashing-v1;dim=8",
            marks=pytest.mark.slow,
        ),
        pytest.param(("RECSTREAM_STORE__SHARDS", "16"), "set store.shards = 4", marks=pytest.mark.slow),
        pytest.param(
            ("RECSTREAM_EVENTS__RATING_MAX", "10"),
            "events.rating_max was 5.0, is 10.0",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("RECSTREAM_PROFILE__HALF_LIFE_DAYS", "1"),
            "profile.half_life_days was 30.0, is 1.0",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["weight", "encoder", "shards", "scale", "half-life"],
)
def test_what_a_store_rests_on_cannot_change_silently(
    golden: Path, setting: tuple[str, str], said: str
) -> None:
    upgraded(golden / "backfill")
    settings = {**SETTINGS, setting[0]: setting[1]}
    before = tables(golden / "backfill")
    for command in (("run", "--processes", "2"), ("backfill", "--events", "events.jsonl")):
        done = recstream(*command, "--state", "backfill", env=settings, cwd=golden)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "a process died" not in done.stderr, "starting again is no use"
        assert "Traceback" not in done.stderr
    assert tables(golden / "backfill") == before
    found = recstream("doctor", "--state", "backfill", env=settings, cwd=golden)
    assert said in found.stdout


@pytest.mark.slow
def test_accepted_rules_hold_from_there_on_and_old_events_keep_their_weight(golden: Path) -> None:
    upgraded(golden / "backfill")
    settings = {**SETTINGS, "RECSTREAM_EVENTS__ACTIONS__PURCHASE": "50"}
    refused = recstream("upgrade", "--state", "backfill", env=settings, cwd=golden)
    assert refused.returncode == 2, refused.stdout
    accepted = recstream("upgrade", "--state", "backfill", "--accept-rules", env=settings, cwd=golden)
    assert "events.actions.purchase was 5.0, is 50.0" in accepted.stdout, accepted.stderr
    replay = ("backfill", "--events", "events.jsonl", "--items", "late.jsonl", "--state", "backfill")
    done = recstream(*replay, env=settings, cwd=golden)
    assert done.returncode == 0, done.stderr
    border = read_lines(golden / "events.jsonl")[FIRST]["ts"]
    weights = {
        (entry.ts < border, entry.weight)
        for profile in profiles(golden / "backfill")[0].values()
        for entry in profile.recent
        if entry.action == "purchase"
    }
    assert weights == {(True, 5.0), (False, 50.0)}
    assert recstream(*replay, env=SETTINGS, cwd=golden).returncode == 2, "the old rules are the others now"


@pytest.mark.parametrize("layout", [2, 3])
def test_an_action_cannot_go_while_its_events_wait(tmp_path: Path, layout: int) -> None:
    """Or the job would stop at them when their item comes."""
    golden = unpacked(tmp_path, 2)
    if layout == 3:
        upgraded(golden / "live")
    meta = LanceDatabase.inspect(golden / "live")
    assert meta is not None
    assert meta.schema == layout
    rules = counting_rules(actions_with({"gift": 4}), (1, 5), 30)
    write_meta(lancedb.connect(str(golden / "live")), golden / "live", meta._replace(rules=rules))
    users = LanceDatabase.users_alone(golden / "live", 8)
    row = users.fetch(["waits"])["waits"]
    assert b"\xa4like" in row.state
    users.upsert([row._replace(state=row.state.replace(b"\xa4like", b"\xa4gift"))])  # as long, in msgpack
    done = recstream("upgrade", "--accept-rules", "--state", "live", env=SETTINGS, cwd=golden)
    assert done.returncode == 2, done.stdout
    assert re.search(r"events wait .* no more: \d of 'gift'", done.stderr), done.stderr
    users.delete(["waits"])
    done = recstream("upgrade", "--accept-rules", "--state", "live", env=SETTINGS, cwd=golden)
    assert "events.actions.gift was 4.0, is no action any more" in done.stdout, done.stderr


def test_an_action_may_be_added_without_ado(golden: Path) -> None:
    upgraded(golden / "backfill")
    settings = {**SETTINGS, "RECSTREAM_EVENTS__ACTIONS__GIFT": "4"}
    write_lines(
        golden / "gifts.jsonl", [{"user_id": "plain", "ts": 1_700_200_000, "action": "gift", "item_id": "i0"}]
    )
    replay = ("backfill", "--events", "gifts.jsonl", "--refresh", "end", "--state", "backfill")
    done = recstream(*replay, env=settings, cwd=golden)
    assert "read 1 = applied 1" in done.stderr, done.stderr
    without = recstream(*replay, env=SETTINGS, cwd=golden)
    assert without.returncode == 2
    assert "events.actions.gift was 4.0, is no action any more" in without.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("forget", "plain", "--offline"),
        ("upgrade",),
        pytest.param(("show", "plain"), marks=pytest.mark.slow),
        ("backfill", "--events", "mistyped.jsonl", "--items", "items.jsonl"),
        pytest.param(("catalogue", "load", "mistyped.jsonl"), marks=pytest.mark.slow),
    ],
    ids=lambda command: command[0],
)
def test_commands_that_only_look_or_refuse_leave_nothing_where_no_store_is(
    golden: Path, command: tuple[str, ...]
) -> None:
    before = contents(golden)
    there = sorted(golden.rglob("*"))
    (golden / "empty").mkdir()
    for state in ("empty", "mistyped"):
        done = recstream(*command, "--state", state, env=SETTINGS, cwd=golden)
        assert done.returncode == 1, done.stderr
        assert "mistyped" in done.stderr or "holds no recstream store" in done.stderr
        assert "start the job" not in done.stderr
        assert "check the path" in done.stderr or "mistyped.jsonl" in done.stderr
    (golden / "empty").rmdir()
    assert sorted(golden.rglob("*")) == there
    assert contents(golden) == before


@pytest.mark.kafka
@pytest.mark.slow
def test_a_live_job_goes_on_from_an_upgraded_store_and_settles_what_waited(
    golden: Path, broker: EmbeddedBroker
) -> None:
    names = {kind: f"golden-{kind}" for kind in TOPICS}
    ensure_topics(broker.bootstrap, {names[kind]: parts for kind, parts in TOPICS.items()})
    log, probe = read_lines(golden / "events.jsonl"), {"user_id": "probe", "action": "view", "item_id": "i0"}
    produce(broker.bootstrap, names["events"], [{**probe, "ts": 1_700_000_000}])
    produce(broker.bootstrap, names["events"], [*log[:FIRST], {**probe, "ts": 1_700_100_000}])
    produce(broker.bootstrap, names["items"], read_lines(golden / "items.jsonl"))
    found = topics(broker.bootstrap, [names["events"], names["items"]])
    replace_identities(
        golden / "live",
        {
            b"golden-events/0@b7d42261": found["golden-events"].identity(0).encode(),
            b"golden-events/1@b7d42261": found["golden-events"].identity(1).encode(),
            b"golden-items/0@f61accbe": found["golden-items"].identity(0).encode(),
        },
    )
    upgraded(golden / "live")
    settings = {
        **SETTINGS,
        **{f"RECSTREAM_KAFKA__{kind.upper()}_TOPIC": name for kind, name in names.items()},
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_STORE__PATH": str(golden / "live"),
        "RECSTREAM_EVENTS__WAIT_FOR_ITEM_S": "1e9",
    }
    before, _ = profiles(golden / "live")
    waited = sum(len(profile.waiting) for profile in before.values())
    assert waited == LATE
    lists = Reader(broker.bootstrap, names["lists"])
    with live_job(golden / "job.log", settings) as job:
        produce(broker.bootstrap, names["items"], read_lines(golden / "late.jsonl"))
        wanted = before["waits"].version + len(before["waits"].waiting)
        wait_until(lambda: lists.versions().get("waits") == wanted, job.text)
        produce(broker.bootstrap, names["events"], log[FIRST:])
        last = {user: wanted if user == "waits" else before[user].version for user in before}
        for event in log[FIRST:]:
            last[event["user_id"]] += 1
        del last["probe"]
        wait_until(lambda: {user: lists.versions().get(user) for user in last} == last, job.text)
        assert job.stop() == 0, job.text()
    lists.close()
    assert "re-created" not in job.text()
    account = accounting(orjson.loads((golden / "live" / "summaries" / "0.json").read_bytes()))
    assert (account.read, account.absorbed, account.rejected) == (len(log) - FIRST, 0, 0)
    assert account.balanced
    done = recstream(
        *("backfill", "--events", "kafka:golden-events", "--items", "kafka:golden-items"),
        *("--state", golden / "new"),
        env={**settings, "RECSTREAM_STORE__PATH": "new"},
        cwd=golden,
    )
    assert done.returncode == 0, done.stderr
    assert_same_stores(golden / "live", golden / "new")
