"""Where the reading of a partition begins and ends, as offsets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypedDict

from typing_extensions import NotRequired

from recstream.connectors.kafka.admin import Watermarks
from recstream.connectors.kafka.client import KafkaSettingsFault
from recstream.connectors.kafka.losses import Loss, loss_in
from recstream.records.bounds import At, Bound

__all__ = [
    "Position",
    "check_names",
    "first_offset",
    "identity_at",
    "incarnation",
    "loss_since",
    "read_since",
    "stop_offset",
]


_NAME_ANOTHER: Final = "name an offset that is held, or earliest, to go on without them"


class Position(TypedDict):
    """What the recovery store keeps for a partition: plain data, so that it loads for ever."""

    identity: str
    """As the topic's description gives it (`Topic.identity`), whatever was cut of the log."""
    offset: int
    """Offset of the next record to read."""
    from_ms: int | None
    """Records older than this are dropped (start at a time)."""
    since: NotRequired[int | None]
    """First offset of the unbroken run; None before a record is kept; absent in the first release, which
    did not note it: then the run begins where it is resumed."""
    read: NotRequired[tuple[int, int]]
    """Offset after the last record that was read, and that record's leader epoch: by them a log is known that
    was cut, wherever the reading goes on. Absent: not known."""
    cuts: NotRequired[list[int]]
    """Offsets at which the log was cut, in the order in which that was noticed. See `identity_at`."""


def incarnation(cuts: Sequence[int], offset: int) -> int:
    """Number of the cut that a record came after, from 1; 0 for a record of the first log.

    A cut takes away all that was behind it, whatever was cut there before.

    >>> [incarnation([50, 120], offset) for offset in (49, 50, 119, 120)], incarnation([50, 30], 60)
    ([0, 1, 1, 2], 2)
    """
    return max((number for number, cut in enumerate(cuts, 1) if cut <= offset), default=0)


def identity_at(identity: str, cuts: Sequence[int], offset: int) -> str:
    """Identity by which users note that they absorbed a record: another one where a log was cut.

    >>> identity_at("events/3@e4ff1bf9", [50], 49), identity_at("events/3@e4ff1bf9", [50], 50)
    ('events/3@e4ff1bf9', 'events/3@e4ff1bf9.1')
    """
    number = incarnation(cuts, offset)
    return f"{identity}.{number}" if number else identity


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
        _check_held(name, start[name], marks)
        return start[name]
    return marks.high


def read_since(position: Position, cuts: Sequence[int]) -> tuple[int, int] | None:
    """What was read and is held still, by ``cuts``: all that are known of the log.

    >>> stored = Position(identity="e/0@1", offset=0, from_ms=None, read=(100, 7), cuts=[40])
    >>> read_since(stored, [40]), read_since(stored, [40, 60])
    ((100, 7), (60, 7))
    """
    if (read := position.get("read")) is None:
        return None
    return (min([read[0], *cuts[len(position.get("cuts", ())) :]]), read[1])


def loss_since(position: Position, cuts: Sequence[int], marks: Watermarks) -> Loss:
    """What is lost between a stored position and what is held; ``cuts`` are all that are known of the log.

    >>> stored = Position(identity="e/0@1", offset=100, from_ms=None, cuts=[40])
    >>> loss_since(stored, [40, 60, 80], Watermarks(0, 500))
    Loss(position=100, goes_on=60, is_cut=True)
    >>> loss_since(stored, [40], Watermarks(150, 500)).offsets
    50
    """
    offset = position["offset"]
    behind = [cut for cut in cuts[len(position.get("cuts", ())) :] if cut < offset]
    return Loss(offset, max(min(behind), marks.low), is_cut=True) if behind else loss_in(offset, marks)


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


def _check_held(name: str, offset: int, marks: Watermarks) -> None:
    if offset < marks.low:
        msg = (
            f"{name}: start offset {offset} is below the first offset held, {marks.low}: "
            f"{marks.low - offset} offsets are lost to retention; {_NAME_ANOTHER}; "
            "and lengthen the topic's retention.ms"
        )
        raise KafkaSettingsFault(msg)
    if offset > marks.high:
        msg = (
            f"{name}: start offset {offset} is beyond the end, {marks.high}; {_NAME_ANOTHER}; or check "
            "kafka.bootstrap: it may be of another cluster"
        )
        raise KafkaSettingsFault(msg)
