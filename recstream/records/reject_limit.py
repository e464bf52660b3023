"""The fuse: when most of a stream is refused it is the set-up that is wrong, and going on would bury it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from recstream.records.reject import Reason, Reject

__all__ = ["RejectLimit", "RejectLimitError", "RejectLimitRules"]

_DETAIL = 300
"""Characters of an example that are quoted."""
_FIRST: Final[Mapping[Reason, str]] = {
    "unknown_item": "; load the items first (`recstream catalogue load`, --items of a backfill)"
}
"""What to do where a reason says it."""


class RejectLimitError(Exception):
    """Too much of a stream was rejected: says how much of it, why mostly, and the mends.

    One text argument, so that it survives pickling and being raised across bytewax.
    """


@dataclass(frozen=True)
class RejectLimitRules:
    """When a fuse blows.

    Raises:
        ValueError: a share outside 0 to 1, no records to take it of, or a negative run.
    """

    share: float = 0.5
    """Greatest share of rejects among the last ``records``; 1 never blows."""
    records: int = 1000
    """Records that the share is taken of; before so many were seen it is not."""
    run: int = 1000
    """Rejects without anything good in between that blow the fuse; 0 never does."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.records < 1 or self.run < 0:
            msg = f"{self}: wanted a share from 0 to 1, at least 1 record, and a run from 0"
            raise ValueError(msg)


class RejectLimit:
    """Watches the verdicts on one stream. Each record counts once, when its verdict is known.

    Records are judged at two places, each with a fuse of its own: when they are decoded, and, those that
    decoded, when they are applied. There an event that waits for its item has no verdict yet. So nothing
    counts twice: a share is always of records that reached the same place.

    >>> from recstream.records.transport import Partition
    >>> reject_limit = RejectLimit("events", RejectLimitRules(share=0.5, records=4, run=0))
    >>> bad = Reject("not_json", "record: got '{', ...", Partition("events/3", "x"), 7, b"{")
    >>> reject_limit.observe(good=2, rejects=[bad, bad])
    >>> reject_limit.observe(good=9)
    >>> reject_limit.observe(rejects=[bad, bad, bad])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    recstream.records.reject_limit.RejectLimitError: events: 3 of the last 4 records were rejected, ...
    """

    def __init__(self, stream: str, rules: RejectLimitRules) -> None:
        self._stream = stream
        self._rules = rules
        self._window: deque[tuple[Reason | None, int]] = deque()
        """The newest verdicts, oldest first, equal neighbours counted: a reason, or None for good ones."""
        self._size = 0
        self._reasons: Counter[Reason] = Counter()
        """Rejects in the window."""
        self._run = 0
        self._run_reasons: Counter[Reason] = Counter()
        self._examples: dict[Reason, Reject] = {}

    def observe(self, *, good: int = 0, rejects: Sequence[Reject] = ()) -> None:
        """Take in verdicts, ``good`` ones first, whatever their order was: good ones end a run.

        Raises:
            RejectLimitError: too many were rejected; nothing of what these verdicts are about may be emitted.
        """
        if good:
            self._run = 0
            self._run_reasons.clear()
            self._push(None, good)
        for reject in rejects:
            self._examples[reject.reason] = reject
            self._push(reject.reason, 1)
            self._run += 1
            self._run_reasons[reject.reason] += 1
            self._check()

    def observe_batch(self, offsets: Sequence[int], rejects: Sequence[Reject]) -> None:
        """Take in a batch in its own order: ``rejects`` are of these ``offsets``, the others are good.

        Raises:
            RejectLimitError: as `observe`.
        """
        places = {offset: place for place, offset in enumerate(offsets)} if rejects else {}
        at = 0
        for reject in rejects:
            place = places[reject.offset]
            self.observe(good=place - at, rejects=[reject])
            at = place + 1
        self.observe(good=len(offsets) - at)

    def _push(self, verdict: Reason | None, count: int) -> None:
        count = min(count, self._rules.records)
        if self._window and self._window[-1][0] == verdict:
            count_before = self._window.pop()[1]
            self._window.append((verdict, count_before + count))
        else:
            self._window.append((verdict, count))
        self._size += count
        if verdict is not None:
            self._reasons[verdict] += count
        while self._size > self._rules.records:
            oldest, times = self._window.popleft()
            gone = min(times, self._size - self._rules.records)
            if gone < times:
                self._window.appendleft((oldest, times - gone))
            self._size -= gone
            if oldest is not None:
                self._reasons[oldest] -= gone

    def _check(self) -> None:
        rules = self._rules
        rejected = self._reasons.total()
        if self._size == rules.records and rejected > rules.share * rules.records:
            self._blow(f"{rejected:,} of the last {rules.records:,} records were rejected", self._reasons)
        if rules.run and self._run >= rules.run:
            self._blow(f"{self._run:,} records in a row were rejected", self._run_reasons)

    def _blow(self, what: str, reasons: Counter[Reason]) -> None:
        reason, count = reasons.most_common(1)[0]
        example = self._examples[reason]
        detail = example.detail if len(example.detail) <= _DETAIL else example.detail[:_DETAIL] + "..."
        rules = self._rules
        msg = (
            f"{self._stream}: {what}, {count:,} as {reason}, such as {example.partition.name}:"
            f"{example.offset}: {detail}{_FIRST.get(reason, '')}\n"
            f"This is no accident, so reading stopped (events.fuse_share={rules.share:g} of "
            f"events.fuse_records={rules.records}, events.fuse_run={rules.run}); the batch is not committed. "
            "Mend the settings or the producer and start again: it is read again. `recstream deadletter "
            "list` shows the rejects before it (in a file: `recstream deadletter list FILE`). To go past "
            "records that cannot be mended now: --set events.fuse_share=1 --set events.fuse_run=0, and later "
            "`recstream deadletter replay`"
        )
        raise RejectLimitError(msg)
