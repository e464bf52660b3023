"""Summaries of a run: adding up processes, proving that no record was lost (guarantee G4), quantiles.

A summary is plain JSON, by metric, as ``snapshot()`` of the meters gives it: a number for a metric without
labels, ``{"events/not_json": 3}`` for one with labels (values joined by a slash), and
``{"count": 2, "sum": 0.3, "buckets": {"0.001": 0, ...}}`` (cumulative) for a histogram.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recstream.metrics.names import Metric, metric

__all__ = ["Accounting", "Summary", "accounting", "merge_summaries", "quantile"]

Summary = dict[str, Any]


class Accounting(NamedTuple):
    """Where the events of a run went."""

    read: int
    """Without the null values on their topic (``events_tombstone``), which are no events."""
    applied: int
    duplicate: int
    absorbed: int
    rejected: int
    waiting: int
    """Waiting at the end, less those that waited when the run began."""
    balanced: bool
    """Whether every event read is in exactly one of the others."""

    def __str__(self) -> str:
        """One line that adds up."""
        sign = "=" if self.balanced else "!="
        return (
            f"read {self.read:,} {sign} applied {self.applied:,} + duplicate {self.duplicate:,} + "
            f"already absorbed {self.absorbed:,} + rejected {self.rejected:,} + waiting {self.waiting:,}"
        )


def accounting(summary: Mapping[str, Any]) -> Accounting:
    """Add up the events of a summary.

    >>> print(accounting({"records_read": {"events": 3, "items": 9}, "events_applied": 2,
    ...                   "records_rejected": {"events/not_json": 1, "items/not_json": 4}}))
    read 3 = applied 2 + duplicate 0 + already absorbed 0 + rejected 1 + waiting 0
    """
    rejected = summary.get("records_rejected", {})
    records = summary.get("records_read", {}).get("events", 0)
    read = int(records) - int(summary.get("events_tombstone", 0))
    parts = (
        int(summary.get("events_applied", 0)),
        int(summary.get("events_duplicate", 0)),
        int(summary.get("events_absorbed", 0)),
        int(sum(count for labels, count in rejected.items() if labels.split("/")[0] == "events")),
        int(summary.get("events_waiting", 0)) - int(summary.get("events_waiting_at_start", 0)),
    )
    return Accounting(read, *parts, balanced=read == sum(parts))


def merge_summaries(summaries: Sequence[Mapping[str, Any]]) -> Summary:
    """One summary of several processes: counts add up, gauges as their metric says.

    Raises:
        KeyError: a summary has a name that is no metric.

    >>> merge_summaries([{"epochs": 2, "kafka_lag": {"e/0": 5}}, {"epochs": 3, "kafka_lag": {"e/1": 1}}])
    {'epochs': 5, 'kafka_lag': {'e/0': 5, 'e/1': 1}}
    """
    merged: Summary = {}
    for summary in summaries:
        for name, value in summary.items():
            known = metric(name)
            if name not in merged:
                merged[name] = _copy(value)
            elif known.kind == "histogram":
                merged[name] = _both(merged[name], value)
            elif known.labels:
                merged[name] = {
                    label: _merged(known, [s[label] for s in (merged[name], value) if label in s])
                    for label in [*merged[name], *(new for new in value if new not in merged[name])]
                }
            else:
                merged[name] = _merged(known, [merged[name], value])
    return merged


def quantile(histogram: Mapping[str, Any], share: float) -> float | None:
    """The value that ``share`` of a histogram's observations do not exceed, None without any.

    Within a bucket observations are taken as evenly spread; beyond the last bound it is that bound.

    >>> quantile({"count": 10, "sum": 9.0, "buckets": {"1.0": 5, "2.0": 10}}, 0.75)
    1.5
    """
    count = int(histogram["count"])
    if not count:
        return None
    wanted, below, low = share * count, 0, 0.0
    for bound, cumulated in histogram["buckets"].items():
        upto = int(cumulated)
        high = float(bound)
        if upto >= wanted and upto > below:
            return low + (high - low) * max(wanted - below, 0.0) / (upto - below)
        below, low = upto, high
    return low


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _merged(known: Metric, values: list[Any]) -> Any:
    if known.merge == "sum":
        return sum(values)
    return max(values) if known.merge == "max" else min(values)


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Summary:
    buckets = {bound: upto + other["buckets"][bound] for bound, upto in one["buckets"].items()}
    return {"count": one["count"] + other["count"], "sum": one["sum"] + other["sum"], "buckets": buckets}
