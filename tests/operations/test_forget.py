"""Erasure: nothing of the user stays in the store, and what is left elsewhere is told or purged."""

from __future__ import annotations

import gzip
from pathlib import Path

import lancedb
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.config import Settings
from recstream.operations.forget import erase_user, purge_rejected, rejected_of
from recstream.records.dead_letter import dead_letter_from, dead_letter_message
from recstream.records.reject import Reject
from recstream.records.transport import Partition
from recstream.runtime.wiring import Wiring
from recstream.testing.stores import user_row

LOG = Partition("events/0", "events/0@1")
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in {"user_id", "action", "view", "item_id"}
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    chosen = {"store.path": str(tmp_path / "state"), "encoder.backend": "hashing", "encoder.dim": 8}
    return Settings.load(None, {}, chosen)


def test_an_erasure_without_a_job_is_finished_when_it_returns(settings: Settings) -> None:
    database = Wiring(settings).database
    database.users.upsert([user_row("ann", state=b"Known Of Them"), user_row("bob")])
    assert erase_user(settings, "ann") == (True, True)
    assert erase_user(settings, "ann") == (False, True)
    table = lancedb.connect(settings.store.path).open_table("users")
    for version in [one["version"] for one in table.list_versions()]:
        table.checkout(version)
        assert table.to_arrow()["user_id"].to_pylist() == ["bob"]
    files = [path for path in settings.store_dir.rglob("*") if path.is_file()]
    assert not any(b"Known Of Them" in path.read_bytes() for path in files)


def letter(raw: bytes, offset: int = 0) -> bytes:
    """A dead letter as a line."""
    value = dead_letter_message(Reject("bad_value", "ts: got 'x'", LOG, offset, raw), at=5.0).value
    assert value is not None
    return value + b"\n"


@given(st.lists(st.tuples(ids, st.sampled_from(["event", "cut", "base64"])), max_size=12), ids)
def test_a_purge_removes_the_letters_of_a_user_alone_and_keeps_the_length(
    tmp_path_factory: pytest.TempPathFactory, owners: list[tuple[str, str]], user: str
) -> None:
    """By the event's user, whatever the event; of one that does not parse, by the name in it."""
    lines = []
    for number, (owner, kind) in enumerate([*owners, (user, "event")]):
        raw = orjson.dumps({"user_id": owner, "action": "view", "item_id": user + "?"})
        raw = {"event": raw, "cut": raw[:-2], "base64": raw + b"\xff"}[kind]
        lines.append(letter(raw, number))
    file = tmp_path_factory.mktemp("letters") / "dead-letter.jsonl"
    file.write_bytes(b"".join(lines))
    size = file.stat().st_size
    theirs = [owner == user for owner, _ in owners] + [True]
    assert purge_rejected(file, user) == sum(theirs)
    assert file.stat().st_size == size
    left = [line for line in file.read_bytes().splitlines(keepends=True) if line != b"\n"]
    assert left == [line for line, is_theirs in zip(lines, theirs, strict=True) if not is_theirs]
    assert [dead_letter_from(line).offset for line in left] == [
        number for number, is_theirs in enumerate(theirs) if not is_theirs
    ]
    assert purge_rejected(file, user) == 0


def test_numbers_are_ids_as_digits(tmp_path: Path) -> None:
    file = tmp_path / "dead-letter.jsonl"
    file.write_bytes(letter(b'{"user_id": 17}') + letter(b'{"user_id": 170}') + letter(b'{"user_id": "17"}'))
    assert purge_rejected(file, "17") == 2


def test_a_line_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "dead-letter.jsonl"
    whole = letter(b'{"user_id": "ann"}')
    file.write_bytes(whole + whole.rstrip(b"\n"))
    assert purge_rejected(file, "ann") == 1
    assert file.read_bytes() == b"\n" * len(whole) + whole.rstrip(b"\n")


def test_files_of_the_store_that_hold_letters_of_the_user_are_found(settings: Settings) -> None:
    store = settings.store_dir
    store.mkdir()
    for name in ("dead-letter.jsonl", "dead-letter-end-0a.jsonl", "dead-letter-items.jsonl", "lists.jsonl"):
        (store / name).write_bytes(letter(b'{"user_id": "ann"}') * 2)
    (store / "dead-letter-none.jsonl").write_bytes(b"")
    own = store.parent / "own.jsonl.gz"
    own.write_bytes(gzip.compress(letter(b'{"user_id": "ann"}')))
    chosen = settings.backfill.model_copy(update={"dead_letter": str(own)})
    found = rejected_of(settings.model_copy(update={"backfill": chosen}), "ann")
    assert [(one.file.name, one.records, one.can_be_purged) for one in found] == [
        ("own.jsonl.gz", 1, False),
        ("dead-letter-end-0a.jsonl", 2, True),
        ("dead-letter.jsonl", 2, True),
    ]
    assert rejected_of(settings, "bob") == []
