"""A topic out: every message confirmed by the broker before the epoch may commit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from typing_extensions import override

from recstream.connectors.base import ConnectorError, untold
from recstream.connectors.kafka.admin import list_topics, required_topics
from recstream.connectors.kafka.client import (
    KafkaFault,
    NoAnswerFault,
    StayedAwayFault,
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
_QUIET_S: Final = 1.0
"""Seconds without a confirmation after which the broker is asked whether it is there at all."""
_ASK_S: Final = 2.0
"""How long it may take to say so."""
_CONNECT_S: Final = 15.0
"""How long the first connection may take."""
_LATE_S: Final = 5.0
"""Seconds without a confirmation of a broker that answers after which nothing can be written."""


class DeliveryError(ConnectorError):
    """The broker did not confirm all messages of a batch; says which topic, how many, why, and the mend.

    One text argument, so that it survives pickling and being raised across bytewax.
    """


class _Patience:
    """How long a write waits for the next confirmation.

    A broker that answers has ``timeout_s`` for it. One that answers nothing is away, and is waited for
    ``down_after_s``, whatever was sent: a restart, which would send it again, would find it no sooner.
    ``report`` is told what is wrong again and again while a confirmation is late.
    """

    def __init__(
        self,
        where: str,
        *,
        timeout_s: float,
        down_after_s: float,
        answers: Callable[[float], bool],
        report: Callable[[str, str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._answers = answers
        self._report = report
        self._now = now
        self._done = 0
        self._since = self._ask_at = now()
        self._is_late = False
        self.is_away = False
        """Whether the broker gave no answer when it was last asked."""

    @property
    def limit_s(self) -> float:
        """Seconds that the next confirmation may take, as things are."""
        return self._down_after_s if self.is_away else self._timeout_s

    def lasts(self, done: int) -> bool:
        """Whether to go on waiting, now that so many messages are done with; may ask the broker."""
        if done != self._done:
            self._done, self._since = done, self._now()
            self.end()
        quiet_s = self._now() - self._since
        if quiet_s >= _QUIET_S and self._now() >= self._ask_at:
            self._ask(quiet_s)
            self._ask_at = self._now() + _QUIET_S
        return self._now() - self._since < self.limit_s

    def end(self) -> None:
        """Note that a confirmation came."""
        if self.is_away:
            _log.warning("%s: Kafka answers again", self._where)
        if self._is_late:
            self._report(self._where, "")
        self._is_late = self.is_away = False

    def _ask(self, quiet_s: float) -> None:
        was_away, self._is_late = self.is_away, True
        self.is_away = not self._answers(min(_ASK_S, max(self._down_after_s - quiet_s, 0.1)))
        if self.is_away:
            self._report(self._where, "no broker answers")
            if not was_away:
                _log.warning("%s: no broker answers, waiting up to %g s", self._where, self._down_after_s)
            return
        if was_away:
            _log.warning("%s: Kafka answers again", self._where)
            self._since, quiet_s = self._now(), 0.0
        self._report(self._where, f"nothing confirmed for {quiet_s:.0f} s" if quiet_s > _LATE_S else "")


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
        down_after_s: float,
        client: Mapping[str, str] | None = None,
        compression: str = "none",
        linger_ms: float = 2.0,
        on_trouble: Callable[[str, str], None] = untold,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._where = f"topic {topic!r} at {bootstrap}"
        self._client = client
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._on_trouble = on_trouble
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
            "message.timeout.ms": 0,  # none: `_Patience` says when it is enough
        }
        try:
            self._producer: Any = Producer({**ours, **fixed}, logger=client_log)
        except KafkaException as err:
            raise bad_settings(err, client) from None
        try:  # connects, so that the first write does not wait for the producer's id (0.5 to 1 s)
            self._producer.list_topics(topic, timeout=min(timeout_s, _CONNECT_S))
        except KafkaException as err:
            raise unreachable(bootstrap, err, client) from None

    @override
    def write_batch(self, items: list[Message]) -> None:
        """Send all and wait for every delivery report.

        Raises:
            DeliveryError: some were refused, or not confirmed in time by a broker that answers.
            StayedAwayFault: no broker has answered for ``down_after_s``.
        """
        if not items:
            return
        confirmed = 0
        refused: list[Any] = []

        def report(error: Any, _message: object) -> None:
            nonlocal confirmed
            if error is None:
                confirmed += 1
            else:
                refused.append(error)

        patience = _Patience(
            self._where,
            timeout_s=self._timeout_s,
            down_after_s=self._down_after_s,
            answers=self._is_answered,
            report=self._on_trouble,
        )
        for item in items:
            while not self._produce(item, report, refused):  # its queue is full
                if not patience.lasts(confirmed + len(refused)):
                    self._give_up(len(items), confirmed, refused, patience)
            if refused and refused[-1].fatal():
                break  # the producer is beyond repair
        while self._producer.flush(_QUIET_S):
            if not patience.lasts(confirmed + len(refused)):
                self._give_up(len(items), confirmed, refused, patience)
        patience.end()
        if confirmed != len(items):
            self._give_up(len(items), confirmed, refused, patience)

    @override
    def close(self) -> None:
        self._producer.flush(self._timeout_s)

    def _produce(self, item: Message, report: Any, refused: list[Any]) -> bool:
        """Hand one message to the producer; False when its queue is full."""
        try:
            self._producer.produce(
                self._topic,
                key=item.key,
                value=item.value,
                headers=list(item.headers),
                on_delivery=report,
            )
        except BufferError:
            self._producer.poll(0.05)
            return False
        except KafkaException as err:  # too large, or the producer is beyond repair
            refused.append(err.args[0])
        else:
            self._producer.poll(0)
        return True

    def _is_answered(self, timeout_s: float) -> bool:
        """Whether a broker says anything, by a connection of its own: that of the producer may be busy."""
        try:
            list_topics(self._bootstrap, client=self._client, timeout_s=timeout_s)
        except NoAnswerFault:
            return False
        except KafkaFault:
            return True  # it refuses us
        return True

    def _give_up(self, sent: int, confirmed: int, refused: list[Any], patience: _Patience) -> NoReturn:
        lacking = sent - confirmed - len(refused)
        with contextlib.suppress(KafkaException):
            self._producer.purge()
        if patience.is_away:
            msg = (
                f"{self._where}: {lacking} of {sent} messages unconfirmed, no broker has answered for "
                f"{patience.limit_s:g} s; check that Kafka runs and is reachable; a restart sends the epoch "
                "again"
            )
            raise StayedAwayFault(msg)
        first = f"first error: {redact(refused[0].str(), self._client)}; " if refused else ""
        mend = _MENDS.get(refused[0].code(), _MEND) if refused else _MEND
        msg = (
            f"{self._where}: {len(refused)} of {sent} messages refused, {lacking} unconfirmed after "
            f"{patience.limit_s:g} s; {first}{mend}"
        )
        raise DeliveryError(msg)


class KafkaSink(DynamicSink[Message]):
    """Writes messages to one topic; one producer for each worker.

    ``write_batch`` blocks until the broker has confirmed every message, so no epoch commits before its
    messages are safe; after a crash the last epoch is sent again. A broker that answers has ``timeout_s`` for
    the next confirmation. One that is away is waited for ``down_after_s``, and ``on_trouble`` is told of it
    (see `Connector`). A null value is a tombstone. Client settings pass through, but for ``acks``,
    ``enable.idempotence`` and ``message.timeout.ms``, which carry the guarantee.

    Raises:
        KafkaSettingsFault: when bytewax builds it and the topic does not exist.
        KafkaFault: Kafka is out of reach then.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        timeout_s: float,
        down_after_s: float,
        client: Mapping[str, str] | None = None,
        compression: str = "none",
        linger_ms: float = 2.0,
        on_trouble: Callable[[str, str], None] = untold,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._client = client
        self._compression = compression
        self._linger_ms = linger_ms
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._on_trouble = on_trouble

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> TopicWriter:
        required_topics(self._bootstrap, [self._topic], "Write", client=self._client)
        return TopicWriter(
            self._bootstrap,
            self._topic,
            client=self._client,
            compression=self._compression,
            linger_ms=self._linger_ms,
            timeout_s=self._timeout_s,
            down_after_s=self._down_after_s,
            on_trouble=self._on_trouble,
        )
