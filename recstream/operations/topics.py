"""The places that a live job reads and writes, made where they lack."""

from __future__ import annotations

from collections.abc import Iterator

from recstream.config import Settings
from recstream.connectors import connector_for, scheme_of
from recstream.connectors.base import Finding
from recstream.operations.demands import demands_of

__all__ = ["create_topics"]


def create_topics(
    settings: Settings, *, partitions: int | None = None, copies: int | None = None, dry_run: bool = False
) -> Iterator[Finding]:
    """Make the topics of the job that lack; say of each what was done, or what differs.

    Raises:
        ConnectorError: there is no answer.
    """
    by_scheme: dict[str, dict[str, str]] = {}
    for setting, address in settings.live_settings().items():
        by_scheme.setdefault(scheme_of(address), {})[setting] = address
    demands = demands_of(settings)
    for places in by_scheme.values():
        connector = connector_for(next(iter(places.values())), settings.options_of)
        yield from connector.create(places, demands, partitions=partitions, copies=copies, dry_run=dry_run)
