"""The published schemas agree with the code that decodes and writes records."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recstream.records.actions import DecodeRules, actions_with
from recstream.records.dead_letter import dead_letter_message
from recstream.records.decode import decode_events
from recstream.records.event import Event, event_from, event_schema
from recstream.records.item import Item, item_from, item_schema
from recstream.records.recommendation import (
    ListedItem,
    Trigger,
    encode_recommendation,
    recommendation_message,
    tombstone,
)
from recstream.records.reject import REASONS, Reject
from recstream.records.schema import SCHEMA_VERSION, Schema, all_schemas
from recstream.records.session import session_message
from recstream.records.transport import Message, Partition, RawBatch
from tests.support.strategies import (
    NOW,
    Broken,
    Record,
    broken_events,
    broken_items,
    events,
    ids,
    items,
    odd_items,
    written_times,
)

RULES = DecodeRules(actions=actions_with({"wishlist": 2}), dim=3)
AT = (Partition("events/3", "x"), 1, b"raw")
VALIDATORS = {name: jsonschema.Draft202012Validator(schema) for name, schema in all_schemas(RULES).items()}

BEYOND: dict[str, str] = {
    "in_the_future": "a schema has no clock",
    "empty_text": "a schema cleans nothing",
    "too_large": "a schema counts characters, not bytes, and no digits of integers",
}
"""Refusals that a schema cannot foresee, and why."""


def conforms(name: str, record: object) -> bool:
    return bool(VALIDATORS[name].is_valid(record))


@pytest.mark.parametrize("name", list(VALIDATORS))
def test_each_is_a_sound_schema_and_survives_json(name: str) -> None:
    schema = all_schemas(RULES)[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$id"] == f"urn:recstream:{name}:{SCHEMA_VERSION}"


@given(events(RULES))
def test_accepted_events_conform(record: Record) -> None:
    assert isinstance(event_from(record, *AT, rules=RULES, now=NOW), Event)
    VALIDATORS["event"].validate(record)


@given(items(dim=3))
def test_accepted_items_conform(record: Record) -> None:
    assert isinstance(item_from(record, *AT, rules=RULES), Item)
    VALIDATORS["item"].validate(record)


@given(broken_events(RULES))
def test_refused_events_do_not_conform_as_far_as_a_schema_can_tell(broken: Broken) -> None:
    assume(broken.reason not in BEYOND and _tellable(broken))
    assert not conforms("event", broken.record)


@given(broken_items(RULES))
def test_refused_items_do_not_conform_as_far_as_a_schema_can_tell(broken: Broken) -> None:
    assume(broken.reason not in BEYOND and _tellable(broken))
    assert not conforms("item", broken.record)


@given(odd_items(RULES))
def test_items_of_which_something_is_left_out_do_not_conform_as_far_as_a_schema_can_tell(odd: Broken) -> None:
    assume(odd.reason not in BEYOND and _tellable(odd))
    assert not conforms("item", odd.record)


@given(written_times(), st.data())
def test_schema_and_decoder_agree_on_times(written: tuple[str, float], data: st.DataObject) -> None:
    """Those that are none, too: two characters are put in the place of any."""
    text = written[0]
    at = data.draw(st.integers(0, len(text)))
    signs = st.text(st.sampled_from("0123456789 :.,-+TZUCGM[]"), max_size=2)
    text = text[:at] + data.draw(signs) + text[at + data.draw(st.integers(0, 2)) :]
    record = {"item_id": "i", "title": "t", "published_at": text}
    item = item_from(record, *AT, rules=RULES)
    assert isinstance(item, Item)
    is_off_the_calendar = any("a day of the calendar" in one.detail for one in item.left_out)
    assert conforms("item", record) == (not item.left_out) or is_off_the_calendar


@given(events(RULES), st.data())
def test_whatever_is_done_to_a_record_schema_and_decoder_agree(record: Record, data: st.DataObject) -> None:
    """Drop, swap and spoil fields at will: accepted means conforming, conforming means accepted."""
    for name in data.draw(st.lists(st.sampled_from(sorted(record)), max_size=3)):
        record.pop(name, None)
    spoil = st.sampled_from(
        [None, 0, -1, 2, 6, True, "", "x", "1970-01-01", [], ["a"], {}, {"item_id": "i1"}]
    )
    names = ["user_id", "ts", "action", "item_id", "text", "rating", "event_id", "item", "rec"]
    record |= data.draw(st.dictionaries(st.sampled_from(names), spoil, max_size=2))
    action = record.get("action")
    got = event_from(record, *AT, rules=RULES, now=NOW)
    if isinstance(got, Event) and not (got.item and got.item.left_out):
        VALIDATORS["event"].validate(record)
    elif isinstance(got, Reject) and got.reason not in BEYOND and "the event's own item_id" not in got.detail:
        assert not conforms("event", record), (got.detail, action)


def _tellable(broken: Broken) -> bool:
    """Leave out days that are on no calendar, half pairs, and numbers without bounds."""
    name = broken.field.split(".")[-1]
    value = (broken.record["item"] if "." in broken.field else broken.record).get(name)
    if broken.reason == "bad_value" and name.endswith("id"):
        return value == ""
    if broken.reason == "bad_timestamp" and isinstance(value, str):
        return value not in ("2004-02-30", "2023-02-30T00:00:00Z")
    numbers: list[Any] = value if isinstance(value, list) else [value]
    return not any(
        not math.isfinite(n) if isinstance(n, float) else isinstance(n, int) and abs(n) >= 10**400
        for n in numbers
    )


def test_configured_actions_scale_and_dim_show_in_the_schemas() -> None:
    schema = event_schema(DecodeRules(actions=actions_with({"wishlist": 2}), rating_scale=(0, 10)))
    assert "wishlist" in schema["properties"]["action"]["enum"]
    rate = {"user_id": "u", "ts": 1, "action": "rate", "item_id": "i", "rating": 0}
    assert jsonschema.Draft202012Validator(schema).is_valid(rate)
    assert not conforms("event", rate)
    vector = {"item_id": "i", "title": "t", "vector": [1, 2, 3]}
    assert conforms("item", vector)
    assert not conforms("item", vector | {"vector": [1, 2]})


@given(items(dim=4))
def test_the_schema_that_is_printed_without_settings_takes_what_a_job_takes(record: Record) -> None:
    """How long vectors are is the encoder's, so that there is no other bound."""
    jsonschema.Draft202012Validator(item_schema()).validate(record)
    event = {"user_id": "u", "ts": 1, "action": "view", "item": record}
    jsonschema.Draft202012Validator(event_schema()).validate(event)


def assert_as_published(name: str, record: Record, schema: Schema | None = None) -> None:
    """Check that a record which recstream wrote conforms, and that its schema names each of its fields."""
    if schema is None:
        VALIDATORS[name].validate(record)
        schema = all_schemas(RULES)[name]
    for field, value in record.items():
        assert field in schema["properties"], f"{name}: {field!r} is written and not published"
        inner = schema["properties"][field]
        for one in value if isinstance(value, list) else [value]:
            described = inner.get("items", inner)
            if isinstance(one, dict) and "additionalProperties" not in described:
                assert_as_published(f"{name}.{field}", one, described)


def test_every_reason_is_published_and_dead_letters_are_written_as_published() -> None:
    reasons = all_schemas()["reject"]["properties"]["reason"]["enum"]
    assert tuple(reasons) == REASONS
    raws = [b"{", b"\xff", b"[]", b'{"user_id": 1}', b"x" * 300_000]
    batch = RawBatch(AT[0], [1, 2, 3, 4, 5], raws)
    for reject in decode_events(batch, rules=RULES, now=NOW, loads=json.loads)[1]:
        message = dead_letter_message(reject, at=NOW)
        assert (message.key, message.headers) == (b"events/3", ())
        assert_as_published("reject", written(message))


def written(message: Message) -> Record:
    assert message.value is not None
    record: Record = json.loads(message.value)
    return record


LISTED = st.tuples(ids, st.floats(-9, 9), st.dictionaries(st.just("fresh"), st.floats(0, 1)), st.lists(ids))


@given(
    st.lists(LISTED, max_size=3),
    ids,
    st.integers(0, 2**44),
    st.integers(0, 2**40),
    st.sampled_from(get_args(Trigger)),
)
def test_lists_are_written_as_published(
    listed: list[ListedItem], user_id: str, generation: int, version: int, trigger: Trigger
) -> None:
    record = encode_recommendation(
        listed,
        user_id=user_id,
        generation=generation,
        version=version,
        generated_at=NOW,
        as_of=(NOW - 1, "events/3", 9917),
        trigger=trigger,
        encoder="minilm-l6-v2@53aa5117",
        catalogue=318,
    )
    message = recommendation_message(user_id, generation, version, record)
    assert message.key == user_id.encode()
    assert dict(message.headers) == {
        "recstream-generation": str(generation).encode(),
        "recstream-version": str(version).encode(),
        "recstream-schema": SCHEMA_VERSION.encode(),
    }
    made = written(message)
    assert_as_published("recommendation", made)
    assert [one["item_id"] for one in made["items"]] == [item_id for item_id, *_ in listed]
    assert [one["rank"] for one in made["items"]] == list(range(1, len(listed) + 1))


LIST: Record = {
    "user_id": "u1",
    "generation": 1699990000123,
    "version": 42,
    "generated_at": 1700000123.4,
    "as_of": {"ts": 1700000120.0, "partition": "events/3", "offset": 9917},
    "trigger": "event",
    "items": [
        {
            "item_id": "i7",
            "rank": 1,
            "score": 0.83,
            "signals": {"short_term": 0.5, "long_term": 0.2, "together": 0.1, "trending": 0.03},
            "because": ["i3"],
        }
    ],
    "model": {"encoder": "minilm-l6-v2@53aa5117", "catalogue": 318},
}


def test_the_fields_of_a_list_are_written_in_this_order() -> None:
    (item,) = LIST["items"]
    record = encode_recommendation(
        [("i7", 0.83, item["signals"], ["i3"])],
        user_id="u1",
        generation=1699990000123,
        version=42,
        generated_at=1700000123.4,
        as_of=(1700000120.0, "events/3", 9917),
        trigger="event",
        encoder="minilm-l6-v2@53aa5117",
        catalogue=318,
    )
    assert record == json.dumps(LIST, separators=(",", ":")).encode()
    VALIDATORS["recommendation"].validate(LIST | {"items": []})


def test_a_list_of_a_release_without_generations_conforms() -> None:
    VALIDATORS["recommendation"].validate({name: LIST[name] for name in LIST if name != "generation"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"trigger": "timer"},
        {"version": -1},
        {"generation": 1.5},
        {"generation": None},
        {"as_of": None},
        {"items": [{"item_id": "i7"}]},
        {"model": {}},
    ],
)
def test_a_list_with_a_fault_does_not_conform(wrong: Record) -> None:
    assert not conforms("recommendation", LIST | wrong)


def test_a_tombstone_is_a_null_under_the_users_key() -> None:
    assert tombstone("ü1") == Message("ü1".encode(), None, (("recstream-schema", SCHEMA_VERSION.encode()),))


def test_a_closed_session_is_written_as_published() -> None:
    message = session_message("u1", start=5.0, end=9.0, events=2, actions={"view": 2}, items=["i1", "i2"])
    record = written(message)
    assert_as_published("session", record)
    assert (message.key, record["session_id"]) == (b"u1", "u1@5.000")
    assert message.headers == (("recstream-schema", SCHEMA_VERSION.encode()),)
    assert not conforms("session", {name: value for name, value in record.items() if name != "items"})
