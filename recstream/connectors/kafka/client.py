"""What every Kafka client here shares: its settings, its fault, and how long it waits."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, ClassVar, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from recstream.connectors.base import ConnectorError

__all__ = [
    "AWAY",
    "NO_GROUP",
    "PASSING",
    "KafkaFault",
    "KafkaSettingsFault",
    "NoAnswerFault",
    "StayedAwayFault",
    "admin_client",
    "bad_settings",
    "client_config",
    "client_log",
    "redact",
    "result_of",
    "unreachable",
]

_QUIET_S: Final = 10.0


class _Seldom(logging.Filter):
    """Lets a line pass once in ten seconds: during an outage each client says the same 20 times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = _DIGITS.sub("#", record.getMessage())
        now = time.monotonic()
        if now - self._said.get(text, -_QUIET_S) < _QUIET_S:
            return False
        if len(self._said) > 256:
            self._said.clear()
        self._said[text] = now
        return True


_DIGITS: Final = re.compile(r"\d+")

client_log = logging.getLogger("recstream.connectors.kafka.client")
"""Where librdkafka's own lines go, repeats left out."""
client_log.addFilter(_Seldom())

AWAY: Final = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001 - these are their public names
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
    }
)
"""Errors of a request that nobody answered."""

PASSING: Final = frozenset(
    {
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_CONTROLLER,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,  # noqa: SLF001 - these are their public names
        KafkaError._UNKNOWN_BROKER,  # noqa: SLF001
        KafkaError._NODE_UPDATE,  # noqa: SLF001
    }
)
"""Errors of a cluster whose brokers come and go: they pass, so they are waited for as an absence is."""

NO_GROUP: Final = "recstream-no-group"
"""librdkafka wants a group name even from a reader that never joins or commits."""

_SECRET_WORDS: Final = ("password", "secret", "token", "key.pem", "jaas", "oauthbearer.config")


class KafkaFault(ConnectorError):
    """Kafka did not do what was asked; the message says what, where, got, and how to mend it.

    One text argument, so that it survives pickling and being raised across bytewax.
    """


class KafkaSettingsFault(KafkaFault):
    """The settings are refused, or name what is not there: starting again would not help."""

    exit_code: ClassVar[int] = 2


class NoAnswerFault(KafkaFault):
    """No broker, or not the one that leads a partition, answered in time; it may do so later."""


class StayedAwayFault(KafkaFault):
    """No broker has answered for ``kafka.down_after_s``."""

    was_waited_for: ClassVar[bool] = True


def redact(text: str, client: Mapping[str, str] | None) -> str:
    """Replace the values of secret settings in a text.

    >>> redact("bad value hunter2", {"sasl.password": "hunter2"})
    'bad value ***'
    """
    for name, value in (client or {}).items():
        if value and any(word in name for word in _SECRET_WORDS):
            text = text.replace(str(value), "***")
    return text


def client_config(
    bootstrap: str, client: Mapping[str, str] | None = None, /, **ours: object
) -> dict[str, object]:
    """Settings for a confluent-kafka client: ours, then what the operator set, which wins.

    Names are written with ``_`` for ``.``.

    >>> client_config("k:9092", {"linger.ms": "5"}, linger_ms=2, acks="all")
    {'linger.ms': '5', 'acks': 'all', 'bootstrap.servers': 'k:9092'}
    """
    config: dict[str, object] = {name.replace("_", "."): value for name, value in ours.items()}
    return {**config, **(client or {}), "bootstrap.servers": bootstrap}


def admin_client(bootstrap: str, client: Mapping[str, str] | None) -> Any:
    """An AdminClient; keep it in a name while its futures are awaited, they die with it."""
    try:
        return AdminClient(client_config(bootstrap, client), logger=client_log)
    except KafkaException as err:
        raise bad_settings(err, client) from None


def bad_settings(err: Exception, client: Mapping[str, str] | None) -> KafkaFault:
    """The fault for client settings that librdkafka refuses."""
    msg = f"Kafka client settings {sorted(client or {})} are refused: {redact(str(err), client)}"
    return KafkaSettingsFault(msg)


def result_of(future: Future[Any], deadline: float) -> Any:
    """The future's result; the extra second is for librdkafka's own time-out to tell more than ours."""
    try:
        return future.result(max(0.0, deadline - time.monotonic()) + 1.0)
    except FutureTimeout:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None  # noqa: SLF001 - its public name


def unreachable(
    bootstrap: str, err: Exception, client: Mapping[str, str] | None, *, what: str = "asking for the topics"
) -> KafkaFault:
    """The fault for a request that was not answered as wished."""
    msg = (
        f"Kafka at {bootstrap}, {what}: {redact(str(err), client)}; "
        "check that the broker runs, the address, and the security settings"
    )
    error = err.args[0] if isinstance(err, KafkaException) else None
    is_away = error is not None and (error.code() in AWAY or error.code() in PASSING or error.retriable())
    return NoAnswerFault(msg) if is_away else KafkaFault(msg)
