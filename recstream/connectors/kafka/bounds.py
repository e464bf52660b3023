"""Where the reading of a partition begins and ends, as offsets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypedDict

from typing_extensions import NotRequired

from recstream.connectors.kafka.admin import Watermarks
from recstream.connectors.kafka.client import KafkaFault, KafkaSettingsFault
from recstream.records.bounds import At, Bound

__all__ = [
    "Position",
    "check_names",
    "first_offset",
    "resumed_offset",
    "stop_offset",
]


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


def check_names(bound: Bound | None, which: str, names: list[str], new: Collection[str] = ()) -> None:
    """Offsets must name every partition that is read, but the ``new`` ones, and no other.

    Raises:
        KafkaSettingsFault: naming those that lack or are too many.
    """
    if not isinstance(bound, Mapping):
        return
    lacking = [name for name in names if name not in bound and name not in new]
    unknown = sorted(name for name in bound if name not in names)
    if lacking or unknown:
        msg = f"{which} offsets: nothing for {lacking}, unknown {unknown}; name each of {names} once"
        raise KafkaSettingsFault(msg)


def first_offset(name: str, start: Bound, marks: Watermarks, at_time: int | None) -> int:
    """Where a partition that has no stored position begins; ``at_time`` answers offsets-for-times.

    Raises:
        KafkaSettingsFault: the offset asked for is gone (retention) or not there yet.

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
        _check_held(name, start[name], marks, "start offset", _NAME_ANOTHER, KafkaSettingsFault)
        return start[name]
    return marks.high


def resumed_offset(name: str, position: Position, marks: Watermarks) -> int:
    """Where a partition goes on.

    Raises:
        KafkaFault: records between the stored position and now are gone, or the log is shorter than it was.
    """
    _check_held(name, position["offset"], marks, "stored position", _BEGIN_ANEW, KafkaFault)
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


def _check_held(
    name: str, offset: int, marks: Watermarks, what: str, mend: str, fault: type[KafkaFault]
) -> None:
    if offset < marks.low:
        msg = (
            f"{name}: {what} {offset} is below the first offset held, {marks.low}: "
            f"{marks.low - offset} offsets are lost to retention; {mend}; "
            "and lengthen the topic's retention.ms"
        )
        raise fault(msg)
    if offset > marks.high:
        msg = (
            f"{name}: {what} {offset} is beyond the end, {marks.high}: the topic has lost records "
            "(unclean leader election?) or the offset belongs to another cluster; check bootstrap servers"
        )
        raise fault(msg)
