"""Where a read of a topic begins and ends: parsed from settings, resolved to offsets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple, TypedDict

from typing_extensions import NotRequired

from recstream.connectors.kafka.client import KafkaFault
from recstream.connectors.kafka.offsets import Watermarks
from recstream.records.checks import FieldError, timestamp

__all__ = [
    "At",
    "Bound",
    "Position",
    "check_names",
    "first_offset",
    "parse_bound",
    "resumed_offset",
    "stop_offset",
]


class At(NamedTuple):
    """A point in time of the records' own timestamps."""

    ms: int
    """Unix time in milliseconds."""


Bound = Literal["earliest", "latest", "end"] | At | Mapping[str, int]
"""Mapping: an offset for each partition, by name (``{"events/0": 17}``)."""

_HAVE: Final = {
    "start": 'earliest, latest, ts=<Unix seconds or RFC 3339>, or offsets {"topic/0": 17}',
    "stop": 'end, ts=<Unix seconds or RFC 3339>, or offsets {"topic/0": 17}',
}
_NAME_ANOTHER: Final = "name an offset that is held, or earliest, to go on without them"
_BEGIN_ANEW: Final = (
    "to go on without them, move the folder of the job's positions away (<store.path>/positions/recommend, "
    "of a backfill <store.path>/positions/backfill-...) and start with kafka.start = earliest: user rows "
    "keep what they absorbed, and what is read again counts once"
)


class Position(TypedDict):
    """What the recovery store keeps for a partition: plain data, so that it loads for ever."""

    identity: str
    offset: int
    """Offset of the next record to read."""
    from_ms: int | None
    """Records older than this are dropped (start at a time)."""
    since: NotRequired[int | None]
    """First offset of the unbroken run; None before a record is kept; absent in the first release, which
    did not note it: then the run begins where it is resumed."""


def parse_bound(setting: str | Mapping[str, int], which: Literal["start", "stop"]) -> Bound:
    """Read one setting.

    Raises:
        KafkaFault: it is none of the forms.

    >>> parse_bound("ts=2023-11-14T22:13:20Z", "start")
    At(ms=1700000000000)
    >>> parse_bound("latest", "start")
    'latest'
    """
    if isinstance(setting, Mapping):
        for name, offset in setting.items():
            if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
                msg = f"{which} offsets: {name!r}: {offset!r} is not an offset (an integer, 0 or more)"
                raise KafkaFault(msg)
        return dict(setting)
    if setting == "earliest" and which == "start":
        return "earliest"
    if setting == "latest" and which == "start":
        return "latest"
    if setting == "end" and which == "stop":
        return "end"
    if setting.startswith("ts="):
        return At(_milliseconds(setting[3:], which))
    msg = f"{which}={setting!r} is not known; have: {_HAVE[which]}"
    raise KafkaFault(msg)


def check_names(bound: Bound | None, which: str, names: list[str], new: Collection[str] = ()) -> None:
    """Offsets must name every partition that is read, but the ``new`` ones, and no other.

    Raises:
        KafkaFault: naming those that lack or are too many.
    """
    if not isinstance(bound, Mapping):
        return
    lacking = [name for name in names if name not in bound and name not in new]
    unknown = sorted(name for name in bound if name not in names)
    if lacking or unknown:
        msg = f"{which} offsets: nothing for {lacking}, unknown {unknown}; name each of {names} once"
        raise KafkaFault(msg)


def first_offset(name: str, start: Bound, marks: Watermarks, at_time: int | None) -> int:
    """Where a partition that has no stored position begins; ``at_time`` answers offsets-for-times.

    Raises:
        KafkaFault: the offset asked for is gone (retention) or not there yet.

    >>> first_offset("e/0", "latest", Watermarks(5, 9), None)
    9
    >>> first_offset("e/0", At(1), Watermarks(5, 9), 0)
    5
    """
    if start == "earliest":
        return marks.low
    if isinstance(start, At):
        if at_time is None or at_time < 0:  # no record that young
            return marks.high
        return min(max(at_time, marks.low), marks.high)
    if isinstance(start, Mapping):
        _check_held(name, start[name], marks, "start offset", _NAME_ANOTHER)
        return start[name]
    return marks.high


def resumed_offset(name: str, position: Position, marks: Watermarks) -> int:
    """Where a partition goes on.

    Raises:
        KafkaFault: records between the stored position and now are gone, or the log is shorter than it was.
    """
    _check_held(name, position["offset"], marks, "stored position", _BEGIN_ANEW)
    return position["offset"]


def stop_offset(name: str, stop: Bound | None, marks: Watermarks) -> int | None:
    """Offset before which a partition ends, None for never.

    A stop at a time ends at the end, too: timestamps may be out of order, so all is read and younger
    records are dropped.

    >>> stop_offset("e/0", "end", Watermarks(5, 9))
    9
    """
    if stop is None:
        return None
    return stop[name] if isinstance(stop, Mapping) else marks.high


def _check_held(name: str, offset: int, marks: Watermarks, what: str, mend: str) -> None:
    if offset < marks.low:
        msg = (
            f"{name}: {what} {offset} is below the first offset held, {marks.low}: "
            f"{marks.low - offset} offsets are lost to retention; {mend}; "
            "and lengthen the topic's retention.ms"
        )
        raise KafkaFault(msg)
    if offset > marks.high:
        msg = (
            f"{name}: {what} {offset} is beyond the end, {marks.high}: the topic has lost records "
            "(unclean leader election?) or the offset belongs to another cluster; check bootstrap servers"
        )
        raise KafkaFault(msg)


def _milliseconds(text: str, which: str) -> int:
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    try:
        return round(timestamp(value, f"{which}=ts") * 1000)
    except FieldError as err:
        msg = f"{err.detail}; have for {which}: {_HAVE[which]}"
        raise KafkaFault(msg) from None
