"""Hypothesis strategies: records as producers send them, sound ones and ones with exactly one fault."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple, TypeAlias

from hypothesis import strategies as st

from recstream.records.actions import TRAITS, DecodeRules
from recstream.records.reject import Reason

__all__ = [
    "NOW",
    "Broken",
    "Record",
    "broken_events",
    "broken_items",
    "events",
    "hostile_ids",
    "ids",
    "items",
    "json_values",
    "messy_texts",
    "odd_items",
    "words",
    "written_times",
]

Record: TypeAlias = dict[str, Any]

NOW: Final = 1_700_000_000.0
"""The clock that goes with :func:`events`: none of their timestamps lies after it."""

_RULES: Final = DecodeRules()
_BLANK: Final = st.sampled_from(["", " ", "\u200b", "<b> </b>", "&nbsp;", "\x00\n"])


class Broken(NamedTuple):
    """A record with one fault, and the refusal that it must meet."""

    record: Record
    reason: Reason
    field: str
    """As the reject's detail names it."""


hostile_ids: Final = st.sampled_from(
    [
        *(
            "'",
            '"',
            "o'Neil",
            "a\nb",
            "%_",
            "\\",
            "\x00",
            " ",
            "' OR 1=1 --",
            "null",
            "💥",
            "../x",
            "<script>",
        ),
        *("\u00e9", "e\u0301", "x" * 512, "\u00e9" * 256, "0", "-1", "NaN", "\u202e", "\U0001d54f"),
    ]
)
"""Legal ids that break stores and filters which do not escape: quotes, controls, look-alikes, the longest."""

ids: Final = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
    | st.integers(0, 50).map("id{}".format)
    | hostile_ids
)
"""Any legal id; few enough of them repeat to make users meet."""

words: Final = st.lists(
    st.sampled_from("great boring not film tea quiet storm love, broken don't café 3".split()),
    min_size=1,
    max_size=12,
).map(" ".join)
"""Legible text that cleaning leaves alone."""

messy_texts: Final = st.lists(
    st.sampled_from(["<b>", "</b>", "<", ">", "&", "amp;", "lt;", "&lt;", "&#38;", "<!--", "-->", "<script>"])
    | st.sampled_from(
        [
            "</script>",
            "<style x='>'>",
            "\u200b",
            "\u200d",
            "\u200c",
            "\u094d",
            "\U0001f468",
            "<T>",
            "e\u0301",
            "\u0338",
            "\x00",
            "\n",
            " ",
            "\ud800",
        ]
    )
    | st.sampled_from(["\u037e", "&#xD800;", "&#0;", "&#99999999999;", "a", "script>", "&nbsp", "\u2126"])
    | st.text(max_size=3),
    max_size=30,
).map("".join)
"""Markup, entities and control characters in every unlucky arrangement, lone surrogates included."""

json_values: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
"""What a lenient parser may give: NaN, infinities and lone surrogates included."""

_TIMES: Final = st.floats(0.0, NOW) | st.integers(0, int(NOW))


@st.composite
def written_times(draw: st.DrawFn, *, latest: float = NOW) -> tuple[str, float]:
    """A time as producers and databases write it, from 1970 to ``latest``, and its Unix seconds."""
    seconds = draw(st.integers(86400, int(latest)))
    ahead = draw(st.integers(-23 * 60 - 59, 23 * 60 + 59))
    zone = draw(st.sampled_from(["Z", "z", "UTC", "GMT", "minutes", "hours"]))
    if zone not in ("minutes", "hours"):
        ahead = 0
    elif zone == "hours":
        ahead = int(ahead / 60) * 60
    local = datetime.fromtimestamp(seconds, timezone.utc) + timedelta(minutes=ahead)
    dash, colon = draw(st.sampled_from([("-", ":"), ("", ""), ("-", "")]))
    date = f"{local:%Y}{dash}{local:%m}{dash}{local:%d}"
    shown = draw(st.sampled_from([1, 2, 3, 3, 3]))
    fraction = draw(st.sampled_from(["", ".5", ",5", ".500000000"])) if shown == 3 else ""
    of_day = [f"{local:%H}", f"{local:%M}", f"{local:%S}"]
    cut = sum(int(text) * unit for text, unit in zip(of_day[shown:], (60, 1)[shown - 1 :], strict=True))
    sign, size = "-" if ahead < 0 else "+", abs(ahead)
    if zone == "minutes":
        zone = f"{sign}{size // 60:02}{draw(st.sampled_from([':', '']))}{size % 60:02}"
    elif zone == "hours":
        zone = f"{sign}{size // 60:02}"
    zone = draw(st.sampled_from(["", " "])) + zone + draw(st.sampled_from(["", "", "[Europe/Paris]"]))
    text = date + draw(st.sampled_from("Tt ")) + colon.join(of_day[:shown]) + fraction + zone
    return text, seconds - cut + (0.5 if fraction else 0.0)


_WRITTEN: Final = written_times().map(lambda one: one[0])


_IDS: Final = ids | st.integers() | st.integers(-(2**53) + 1, 2**53 - 1).map(float)
_FLAGS: Final[st.SearchStrategy[Any]] = st.booleans() | st.sampled_from(
    [0, 1, 0.0, "TRUE", "false", "No", "1"]
)


@st.composite
def items(draw: st.DrawFn, dim: int = 0) -> Record:
    """Sound item records; with ``dim`` some bring a vector."""
    numbers = st.integers(-(10**9), 10**9) | st.floats(-9, 9)
    labels = st.lists(words | numbers | st.none(), max_size=3) | words | numbers
    optional: dict[str, st.SearchStrategy[Any]] = {
        "text": words | numbers | st.none(),
        "categories": labels,
        "tags": labels,
        "attributes": json_values,
        "published_at": st.integers(-(10**9), 10**9) | _WRITTEN | st.just("2004-02-29") | st.none(),
        "available": _FLAGS | st.none(),
        "deleted": _FLAGS,
        "unheard_of": json_values,
    }
    if dim:
        vectors = st.lists(st.floats(-4, 4) | st.integers(-4, 4), min_size=dim, max_size=dim)
        optional["vector"] = vectors.filter(any)
    required = {"item_id": _IDS, "title": words | numbers}
    return draw(st.fixed_dictionaries(required, optional=optional))


@st.composite
def events(draw: st.DrawFn, rules: DecodeRules = _RULES) -> Record:
    """Sound event records of every action, none after :data:`NOW`."""
    action = draw(st.sampled_from(list(rules.actions.values())))
    low, high = rules.rating_scale
    ratings = st.floats(low, high) | st.integers(int(low), int(high))
    required: dict[str, st.SearchStrategy[Any]] = {
        "user_id": _IDS,
        "ts": _TIMES | _WRITTEN,
        "action": st.just(action.name),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "event_id": ids | st.none(),
        "item_id": _IDS,
        "text": words | st.none(),
        "context": json_values,
        "rec": st.fixed_dictionaries({"version": st.integers(0, 99), "rank": st.integers(1, 20)}) | st.none(),
        "unheard_of": json_values,
    }
    traits = TRAITS[action.kind]
    if traits.needs_item:
        required["item_id"] = optional.pop("item_id")
    if traits.needs_text:
        required["text"] = words
        del optional["text"]
    (required if traits.rating == "needed" else optional)["rating"] = ratings
    record: Record = draw(st.fixed_dictionaries(required, optional=optional))
    if draw(st.booleans()):
        record["item"] = draw(items(rules.dim))
        if record.get("item_id") is not None:
            record["item"]["item_id"] = record["item_id"]
    return record


_NO_STRING: Final[st.SearchStrategy[Any]] = st.sampled_from([True, 1.5, [], {}, ["x"]])
_NO_TEXT: Final[st.SearchStrategy[Any]] = st.sampled_from([True, [], {}, ["x"], float("nan"), 10**600])
_LONG_ID: Final = st.sampled_from(["x" * 513, "é" * 257, 10**600])
_NO_NUMBER: Final[st.SearchStrategy[Any]] = st.sampled_from([True, "3", [], {}])


def _faults(rules: DecodeRules) -> list[tuple[str, Reason, st.SearchStrategy[Any]]]:
    """Faults of an event that acts on an item, with words and a rating."""
    low, high = rules.rating_scale
    future = rules.future_tolerance_s + NOW
    faults: list[tuple[str, Reason, st.SearchStrategy[Any]]] = [
        ("ts", "missing_field", st.none()),
        ("ts", "bad_type", st.sampled_from([True, [], {}])),
        (
            "ts",
            "bad_timestamp",
            st.sampled_from([-1, -0.5, 1.7e12, 17 * 10**17, 10**400, float("nan"), float("inf")]),
        ),
        (
            "ts",
            "bad_timestamp",
            st.sampled_from(["", "now", "2023-11-14T22:13:20", "2023-02-30T00:00:00Z", "1e9"]),
        ),
        ("ts", "in_the_future", st.floats(future, 1e11, exclude_min=True) | st.just("5000-01-01T00:00:00Z")),
        ("action", "missing_field", st.none()),
        ("action", "bad_type", _NO_STRING),
        ("action", "unknown_action", st.sampled_from(["veiw", "VIEW", "", "é", "x" * 9999, "\ud800"])),
        ("text", "missing_field", st.none()),
        ("text", "bad_type", _NO_STRING),
        ("text", "empty_text", _BLANK),
        ("text", "too_large", st.sampled_from([rules.max_text_bytes + 1]).map("x".__mul__)),
        ("rating", "bad_type", _NO_NUMBER),
        ("rating", "bad_value", st.sampled_from([low - 1, high + 1, float("nan"), float("inf"), 10**400])),
        (
            "rec",
            "bad_type",
            st.sampled_from([3, "1:2", [1, 2], {}, {"version": 1}, {"version": -1, "rank": 1}]),
        ),
        ("rec", "bad_type", st.sampled_from([{"version": 1.5, "rank": 1}, {"version": 1, "rank": 0}])),
        ("item", "bad_type", st.sampled_from([3, "i1", [1, 2], False])),
    ]
    for name in ("user_id", "item_id", "event_id"):
        faults += [
            (name, "bad_type", _NO_STRING),
            (name, "bad_value", st.sampled_from(["", "\ud800", "a\udfff"])),
            (name, "too_large", _LONG_ID),
        ]
        if name != "event_id":
            faults.append((name, "missing_field", st.none()))
    return faults


@st.composite
def broken_events(draw: st.DrawFn, rules: DecodeRules = _RULES) -> Broken:
    """Events of a commenting user with exactly one fault, null or absent counting alike."""
    record: Record = {"user_id": "u1", "ts": NOW, "action": "comment", "item_id": "i1", "text": "Fine"}
    if draw(st.booleans()):
        item = draw(broken_items(rules))
        if item.field != "item_id":
            return Broken(record | {"item": item.record}, item.reason, f"item.{item.field}")
    field, reason, values = draw(st.sampled_from(_faults(rules)))
    return Broken(_with(draw, record, field, draw(values)), reason, field)


@st.composite
def broken_items(draw: st.DrawFn, rules: DecodeRules = _RULES) -> Broken:
    """Items with exactly one fault for which they are refused."""
    record: Record = {"item_id": "i1", "title": "Tea", "text": "Dark."}
    faults: list[tuple[str, Reason, st.SearchStrategy[Any]]] = [
        ("item_id", "missing_field", st.none()),
        ("item_id", "bad_type", _NO_STRING),
        ("item_id", "bad_value", st.sampled_from(["", "\ud800"])),
        ("item_id", "too_large", _LONG_ID),
        ("title", "missing_field", st.none()),
        ("title", "bad_type", _NO_TEXT),
        ("title", "empty_text", _BLANK),
        ("deleted", "bad_type", _NO_FLAG),
        ("vector", "bad_vector", _bad_vectors(rules.dim)),
    ]
    field, reason, values = draw(st.sampled_from(faults))
    return Broken(_with(draw, record, field, draw(values)), reason, field)


_NO_FLAG: Final[st.SearchStrategy[Any]] = st.sampled_from(["maybe", 2, -1, 0.5, [], {}, "2024-05-01"])


@st.composite
def odd_items(draw: st.DrawFn, rules: DecodeRules = _RULES) -> Broken:
    """Items with exactly one optional field that cannot be read, or not all of it."""
    record: Record = draw(items(rules.dim)) | {"deleted": False}
    most = rules.max_labels
    faults: list[tuple[str, Reason, st.SearchStrategy[Any]]] = [
        ("title", "too_large", st.just("x" * (rules.max_text_bytes + 1))),
        ("text", "bad_type", _NO_TEXT),
        ("text", "too_large", st.just("é" * (rules.max_item_text_bytes // 2 + 1))),
        (
            "published_at",
            "bad_timestamp",
            st.sampled_from(["soon", "04/2004", "2004-01-01T10:00:00", "2004-02-30", 1e12, -1e12]),
        ),
        ("published_at", "bad_type", st.sampled_from([True, [], {}])),
        ("available", "bad_type", _NO_FLAG),
    ]
    for name in ("categories", "tags"):
        faults += [
            (name, "bad_type", st.sampled_from([True, {"a": 1}, ["a", True], [["a"], "b"], [{}], ["a", {}]])),
            (name, "too_large", st.just(["a"] * (most + 1)) | st.just(["x" * 513, "a"])),
        ]
    field, reason, values = draw(st.sampled_from(faults))
    return Broken(record | {field: draw(values)}, reason, field)


def _bad_vectors(dim: int) -> st.SearchStrategy[Any]:
    size = max(dim, 1)
    ones: list[Any] = [1.0] * (size - 1)
    wrong = [
        [],
        "x",
        1,
        ones,
        [0] * size,
        [*ones, None],
        [*ones, True],
        [*ones, float("nan")],
        [*ones, 10**400],
    ]
    return st.sampled_from(wrong)


def _with(draw: st.DrawFn, record: Record, field: str, value: object) -> Record:
    record = record | {field: value}
    if value is None and draw(st.booleans()):
        del record[field]
    return record
