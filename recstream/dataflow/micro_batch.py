"""One micro-batch under way: the results of the worker's parts put together, and its events accounted for."""

from __future__ import annotations

from recstream.dataflow.events import Applied
from recstream.dataflow.messages import BatchResult, DueLists, Forgotten
from recstream.dataflow.recovery import Resent
from recstream.dataflow.waiting import Settled
from recstream.metrics.base import Meters
from recstream.records.reject import Reject
from recstream.records.reject_limit import RejectLimit
from recstream.users.state import Outcome

__all__ = ["MicroBatch"]


class MicroBatch:
    """Collects what comes of a micro-batch. ``in_order``: tombstones stand between lists made in place."""

    def __init__(self, *, in_order: bool) -> None:
        self.due: DueLists = {}
        self.result = BatchResult([], [], [], [], [], [])
        self._in_order = in_order
        self._outcomes: list[Outcome] = []
        self._settled = 0
        self._rejected: list[Reject] = []
        """Events rejected in this micro-batch, without those rejected by an earlier run and sent again."""

    def resend(self, resent: Resent) -> None:
        """Add what an earlier run may not have sent."""
        self.due |= resent.due
        self.result.rejects.extend(resent.rejects)
        self.result.sessions.extend(resent.sessions)

    def settle(self, user_id: str, settled: Settled) -> None:
        """Add what came of a user's waiting events."""
        self._settled += settled.applied
        if settled.due is not None:
            self.due[user_id] = settled.due
        self.result.interactions.extend(settled.interactions)
        for reject in settled.rejects:
            self._reject(reject)

    def apply(self, user_id: str, applied: Applied) -> None:
        """Add what came of a user's event."""
        outcome, due, interactions, reject, is_erasure = applied
        self._outcomes.append(outcome)
        if is_erasure:
            if outcome is Outcome.APPLIED:
                self.due.pop(user_id, None)
            (self.result.lists if self._in_order else self.result.forgotten).append(Forgotten(user_id))
        if due is not None:
            if outcome is Outcome.ABSORBED:
                self.due.setdefault(user_id, due)
            else:
                self.due[user_id] = due
        if interactions:
            self.result.interactions.extend(interactions)
        if reject is not None:
            self._reject(reject)

    def account(self, meters: Meters, reject_limit: RejectLimit) -> None:
        """Count the events by what became of them.

        Raises:
            RejectLimitError: too many were rejected; nothing of the micro-batch may be emitted.
        """
        counts = {outcome: self._outcomes.count(outcome) for outcome in Outcome}
        for outcome, count in counts.items():
            if count and outcome is not Outcome.REFUSED:  # these are counted as rejects, by reason
                meters.add(f"events_{outcome.value}", count)
        for reject in self._rejected:
            meters.add("records_rejected", reason=reject.reason)
        good = self._settled + counts[Outcome.APPLIED] + counts[Outcome.DUPLICATE]
        reject_limit.observe(good=good, rejects=self._rejected)

    def _reject(self, reject: Reject) -> None:
        self.result.rejects.append(reject)
        self._rejected.append(reject)
