"""The reject limit: reading stops when most of a stream is rejected, for then the set-up is wrong."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from recstream.records.reject import Reason, Reject

__all__ = ["RejectLimit", "RejectLimitError", "RejectLimitRules"]

_QUOTED: Final = 300
"""Characters of an example's detail that the error quotes."""
_ADVICE: Final[Mapping[Reason, str]] = {
    "unknown_item": "; load the items first (`recstream catalogue load`, --items of a backfill)"
}
"""What to do about a reason, where that is known."""


class RejectLimitError(Exception):
    """Too much of a stream was rejected. The text says how much, the main reason, and how to mend it.

    It has one text argument, so that it survives pickling and being raised across bytewax.
    """


@dataclass(frozen=True)
class RejectLimitRules:
    """How many rejects stop a stream.

    Raises:
        ValueError: a share outside 0 to 1, no records to take it of, or a negative run.
    """

    share: float
    """Greatest share of rejects among the last ``records``; 1 never stops."""
    records: int
    """Number of records that the share is taken of. Before so many were read it is not checked."""
    run: int
    """Rejects in a row that stop the stream; 0 never stops."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.records < 1 or self.run < 0:
            msg = f"{self}: wanted a share from 0 to 1, at least 1 record, and a run from 0"
            raise ValueError(msg)


class RejectLimit:
    """Watches the verdicts on one stream. Each record counts once, when its verdict is known.

    Decoding has one limit, and applying events has another, so that a share is always of records that
    reached the same place. An event that waits for its item has no verdict yet.

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
        self._newest: deque[tuple[Reason | None, int]] = deque()
        """Newest verdicts, oldest first, as runs: a reason (None: accepted) and its times in a row."""
        self._size = 0
        self._reasons: Counter[Reason] = Counter()
        """Rejects among the newest verdicts, by reason."""
        self._run = 0
        self._run_reasons: Counter[Reason] = Counter()
        self._examples: dict[Reason, Reject] = {}

    def observe(self, *, good: int = 0, rejects: Sequence[Reject] = ()) -> None:
        """Count ``good`` records, then ``rejects``, whatever their order was. Good records end a run.

        Raises:
            RejectLimitError: too many were rejected. Nothing that these records caused may be emitted.
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
        """Count a batch in its own order: ``rejects`` are of some of the ``offsets``, the others are good.

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
        if self._newest and self._newest[-1][0] == verdict:
            self._newest.append((verdict, self._newest.pop()[1] + count))
        else:
            self._newest.append((verdict, count))
        self._size += count
        if verdict is not None:
            self._reasons[verdict] += count
        while self._size > self._rules.records:
            oldest, length = self._newest.popleft()
            gone = min(length, self._size - self._rules.records)
            if gone < length:
                self._newest.appendleft((oldest, length - gone))
            self._size -= gone
            if oldest is not None:
                self._reasons[oldest] -= gone

    def _check(self) -> None:
        rules = self._rules
        rejected = self._reasons.total()
        if self._size == rules.records and rejected > rules.share * rules.records:
            self._stop(f"{rejected:,} of the last {rules.records:,} records were rejected", self._reasons)
        if rules.run and self._run >= rules.run:
            self._stop(f"{self._run:,} records in a row were rejected", self._run_reasons)

    def _stop(self, what: str, reasons: Counter[Reason]) -> None:
        reason, count = reasons.most_common(1)[0]
        example = self._examples[reason]
        detail = example.detail if len(example.detail) <= _QUOTED else example.detail[:_QUOTED] + "..."
        rules = self._rules
        msg = (
            f"{self._stream}: {what}, {count:,} as {reason}, such as {example.partition.name}:"
            f"{example.offset}: {detail}{_ADVICE.get(reason, '')}\n"
            f"This is no accident, so reading stopped (events.fuse_share={rules.share:g} of "
            f"events.fuse_records={rules.records}, events.fuse_run={rules.run}); the batch is not committed. "
            "Mend the settings or the producer and start again: it is read again. `recstream deadletter "
            "list` shows the rejects before it (in a file: `recstream deadletter list FILE`). To go past "
            "records that cannot be mended now: --set events.fuse_share=1 --set events.fuse_run=0, and later "
            "`recstream deadletter replay`"
        )
        raise RejectLimitError(msg)
