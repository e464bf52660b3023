"""Stores of older layouts, as the last release that wrote them left them, become stores of this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lancedb
import pytest

from recstream.items.terms import pack, text_terms
from recstream.records.actions import actions_with
from recstream.stores.base import ModelRow, StoreError, StoreMeta, StoreMismatchError
from recstream.stores.lance import LanceDatabase
from recstream.stores.lance.meta import write_meta
from recstream.stores.lance.migrations import upgrade_store
from recstream.testing.stores import same_row
from recstream.users.codec import WAITING
from recstream.users.counting_rules import counting_rules
from tests.golden.stores import LATE, contents, unpacked
from tests.support.stores import open_lance

RULES = counting_rules(actions_with({}), (1, 5), 30)
ROOT = Path(__file__).parents[2]
CREATED_AT = 1795257289.92019
"""When the live store was made."""
LOAD = "load the catalogue again (`recstream catalogue load`), so that its items get their terms"
STEPS_FROM = {
    1: [
        "users: column unfinished added",
        "users: column waiting dropped",
        "items: column terms added",
        "models: table made",
        f"meta: layout 3; the rules of counting in the configuration are noted as the store's; {LOAD}",
    ],
    2: ["items: column terms added", "models: table made", f"meta: layout 3; {LOAD}"],
}
STEPS = STEPS_FROM[1]
ROWS = ("users", "items", "statistics")


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The store that a live job of layout 1 left, with events that wait."""
    return unpacked(tmp_path) / "live"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """As `live`, of layout 2."""
    return unpacked(tmp_path, 2) / "live"


def noted(store: Path) -> StoreMeta:
    """What the store was made with."""
    meta = LanceDatabase.inspect(store)
    assert meta is not None
    return meta


def raw_rows(store: Path, table: str) -> dict[str, dict[str, Any]]:
    """Rows as they are in the table, by key."""
    rows = lancedb.connect(str(store)).open_table(table).to_arrow().to_pylist()
    key = "user_id" if table == "users" else "item_id"
    return {row[key]: row for row in rows}


def assert_same_store(store: Path, before: dict[str, dict[str, dict[str, Any]]]) -> None:
    """All is as it was, but that items have no terms yet, and a look finds no models."""
    after = tables(store)
    assert after["items"] == {item: {**row, "terms": b""} for item, row in before["items"].items()}
    assert after["statistics"] == before["statistics"]
    for user, row in after["users"].items():
        assert {**before["users"][user], "waiting": None, **row} == {**before["users"][user], "waiting": None}
    meta = noted(store)
    assert (meta.schema, meta.dim, meta.shards, meta.rules) == (3, 8, 4, RULES)
    database = open_lance(store, meta, create=False)
    (row,) = lancedb.connect(str(store)).open_table("meta").to_arrow().to_pylist()
    assert database.generation == int(row["created_at"] * 1000)
    assert {user: row.state for user, row in database.users.fetch(list(before["users"])).items()} == {
        user: row["state"] for user, row in before["users"].items()
    }
    assert database.models.fetch() == {}


def assert_upgraded(store: Path, before: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Of layout 1: users say why to come back to them, too."""
    (row,) = lancedb.connect(str(store)).open_table("meta").to_arrow().to_pylist()
    assert row["created_at"] == CREATED_AT, "so it has the same generation"
    said = {
        user: {**row, "unfinished": WAITING if row["waiting"] else 0} for user, row in before["users"].items()
    }
    for user in raw_rows(store, "users").values():
        assert "waiting" not in user
    assert_same_store(store, {**before, "users": said})


def tables(store: Path) -> dict[str, dict[str, dict[str, Any]]]:
    return {table: raw_rows(store, table) for table in ROWS}


def test_an_upgrade_keeps_every_row_and_says_what_it_did(live: Path) -> None:
    before = tables(live)
    assert sum(row["waiting"] for row in before["users"].values()) == LATE
    assert list(upgrade_store(live, 3, RULES)) == STEPS
    assert_upgraded(live, before)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(live: Path) -> None:
    list(upgrade_store(live, 3, RULES))
    before = contents(live)
    assert list(upgrade_store(live, 3, RULES)) == []
    assert contents(live) == before


def test_a_dry_run_names_the_steps_and_changes_nothing(live: Path) -> None:
    list(upgrade_store(live, 3, RULES, dry_run=True))  # makes the lock file
    before = contents(live)
    assert list(upgrade_store(live, 3, RULES, dry_run=True)) == STEPS
    assert contents(live) == before


KILLED = f"""
import os, signal, sys
from pathlib import Path
from recstream.stores.lance.migrations import upgrade_store
after = int(sys.argv[2])
for number, step in enumerate(upgrade_store(Path(sys.argv[1]), 3, {RULES!r}), 1):
    if number == after:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("after", range(1, len(STEPS) + 1))
def test_an_upgrade_that_is_killed_after_any_step_is_completed_by_the_next(live: Path, after: int) -> None:
    before = tables(live)
    kill_after(live, after)
    assert noted(live).schema == (3 if after == len(STEPS) else 1), "until the last step it is an old store"
    assert list(upgrade_store(live, 3, RULES)) == STEPS[after:]
    assert_upgraded(live, before)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_an_upgrade_from_layout_2_that_is_killed_after_any_step_is_completed_by_the_next(
    second: Path, after: int
) -> None:
    before = tables(second)
    assert noted(second).schema == 2
    assert sum(bool(row["unfinished"]) for row in before["users"].values()) == 1
    if after:
        kill_after(second, after)
    assert list(upgrade_store(second, 3, RULES)) == STEPS_FROM[2][after:]
    assert_same_store(second, before)


def kill_after(store: Path, steps: int) -> None:
    """Upgrade in a process that is killed after so many steps."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store), str(steps)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL


def test_a_half_upgraded_store_is_refused_with_the_command_to_run(live: Path) -> None:
    next(iter(upgrade_store(live, 3, RULES)))
    with pytest.raises(StoreMismatchError, match="recstream upgrade --state "):
        open_lance(live, noted(live)._replace(schema=3, rules=RULES))


def test_rows_written_to_an_upgraded_store_are_those_of_a_new_one(second: Path, tmp_path: Path) -> None:
    """A column that was added is as one that was there from the start."""
    list(upgrade_store(second, 3, RULES))
    meta = noted(second)
    stores = [open_lance(second, meta), open_lance(tmp_path / "new", meta)]
    (held, *_) = [row for row in stores[0].items.changed_since(-1) if not row.deleted]
    seq, packed = 2**62, pack(text_terms("tea"))
    for store in stores:
        store.items.upsert([held._replace(seq=seq, terms=packed), held._replace(item_id="new", seq=seq)])
        store.models.upsert([ModelRow("transform", 1, b"state")])
        store.maintain()
    rows = [store.items.changed_since(seq - 1) for store in stores]
    assert [(row.item_id, row.terms) for row in rows[0]] == [(held.item_id, packed), ("new", b"")]
    assert all(same_row(one, other) for one, other in zip(*rows, strict=True))
    assert stores[0].models.fetch() == stores[1].models.fetch() != {}
    for table in (*ROWS, "models"):
        schemas = [lancedb.connect(str(store.path)).open_table(table).schema for store in stores]
        assert schemas[0].remove_metadata() == schemas[1].remove_metadata(), table


@pytest.mark.parametrize(("table", "left"), [("users", STEPS[2:]), ("items", [*STEPS[:2], *STEPS[3:]])])
def test_a_store_whose_creation_was_killed_is_upgraded(live: Path, table: str, left: list[str]) -> None:
    for path in sorted((live / f"{table}.lance").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert list(upgrade_store(live, 3, RULES)) == left
    database = open_lance(live, noted(live))
    assert (database.users.ids() == [], database.items.count() == 0) == (table == "users", table == "items")


def test_a_store_of_a_newer_layout_is_left_alone(live: Path) -> None:
    write_meta(lancedb.connect(str(live)), live, noted(live)._replace(schema=4, rules=RULES))
    before = contents(live)
    with pytest.raises(StoreMismatchError, match=r"layout 4.*install the newer recstream"):
        list(upgrade_store(live, 3, RULES, accept=True))
    assert contents(live) == before


def test_other_rules_are_taken_over_only_when_accepted(live: Path) -> None:
    list(upgrade_store(live, 3, RULES))
    other = counting_rules(actions_with({"like": 9, "gift": 4}), (1, 5), 30)
    before = contents(live)
    with pytest.raises(StoreMismatchError, match=r"events.actions.like was 2.0, is 9.0"):
        list(upgrade_store(live, 3, other))
    assert contents(live) == before
    (said,) = upgrade_store(live, 3, other, accept=True)
    assert "events.actions.like was 2.0, is 9.0" in said
    assert noted(live).rules == other
    assert list(upgrade_store(live, 3, other)) == []


def test_what_lance_holds_in_memory_meanwhile_is_bounded(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    connected = lancedb.connect

    def connect(*args: Any, **more: Any) -> Any:
        given.append(more.get("session"))
        return connected(*args, **more)

    monkeypatch.setattr(lancedb, "connect", connect)
    list(upgrade_store(live, 3, RULES))
    assert given
    assert None not in given


def test_where_there_is_no_store_none_is_made(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError, match="To mend it: check the path"):
            list(upgrade_store(path, 3, RULES))
    assert list(tmp_path.iterdir()) == []
