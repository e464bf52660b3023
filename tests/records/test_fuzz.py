"""Whatever the bytes: each record ends as exactly one event, item or reject, and never as an exception."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Final

import numpy as np
import orjson
import pytest

from recstream.records.actions import MAX_ID_BYTES, DecodeRules
from recstream.records.checks import digits
from recstream.records.dead_letter import (
    MAX_RAW_BYTES,
    Mended,
    StreamName,
    dead_letter_from,
    dead_letter_record,
    mend,
    raw_of,
)
from recstream.records.decode import decode_events, decode_items
from recstream.records.event import Event, weight_of
from recstream.records.item import Item, item_text
from recstream.records.reject import REASONS, Reject
from recstream.records.text import clean
from recstream.records.transport import Partition, RawBatch

NOW: Final = 1_700_000_000.0
DIM: Final = 4
# small bounds, so that inputs reach them often without being long
RULES: Final = DecodeRules(
    dim=DIM, max_text_bytes=400, max_item_text_bytes=600, max_labels=6, max_record_bytes=4000
)
EVENTS: Final = Partition("events/3", "events/3@1")
ITEMS: Final = Partition("items/0", "items/0@1")
BATCH: Final = 500
DECODED: Final = ("not_json", "not_an_object", "missing_field", "bad_type", "bad_value", "unknown_action")
DECODED_TOO: Final = ("bad_timestamp", "in_the_future", "empty_text", "too_large", "bad_vector")
"""With these, every reason that decoding has; the others are the state's or the encoder's."""

Dice = random.Random

TEXTS: Final = [
    *(
        "",
        " ",
        "tea",
        "Fish &amp; chips",
        "<b>bold</b>",
        "a\x00b",
        "\u202eevil",
        "\u200b",
        "é" * 30,
        "💥" * 9,
    ),
    *(
        "e\u0301" * 40,
        "a" + "\u0301" * 200,
        "<script>",
        "&#x110000;",
        "&#99999999999;",
        "<!-- ",
        "\ufffe\uffff",
    ),
    *("\x7f\x80\x9f", "\u2028\u2029", "x" * 399, "x" * 401, "é" * 201, "&amp;" * 90, "<a" * 120, "\r\n\t"),
    *("NaN", "null", "true", "0", "-1", "1e999", "\\", '"', "'", "{}", "[]", "%s%n", "\U000e0041", "ß" * 99),
]
NUMBERS: Final = [
    *("0", "-0", "1", "-1", "0.1", "-0.0", "1e5", "1E+2", "1e-400", "1e400", "-1e400", "1e308", "9" * 30),
    *("1700000000", "1700000000000", "1700000000000000", "1700000000000000000", "1e11", "100000000001"),
    *("9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616", "-9"),
    *(
        "1699999999.999999",
        "1700000300",
        "1700000301",
        "NaN",
        "Infinity",
        "-Infinity",
        "0x10",
        "01",
        "1_0",
        "+1",
    ),
    *(".5", "5.", "1e", "--1", "9" * 600, "1." + "0" * 300 + "1", "5e-324", "4.9e-325"),
]
TIMES: Final = [
    *("2023-11-14T22:13:20Z", "2023-11-14t22:13:20.25+01:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:60Z"),
    *(
        "2023-02-30T00:00:00Z",
        "2023-11-14",
        "2023",
        "2023-11",
        "0000-00-00",
        "2023-11-14T24:00:00Z",
        "now",
        "",
    ),
    *("2023-11-14T22:13:20+23:59", "2023-11-14T22:13:20-00:00", "2023-11-14T22:13:20.123456789012Z"),
    *("２０２３-11-14T22:13:20Z", "2023-11-14T22:13:20", " 2023-11-14T22:13:20Z", "1969-12-31T23:59:59Z"),
]
SIZES: Final = ["0", "0", "-0.0", "1", "-2.5", "1e308", "-1e308", "1e400", "5e-324", "true", "null", '"1"']
IDS: Final = [
    "u1",
    "i1",
    "",
    "é" * 256,
    "é" * 257,
    "x" * 512,
    "x" * 513,
    "\x00",
    "a\nb",
    "o'Neil",
    "💥",
    "-1",
]
FIELDS: Final = [
    *("user_id", "ts", "action", "item_id", "text", "rating", "event_id", "item", "rec", "context"),
    *("title", "categories", "tags", "published_at", "available", "vector", "deleted", "version", "rank"),
    *("User_id", "user_id ", "", "\u0000", "__proto__", "attributes"),
]
ACTIONS: Final = [*RULES.actions, "veiw", "VIEW", "", "forget ", "\u0000", "x" * 300]


def text_of(dice: Dice) -> str:
    """A JSON string, escaped one way or another; now and then half of a surrogate pair."""
    text = dice.choice(TEXTS) + (dice.choice(TEXTS) if dice.random() < 0.2 else "")
    written = json.dumps(text, ensure_ascii=dice.random() < 0.5)
    if dice.random() < 0.05:
        half = dice.choice(["\\ud800", "\\udfff", "\\udc00\\ud800", "\\ud83d\\ude00", "\\u0000", "\\u00"])
        written = written[:-1] + half + '"'
    return written


def value_of(dice: Dice, depth: int = 0) -> str:
    """Any JSON value, or almost."""
    kind = dice.randrange(12)
    if kind < 3:
        return dice.choice(NUMBERS)
    if kind < 6:
        return text_of(dice)
    if kind < 8:
        return dice.choice(["null", "true", "false", "null", "True", "undefined"])
    if kind == 8:
        return json.dumps(dice.choice(TIMES))
    if kind == 9 and dice.random() < 0.05:
        deep = dice.choice([3, 100, 253, 254, 255, 1023, 1024, 1025])
        opening, closing = dice.choice([("[", "]"), ('{"a":', "}")])
        return opening * deep + "1" + closing * dice.choice([deep, deep, deep - 1])
    if depth > 2:
        return "[]"
    if kind == 10:
        return object_of(dice, depth + 1)
    return "[" + ",".join(value_of(dice, depth + 1) for _ in range(dice.choice([0, 1, 2, 4, 7]))) + "]"


def object_of(dice: Dice, depth: int) -> str:
    pairs = [
        f"{json.dumps(dice.choice(FIELDS))}:{value_of(dice, depth)}" for _ in range(dice.choice([0, 1, 2, 5]))
    ]
    return "{" + ",".join(pairs) + "}"


def sound_item(dice: Dice) -> dict[str, str]:
    """The fields of a good item, each as JSON."""
    fields = {"item_id": json.dumps(f"i{dice.randrange(50)}"), "title": '"Tea"'}
    optional = {
        "text": '"Dark."',
        "categories": '["Drinks", "Hot"]',
        "tags": '"leaf"',
        "published_at": dice.choice(['"2001-00-00"', "978307200", '"2001-02-03"', "null"]),
        "available": dice.choice(["true", "false"]),
        "deleted": dice.choice(["false", "false", "true"]),
        "vector": "[0.5, -1, 2e3, 0]",
        "attributes": "{}",
    }
    return fields | {name: value for name, value in optional.items() if dice.random() < 0.3}


def sound_event(dice: Dice) -> dict[str, str]:
    """The fields of a good event of any action, each as JSON."""
    action = dice.choice(list(RULES.actions))
    fields = {
        "user_id": json.dumps(f"u{dice.randrange(50)}"),
        "ts": dice.choice(["1699999999", "1699999999.25", '"2023-11-14T22:13:20Z"']),
        "action": json.dumps(action),
        "item_id": dice.choice(['"i1"', "17"]),
        "text": '"A good film, never boring"',
        "rating": dice.choice(["1", "3.5", "5"]),
    }
    if dice.random() < 0.3:
        fields["event_id"] = json.dumps(f"e{dice.randrange(99)}")
    if dice.random() < 0.2:
        fields["rec"] = '{"version": 3, "rank": 1}'
    if dice.random() < 0.2:
        item = sound_item(dice) | {"item_id": fields["item_id"]}
        fields["item"] = written(item)
    return fields


def written(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}"


def change_fields(dice: Dice, fields: dict[str, str]) -> None:
    """One thing wrong, or merely unusual, in place."""
    name = dice.choice(list(fields)) if fields and dice.random() < 0.9 else dice.choice(FIELDS)
    kind = dice.randrange(8)
    if kind == 0:
        fields.pop(name, None)
    elif kind == 1 and name.endswith("_id"):
        fields[name] = json.dumps(dice.choice(IDS))
    elif kind == 1 and name == "action":
        fields[name] = json.dumps(dice.choice(ACTIONS))
    elif kind in (1, 2) and name in ("ts", "published_at"):
        fields[name] = json.dumps(dice.choice(TIMES)) if dice.random() < 0.5 else dice.choice(NUMBERS)
    elif kind < 5 and name == "ts":
        fields[name] = dice.choice(
            ["1700000301", "1800000000", "4e9", '"2024-11-14T22:13:20Z"', "1e12", "-1"]
        )
    elif kind == 2 and name == "rating":
        fields[name] = dice.choice(["0", "0.99", "5.01", "-3", "1e308", '"5"', "null", "[5]"])
    elif kind == 2 and name == "text":
        fields[name] = dice.choice(['""', '" "', '"<b></b>"', '"\\u200b"', "null", '"&nbsp;"'])
    elif kind < 5 and name == "vector":
        numbers = [dice.choice(SIZES) for _ in range(dice.choice([DIM, DIM, DIM, DIM - 1, 0]))]
        if dice.random() < 0.4:
            numbers = [dice.choice(SIZES)] * DIM
        fields[name] = "[" + ",".join(numbers) + "]"
    elif kind < 4 and name == "rec":
        pair = [dice.choice(["0", "1", "-1", "1.0", "true", "9223372036854775808", "null"]) for _ in "ab"]
        fields[name] = f'{{"version": {pair[0]}, "rank": {pair[1]}}}'
    elif kind == 3 and name == "item":
        inner = sound_item(dice)
        change_fields(dice, inner)
        fields[name] = written(inner)
    elif kind == 4:
        fields[name] = json.dumps("x" * dice.choice([300, 511, 513, 700, 3900, 5000]))
    elif kind == 5:
        fields[name] = text_of(dice)
    else:
        fields[name] = value_of(dice)


def change_bytes(dice: Dice, raw: bytes) -> bytes:
    """Bytes flipped, torn out, doubled or put in."""
    kind, at = dice.randrange(9), dice.randrange(len(raw) + 1)
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]
    if kind == 2:
        return raw[:at] + raw[at + dice.randrange(1, 9) :]
    if kind == 3:
        return raw + raw
    if kind == 4:
        return (
            raw[:at]
            + dice.choice([b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xf0\x9f", b"\\u"])
            + raw[at:]
        )
    if kind == 5:
        return raw.replace(b":", b": ", 1) + b" " * dice.choice([1, 3, 4000])
    if kind == 6:
        return b"\xef\xbb\xbf" + raw
    if kind == 7 and raw.startswith(b"{"):  # a key twice: the last one counts
        pair = f"{json.dumps(dice.choice(FIELDS))}:{value_of(dice)}"
        return raw[:-1] + b"," + pair.encode("utf-8", "surrogatepass") + b"}"
    return raw.decode("utf-8", "replace").encode(dice.choice(["utf-16", "utf-8", "utf-8"]), "replace")


def record_of(dice: Dice, sound: Callable[[Dice], dict[str, str]]) -> bytes:
    """One input: sound, with a few things changed, or nothing of the kind."""
    kind = dice.random()
    if kind < 0.02:
        return dice.randbytes(dice.choice([0, 1, 7, 60]))
    if kind < 0.07:
        return value_of(dice).encode("utf-8", "surrogatepass")
    fields = sound(dice)
    for _ in range(dice.choice([0, 1, 1, 1, 2, 3])):
        change_fields(dice, fields)
    raw = written(fields).encode("utf-8", "surrogatepass")
    for _ in range(dice.choice([0, 0, 0, 0, 0, 0, 1, 2])):
        raw = change_bytes(dice, raw)
    return raw


def check_event(event: Event) -> None:
    """What the rest of the job relies on."""
    check_id(event.user_id)
    assert type(event.ts) is float
    assert math.isfinite(event.ts)
    assert 0.0 <= event.ts <= NOW + RULES.future_tolerance_s
    kind = RULES.actions[event.action].kind
    for one in (event.item_id, event.event_id):
        if one is not None:
            check_id(one)
    assert event.item_id is not None or kind in ("search", "request", "forget")
    if event.text is not None:
        check_text(event.text, RULES.max_text_bytes)
    assert event.text is not None or kind not in ("search", "comment")
    low, high = RULES.rating_scale
    assert event.rating is None or (type(event.rating) is float and low <= event.rating <= high)
    assert event.rating is not None or kind != "rating"
    if event.rec is not None:
        assert 0 <= event.rec[0] < 2**63
        assert 1 <= event.rec[1] < 2**63
    if event.item is not None:
        check_item(event.item)
        assert event.item.item_id == event.item_id
    assert math.isfinite(weight_of(event, RULES))
    sent = orjson.loads(event.raw)
    assert (digits(sent["user_id"]), sent["action"]) == (event.user_id, event.action)
    assert sent.get("item_id") is None or event.item_id == digits(sent["item_id"]) or kind == "forget"
    assert event.vector is None


def check_item(item: Item) -> None:
    check_id(item.item_id)
    for one in item.left_out:
        assert one.reason in DECODED + DECODED_TOO
        assert "\n" not in one.detail
        assert len(one.detail) < 800
    assert (type(item.available), type(item.deleted)) == (bool, bool)
    if item.deleted:
        assert (item.title, item.vector) == ("", None)
        return
    check_text(item.title, RULES.max_text_bytes)
    if item.text is not None:
        check_text(item.text, RULES.max_item_text_bytes)
    for labels in (item.categories, item.tags):
        assert len(labels) <= RULES.max_labels
        assert len(set(labels)) == len(labels)
        for label in labels:
            check_text(label, MAX_ID_BYTES)
    assert item.published_at is None or (
        type(item.published_at) is float and -62135596800.0 <= item.published_at <= 1e12
    )
    if item.vector is not None:
        assert item.vector.shape == (DIM,)
        assert item.vector.dtype == np.float32
        assert not item.vector.flags.writeable
        assert abs(float(np.linalg.norm(item.vector.astype(np.float64))) - 1.0) < 1e-5
    item_text(item).encode()


def check_id(one: str) -> None:
    assert type(one) is str
    assert 0 < len(one.encode()) <= MAX_ID_BYTES


def check_text(text: str, most: int) -> None:
    assert text
    text.encode()
    assert clean(text) == text
    assert "\n" not in text
    assert "\x00" not in text
    assert len(text) <= most


def check_reject(reject: Reject, raw: bytes) -> None:
    assert reject.reason in (*DECODED, *DECODED_TOO)
    assert reject.detail
    assert "\n" not in reject.detail
    assert len(reject.detail) < 800
    assert reject.raw == raw
    line = orjson.dumps(dead_letter_record(reject, at=NOW))
    assert b"\n" not in line
    dead_letter = dead_letter_from(line)
    assert raw_of(dead_letter.record) == raw[:MAX_RAW_BYTES]
    stream: StreamName = "events" if reject.partition is EVENTS else "items"
    again = mend(dead_letter, stream, rules=RULES, now=NOW)
    assert isinstance(again, Reject)
    assert (again.reason, again.detail) == (reject.reason, reject.detail)


def check_resent(event: Event) -> None:
    """An accepted event, had it been a dead letter, is sent with an id and is the same event."""
    dead_letter = dead_letter_from(
        orjson.dumps(dead_letter_record(Reject("bad_type", "", EVENTS, 7, event.raw), at=NOW))
    )
    found = mend(dead_letter, "events", rules=RULES, now=NOW)
    if isinstance(found, Reject):
        assert found.reason == "too_large", "only an id more can have made it so"
        return
    assert isinstance(found, Mended)
    (again,), _ = decode_events(
        RawBatch(EVENTS, [7], [found.value]), rules=RULES, now=NOW, loads=orjson.loads
    )
    assert again.event_id == event.event_id or (event.event_id, again.event_id) == (
        None,
        "dead-letter:events/3:7",
    )
    assert again[:6] == event[:6]


def decoded(values: Sequence[bytes], stream: str) -> Counter[str]:
    """Decode a batch and check all that came of it; gives how many ended as what."""
    partition = EVENTS if stream == "events" else ITEMS
    batch = RawBatch(partition, list(range(len(values))), list(values))
    good: Sequence[Event | Item]
    if stream == "events":
        good, rejects = decode_events(batch, rules=RULES, now=NOW, loads=orjson.loads)
    else:
        good, rejects = decode_items(batch, rules=RULES, loads=orjson.loads)
    assert sorted([one.offset for one in good] + [one.offset for one in rejects]) == batch.offsets
    for one in good:
        assert one.raw == values[one.offset]
        if isinstance(one, Event):
            check_event(one)
            if one.offset % 7 == 0:
                check_resent(one)
        else:
            check_item(one)
    for reject in rejects:
        check_reject(reject, values[reject.offset])
    return Counter(["good"] * len(good) + [reject.reason for reject in rejects])


def fuzz(task: tuple[int, int]) -> Counter[str]:
    """So many inputs, half of them events, made from a seed."""
    seed, count = task
    dice = random.Random(seed)
    ended: Counter[str] = Counter()
    for _ in range(count // BATCH):
        stream, sound = dice.choice([("events", sound_event), ("items", sound_item)])
        values = [record_of(dice, sound) for _ in range(BATCH)]
        try:
            ended += decoded(values, stream)
        except Exception as err:
            for value in values:  # which of them it was
                try:
                    decoded([value], stream)
                except Exception as one:
                    raise AssertionError(f"seed {seed}, {stream}: {value!r}") from one
            raise AssertionError(f"seed {seed}, {stream}: only as a batch") from err
    return ended


def check_all_met(ended: Counter[str], count: int) -> None:
    assert ended.total() == count
    for reason in (*DECODED, *DECODED_TOO):
        assert ended[reason] > count / 2000, f"{reason} was hardly met: {ended}"
    assert 0.1 < ended["good"] / count < 0.7, f"neither all good nor all bad: {ended}"


def test_every_reason_of_decoding_is_looked_for() -> None:
    assert set(REASONS) >= {*DECODED, *DECODED_TOO}


def test_twenty_thousand_inputs_end_as_exactly_one_thing_each() -> None:
    check_all_met(fuzz((1, 20_000)), 20_000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_million_inputs_end_as_exactly_one_thing_each() -> None:
    count, parts = 1_000_000, 20
    with get_context("spawn").Pool(2) as pool:
        tasks = [(seed, count // parts) for seed in range(100, 100 + parts)]
        ended = sum(pool.map(fuzz, tasks, chunksize=1), Counter[str]())
    check_all_met(ended, count)
