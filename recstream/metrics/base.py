"""The port through which the other folders count."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Meters"]


class Meters(Protocol):
    """Counts and gauges by name; the names are those of `recstream.metrics.names.METRICS`."""

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count ``amount`` more."""
        ...

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        ...
