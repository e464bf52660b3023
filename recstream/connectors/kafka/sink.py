"""A topic out: every message confirmed by the broker before the epoch may commit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from typing_extensions import override

from recstream.connectors.base import ConnectorError
from recstream.connectors.kafka.admin import topics
from recstream.connectors.kafka.client import (
    KafkaFault,
    bad_settings,
    client_config,
    client_log,
    redact,
    unreachable,
)
from recstream.records.transport import Message

__all__ = ["DeliveryError", "KafkaSink", "TopicWriter"]

_log = logging.getLogger(__name__)

_MENDS: Final = {
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's max.message.bytes or emit less in one message",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant Write on the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant IdempotentWrite on the cluster",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic",
    KafkaError._UNKNOWN_TOPIC: "create the topic",  # noqa: SLF001 - its public name
}
_MEND: Final = "check that the broker runs and is reachable; a restart sends the epoch again"


class DeliveryError(ConnectorError):
    """The broker did not confirm all messages of a batch; says which topic, how many, why, and the mend.

    One text argument, so that it survives pickling and being raised across bytewax.
    """


class TopicWriter(StatelessSinkPartition[Message]):
    """One idempotent producer (``acks=all``); :meth:`write_batch` returns when all is confirmed.

    Raises:
        KafkaFault: settings are refused, or Kafka is out of reach.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        timeout_s: float,
        client: Mapping[str, str] | None = None,
        compression: str = "none",
        linger_ms: float = 2.0,
    ) -> None:
        self._topic = topic
        self._where = f"topic {topic!r} at {bootstrap}"
        self._client = client
        self._timeout_s = timeout_s
        ours = client_config(
            bootstrap,
            client,
            compression_type=compression,
            linger_ms=linger_ms,
            message_max_bytes=8_000_000,
            reconnect_backoff_max_ms=1000,
        )
        fixed = {
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": max(1, int(timeout_s * 1000)),
        }
        try:
            self._producer: Any = Producer({**ours, **fixed}, logger=client_log)
        except KafkaException as err:
            raise bad_settings(err, client) from None
        try:  # connects, so that the first write does not wait for the producer's id (0.5 to 1 s)
            self._producer.list_topics(topic, timeout=timeout_s)
        except KafkaException as err:
            raise unreachable(bootstrap, err, client) from None

    @override
    def write_batch(self, items: list[Message]) -> None:
        """Send all and wait for every delivery report.

        Raises:
            DeliveryError: some were refused, or not confirmed within the time limit.
        """
        if not items:
            return
        deadline = time.monotonic() + self._timeout_s
        confirmed = 0
        refused: list[Any] = []

        def report(error: Any, _message: object) -> None:
            nonlocal confirmed
            if error is None:
                confirmed += 1
            else:
                refused.append(error)

        for item in items:
            if not self._produce(item, report, refused, deadline):
                break
        # A little longer than message.timeout.ms, whose reports say why.
        self._producer.flush(max(0.0, deadline - time.monotonic()) + 0.5)
        if confirmed != len(items):
            self._give_up(len(items), confirmed, refused)

    @override
    def close(self) -> None:
        self._producer.flush(self._timeout_s)

    def _produce(self, item: Message, report: Any, refused: list[Any], deadline: float) -> bool:
        """Hand one message to the producer; False when its queue stayed full."""
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=item.key,
                    value=item.value,
                    headers=list(item.headers),
                    on_delivery=report,
                )
            except BufferError:
                if time.monotonic() > deadline:
                    return False
                self._producer.poll(0.05)
            except KafkaException as err:  # too large, or the producer is beyond repair
                refused.append(err.args[0])
                return not err.args[0].fatal()
            else:
                self._producer.poll(0)
                return True

    def _give_up(self, sent: int, confirmed: int, refused: list[Any]) -> None:
        with contextlib.suppress(KafkaException):
            self._producer.purge()
        first = f"first error: {redact(refused[0].str(), self._client)}; " if refused else ""
        mend = _MENDS.get(refused[0].code(), _MEND) if refused else _MEND
        msg = (
            f"{self._where}: {len(refused)} of {sent} messages refused, "
            f"{sent - confirmed - len(refused)} unconfirmed after {self._timeout_s:g} s; {first}{mend}"
        )
        raise DeliveryError(msg)


class KafkaSink(DynamicSink[Message]):
    """Writes messages to one topic; one producer for each worker.

    ``write_batch`` blocks until the broker has confirmed every message, so no epoch commits before its
    messages are safe; after a crash the last epoch is sent again. A null value is a tombstone. Client
    settings pass through, but for ``acks``, ``enable.idempotence`` and ``message.timeout.ms``
    (``timeout_s``), which carry the guarantee.

    Raises:
        KafkaFault: when bytewax builds it and the topic does not exist or Kafka is out of reach.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        timeout_s: float,
        client: Mapping[str, str] | None = None,
        compression: str = "none",
        linger_ms: float = 2.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._client = client
        self._compression = compression
        self._linger_ms = linger_ms
        self._timeout_s = timeout_s

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> TopicWriter:
        if not topics(self._bootstrap, [self._topic], client=self._client):
            msg = f"step {step_id}: Kafka at {self._bootstrap} has no topic {self._topic!r}; create it"
            raise KafkaFault(msg)
        return TopicWriter(
            self._bootstrap,
            self._topic,
            client=self._client,
            compression=self._compression,
            linger_ms=self._linger_ms,
            timeout_s=self._timeout_s,
        )
