"""A store of layout 1, as the last release that wrote it left it, becomes one of layout 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lancedb
import pytest

from recstream.core.counting import counting_rules
from recstream.core.rules import actions_with
from recstream.io.lance import LanceDatabase, StoreError, StoreMismatchError
from recstream.io.lance.meta import write_meta
from recstream.io.lance.migrations import upgrade
from recstream.ports import WAITING
from tests.golden.stores import LATE, contents, unpacked

RULES = counting_rules(actions_with({}), (1, 5), 30)
ROOT = Path(__file__).parents[2]
CREATED_AT = 1795257289.92019
"""When the live store was made."""
STEPS = [
    "users: column unfinished added",
    "users: column waiting dropped",
    "meta: layout 2; the rules of counting in the configuration are noted as the store's",
]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The store that a live job of layout 1 left, with events that wait."""
    return unpacked(tmp_path) / "live"


def raw_rows(store: Path, table: str) -> dict[str, dict[str, Any]]:
    """Rows as they are in the table, by key."""
    rows = lancedb.connect(str(store)).open_table(table).to_arrow().to_pylist()
    key = "user_id" if table == "users" else "item_id"
    return {row[key]: row for row in rows}


def assert_upgraded(store: Path, before: dict[str, dict[str, dict[str, Any]]]) -> None:
    """All is as it was, but that users say why to come back to them."""
    for table in ("items", "statistics"):
        assert raw_rows(store, table) == before[table]
    (noted,) = lancedb.connect(str(store)).open_table("meta").to_arrow().to_pylist()
    assert noted["created_at"] == CREATED_AT
    users = raw_rows(store, "users")
    assert {user: row["unfinished"] for user, row in users.items()} == {
        user: WAITING if row["waiting"] else 0 for user, row in before["users"].items()
    }
    for old, new in ((before["users"][user], users[user]) for user in users):
        assert {**old, "unfinished": None, "waiting": None} == {**new, "unfinished": None, "waiting": None}
        assert "waiting" not in new
    meta = LanceDatabase.inspect(store)
    assert meta is not None
    assert (meta.schema, meta.dim, meta.shards, meta.rules) == (2, 8, 4, RULES)
    database = LanceDatabase.open(store, meta, create=False)
    assert {user: row.state for user, row in database.users.fetch(list(users)).items()} == {
        user: row["state"] for user, row in before["users"].items()
    }


def tables(store: Path) -> dict[str, dict[str, dict[str, Any]]]:
    return {table: raw_rows(store, table) for table in ("users", "items", "statistics")}


def test_an_upgrade_keeps_every_row_and_says_what_it_did(live: Path) -> None:
    before = tables(live)
    assert sum(row["waiting"] for row in before["users"].values()) == LATE
    assert list(upgrade(live, 2, RULES)) == STEPS
    assert_upgraded(live, before)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(live: Path) -> None:
    list(upgrade(live, 2, RULES))
    before = contents(live)
    assert list(upgrade(live, 2, RULES)) == []
    assert contents(live) == before


def test_a_dry_run_names_the_steps_and_changes_nothing(live: Path) -> None:
    list(upgrade(live, 2, RULES, dry_run=True))  # makes the lock file
    before = contents(live)
    assert list(upgrade(live, 2, RULES, dry_run=True)) == STEPS
    assert contents(live) == before


KILLED = f"""
import os, signal, sys
from pathlib import Path
from recstream.io.lance.migrations import upgrade
after = int(sys.argv[2])
for number, step in enumerate(upgrade(Path(sys.argv[1]), 2, {RULES!r}), 1):
    if number == after:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_upgrade_that_is_killed_after_any_step_is_completed_by_the_next(live: Path, after: int) -> None:
    before = tables(live)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(live), str(after)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    meta = LanceDatabase.inspect(live)
    assert meta is not None
    assert meta.schema == (2 if after == len(STEPS) else 1), "until the last step it is an old store"
    assert list(upgrade(live, 2, RULES)) == STEPS[after:]
    assert_upgraded(live, before)


def test_a_half_upgraded_store_is_refused_with_the_command_to_run(live: Path) -> None:
    next(iter(upgrade(live, 2, RULES)))
    meta = LanceDatabase.inspect(live)
    assert meta is not None
    with pytest.raises(StoreMismatchError, match="recstream upgrade --state "):
        LanceDatabase.open(live, meta._replace(schema=2, rules=RULES))


def test_a_store_whose_creation_was_killed_is_upgraded(live: Path) -> None:
    for path in sorted((live / "users.lance").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert list(upgrade(live, 2, RULES)) == STEPS[2:]
    meta = LanceDatabase.inspect(live)
    assert meta is not None
    assert LanceDatabase.open(live, meta).users.ids() == []


def test_a_store_of_a_newer_layout_is_left_alone(live: Path) -> None:
    meta = LanceDatabase.inspect(live)
    assert meta is not None
    write_meta(lancedb.connect(str(live)), live, meta._replace(schema=3, rules=RULES))
    before = contents(live)
    with pytest.raises(StoreMismatchError, match=r"layout 3.*install the newer recstream"):
        list(upgrade(live, 2, RULES, accept=True))
    assert contents(live) == before


def test_other_rules_are_taken_over_only_when_accepted(live: Path) -> None:
    list(upgrade(live, 2, RULES))
    other = counting_rules(actions_with({"like": 9, "gift": 4}), (1, 5), 30)
    before = contents(live)
    with pytest.raises(StoreMismatchError, match=r"events.actions.like was 2.0, is 9.0"):
        list(upgrade(live, 2, other))
    assert contents(live) == before
    (said,) = upgrade(live, 2, other, accept=True)
    assert "events.actions.like was 2.0, is 9.0" in said
    meta = LanceDatabase.inspect(live)
    assert meta is not None
    assert meta.rules == other
    assert list(upgrade(live, 2, other)) == []


def test_what_lance_holds_in_memory_meanwhile_is_bounded(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    connected = lancedb.connect

    def noted(*args: Any, **more: Any) -> Any:
        given.append(more.get("session"))
        return connected(*args, **more)

    monkeypatch.setattr(lancedb, "connect", noted)
    list(upgrade(live, 2, RULES))
    assert given
    assert None not in given


def test_where_there_is_no_store_none_is_made(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError, match="To mend it: check the path"):
            list(upgrade(path, 2, RULES))
    assert list(tmp_path.iterdir()) == []
