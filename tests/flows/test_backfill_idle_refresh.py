"""A log worked off event by event, lists of idle users among those of events: ``backfill.drift``."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import HASHING, recstream
from tests.support.logs import Record, events, item, read_lines, write_lines

EVENTS = 300


def backfill(folder: Path, log: list[Record], idle_refresh: float) -> list[Record]:
    """The lists of a log, in the order in which they were made."""
    files = {
        "--items": write_lines(folder / "items.jsonl", [item(number) for number in range(40)]),
        "--events": write_lines(folder / "events.jsonl", log),
        "--out": folder / "lists.jsonl",
        "--state": folder / "state",
    }
    named = [part for pair in files.items() for part in pair]
    done = recstream(
        "backfill",
        *named,
        "--refresh",
        "event",
        *HASHING,
        "--set",
        f"backfill.drift={idle_refresh}",
        "--top-n",
        "8",
    )
    assert done.returncode == 0, done.stderr
    lists = read_lines(folder / "lists.jsonl")
    for one in lists:
        del one["generated_at"], one["generation"], one["model"]
    return lists


def test_lists_of_idle_users_change_no_other_list_and_follow_from_what_came_before(tmp_path: Path) -> None:
    log = events(EVENTS)
    plain = backfill(tmp_path / "plain", log, 0.0)
    drifted = backfill(tmp_path / "drifted", log, 1.0)
    assert [one for one in drifted if one["trigger"] != "drift"] == plain
    part = backfill(tmp_path / "part", log[: EVENTS // 2], 1.0)
    assert part == drifted[: len(part)]

    last: dict[str, Record] = {}
    refreshed = 0
    for one in drifted:
        before = last.get(one["user_id"])
        if one["trigger"] == "drift":
            assert before is not None
            assert (one["version"], one["as_of"]) == (before["version"], before["as_of"])
            assert [entry["item_id"] for entry in one["items"]] != [
                entry["item_id"] for entry in before["items"]
            ]
            refreshed += 1
        last[one["user_id"]] = one
    assert 20 < refreshed <= EVENTS
