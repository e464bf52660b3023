"""Where records come from and go to. Each kind of place is a connector, registered here by its scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:  # the base imports bytewax, which commands that only print do without
    from recstream.connectors.base import Connector
    from recstream.connectors.kafka.broker import EmbeddedBroker

__all__ = [
    "CONNECTORS",
    "FILES",
    "NAMED",
    "EmbeddedBroker",
    "OptionsOf",
    "connector_for",
    "embedded_broker",
    "scheme_of",
]

CONNECTORS: Final[dict[str, str]] = {
    "kafka": "recstream.connectors.kafka.connector:KafkaConnector",
}
"""Connectors by scheme, each as ``module:class``, which is imported when it is first used."""

FILES: Final = "file"
"""Scheme of whatever begins with none: paths."""
_FILES: Final = "recstream.connectors.files.connector:FileConnector"

NAMED: Final = " or ".join(f"{scheme}:NAME" for scheme in CONNECTORS)
"""Addresses that are not paths, for the help of a command."""

OptionsOf: TypeAlias = Callable[[str], Mapping[str, Any]]
"""Gives the settings for a connector by its scheme; `Settings.options_of` is one."""


def embedded_broker(*, log_path: Path) -> EmbeddedBroker:
    """Make a message broker that runs as a child of this process, for a demonstration without services.

    Raises:
        ConnectorError: on entering it, when its package is missing or it does not come up.
    """
    from recstream.connectors.kafka.broker import EmbeddedBroker

    return EmbeddedBroker(log_path=log_path)


def scheme_of(address: str) -> str:
    """Which connector an address belongs to.

    >>> scheme_of("kafka:events"), scheme_of("logs/events.jsonl")
    ('kafka', 'file')
    """
    scheme, colon, _ = address.partition(":")
    return scheme if colon and scheme in CONNECTORS else FILES


def connector_for(address: str, options_of: OptionsOf) -> Connector:
    """Make the connector that an address belongs to.

    >>> connector_for("logs/events.jsonl", lambda scheme: {}).position_name("logs/events.jsonl")
    'events.jsonl'
    """
    scheme = scheme_of(address)
    module, _, name = CONNECTORS.get(scheme, _FILES).partition(":")
    made: Connector = getattr(import_module(module), name)(options_of(scheme))
    return made
