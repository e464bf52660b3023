"""``recstream deadletter``: what is in the letters, safely shown, and what is sent when they are mended."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from recstream.records.dead_letter import dead_letter_record
from recstream.records.reject import Reason, Reject
from recstream.records.transport import Partition
from tests.support.commands import command, environment, recstream
from tests.support.logs import Record, read_lines, write_lines

VIEW = {"user_id": "u1", "ts": 5, "action": "view", "item_id": "i1"}
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e[bold]red[/bold]\x9b31m"


def letter(
    raw: bytes | Record,
    reason: Reason = "bad_type",
    *,
    where: str = "log.jsonl",
    offset: int = 0,
    **more: Any,
) -> Record:
    value = raw if isinstance(raw, bytes) else orjson.dumps(raw)
    detail = more.pop("detail", "why")
    return {
        **dead_letter_record(Reject(reason, detail, Partition(where, where), offset, value), at=5.0),
        **more,
    }


def replay(*args: str | Path, stdin: bytes = b"", code: int = 0) -> tuple[list[Record], str]:
    """Run it; gives the letters left over and what was said."""
    done = subprocess.run(
        command("deadletter", "replay", *args),
        env=environment(),
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = done.stderr.decode()
    assert done.returncode == code, told
    assert "Traceback" not in told
    return [orjson.loads(line) for line in done.stdout.splitlines()], " ".join(told.split())


def test_the_table_counts_reasons_and_lets_nothing_hostile_through(tmp_path: Path) -> None:
    letters = [letter({"a": HOSTILE}, offset=n, at=float(n)) for n in range(15)]
    letters += [
        letter(HOSTILE.encode(), "not_json", where=HOSTILE, detail=HOSTILE, at=99.0),
        letter(b"\xff\xfe\x00", "not_json", at=98.0),
    ]
    file = write_lines(tmp_path / "letters.jsonl", letters)
    done = recstream("deadletter", "list", file)
    assert done.returncode == 0, done.stderr
    assert "17 dead letters in" in done.stdout
    assert "15 bad_type\n" in done.stdout
    assert "2 not_json\n" in done.stdout
    assert all(character.isprintable() or character == "\n" for character in done.stdout + done.stderr)
    assert "[bold]red[/bold]" in done.stdout, "markup is shown, not obeyed"
    assert done.stdout.count("\\x1b[2J") >= 3, "in the source, the detail and the record"
    assert (
        done.stdout.index("log.jsonl:14")
        < done.stdout.index("\\xff\\xfe")
        < done.stdout.index("not_json  \\x1b")
    )
    assert "log.jsonl:6" not in done.stdout, "the ten newest"
    few = recstream("deadletter", "list", file, "--limit", "1", "--reason", "bad_type").stdout
    assert "log.jsonl:14" in few
    assert "log.jsonl:13" not in few
    assert "15 dead letters" in few


def test_json_gives_the_letters_back_in_order(tmp_path: Path) -> None:
    letters = [
        letter(VIEW, offset=0),
        letter(b"\xff", "not_json", offset=1),
        letter({"a": HOSTILE}, offset=2),
    ]
    file = write_lines(tmp_path / "letters.jsonl", [*letters, b"what is this"])
    done = recstream("deadletter", "list", file, "--json")
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == letters
    assert done.stdout.isascii()
    assert "record 4: no dead letter: line" in done.stderr
    some = recstream("deadletter", "list", file, "--json", "--reason", "not_json").stdout
    assert orjson.loads(some) == letters[1]


def test_letters_of_a_file_become_a_log_for_backfill(tmp_path: Path) -> None:
    letters = [
        letter(VIEW, "unknown_item", offset=3),
        letter({**VIEW, "ts": None}, offset=4),
        letter({**VIEW, "event_id": "own"}, offset=5),
        letter(b"x" * 300_000, "too_large", offset=6),
        letter(b'{"user_id": "u2",\n "ts": 5,\r\n "action": "request"}\n', offset=7),
    ]
    file = write_lines(tmp_path / "letters.jsonl", letters)
    left, told = replay(file, "--to", tmp_path / "again.jsonl", code=3)
    assert [(one["source"]["offset"], one["reason"]) for one in left] == [
        (4, "missing_field"),
        (6, "too_large"),
    ]
    assert left[0]["detail"].startswith("ts: got nothing")
    assert left[0]["raw"] == letters[1]["raw"]
    assert "read it at log.jsonl:6" in left[1]["detail"]
    assert f"5 dead letters: 3 sent to {tmp_path}/again.jsonl, 1 would be rejected again, 1 cut short" in told
    assert read_lines(tmp_path / "again.jsonl") == [
        {**VIEW, "event_id": "dead-letter:log.jsonl:3"},
        {**VIEW, "event_id": "own"},
        {"user_id": "u2", "ts": 5, "action": "request", "event_id": "dead-letter:log.jsonl:7"},
    ]


def test_what_is_left_over_can_be_mended_and_sent_by_a_pipe(tmp_path: Path) -> None:
    left, _ = replay(
        "-", "--to", tmp_path / "a.jsonl", stdin=orjson.dumps(letter({**VIEW, "ts": "5"})), code=3
    )
    assert not (tmp_path / "a.jsonl").exists()
    record = orjson.loads(left[0]["raw"])
    mended = orjson.dumps({**left[0], "raw": {**record, "ts": 5}})
    left, told = replay("-", "--to", tmp_path / "a.jsonl", stdin=mended + b"\n\n")
    assert (left, told) == ([], f"1 dead letters: 1 sent to {tmp_path}/a.jsonl")
    assert read_lines(tmp_path / "a.jsonl") == [{**VIEW, "event_id": "dead-letter:log.jsonl:0"}]


def test_items_of_a_file_are_items_when_it_is_said(tmp_path: Path) -> None:
    items = [{"item_id": "i1", "title": "Tea"}, {"item_id": "i2"}]
    file = write_lines(tmp_path / "letters.jsonl", [letter(one, offset=n) for n, one in enumerate(items)])
    left, _ = replay(file, "--to", tmp_path / "items.jsonl", "--stream", "items", code=3)
    assert [one["reason"] for one in left] == ["missing_field"]
    assert read_lines(tmp_path / "items.jsonl") == items[:1]


def test_letters_of_topics_go_where_their_stream_belongs(tmp_path: Path) -> None:
    item = {"item_id": "i1", "title": "Tea"}
    both = [
        letter(VIEW, where="events/3", offset=7),
        letter(item, where="items/0"),
        letter(VIEW, where="a/b"),
    ]
    file = write_lines(tmp_path / "letters.jsonl", both)
    left, told = replay(file, "--dry-run", code=3)
    assert [one["source"] for one in left] == [both[2]["source"]]
    assert (
        "3 dead letters: 1 would be sent to events, 1 would be sent to items, 1 from elsewhere (choose --to)"
        in told
    )
    _, told = replay(file, "--to", tmp_path / "events.jsonl")
    assert "2 dead letters: 2 sent to" in told
    assert "1 of the other stream left out" in told
    assert read_lines(tmp_path / "events.jsonl")[0]["event_id"] == "dead-letter:events/3:7"


def test_an_item_with_a_vector_is_judged_by_the_encoder_of_the_settings(tmp_path: Path) -> None:
    items = [{"item_id": "i", "title": "Tea", "vector": [1.0] * n} for n in (64, 63)]
    file = write_lines(tmp_path / "letters.jsonl", [letter(one, "bad_vector") for one in items])
    hashing = ("--set", "encoder.backend=hashing", "--set", "encoder.dim=64")
    left, _ = replay(file, "--to", tmp_path / "items.jsonl", "--stream", "items", *hashing, code=3)
    assert [one["reason"] for one in left] == ["bad_vector"]
    assert "wanted a list of 64 numbers" in left[0]["detail"]
    assert read_lines(tmp_path / "items.jsonl") == items[:1]


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "letters.jsonl", [letter(VIEW)])
    before = file.read_bytes()
    _, told = replay(file, "--to", file, code=1)
    assert "would write over a file" in told
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--reason", "whim"), 2, "not_json"),
        (("--stream", "users"), 2, "wanted events or items"),
        (("--to", "kafka:recommendations"), 2, "this job writes there"),
        (("--to", "x.txt"), 1, ".jsonl"),
    ],
)
def test_a_wrong_wish_is_refused(tmp_path: Path, args: tuple[str, ...], code: int, said: str) -> None:
    file = write_lines(tmp_path / "letters.jsonl", [letter(VIEW)])
    assert said in replay(file, *args, code=code)[1]


def test_a_line_that_is_no_letter_is_left_over_as_it_was(tmp_path: Path) -> None:
    stdin = orjson.dumps(VIEW) + b"\n" + orjson.dumps(letter(VIEW)) + b"\n"
    left, told = replay("-", "--to", tmp_path / "a.jsonl", stdin=stdin, code=3)
    assert left == [VIEW]
    assert "standard input, line 1: no_letter: no dead letter: reason: got null" in told
    assert "2 dead letters: 1 sent" in told
