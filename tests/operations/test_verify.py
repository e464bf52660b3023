"""``recstream backfill --verify``: a store is what its log says, and where it is not, that is told."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from pathlib import Path

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.operations.verify import compare_users
from recstream.runtime.locks import job_lock
from recstream.stores.memory import MemoryUserStore
from recstream.users.codec import user_row
from tests.support.builders import DIM, arrived, catalogue_of, event, user_state_after
from tests.support.commands import HASHING, recstream
from tests.support.live_jobs import wait_until
from tests.support.logs import item, write_lines
from tests.support.scenarios import PlacedRecord, Scenario, distinct, rich_log, spread

LOG = rich_log(200)


def store_of(versions: dict[str, int]) -> MemoryUserStore:
    """Users that viewed so many items."""
    catalogue = catalogue_of([f"i{k}" for k in range(4)])
    store = MemoryUserStore(DIM)
    for user, count in versions.items():
        log = arrived([event(float(k), "view", f"i{k % 4}", user=user) for k in range(count)])
        store.upsert([user_row(user_state_after(log, catalogue, user=user), catalogue, 32, sessions=False)])
    store.calls.clear()
    return store


def test_every_user_of_two_stores_is_compared_a_thousand_at_a_time() -> None:
    users = {f"u{k:04}": 1 for k in range(2500)}
    here = store_of({**users, "u0007": 2, "u1000": 2, "only here": 1})
    there = store_of({**users, "u2499": 3, "zz": 1, "z": 1})
    found = compare_users(here, there)
    assert (found.users, found.equal, found.different) == (2503, 2497, 3)
    assert (found.only_here, found.only_there, found.same) == (1, 2, False)
    assert [(user, what[0]) for user, what in found.first] == [
        ("only here", "only in the replay"),
        ("u0007", "version: 2 in the replay, 1 in the store"),
        ("u1000", "version: 2 in the replay, 1 in the store"),
        ("u2499", "version: 1 in the replay, 3 in the store"),
        ("z", "only in the store"),
        ("zz", "only in the store"),
    ]
    for store in (here, there):
        assert [name for name, _ in store.calls] == ["fetch"] * 3
        assert max(len(asked) for _, asked in store.calls) == 1000


def test_only_the_first_differences_are_kept() -> None:
    found = compare_users(store_of({f"u{k:02}": 1 for k in range(30)}), store_of({}), first=3)
    assert (found.only_here, [user for user, _ in found.first]) == (30, ["u00", "u01", "u02"])


def test_no_users_are_equal() -> None:
    assert compare_users(store_of({}), store_of({})).same


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, items, and the store they make."""
    folder = tmp_path_factory.mktemp("made")
    write_lines(folder / "items.jsonl", [item(number) for number in range(40)])
    write_lines(folder / "events.jsonl", LOG)
    done = backfill(folder, "--state", "state")
    assert done[0] == 0, done[1]
    return folder


def backfill(
    folder: Path, *more: str | Path, events: str = "events.jsonl", items: str = "items.jsonl"
) -> tuple[int, str]:
    """Run it; gives the exit code and what it said."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    done = recstream(
        *("backfill", *(("--items", items) if items else ()), "--events", events, *HASHING, *more),
        cwd=folder,
        env={"TMPDIR": str(temporary)},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert not list(temporary.iterdir()), "the temporary store is gone"
    return done.returncode, done.stderr


def content(folder: Path) -> dict[str, str]:
    """Digests of all files of a store, but for its lock and its cache of texts."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "job.lock" and "cache" not in path.parts
    }


def test_a_store_is_what_its_log_says_and_is_left_as_it_was(made: Path) -> None:
    before = content(made / "state")
    code, told = backfill(made, "--verify", "state")
    assert code == 0, told
    assert "users    8 compared: 8 equal, 0 different, 0 only in the replay, 0 only in the store" in told
    assert "store    temporary" in told
    assert content(made / "state") == before


def test_the_order_of_the_log_does_not_matter(made: Path) -> None:
    write_lines(made / "reversed.jsonl", LOG[::-1])
    code, told = backfill(made, "--verify", "state", events="reversed.jsonl")
    assert code == 0, told


def test_a_missing_event_is_found_and_named(made: Path) -> None:
    log = [one for one in distinct(LOG) if one["user_id"] != "u3"]
    gone = max(k for k, one in enumerate(log) if one["user_id"] == "u5" and one["action"] == "view")
    write_lines(made / "shorter.jsonl", log[:gone] + log[gone + 1 :])
    code, told = backfill(made, "--verify", "state", events="shorter.jsonl")
    assert code == 5, told
    assert "users    8 compared: 6 equal, 1 different, 0 only in the replay, 1 only in the store" in told
    version = sum(one["user_id"] == "u5" for one in log)
    assert f"'u5': version: {version - 1} in the replay, {version} in the store" in told
    assert f"recent: only in the store view '{log[gone]['item_id']}' at {log[gone]['ts']!r}" in told
    assert "'u3': only in the store" in told


def test_with_a_state_the_replay_is_kept_and_can_be_compared_again(made: Path, tmp_path: Path) -> None:
    for read in (len(LOG), 0):
        code, told = backfill(made, "--verify", "state", "--state", tmp_path / "kept")
        assert code == 0, told
        assert f"read {read} = " in told
        assert "8 compared: 8 equal" in told
    assert (tmp_path / "kept" / "users.lance").is_dir()


def test_rejects_do_not_fail_a_comparison(made: Path) -> None:
    write_lines(made / "broken.jsonl", [*LOG, b"{"])
    code, told = backfill(made, "--verify", "state", events="broken.jsonl")
    assert code == 0, told
    assert "1 rejected records; to keep them, name a --state" in told


def test_who_forgot_the_items_is_told_before_the_differences(made: Path) -> None:
    code, told = backfill(made, "--verify", "state", items="")
    assert code == 5, told
    hint = re.search(r"([\d,]+) events were rejected in the replay as unknown_item: give the items", told)
    assert hint, told
    assert f"unknown_item {hint[1]}" in told
    assert "(--items FILE or --items kafka:NAME)" in told
    assert hint.start() < told.index("compared")


def test_items_that_neither_knows_are_no_difference_and_no_hint(made: Path) -> None:
    unknown = {"user_id": "u1", "ts": 1_700_000_000, "action": "view", "item_id": "never made"}
    write_lines(made / "unknown.jsonl", [*LOG, unknown])
    code, told = backfill(made, "--verify", "state", events="unknown.jsonl")
    assert code == 0, told
    assert "unknown_item 1" in told
    assert "give the items" not in told


def test_the_store_of_a_running_job_is_refused(made: Path) -> None:
    with job_lock(made / "state", "run"):
        code, told = backfill(made, "--verify", "state")
    assert code == 1
    assert "state is in use by `recstream run` (process" in told


def test_a_store_that_does_not_exist_is_refused_and_not_made(made: Path) -> None:
    code, told = backfill(made, "--verify", "nowhere")
    assert code == 1
    assert "nowhere" in told
    assert "does not exist" in told
    assert "check the path" in told
    assert "start the job" not in told
    assert not (made / "nowhere").exists()


def test_a_store_is_not_compared_with_itself(made: Path) -> None:
    code, told = backfill(made, "--verify", "state", "--state", made / "state")
    assert code == 2
    assert "is also the store to replay into" in told


def test_a_store_of_another_encoder_is_refused_before_the_replay(made: Path) -> None:
    code, told = backfill(made, "--verify", "state", "--set", "encoder.dim=128")
    assert code == 2
    assert "events   read" not in told


def against_topics(scenario: Scenario, events: str, store: str) -> tuple[int, str]:
    """Verify a store against its topics."""
    done = recstream(
        *("backfill", "--events", f"kafka:{events}", "--items", f"kafka:{scenario.items_topic}"),
        *("--verify", scenario.store(store), "--set", f"kafka.bootstrap={scenario.bootstrap}", *HASHING),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.kafka
@pytest.mark.slow
def test_a_live_store_is_what_its_topics_say_after_a_kill_too(broker: EmbeddedBroker, tmp_path: Path) -> None:
    scenario = Scenario(broker.bootstrap, tmp_path)
    events = scenario.events(spread(LOG[:100], 3), partitions=3)
    with scenario.live("state", events) as live:
        live.until(LOG[:100])
        code, told = against_topics(scenario, events, "state")
        assert code == 1, told
        assert "is in use by `recstream run`" in told
        scenario.send(events, spread(LOG[100:], 3, seed=1))
        (child,) = live.job.children()
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: live.job.children() not in ([], [child]), live.job.text)
        live.until(LOG)
        live.stop()
    code, told = against_topics(scenario, events, "state")
    assert code == 0, told
    assert "8 compared: 8 equal" in told
    scenario.send(
        events, [PlacedRecord(0, {"user_id": "u0", "ts": 1_700_000_000, "action": "view", "item_id": "i0"})]
    )
    code, told = against_topics(scenario, events, "state")
    assert code == 5, told
    assert "8 compared: 7 equal, 1 different" in told
