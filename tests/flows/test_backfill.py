"""Backfill by its command: honest lists, the same state however lists are made, resumable, repeatable."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from recstream.records.dead_letter import raw_of
from recstream.runtime.locks import job_lock
from tests.support.commands import HASHING, command, environment, recstream
from tests.support.live_jobs import wait_until
from tests.support.logs import T0, Record, events, item, read_lines, versions_after, write_lines
from tests.support.stored_users import assert_same_users, stored_users

EVENTS = 240
HALF = EVENTS // 2


def log_of(count: int = EVENTS, *, seed: int = 0) -> list[Record]:
    """Events with ties, requests, repeated events, and items that only events bring along."""
    log = events(count, seed=seed, items=36, ids=True)
    for at, event in enumerate(log):
        if at % 17 == 5:
            log[at] = {"user_id": event["user_id"], "ts": event["ts"], "action": "request"}
        elif at % 23 == 7:
            log[at] = {
                "user_id": event["user_id"],
                "ts": event["ts"],
                "action": "like",
                "item": item(40 + at // 23, seed=seed),
            }
        elif at % 29 == 9:
            # the tie of DESIGN hazard 8: one user, one second
            tie = {name: log[at - 1][name] for name in ("user_id", "ts")}
            log[at] = {**event, **tie}
    for at in range(50, count, 60):
        log[at] = log[at - 31]
    return log


def repeated(log: list[Record]) -> set[int]:
    """Offsets of events that were there before."""
    seen: list[Record] = []
    found = set()
    for at, event in enumerate(log):
        if event in seen and event["action"] != "request":
            found.add(at)
        seen.append(event)
    return found


def seen(record: Record) -> tuple[object, ...]:
    """What of a list must not depend on anything later."""
    return tuple(record[name] for name in ("user_id", "items", "version", "as_of", "trigger"))


def assert_same_list(one: Record, other: Record) -> None:
    """Equal but for the rounding of sums that were stored in between: two units of the last place told."""
    entries = [
        (mine.copy(), theirs.copy()) for mine, theirs in zip(one["items"], other["items"], strict=True)
    ]
    for mine, theirs in entries:
        assert mine.pop("score") == pytest.approx(theirs.pop("score"), abs=2e-6)
        assert mine.pop("signals") == pytest.approx(theirs.pop("signals"), abs=2e-5)
    assert [mine for mine, _ in entries] == [theirs for _, theirs in entries]
    assert seen({**one, "items": ()}) == seen({**other, "items": ()})


@dataclass(frozen=True)
class Run:
    """A backfill that was run."""

    folder: Path
    log: list[Record]

    @property
    def lists(self) -> list[Record]:
        return read_lines(self.folder / "lists.jsonl")

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def args(self, refresh: str, *more: str) -> list[str]:
        """The command."""
        files = [str(self.folder / name) for name in ("items.jsonl", "events.jsonl", "lists.jsonl", "state")]
        return [
            *("backfill", "--items", files[0], "--events", files[1], "--out", files[2], "--state", files[3]),
            *("--refresh", refresh, "--top-n", "8", *HASHING, "--set", "run.epoch_s=0.2", *more),
        ]

    def go(self, refresh: str, *more: str, code: int = 0) -> str:
        """Run it; gives what it said."""
        done = recstream(*self.args(refresh, *more))
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr


def prepared(folder: Path, log: list[Record]) -> Run:
    write_lines(folder / "items.jsonl", [item(number) for number in range(36)])
    write_lines(folder / "events.jsonl", log)
    return Run(folder, log)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The log, with a list after each event."""
    run = prepared(tmp_path_factory.mktemp("whole"), log_of())
    told = run.go("event")
    assert "read 240 = applied 236 + duplicate 4" in told
    return run


def test_each_event_has_its_list_in_the_order_of_the_log(whole: Run) -> None:
    lists = whole.lists
    wanted = [at for at in range(EVENTS) if at not in repeated(whole.log)]
    assert [one["as_of"]["offset"] for one in lists] == wanted
    versions: dict[str, int] = {}
    for one, at in zip(lists, wanted, strict=True):
        event = whole.log[at]
        asked = event["action"] == "request"
        assert one["as_of"] == {"ts": event["ts"], "partition": "events.jsonl", "offset": at}
        assert (one["user_id"], one["trigger"]) == (event["user_id"], "request" if asked else "event")
        versions[event["user_id"]] = versions.get(event["user_id"], 0) + (not asked)
        assert one["version"] == versions[event["user_id"]]
        own = event.get("item_id") or event.get("item", {}).get("item_id")
        assert own not in [entry["item_id"] for entry in one["items"]]
    assert any(one["items"] for one in lists)


def test_brought_items_are_recommended_only_after_their_event(whole: Run) -> None:
    brought_at = {event["item"]["item_id"]: at for at, event in enumerate(whole.log) if "item" in event}
    found = set()
    for one in whole.lists:
        for entry in one["items"]:
            if entry["item_id"] in brought_at:
                assert brought_at[entry["item_id"]] <= one["as_of"]["offset"]
                found.add(entry["item_id"])
    assert found, "the log is such that some are"


def test_the_first_half_alone_gives_the_same_lists(whole: Run, tmp_path: Path) -> None:
    half = prepared(tmp_path, whole.log[:HALF])
    half.go("event")
    lists = half.lists
    assert [seen(one) for one in lists] == [seen(one) for one in whole.lists[: len(lists)]]
    assert lists[-1]["as_of"]["offset"] == HALF - 1


def test_another_future_leaves_the_lists_of_the_past(whole: Run, tmp_path: Path) -> None:
    later = [{**event, "user_id": f"u{at % 3}"} for at, event in enumerate(log_of(seed=1)[HALF:])]
    other = prepared(tmp_path, whole.log[:HALF] + later)
    other.go("event")
    past = [seen(one) for one in other.lists if one["as_of"]["offset"] < HALF]
    assert past == [seen(one) for one in whole.lists if one["as_of"]["offset"] < HALF]
    assert seen(other.lists[-1]) != seen(whole.lists[-1])


def test_a_limit_reads_so_much_and_the_rest_can_follow(whole: Run, tmp_path: Path) -> None:
    run = prepared(tmp_path, whole.log)
    assert f"read {HALF} = " in run.go("event", "--limit", str(HALF))
    assert [seen(one) for one in run.lists] == [
        seen(one) for one in whole.lists if one["as_of"]["offset"] < HALF
    ]
    assert f"read {EVENTS - HALF} = " in run.go("event")
    offsets = [one["as_of"]["offset"] for one in whole.lists]
    assert [one["as_of"]["offset"] for one in run.lists] == offsets
    assert_same_users(stored_users(run.state), stored_users(whole.state))


def test_the_lists_after_a_restart_are_those_without_it(whole: Run, tmp_path: Path) -> None:
    run = prepared(tmp_path, whole.log)
    run.go("event", "--limit", str(HALF))
    run.go("event")
    for mine, theirs in zip(run.lists, whole.lists, strict=True):
        assert_same_list(mine, theirs)


@pytest.mark.parametrize("refresh", [pytest.param("batch", marks=pytest.mark.slow), "end"])
def test_the_state_does_not_depend_on_when_lists_are_made(whole: Run, tmp_path: Path, refresh: str) -> None:
    run = prepared(tmp_path, whole.log)
    run.go(refresh)
    assert_same_users(stored_users(run.state), stored_users(whole.state))
    last: dict[str, Record] = {}
    for one in run.lists:
        assert one["version"] >= last.get(one["user_id"], one)["version"]
        last[one["user_id"]] = one
    wanted = {user: row.version for user, row in stored_users(whole.state).items()}
    assert {user: one["version"] for user, one in last.items()} == wanted
    if refresh == "end":
        assert len(run.lists) == len(wanted), "each user once"


def test_the_same_command_again_applies_nothing(tmp_path: Path) -> None:
    run = prepared(tmp_path, events(100, items=36))
    run.go("batch")
    lists, before = (tmp_path / "lists.jsonl").read_bytes(), stored_users(run.state)
    assert "read 0 = applied 0" in run.go("batch")
    assert (tmp_path / "lists.jsonl").read_bytes() == lists
    told = run.go("event")
    assert "read 100 = applied 0 + duplicate 0 + already absorbed 100" in told, (
        "another flow, the same fences"
    )
    assert_same_users(stored_users(run.state), before, tolerance=0.0)
    assert {user: row.version for user, row in before.items()} == versions_after(run.log)


@pytest.mark.slow
def test_an_interrupted_backfill_goes_on_where_it_was(tmp_path: Path) -> None:
    log = events(5000, users=60, items=36)
    whole, cut = prepared(tmp_path / "whole", log), prepared(tmp_path / "cut", log)
    whole.go("event")
    out = tmp_path / "cut" / "lists.jsonl"
    for _ in range(2):
        size = out.stat().st_size if out.exists() else 0
        with subprocess.Popen(
            command(*cut.args("event")), env=environment(), stderr=subprocess.PIPE, text=True
        ) as process:
            wait_until(
                lambda size=size: out.exists() and out.stat().st_size > size + 200_000,  # type: ignore[misc]
                "the first lists",
                seconds=30,
            )
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=30)[1]
        assert process.returncode == 130, told
        assert "the same command goes on from here" in told
        assert 0 < len(read_lines(out)) < len(log)
    cut.go("event")
    assert [one["as_of"]["offset"] for one in cut.lists] == list(range(len(log)))
    assert_same_users(stored_users(cut.state), stored_users(whole.state))
    for mine, theirs in zip(cut.lists, whole.lists, strict=True):
        assert_same_list(mine, theirs)


def test_rejects_beyond_the_allowed_exit_3_and_are_kept_with_their_reason(tmp_path: Path) -> None:
    log: list[Record | bytes] = [*events(10, items=36)]
    log += [b"\xff{", {"user_id": "u1", "ts": T0, "action": "view", "item_id": "nowhere"}]
    run = prepared(tmp_path, [])
    write_lines(tmp_path / "events.jsonl", log)
    told = run.go("batch", "--max-rejects", "1", code=3)
    assert "read 12 = applied 10 + duplicate 0 + already absorbed 0 + rejected 2" in told
    letters = read_lines(run.state / "dead-letter.jsonl")
    assert [(one["reason"], one["source"]["offset"]) for one in letters] == [
        ("not_json", 10),
        ("unknown_item", 11),
    ]
    assert raw_of(letters[0]) == b"\xff{"
    again = prepared(tmp_path / "again", [])
    write_lines(tmp_path / "again" / "events.jsonl", log)
    again.go("batch", "--max-rejects", "2")


def test_rejected_items_and_events_are_all_kept_when_a_backfill_is_repeated(tmp_path: Path) -> None:
    run = prepared(tmp_path, [{"user_id": "u1", "ts": T0, "action": "view", "item_id": "nowhere"}])
    with (tmp_path / "items.jsonl").open("ab") as items:
        items.write(b'{"title": "no id"}\n')
    for _ in range(2):
        told = run.go("batch", "--max-rejects", "2")
        assert "dead-letter-items.jsonl" in told
        for name, reason in (
            ("dead-letter.jsonl", "unknown_item"),
            ("dead-letter-items.jsonl", "missing_field"),
        ):
            assert [one["reason"] for one in read_lines(run.state / name)] == [reason]


def test_a_second_job_on_a_store_is_refused(tmp_path: Path) -> None:
    run = prepared(tmp_path, events(5, items=36))
    with job_lock(run.state, "run"):
        told = run.go("batch", code=1)
    assert "is in use by `recstream run` (process" in told
    assert "stop it first" in told
    run.go("batch")


def test_a_log_that_was_exported_anew_is_refused_however_it_is_replayed(tmp_path: Path) -> None:
    """Its new events stand at offsets that users have absorbed: they would be lost without a word."""
    log = events(40, items=36, ids=True)
    run = prepared(tmp_path, log)
    run.go("end")
    before = stored_users(run.state)
    write_lines(tmp_path / "events.jsonl", [*log[:10], *events(5, items=36, seed=1, ids=True), *log[10:]])
    for refresh in ("end", "event"):
        told = run.go(refresh, code=1)
        assert "not the log that was read before under this name" in told
        assert "other records among the first 40" in told
        assert "another --state" in told
    assert_same_users(stored_users(run.state), before, tolerance=0.0)
    write_lines(tmp_path / "events.jsonl", [*log, *events(5, items=36, first=40, ids=True)])
    assert "read 5 = applied 5" in run.go("end")


def test_a_log_that_is_not_in_order_of_time_is_told(tmp_path: Path) -> None:
    log = sorted(events(60, items=36, ids=True), key=lambda event: str(event["user_id"]))
    run = prepared(tmp_path, log)
    assert "events.jsonl is not in order of time: " in run.go("event")
    assert "in order of time" not in run.go("end"), "no list but the last is made"
    assert "a log that was read in another order" in run.go("event", "--sort", code=1)
    another = prepared(tmp_path / "sorted", log)
    assert "in order of time" not in another.go("event", "--sort")
    times = [one["as_of"]["ts"] for one in another.lists]
    assert times == sorted(event["ts"] for event in log)
    assert "read 0 = " in another.go("event", "--sort")
