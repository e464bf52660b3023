"""Decoding batches: nothing raises, nothing is lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.records.actions import DecodeRules
from recstream.records.checks import digits
from recstream.records.dead_letter import dead_letter_record
from recstream.records.decode import decode_events, decode_items
from recstream.records.event import Event
from recstream.records.reject import Reject
from recstream.records.transport import Partition, RawBatch
from tests.support.strategies import NOW, Record, broken_events, events, items, json_values

RULES = DecodeRules()
FROM = Partition("events/3", "events/3@1")
VIEW = b'{"user_id": "u1", "ts": 1, "action": "view", "item_id": "i1"}'
PARSERS: list[Callable[[bytes], object]] = [orjson.loads, json.loads]

HOSTILE = [
    b"",
    b" ",
    b"null",
    b"\x00",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf" + VIEW,
    b"[" * 200_000,
    b'{"user_id":' * 30_000,
    b'{"ts": ' + b"9" * 5000 + b"}",
    b'{"user_id": ' + b"9" * 5000 + b"}",
    VIEW.replace(b"1,", b"NaN,"),
    VIEW.replace(b"1,", b"1e999,"),
    VIEW.replace(b"1,", b"-Infinity,"),
    VIEW.replace(b"u1", b"\\ud800"),
    VIEW.replace(b"u1", b"\xed\xa0\x80"),
    VIEW + VIEW,
    VIEW[:-1],
    b"'" + VIEW + b"'",
    b"x" * 300_000,
]


def batch(values: list[bytes]) -> RawBatch:
    return RawBatch(FROM, list(range(100, 100 + len(values))), values)


def decode(
    values: list[bytes], loads: Callable[[bytes], object] = orjson.loads
) -> tuple[list[Event], list[Reject]]:
    """Decode as events and check that every record is in exactly one list, in order."""
    accepted, rejects = decode_events(batch(values), rules=RULES, now=NOW, loads=loads)
    found: list[Event | Reject] = [*accepted, *rejects]
    both = sorted(found, key=lambda record: record.offset)
    assert [record.offset for record in both] == list(range(100, 100 + len(values)))
    assert [record.raw for record in both] == values
    assert [e.offset for e in accepted] == sorted(e.offset for e in accepted)
    assert [r.offset for r in rejects] == sorted(r.offset for r in rejects)
    return accepted, rejects


@given(st.lists(st.binary(max_size=40) | json_values.map(lambda v: json.dumps(v).encode()), max_size=8))
def test_arbitrary_bytes_never_raise_and_are_all_accounted_for(values: list[bytes]) -> None:
    for loads in PARSERS:
        decode(values, loads)
        accepted, rejects = decode_items(batch(values), rules=RULES, loads=loads)
        assert len(accepted) + len(rejects) == len(values)


@pytest.mark.parametrize("loads", PARSERS)
@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_records_are_rejected_and_their_neighbours_are_not(
    value: bytes, loads: Callable[[bytes], object]
) -> None:
    accepted, rejects = decode([VIEW, value, VIEW], loads)
    if value.startswith(b"\xef\xbb\xbf") and len(accepted) == 3:
        return  # the standard library's parser takes a byte order mark
    assert [event.offset for event in accepted] == [100, 102]
    assert "\n" not in rejects[0].detail
    assert len(rejects[0].detail) < 500
    assert decode_items(batch([value]), rules=RULES, loads=loads)[0] == []


@given(st.lists(events(), max_size=5))
def test_a_batch_decodes_like_its_records_one_by_one(records: list[Record]) -> None:
    values = [json.dumps(record).encode() for record in records]
    whole = decode(values, json.loads)[0]
    assert [repr(e) for e in whole] == [repr(e) for e in map(_alone, values, range(100, 200))]


def _alone(value: bytes, offset: int) -> Event:
    one = RawBatch(FROM, [offset], [value])
    return decode_events(one, rules=RULES, now=NOW, loads=json.loads)[0][0]


@given(st.lists(items(), max_size=5))
def test_sound_items_are_decoded_in_order(records: list[Record]) -> None:
    values = [json.dumps(record).encode() for record in records]
    accepted, rejects = decode_items(batch(values), rules=RULES, loads=json.loads)
    assert rejects == []
    assert [item.item_id for item in accepted] == [digits(record["item_id"]) for record in records]


def test_the_last_of_duplicate_keys_counts() -> None:
    assert decode([VIEW[:-1] + b', "user_id": "u2"}'])[0][0].user_id == "u2"


@given(st.lists(st.none() | st.binary(max_size=20) | st.text(max_size=20).map(str.encode), max_size=8))
def test_a_null_value_deletes_the_item_under_its_key_and_is_no_event(keys: list[bytes | None]) -> None:
    """Whatever the key is, nothing is raised, and nothing but its own item is deleted."""
    nulls = batch([VIEW, *(b"" for _ in keys)])
    nulls = nulls._replace(tombstones=dict(enumerate(keys, 101)))
    accepted, rejected = decode_events(nulls, rules=RULES, now=NOW, loads=orjson.loads)
    assert ([event.offset for event in accepted], rejected) == ([100], [])
    deleted, rejects = decode_items(nulls, rules=RULES, loads=orjson.loads)
    places = [item.offset for item in deleted] + [reject.offset for reject in rejects[1:]]
    assert sorted(places) == list(range(101, 101 + len(keys)))
    assert [(item.item_id.encode(), item.deleted) for item in deleted] == [
        (keys[item.offset - 101], True) for item in deleted
    ]
    for reject in rejects[1:]:
        key = keys[reject.offset - 101]
        assert not key or not key.isascii(), "only what is no id is refused"
        assert '"deleted": true' in reject.detail


def test_an_empty_record_says_what_to_send_in_its_place() -> None:
    event = decode([b""])[1][0]
    assert event.reason == "not_json"
    assert "empty record" in event.detail
    assert "forget" in event.detail
    item = decode_items(batch([b""]), rules=RULES, loads=orjson.loads)[1][0]
    assert '"deleted": true' in item.detail


def test_a_record_that_is_too_long_is_not_even_parsed() -> None:
    def loads(raw: bytes) -> object:
        raise AssertionError(raw[:10])

    long = VIEW + b" " * RULES.max_record_bytes
    assert decode([long], loads)[1][0].reason == "too_large"
    assert decode([VIEW + b" " * (RULES.max_record_bytes - len(VIEW))])[0]


def test_what_is_not_json_is_quoted_with_the_parsers_complaint() -> None:
    detail = decode([b'{"user_id": }'])[1][0].detail
    assert detail.startswith("record: got '{\"user_id\": }' (")
    assert "column" in detail


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\x00\x00\x00\x00\x07" + VIEW, "Schema-Registry frame (magic byte 0, schema id 7) before JSON"),
        (b"\x00\x00\x01\x86\xa1\x0aabcdefgh", "schema id 100001) before what is probably Avro or Protobuf"),
        (b"\x03\x00" + bytes(16) + VIEW, "AWS Glue Schema Registry"),
        (gzip.compress(VIEW, mtime=0), "(gzip)"),
        (b"Obj\x01\x04", "an Avro file"),
        (VIEW.decode().encode("utf-16"), "UTF-16"),
        (VIEW.decode().encode("utf-16-le"), "UTF-16"),
        (VIEW.decode().encode("utf-16-be"), "UTF-16"),
        (str(orjson.loads(VIEW)).encode(), "json.dumps"),
        (VIEW.replace(b"1,", b"NaN,"), "NaN"),
        (VIEW.replace(b"u1", "Côté".encode("latin-1")), "0xf4 at byte 14, which is no UTF-8"),
        (b"<event/>", "XML"),
    ],
)
def test_what_is_not_json_is_told_what_it_is(raw: bytes, told: str) -> None:
    """And not to be serialised with a JSON library, which may well have been done."""
    (reject,) = decode([raw])[1]
    assert reject.reason == "not_json"
    assert told in reject.detail
    assert "JSON library" not in reject.detail
    assert len(reject.detail) < 500


@given(broken_events())
def test_every_reject_can_be_written_as_json(broken: tuple[Record, str, str]) -> None:
    value = json.dumps(broken[0]).encode()
    for reject in decode([value, b"\xff\xed\xa0\x80"], json.loads)[1]:
        orjson.dumps(dead_letter_record(reject, at=NOW))
