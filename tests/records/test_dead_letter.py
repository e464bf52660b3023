"""Dead letters lose nothing, give the record back, and say what would become of it now."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st

from recstream.records.actions import DecodeRules
from recstream.records.dead_letter import (
    MAX_RAW_BYTES,
    DeadLetter,
    DeadLetterError,
    Mended,
    dead_letter_from,
    dead_letter_record,
    mend,
    raw_of,
    source_id,
)
from recstream.records.decode import decode_events
from recstream.records.event import Event
from recstream.records.reject import Reject
from recstream.records.transport import Partition, RawBatch
from tests.support.strategies import NOW, Record, broken_events, events, items

RULES = DecodeRules()
FROM = Partition("events/3", "events/3@1")
VIEW = {"user_id": "u1", "ts": 1, "action": "view", "item_id": "i1"}


def dead_letter_of(
    raw: bytes, reason: Any = "bad_type", partition: Partition = FROM, offset: int = 7
) -> DeadLetter:
    """A reject written as a dead letter and read back."""
    record = dead_letter_record(Reject(reason, "why", partition, offset, raw), at=5.0)
    return dead_letter_from(orjson.dumps(record))


def decoded(value: bytes) -> Event:
    (event,), rejects = decode_events(RawBatch(FROM, [0], [value]), rules=RULES, now=NOW, loads=orjson.loads)
    assert rejects == []
    return event


def mended(dead_letter: DeadLetter) -> Mended:
    found = mend(dead_letter, "events", rules=RULES, now=NOW)
    assert isinstance(found, Mended), found
    return found


@given(st.binary(max_size=300))
def test_a_dead_letter_gives_its_bytes_and_its_source_back(raw: bytes) -> None:
    dead_letter = dead_letter_of(raw)
    assert (dead_letter.raw, dead_letter.partition, dead_letter.offset, dead_letter.reason) == (
        raw,
        "events/3",
        7,
        "bad_type",
    )
    assert (dead_letter.raw_bytes, dead_letter.at, dead_letter.topic) == (None, 5.0, "events")


def test_the_record_has_the_published_fields() -> None:
    record = dead_letter_record(Reject("not_json", "why", FROM, 7, b"{"), at=1700000000.25)
    assert record == {
        "reason": "not_json",
        "detail": "why",
        "source": {"partition": "events/3", "offset": 7},
        "raw": "{",
        "at": 1700000000.25,
    }


def test_bytes_that_are_not_utf8_are_base64_and_say_so() -> None:
    record = dead_letter_record(Reject("not_json", "why", FROM, 7, b"\xff\xfe"), at=0.0)
    assert (record["raw"], record["raw_encoding"]) == ("//4=", "base64")


@given(raw=st.binary() | st.text().map(str.encode), detail=st.text())
@example(raw=b"\n\r\xe2\x80\xa8\x00", detail="half a pair: \ud800")
def test_raw_comes_back_and_the_record_is_one_line(raw: bytes, detail: str) -> None:
    record = orjson.dumps(dead_letter_record(Reject("bad_type", detail, FROM, 0, raw), at=0.0))
    assert raw_of(orjson.loads(record)) == raw
    assert b"\n" not in record


@pytest.mark.parametrize("piece", [b"x", b"\x00", b"\xff", b'"', "é".encode()])
def test_a_huge_record_fits_a_topic_and_says_how_long_it_was(piece: bytes) -> None:
    raw = piece * (1_000_000 // len(piece))
    record = dead_letter_record(Reject("too_large", "why", FROM, 0, raw), at=0.0)
    assert len(orjson.dumps(record)) < 1_000_000
    assert record["raw_bytes"] == len(raw)
    assert raw.startswith(raw_of(record)[:1000])


def sent(record: Record) -> bytes:
    """A record as its producer sends it, if the decoder's parser takes its numbers and texts as they are."""
    raw = json.dumps(record).encode()
    try:
        read = orjson.loads(raw)
    except ValueError:
        reject()
    assume(repr(read) == repr(json.loads(raw)))
    return raw


@given(events(), st.sampled_from(["", " ", "\n", " \r\n\t"]))
def test_a_sound_event_is_sent_as_it_is_but_for_an_id(record: Record, blank: str) -> None:
    raw = sent(record) + blank.encode()
    value = mended(dead_letter_of(raw)).value
    before, after = decoded(raw), decoded(value)
    if before.event_id is not None:
        assert value == raw
    assert after.event_id == (before.event_id or "dead-letter:events/3:7")
    assert repr(before._replace(event_id=after.event_id)) == repr(after).replace(repr(value), repr(raw))


@given(events())
def test_the_same_dead_letter_gives_the_same_id_and_the_users_key(record: Record) -> None:
    raw = sent(record)
    assert mended(dead_letter_of(raw)) == mended(dead_letter_of(raw))
    assert mended(dead_letter_of(raw)).key == decoded(raw).user_id


@given(broken_events())
def test_what_would_be_refused_again_is_not_sent(broken: tuple[Record, str, str]) -> None:
    raw = json.dumps(broken[0]).encode()
    found = mend(dead_letter_of(raw), "events", rules=RULES, now=NOW)
    assert isinstance(found, Reject)
    assert (
        found
        == decode_events(
            RawBatch(Partition("events/3", "events/3"), [7], [raw]), rules=RULES, now=NOW, loads=orjson.loads
        )[1][0]
    )


@given(items())
def test_items_are_keyed_by_their_id_and_need_no_event_id(record: Record) -> None:
    raw = sent(record)
    found = mend(dead_letter_of(raw), "items", rules=RULES, now=NOW)
    item_id = record["item_id"]
    is_whole = isinstance(item_id, float) and item_id.is_integer()
    assert found == Mended(f"{item_id:.0f}" if is_whole else str(item_id), raw)


def test_an_event_too_large_for_its_id_is_refused() -> None:
    raw = orjson.dumps(VIEW)
    rules = DecodeRules(max_record_bytes=len(raw) + 5)
    found = mend(dead_letter_of(raw), "events", rules=rules, now=NOW)
    assert isinstance(found, Reject)
    assert found.reason == "too_large"


def test_a_dead_letter_that_was_cut_says_where_the_rest_is() -> None:
    found = mend(dead_letter_of(b"x" * (MAX_RAW_BYTES + 1), "too_large"), "events", rules=RULES, now=NOW)
    assert isinstance(found, Reject)
    assert "the first 262144 of 262145 bytes" in found.detail
    assert "events/3:7" in found.detail


def test_what_came_from_the_future_is_accepted_once_its_time_has_come() -> None:
    dead_letter = dead_letter_of(orjson.dumps({**VIEW, "ts": NOW + 1000}), "in_the_future")
    assert isinstance(mend(dead_letter, "events", rules=RULES, now=NOW), Reject)
    assert isinstance(mend(dead_letter, "events", rules=RULES, now=NOW + 1000), Mended)


def test_dead_letters_of_two_places_have_two_ids() -> None:
    other = Partition("old/events.jsonl", "events.jsonl@1")
    assert source_id(dead_letter_of(b"")) == "dead-letter:events/3:7"
    assert source_id(dead_letter_of(b"", partition=other)) == "dead-letter:old/events.jsonl:7"
    assert dead_letter_of(b"", partition=other).topic == "old/events.jsonl"


def test_raw_may_be_mended_as_an_object() -> None:
    line = orjson.dumps({**dead_letter_record(Reject("bad_type", "", FROM, 7, b"{}"), at=0.0), "raw": VIEW})
    assert dead_letter_from(line).raw == orjson.dumps(VIEW)


GOOD = dead_letter_record(Reject("bad_type", "why", FROM, 7, b"{}"), at=5.0)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"", "line"),
        (b"{", "line"),
        (b"\xff", "line"),
        (b"[]", "a list of 0"),
        (orjson.dumps(VIEW), "reason: got null"),
        (orjson.dumps({**GOOD, "reason": "whim"}), "reason: got 'whim'"),
        (orjson.dumps({**GOOD, "reason": ["bad_type"]}), "reason: got a list"),
        (orjson.dumps({**GOOD, "source": "events/3"}), "source: got 'events/3'"),
        (orjson.dumps({**GOOD, "source": {"partition": "e", "offset": True}}), "source: got 'e' and true"),
        (orjson.dumps({**GOOD, "raw": 5}), "raw: got 5"),
        (orjson.dumps({**GOOD, "raw": "{}", "raw_encoding": "base64"}), "take raw_encoding out"),
        (orjson.dumps({**GOOD, "raw": "é", "raw_encoding": "base64"}), "take raw_encoding out"),
        (orjson.dumps(GOOD).replace(b'"{}"', b"[" * 500 + b"]" * 500), "raw: got a list"),
        (orjson.dumps(GOOD).replace(b'"{}"', b'{"a":' * 500 + b"1" + b"}" * 500), "raw: got an object"),
    ],
)
def test_what_is_no_dead_letter_is_named(line: bytes, named: str) -> None:
    with pytest.raises(DeadLetterError, match="no dead letter: ") as caught:
        dead_letter_from(line)
    assert named in str(caught.value)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(orjson.dumps))
def test_any_line_is_a_dead_letter_or_an_error_of_its_own(line: bytes) -> None:
    with pytest.raises(DeadLetterError):
        dead_letter_from(line)
