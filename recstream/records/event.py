"""Events: what a user did, checked; its weight in the user's taste; its schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, NamedTuple

from recstream.records.actions import MAX_ID_BYTES, TRAITS, Action, DecodeRules, KindTraits
from recstream.records.arrays import Vector
from recstream.records.checks import (
    MAX_SECONDS,
    FieldError,
    describe,
    identifier,
    missing,
    text_within,
    timestamp,
    whole,
)
from recstream.records.foreign import advice_on
from recstream.records.item import Item, checked_item, item_body_schema
from recstream.records.reject import Reject
from recstream.records.schema import Schema, id_schema, optional, record_schema, time_schema
from recstream.records.text import tone
from recstream.records.transport import Partition

__all__ = [
    "Event",
    "event_from",
    "event_schema",
    "is_engagement",
    "too_many_waiting",
    "unencodable",
    "unknown_item",
    "weight_of",
]

NEUTRAL_COMMENT: Final = 0.5
"""Share of its weight that a comment without rating or tone counts for: writing one shows some interest."""
_NAMES: Final = ("user_id", "ts", "action", "item_id")
"""Fields that are looked for under other names when one is missing."""
_MAX_COUNT: Final = 2**63 - 1
"""Greatest ``version`` and ``rank`` of an answered list: they are stored as int64."""


class Event(NamedTuple):
    """One accepted event."""

    user_id: str
    ts: float
    """Event time, Unix seconds (UTC)."""
    action: str
    item_id: str | None
    text: str | None
    """Cleaned search query, comment or review."""
    rating: float | None
    """None for actions that neither rate nor comment."""
    event_id: str | None
    item: Item | None
    """The record of the event's item, if the event carries it: for sources without a catalogue topic."""
    rec: tuple[int, int] | None
    """``(version, rank)`` of the emitted list, and of the place on it, that the event answers."""
    partition: Partition
    offset: int
    raw: bytes
    """The record as read, so that a reject after decoding loses nothing."""
    vector: Vector | None = None
    """Encoded ``text``; None before the encode step, and without a text."""


def event_from(
    obj: object, partition: Partition, offset: int, raw: bytes, *, rules: DecodeRules, now: float
) -> Event | Reject:
    """Check one parsed event record. Bad data is a value, not an exception.

    ``now`` is the reader's clock (Unix seconds); infinity accepts any time. Null fields count as absent.
    Of ``forget`` only user, time and event id are read, so that no other field can get it rejected.

    >>> at = (Partition("events/3", "x"), 9917, b"...")
    >>> got = {"user_id": "u1", "ts": 1700000120, "action": "view", "item_id": 7}
    >>> event_from(got, *at, rules=DecodeRules(), now=1700000121.0)[:4]
    ('u1', 1700000120.0, 'view', '7')
    >>> event_from(got | {"action": "veiw"}, *at, rules=DecodeRules(), now=1700000121.0).detail
    "action: got 'veiw', wanted a configured action; did you mean 'view'?"
    """
    try:
        if type(obj) is not dict:
            raise FieldError(
                "not_an_object",
                "record",
                describe(obj),
                "an event object",
                'send one {"user_id": ..., "ts": ..., "action": ...} a record',
            )
        get = obj.get
        user_id = get("user_id")
        if not (type(user_id) is str and 0 < len(user_id) <= MAX_ID_BYTES and user_id.isascii()):
            user_id = identifier(user_id, "user_id")
        ts = get("ts")
        if not (
            (type(ts) is float or type(ts) is int)
            and 0 <= ts <= MAX_SECONDS
            and ts <= now + rules.future_tolerance_s
        ):
            ts = _time(ts, now, rules)
        name = get("action")
        action = rules.actions.get(name) if type(name) is str else None
        if action is None:
            raise _unknown(name, rules)
        event_id = get("event_id")
        if event_id is not None:
            event_id = identifier(event_id, "event_id")
        traits = TRAITS[action.kind]
        if traits.effect == "erasure":
            return Event(
                user_id,
                float(ts),
                action.name,
                None,
                None,
                None,
                event_id,
                None,
                None,
                partition,
                offset,
                raw,
            )
        item_id = get("item_id")
        if item_id is not None and not (
            type(item_id) is str and 0 < len(item_id) <= MAX_ID_BYTES and item_id.isascii()
        ):
            item_id = identifier(item_id, "item_id")
        item = get("item")
        if item is not None:
            item = checked_item(item, "item.", partition, offset, raw, rules=rules)
            item_id = _same_item(item_id, item)
        if item_id is None and traits.needs_item:
            raise missing("item_id", f"the item of the action {name!r}")
        text = get("text")
        if text is not None:
            text = text_within(text, "text", rules.max_text_bytes)
        if text is None and traits.needs_text:
            raise _no_text(get("text"), action)
        rating = get("rating") if traits.rating != "ignored" else None
        if rating is not None or traits.rating == "needed":
            rating = _rating(rating, rules)
        rec = get("rec")
        if rec is not None:
            rec = _rec(rec)
        return Event(
            user_id,
            float(ts),
            action.name,
            item_id,
            text,
            rating,
            event_id,
            item,
            rec,
            partition,
            offset,
            raw,
        )
    except FieldError as error:
        return Reject(error.reason, error.detail + advice_on(obj, error, _NAMES), partition, offset, raw)


def weight_of(event: Event, rules: DecodeRules) -> float:
    """Give the weight of an event in its user's taste; negative pushes away.

    A rating counts the action's weight times its place on the scale (-1 to 1). A comment counts likewise by
    its rating, without one by its tone (see `tone`), and without either half its weight.

    Raises:
        KeyError: the event was decoded under other rules, which knew its action.

    >>> rules, at = DecodeRules(), (Partition("events/3", "x"), 1, b"")
    >>> record = {"user_id": "u", "ts": 1, "item_id": "i", "text": "Boring"}
    >>> [weight_of(event_from(record | more, *at, rules=rules, now=9.0), rules) for more in (
    ...     {"action": "purchase"}, {"action": "rate", "rating": 2}, {"action": "comment"},
    ...     {"action": "comment", "rating": 5}, {"action": "comment", "text": "On Tuesday"})]
    [5.0, -1.0, -1.0, 1.0, 0.5]
    """
    action = rules.actions[event.action]
    if not TRAITS[action.kind].is_opinion:
        return action.weight
    if event.rating is not None:
        return action.weight * rules.centred(event.rating)
    opinion = tone(event.text) if event.text is not None else 0.0
    return action.weight * (opinion if opinion else NEUTRAL_COMMENT)


def is_engagement(event: Event, rules: DecodeRules) -> bool:
    """Whether the user chose the event's item, whatever they think of it, and did not turn away from it."""
    action = rules.actions[event.action]
    return event.item_id is not None and TRAITS[action.kind].is_choice and action.weight >= 0.0


def _time(value: object, now: float, rules: DecodeRules) -> float:
    seconds = timestamp(value, "ts")
    if seconds > now + rules.future_tolerance_s:
        raise FieldError(
            "in_the_future",
            "ts",
            f"{describe(value)}, {seconds - now:.0f} s ahead of this machine's clock",
            f"at most {rules.future_tolerance_s:.0f} s ahead",
            "set the producer's clock (or raise the future tolerance)",
        )
    return seconds


def _unknown(name: object, rules: DecodeRules) -> FieldError:
    if name is None:
        return missing("action", "a configured action")
    if not isinstance(name, str):
        return FieldError(
            "bad_type", "action", describe(name), "a string", "send the action's name in quotes"
        )
    close = _closest(name[:64], tuple(rules.actions))
    mend = f"did you mean {close!r}?" if close is not None else "configure it, or use one of: "
    if close is None:
        mend += ", ".join(rules.actions)
    return FieldError("unknown_action", "action", describe(name), "a configured action", mend)


@lru_cache(maxsize=1024)
def _closest(name: str, names: tuple[str, ...]) -> str | None:
    """Nearest known action; cached, since a wrong producer is wrong a million times."""
    close = get_close_matches(name.strip().lower(), names, n=1)
    return close[0] if close else None


def _same_item(item_id: str | None, item: Item) -> str:
    if item_id is not None and item_id != item.item_id:
        raise FieldError(
            "bad_value",
            "item.item_id",
            describe(item.item_id),
            f"the event's own item_id {describe(item_id)}",
            "send the record of the item that was acted on",
        )
    return item.item_id


def _no_text(value: object, action: Action) -> FieldError:
    wanted = f"the words of the {action.kind}"
    if value is None:
        return missing("text", wanted)
    return FieldError(
        "empty_text", "text", describe(value), wanted, "send no event when nothing legible was written"
    )


def _rating(value: object, rules: DecodeRules) -> float:
    low, high = rules.rating_scale
    wanted = f"a number from {low:g} to {high:g}"
    if value is None:
        raise missing("rating", wanted)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError("bad_type", "rating", describe(value), wanted, "send a JSON number, unquoted")
    if not low <= value <= high or not math.isfinite(value):
        raise FieldError(
            "bad_value",
            "rating",
            describe(value),
            wanted,
            "rescale it at the producer, or set the rating scale",
        )
    return float(value)


def _rec(value: object) -> tuple[int, int]:
    if isinstance(value, dict):
        version, rank = whole(value.get("version")), whole(value.get("rank"))
        if (
            version is not None
            and rank is not None
            and 0 <= version <= _MAX_COUNT
            and 1 <= rank <= _MAX_COUNT
        ):
            return version, rank
        value = f"version {describe(value.get('version'))} and rank {describe(value.get('rank'))}"
    else:
        value = describe(value)
    raise FieldError(
        "bad_type",
        "rec",
        value,
        "a version (whole number from 0) and a rank (from 1)",
        "copy both from the list that was answered",
    )


def unknown_item(event: Event, wait_s: float) -> Reject:
    """Reject an event whose item is not known and, after ``wait_s`` seconds, still was not."""
    detail = (
        f"item {event.item_id!r} is not in the catalogue and did not arrive within {wait_s:g} s: send its "
        "record to the items topic, or load it (recstream catalogue load), then replay this event"
    )
    return Reject("unknown_item", detail, event.partition, event.offset, event.raw)


def too_many_waiting(event: Event, most: int) -> Reject:
    """Reject an event of a user of whom ``most`` events wait already."""
    detail = (
        f"item {event.item_id!r} is not known and {most} events of user {event.user_id!r} wait for items "
        "already: load the items first (recstream catalogue load), or raise events.max_waiting, then "
        "replay this event"
    )
    return Reject("too_many_waiting", detail, event.partition, event.offset, event.raw)


def unencodable(record: Event | Item, field: str, text: str, why: str) -> Reject:
    """Reject a record with a text, at ``field``, that the encoder cannot encode, and says ``why``."""
    detail = (
        f"{field}: got {describe(text)}, wanted a text that the encoder can encode ({why}); shorten or mend "
        "it at the producer, or change the encoder's limit (a server's, or encoder.max_tokens), then replay "
        "this record (recstream deadletter replay)"
    )
    return Reject("unencodable", detail, record.partition, record.offset, record.raw)


_REC: Final[Schema] = {
    "description": "Which emitted list, and which place on it, the event answers.",
    "type": "object",
    "properties": {
        "version": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "rank": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    },
    "required": ["version", "rank"],
}


def event_schema(rules: DecodeRules | None = None) -> Schema:
    """Describe an event record under these rules (the default ones when None).

    >>> schema = event_schema()
    >>> schema["required"], schema["properties"]["action"]["enum"][:2]
    (['user_id', 'ts', 'action'], ['view', 'click'])
    """
    rules = DecodeRules() if rules is None else rules
    low, high = rules.rating_scale
    rating = {"type": "number", "minimum": low, "maximum": high}
    named = {"required": ["item_id"], "properties": {"item_id": {"not": {"type": "null"}}}}
    carried = {"required": ["item"], "properties": {"item": {"type": "object"}}}
    text = {
        "description": f"A search query, comment or review; at most {rules.max_text_bytes} bytes of UTF-8.",
        "type": "string",
        "maxLength": rules.max_text_bytes,
    }
    schema = record_schema(
        "event",
        "What a user did. Null counts as absent; fields not named here are ignored. Longest record: "
        f"{rules.max_record_bytes} bytes. ts at most {rules.future_tolerance_s:g} s ahead of the reader.",
        {
            "user_id": id_schema("Who."),
            "ts": time_schema(earliest=0.0, dates=False),
            "action": {"enum": list(rules.actions)},
            "event_id": optional(
                id_schema("For de-duplication; without it the source position is the identity.")
            ),
        },
        ["user_id", "ts", "action"],
    )
    words = text | {"minLength": 1, "pattern": r"\S"}
    schema["allOf"] = [
        _when(
            rules,
            lambda traits: traits.effect != "erasure",
            {
                "properties": {
                    "item_id": optional(
                        id_schema("On what; taken from `item` when absent, the same where both are there.")
                    ),
                    "item": optional(item_body_schema(rules)),
                    "text": optional(text),
                    "rec": optional(_REC),
                }
            },
        ),
        _when(rules, lambda traits: traits.needs_item, {"anyOf": [named, carried]}),
        _when(rules, lambda traits: traits.needs_text, {"required": ["text"], "properties": {"text": words}}),
        _when(
            rules,
            lambda traits: traits.rating == "needed",
            {"required": ["rating"], "properties": {"rating": rating}},
        ),
        _when(
            rules, lambda traits: traits.rating == "optional", {"properties": {"rating": optional(rating)}}
        ),
    ]
    return schema


def _when(rules: DecodeRules, holds: Callable[[KindTraits], bool], then: Schema) -> Schema:
    """Ask for more from the actions whose kind has some traits."""
    names = [name for name, action in rules.actions.items() if holds(TRAITS[action.kind])]
    return {"if": {"properties": {"action": {"enum": names}}, "required": ["action"]}, "then": then}
