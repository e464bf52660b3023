"""The contract of what counts: `recstream.testing` checks it."""

from __future__ import annotations

from typing import Protocol

__all__ = []


class Meters(Protocol):
    """Counts and gauges by name; names are the closed list in `recstream.metrics.prometheus`."""

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count ``amount`` more."""
        ...

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        ...
