"""Meters in memory, and the contract that every implementation keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict

import pytest

from recstream.metrics.accounting import Summary
from recstream.metrics.base import Meters
from recstream.metrics.names import BUCKETS_S, METRICS, label_values

__all__ = ["MemoryMeters", "MetersContract"]


class MemoryMeters:
    """A :class:`~recstream.metrics.base.Meters` for tests: `values` and `observed` may be read directly.

    >>> meters = MemoryMeters()
    >>> meters.add("records_rejected", reason="not_json")
    >>> meters.values["records_rejected", "events", "not_json"]
    1.0
    """

    def __init__(self) -> None:
        self.values: defaultdict[tuple[str, ...], float] = defaultdict(float)
        """Counters and gauges, by name and label values."""
        self.observed: defaultdict[str, list[float]] = defaultdict(list)
        """Observations of histograms, by name, in their order."""

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count ``amount`` more."""
        key = (name, *label_values(name, None, labels))
        if amount < 0 and METRICS[name].kind == "counter":
            raise ValueError(f"counter {name!r} cannot go down: got {amount}")
        self.values[key] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        key = (name, *label_values(name, "gauge", labels))
        self.values[key] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        label_values(name, "histogram", labels)
        self.observed[name].append(value)

    def snapshot(self) -> Summary:
        """Totals in the form of `recstream.metrics.accounting`."""
        totals: Summary = {}
        for name, known in METRICS.items():
            if known.kind == "histogram":
                seen = self.observed[name]
                buckets = {str(bound): sum(value <= bound for value in seen) for bound in BUCKETS_S}
                totals[name] = {"count": len(seen), "sum": float(sum(seen)), "buckets": buckets}
            elif known.labels:
                totals[name] = {"/".join(key[1:]): v for key, v in self.values.items() if key[0] == name}
            else:
                totals[name] = self.values.get((name,), 0)
        return totals


class MetersContract(ABC):
    """Subclass in tests with ``make()``; every implementation, real or fake, passes these."""

    @abstractmethod
    def make(self) -> Meters:
        """A fresh object."""

    def totals(self, meters: Meters) -> Summary:
        """Its snapshot."""
        snapshot: Summary = meters.snapshot()  # type: ignore[attr-defined]  # both have it; the engine needs none
        return snapshot

    def test_counts_add_up_by_label(self) -> None:
        """Each combination of label values is counted by itself."""
        meters = self.make()
        meters.add("records_read", 2, stream="events")
        meters.add("records_read", stream="events")
        meters.add("records_read", 5, stream="items")
        _same(self.totals(meters)["records_read"], {"events": 3, "items": 5})

    def test_a_label_left_out_has_its_default(self) -> None:
        """Rejects are of events unless said otherwise."""
        meters = self.make()
        meters.add("records_rejected", reason="not_json")
        meters.add("records_rejected", reason="not_json", stream="items")
        wanted = {"events/not_json": 1, "items/not_json": 1}
        _same(self.totals(meters)["records_rejected"], wanted)

    def test_gauges_are_set_and_moved(self) -> None:
        """A gauge goes both ways."""
        meters = self.make()
        meters.set("events_waiting", 5)
        meters.add("events_waiting", -2)
        _same(self.totals(meters)["events_waiting"], 3)

    def test_histograms_count_into_cumulative_buckets(self) -> None:
        """A value on a bound belongs to that bound's bucket."""
        meters = self.make()
        for seconds in (0.001, 0.004, 100.0):
            meters.observe("flush_seconds", seconds)
        totals = self.totals(meters)["flush_seconds"]
        _same((totals["count"], round(totals["sum"], 6)), (3, 100.005))
        _same((totals["buckets"]["0.001"], totals["buckets"]["0.005"], totals["buckets"]["60.0"]), (1, 2, 2))

    def test_untouched_metrics_are_zero(self) -> None:
        """Every name is in the summary from the start."""
        totals = self.totals(self.make())
        _same(set(totals), set(METRICS))
        _same((totals["epochs"], totals["kafka_lag"], totals["flush_seconds"]["count"]), (0, {}, 0))

    def test_an_unknown_name_is_refused_with_the_closest(self) -> None:
        """So that a typing error does not count into nowhere."""
        with pytest.raises(KeyError, match="did you mean 'events_applied'"):
            self.make().add("event_applied")

    def test_other_labels_are_refused(self) -> None:
        """A missing label, and one too many."""
        with pytest.raises(ValueError, match="wanted \\['stream'\\]"):
            self.make().add("records_read")
        with pytest.raises(ValueError, match="wanted \\[\\]"):
            self.make().add("epochs", stream="events")

    def test_other_kinds_are_refused(self) -> None:
        """A counter is not set, a histogram not added to, and a gauge not observed."""
        meters = self.make()
        with pytest.raises(ValueError, match="is a counter, wanted a gauge"):
            meters.set("epochs", 1)
        with pytest.raises(ValueError, match="is a histogram"):
            meters.add("flush_seconds", 1)
        with pytest.raises(ValueError, match="is a gauge, wanted a histogram"):
            meters.observe("users_hot", 1)

    def test_counters_do_not_go_down(self) -> None:
        """A negative amount is refused."""
        with pytest.raises(ValueError, match=r"epochs|increment"):
            self.make().add("epochs", -1)


def _same(got: object, wanted: object) -> None:
    """Compare without ``assert``, which optimised runs drop."""
    if got != wanted:
        pytest.fail(f"got {got!r}, wanted {wanted!r}")
