"""Events: what is accepted, what is refused and how, and what each weighs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.records.actions import DEFAULT_ACTIONS, Action, DecodeRules, actions_with
from recstream.records.checks import digits
from recstream.records.event import Event, event_from, weight_of
from recstream.records.reject import Reject
from recstream.records.transport import Partition
from tests.support.strategies import NOW, Broken, Record, broken_events, events, json_values, written_times

RULES = DecodeRules(dim=3)
AT = (Partition("events/3", "events/3@1"), 9917, b"raw")
VIEW: Record = {"user_id": "u1", "ts": NOW, "action": "view", "item_id": "i1"}


def accepted(record: object, rules: DecodeRules = RULES, now: float = NOW) -> Event:
    event = event_from(record, *AT, rules=rules, now=now)
    assert isinstance(event, Event), event
    return event


def refused(record: object, rules: DecodeRules = RULES, now: float = NOW) -> Reject:
    reject = event_from(record, *AT, rules=rules, now=now)
    assert isinstance(reject, Reject), reject
    return reject


@given(events(RULES))
def test_sound_events_are_accepted_and_weigh_something_finite(record: Record) -> None:
    event = accepted(record)
    assert event.user_id == digits(record["user_id"])
    assert event.action == record["action"]
    assert type(event.ts) is float
    assert event[9:12] == AT
    assert math.isfinite(weight_of(event, RULES))
    if RULES.actions[event.action].kind not in ("search", "request", "forget"):
        assert event.item_id is not None


@given(broken_events(RULES))
def test_one_fault_is_refused_and_its_detail_says_how_to_mend_it(broken: Broken) -> None:
    reject = refused(broken.record)
    assert reject.reason == broken.reason
    assert reject.detail.startswith(broken.field)
    for part in (": got ", ", wanted ", "; "):
        assert part in reject.detail
    assert "\n" not in reject.detail
    assert len(reject.detail) < 500
    assert reject[2:] == AT


@given(json_values, st.floats())
def test_any_json_value_ends_in_an_event_or_a_reject(value: object, now: float) -> None:
    assert isinstance(event_from(value, *AT, rules=RULES, now=now), (Event, Reject))


@given(
    st.fixed_dictionaries(
        {},
        optional={name: json_values for name in Event._fields}
        | {name: json_values | st.just(VIEW[name]) for name in ("user_id", "ts", "item_id")}
        | {"action": st.sampled_from(list(DEFAULT_ACTIONS))},
    )
)
def test_any_values_in_the_named_fields_end_in_an_event_or_a_reject(record: Record) -> None:
    assert isinstance(event_from(record, *AT, rules=RULES, now=NOW), (Event, Reject))


@given(events(RULES), st.sampled_from(["event_id", "text", "rating", "item", "rec", "item_id"]))
def test_null_counts_as_absent(record: Record, name: str) -> None:
    record.pop(name, None)
    absent = event_from(record, *AT, rules=RULES, now=NOW)
    null = event_from(record | {name: None}, *AT, rules=RULES, now=NOW)
    assert repr(null) == repr(absent)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0),
        (1700000000.25, 1700000000.25),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14t23:43:20.5+01:30", NOW + 0.5),
        ("2023-11-14 12:13:20-10:00", NOW),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("1969-12-31T23:00:00-02:00", 3600.0),
    ],
)
def test_times_are_seconds_or_rfc_3339(written: object, seconds: float) -> None:
    assert accepted(VIEW | {"ts": written}).ts == seconds


@given(written_times())
def test_times_are_read_as_producers_and_databases_write_them(written: tuple[str, float]) -> None:
    text, seconds = written
    assert accepted(VIEW | {"ts": text}).ts == seconds


@pytest.mark.parametrize(
    ("who", "written"),
    [
        ("java.time, in one second of sixty", "2023-11-14T22:13Z"),
        ("java.time, with its zone", "2023-11-14T23:13+01:00[Europe/Paris]"),
        ("log4j, ECMAScript's older engines", "2023-11-14T22:13:00.000+0000"),
        ("BigQuery", "2023-11-14 22:13:00 UTC"),
        ("Postgres", "2023-11-14 22:13:00+00"),
        ("Postgres, of a zone with seconds", "2023-11-14 21:53:28-00:19:32"),
        ("Snowflake", "2023-11-14 22:13:00.000 Z"),
        ("ClickHouse and Ruby", "2023-11-14 22:13:00 +0000"),
        ("AWS", "20231114T221300Z"),
        ("ISO 8601 where numbers have a comma", "2023-11-14T22:13:00,000Z"),
    ],
)
def test_a_known_program_s_times_are_read(who: str, written: str) -> None:
    assert accepted(VIEW | {"ts": written}).ts == NOW - 20, who


@given(written_times(), st.data())
def test_a_time_with_a_character_wrong_is_never_another_exception(
    written: tuple[str, float], data: st.DataObject
) -> None:
    """It is refused as a time, or it is one still."""
    text = written[0]
    at = data.draw(st.integers(0, len(text) - 1))
    spoilt = (
        text[:at] + data.draw(st.sampled_from(["", " ", "9", ":", "-", "Z", "\u0662", "x"])) + text[at + 1 :]
    )
    found = event_from(VIEW | {"ts": spoilt}, *AT, rules=RULES, now=math.inf)
    assert isinstance(found, Event) or found.reason == "bad_timestamp"


@pytest.mark.parametrize(
    ("ts", "mend"),
    [
        (1.7e12, "looks like milliseconds: divide by 1000"),
        (1.7e15, "looks like microseconds: divide by 1000000"),
        (17 * 10**17, "looks like nanoseconds: divide by 1000000000"),
        (math.nan, "send a finite number"),
        (-1, '"2024-05-01T12:00:00Z"'),
        ("2023-11-14T22:13:20", 'append "Z" if it is UTC'),
        ("2023-11-14", "add the time and its offset"),
        ("2023-11-14T24:00:00Z", "2024-05-01T12:00:00Z"),
        ("\u0662\u0660\u0662\u0663-11-14T22:13:20Z", "2024-05-01T12:00:00Z"),
    ],
)
def test_a_bad_time_names_its_likely_mistake(ts: object, mend: str) -> None:
    reject = refused(VIEW | {"ts": ts}, now=math.inf)
    assert reject.reason == "bad_timestamp"
    assert mend in reject.detail


def test_the_future_begins_beyond_the_tolerance() -> None:
    assert accepted(VIEW | {"ts": NOW + 300}).ts == NOW + 300
    reject = refused(VIEW | {"ts": NOW + 301})
    assert reject.reason == "in_the_future"
    assert "301 s ahead" in reject.detail
    assert accepted(VIEW | {"ts": NOW + 301}, now=math.inf).ts == NOW + 301


@pytest.mark.parametrize(
    ("action", "close"), [("veiw", "view"), ("LIKE", "like"), ("purchased", "purchase"), ("serach", "search")]
)
def test_an_unknown_action_is_told_its_nearest(action: str, close: str) -> None:
    assert f"did you mean {close!r}?" in refused(VIEW | {"action": action}).detail


def test_an_action_like_no_other_is_told_them_all() -> None:
    assert "view, click, play" in refused(VIEW | {"action": "xyzzy"}).detail


def test_ids_may_be_integers_but_not_booleans_or_fractions() -> None:
    event = accepted(VIEW | {"user_id": 7, "item_id": -(2**70), "event_id": 0})
    assert (event.user_id, event.item_id, event.event_id) == ("7", str(-(2**70)), "0")
    assert refused(VIEW | {"user_id": True}).reason == "bad_type"
    assert refused(VIEW | {"user_id": 7.5}).reason == "bad_type"


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_an_id_is_the_same_after_a_null_has_made_its_column_floats(number: int) -> None:
    whole, floats = (accepted(VIEW | {"user_id": one, "item_id": one}) for one in (number, float(number)))
    assert (whole.user_id, whole.item_id) == (floats.user_id, floats.item_id) == (str(number),) * 2


@given(
    st.floats(2.0**53, 1e300) | st.floats(allow_infinity=True, allow_nan=True).filter(lambda x: x != x // 1)
)
def test_a_float_that_may_be_another_id_is_refused_and_not_told_to_be_put_in_quotes(number: float) -> None:
    detail = refused(VIEW | {"item_id": number}).detail
    assert "as it is at" in detail
    assert "quotes" not in detail


def test_what_is_copied_from_a_list_through_a_data_frame_is_read() -> None:
    assert accepted(VIEW | {"rec": {"version": 7.0, "rank": 3.0}}).rec == (7, 3)


@pytest.mark.parametrize(("fits", "exceeds"), [("x" * 512, "x" * 513), ("é" * 256, "é" * 256 + "x")])
def test_ids_are_bounded_in_bytes(fits: str, exceeds: str) -> None:
    assert accepted(VIEW | {"user_id": fits, "item_id": fits}).item_id == fits
    assert refused(VIEW | {"user_id": exceeds}).reason == "too_large"
    assert "513 bytes" in refused(VIEW | {"item_id": exceeds}).detail


@pytest.mark.parametrize("text", ["x" * 8192, "é" * 4096, "💥" * 2048])
def test_a_text_is_bounded_in_bytes(text: str) -> None:
    search = {"user_id": "u1", "ts": NOW, "action": "search"}
    assert accepted(search | {"text": text}).text == text
    assert refused(search | {"text": text + "x"}).reason == "too_large"


def test_a_search_needs_words_and_a_request_needs_nothing() -> None:
    bare = {"user_id": "u1", "ts": NOW}
    assert refused(bare | {"action": "search"}).reason == "missing_field"
    assert refused(bare | {"action": "search", "text": " <br> "}).reason == "empty_text"
    assert accepted(bare | {"action": "search", "text": "<b>jazz</b>"}).text == "jazz"
    assert accepted(bare | {"action": "request"}).item_id is None


def test_nothing_but_its_user_and_time_can_keep_a_user_from_being_forgotten() -> None:
    event = accepted(
        {"user_id": "u1", "ts": 1, "action": "forget", "item_id": [], "text": 3, "item": 0, "rec": 1}
    )
    assert event[:9] == ("u1", 1.0, "forget", None, None, None, None, None, None)
    assert refused({"user_id": "", "ts": 1, "action": "forget"}).reason == "bad_value"


def test_an_item_may_come_along_and_give_its_id() -> None:
    event = accepted({**VIEW, "item_id": None, "item": {"item_id": 5, "title": "Tea", "vector": [0, 2, 0]}})
    assert event.item_id == "5"
    assert event.item is not None
    assert event.item.title == "Tea"
    assert event.item.offset == event.offset


def test_an_item_that_is_not_the_one_acted_on_is_refused() -> None:
    reject = refused(VIEW | {"item": {"item_id": "i2", "title": "Tea"}})
    assert reject.reason == "bad_value"
    assert reject.detail.startswith("item.item_id: got 'i2'")


def test_a_rating_counts_only_where_something_is_rated() -> None:
    assert accepted(VIEW | {"rating": "n/a"}).rating is None
    assert accepted(VIEW | {"action": "rate", "rating": 4}).rating == 4.0
    assert refused(VIEW | {"action": "rate"}).reason == "missing_field"
    reject = refused(VIEW | {"action": "rate", "rating": 5.5})
    assert reject.reason == "bad_value"
    assert "from 1 to 5" in reject.detail


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        (
            {"userId": "u1", "timestamp": 5, "event": "view", "itemId": "i1"},
            "rename 'userId' to 'user_id', 'timestamp' to 'ts', 'event' to 'action', 'itemId' to 'item_id'",
        ),
        (
            {"USER-ID": 5, **{k: VIEW[k] for k in ("ts", "action", "item_id")}},
            "rename 'USER-ID' to 'user_id'",
        ),
        ({"customer_id": 5, "product_id": 9, "ts": 5, "action": "view"}, "rename 'customer_id' to 'user_id'"),
        ({"user_id": 5, "product_id": 9, "ts": 5, "action": "view"}, "rename 'product_id' to 'item_id'"),
        ({"user_id": 5, "query": "tea", "ts": 5, "action": "search"}, "rename 'query' to 'text'"),
        ({"user_id": 5, "item_id": 5, "stars": 3, "ts": 5, "action": "rate"}, "rename 'stars' to 'rating'"),
        ({"op": "c", "before": None, "after": VIEW, "source": {}, "ts_ms": 5}, "Debezium change event"),
        ({"schema": {}, "payload": VIEW}, "Connect envelope: set schemas.enable=false"),
        ({"schema": {}, "payload": {"op": "d", "before": VIEW, "after": None}}, "Debezium"),
        ({"specversion": "1.0", "type": "a", "source": "s", "id": "9", "data": VIEW}, "CloudEvents envelope"),
        ({"id": 5, "detail": VIEW}, "an envelope: send what is in 'detail' alone"),
        ({"detail": {"userId": 5, "time": 5}}, "an envelope: send what is in 'detail' alone"),
        ({"events": [VIEW, VIEW]}, "a batch: send each object of 'events' as a record"),
        ({"Message": '{"user_id": "u1"}'}, "an envelope: send the JSON in 'Message' alone"),
        ('{"user_id": "u1"}', "JSON inside of a JSON string"),
    ],
)
def test_a_record_of_another_system_is_told_what_it_is(record: object, advice: str) -> None:
    assert advice in refused(record).detail


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"ts": 5, "action": "view", "item": {"item_id": "i1", "title": "Tea"}},
        {"user_id": 5, "ts": 5, "action": "view", "id": 5, "context": {"user_id": 5}},
        {"a": 5},
    ],
)
def test_a_record_that_merely_lacks_a_field_is_told_no_more(record: Record) -> None:
    detail = refused(record).detail
    assert detail.endswith("to the record")


@given(st.dictionaries(st.text(max_size=50), json_values, max_size=8))
def test_advice_on_any_record_is_one_short_line(record: Record) -> None:
    detail = refused(record).detail
    assert len(detail.encode("utf-8", "backslashreplace")) < 700
    assert "\n" not in detail


@pytest.mark.parametrize(
    ("more", "weight"),
    [
        ({"action": "view"}, 1.0),
        ({"action": "purchase"}, 5.0),
        ({"action": "skip"}, -0.5),
        ({"action": "hide"}, -3.0),
        ({"action": "impression"}, 0.0),
        ({"action": "search", "text": "tea"}, 1.0),
        ({"action": "rate", "rating": 1}, -2.0),
        ({"action": "rate", "rating": 3}, 0.0),
        ({"action": "rate", "rating": 5}, 2.0),
        ({"action": "comment", "text": "I love it", "rating": 1}, -1.0),
        ({"action": "comment", "text": "I love it"}, 1.0),
        ({"action": "comment", "text": "I do not love it"}, -1.0),
        ({"action": "comment", "text": "It is blue"}, 0.5),
    ],
)
def test_what_an_event_weighs(more: Record, weight: float) -> None:
    assert weight_of(accepted(VIEW | more), RULES) == weight


def test_configured_actions_are_decoded_like_the_built_in_ones() -> None:
    rules = DecodeRules(actions=actions_with({"wishlist": 2.5, "view": 0.25, "return": -4}))
    assert weight_of(accepted(VIEW | {"action": "wishlist"}, rules), rules) == 2.5
    assert weight_of(accepted(VIEW, rules), rules) == 0.25
    assert rules.actions["return"] == Action("return", -4.0, "item", seen=False)
    assert "wishlist" not in DEFAULT_ACTIONS
    assert "did you mean 'wishlist'" in refused(VIEW | {"action": "wish_list"}, rules).detail


def test_all_faults_of_configured_actions_are_named_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"view: weight nan .*; request: nothing is learned.*; ' ' is no name"
    ):
        actions_with({"view": math.nan, "request": 1, " ": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"rating_scale": (5, 1)},
        {"rating_scale": (0, math.inf)},
        {"max_text_bytes": 0},
        {"dim": -1},
        {"future_tolerance_s": math.nan},
        {"actions": {"a": DEFAULT_ACTIONS["view"]}},
    ],
)
def test_rules_that_make_no_sense_are_refused_at_the_start(wrong: Record) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).removesuffix("s")):
        DecodeRules(**wrong)
