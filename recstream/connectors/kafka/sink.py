"""A topic out: messages leave at once; the broker has confirmed all of them before the epoch may commit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer
from typing_extensions import override

from recstream.connectors.base import ConnectorError, unthrottled, untold
from recstream.connectors.kafka.admin import required_topics
from recstream.connectors.kafka.client import (
    NO_ANSWER,
    NoAnswerFault,
    Outage,
    StayedAwayFault,
    Told,
    admin_client,
    bad_settings,
    client_config,
    client_log,
    passes,
    redact,
    unreachable,
)
from recstream.connectors.kafka.refusal import is_refusal
from recstream.connectors.kafka.rights import Right, grants
from recstream.records.transport import Message

__all__ = ["COMPRESSION", "DeliveryError", "KafkaSink", "TooLargeError", "TopicWriter"]

_log = logging.getLogger(__name__)

COMPRESSION: Final = "zstd"
"""How messages are compressed where ``kafka.client`` does not say: lists are a fifth of their size then."""
LINGER_MS: Final = 0.0
"""Milliseconds that a message waits for others to go with it: they do while those before them are on the way.
*Measured* at 100 lists a second on Apache Kafka: 0.2 ms make the median later by 2 ms."""
_MOST_PROCESSES: Final = 1024
_RIGHTS: Final = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
"""Errors of a right to write that lacks; the second when no topic may be written."""
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
_MENDS: Final = {
    **dict.fromkeys(_TOO_LARGE, "raise the topic's max.message.bytes or emit less in one message"),
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic",
    KafkaError._UNKNOWN_TOPIC: "create the topic",  # noqa: SLF001 - its public name
}
_RESTART: Final = "a restart sends the epoch again"
_MEND: Final = f"check that the broker runs and is reachable; {_RESTART}"
_PURGED: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # noqa: SLF001 - public names
"""What is told of messages that a producer has given up."""
_BEYOND_REPAIR: Final = frozenset({KafkaError._FATAL, *_PURGED})  # noqa: SLF001
"""What a producer tells after an error that ends it; which one that was, another error says."""
_QUIET_S: Final = 1.0
"""Seconds without a confirmation after which the broker is asked whether it is there at all."""
_ASK_S: Final = 2.0
"""How long it may take to say so."""
_CONNECT_S: Final = 15.0
"""How long the first connection may take."""
_LATE_S: Final = 5.0
"""Seconds without a confirmation of a broker that answers after which nothing can be written."""
_SETTLE_S: Final = 5.0
"""How long a cluster whose brokers come or go has to show a topic."""
_AGAIN_S: Final = 1.0
"""Pause before what was refused is sent again."""
_SAY_S: Final = 10.0
"""Pause between two lines of the log that say how far a throttled write is."""
_BATCH_BYTES: Final = 131_072
"""Size of a request, before compression: under a quota the broker is silent for as long as one is worth."""


class DeliveryError(ConnectorError):
    """The broker did not confirm all messages of a batch; says which topic, how many, why, and the mend.

    One text argument, so that it survives pickling and being raised across bytewax.
    """


class TooLargeError(DeliveryError):
    """A message is larger than its topic takes: it would be so again."""

    exit_code: ClassVar[int] = 2


class _Throttle:
    """Until when the broker holds us back, as it says with its answers: we are over a quota of its."""

    def __init__(
        self, on_throttled: Callable[[float], None], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_throttled = on_throttled
        self._now = now
        self.until = 0.0

    def note(self, event: Any) -> None:
        """Take librdkafka's event; its time is zero when the broker holds us back no longer."""
        self.until = self._now() + event.throttle_time
        if event.throttle_time > 0:
            self._on_throttled(event.throttle_time)


class _Window:
    """Bytes that may be on their way to the broker, before compression.

    What waits behind a throttled request is answered late, perhaps after the client has lost its patience
    (``socket.timeout.ms``) and sends it again, on the quota. So they are few at first and while the broker
    throttles, and twice as many once so many were confirmed without that.
    """

    LEAST: ClassVar[int] = 65_536
    MOST: ClassVar[int] = 16_777_216

    def __init__(self) -> None:
        self.size = 4 * self.LEAST
        self._confirmed = 0

    def confirm(self, size: int) -> None:
        """Note that so many bytes have arrived."""
        self._confirmed += size
        if self._confirmed >= self.size:
            self.size, self._confirmed = min(2 * self.size, self.MOST), 0

    def shrink(self) -> None:
        """Note that the broker throttles."""
        self.size, self._confirmed = self.LEAST, 0


class _Sent:
    """A message on its way."""

    __slots__ = ("is_confirmed", "message", "size")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.size = len(message.key or b"") + len(message.value or b"")
        self.is_confirmed = False


class _Sending:
    """What becomes of the messages of an epoch. ``on_confirmed`` is told the size of each that arrives."""

    def __init__(self, on_confirmed: Callable[[int], None]) -> None:
        self._on_confirmed = on_confirmed
        self._sent: deque[_Sent] = deque()
        self.errors: list[Any] = []
        """Of messages, or of the producer."""
        self.open_bytes = 0
        """Size of the messages that are handed over and not answered."""

    def __len__(self) -> int:
        """Messages that are not known to have arrived, and those behind the first of them."""
        return len(self._sent)

    def add(self, messages: Sequence[Message]) -> list[_Sent]:
        """Take in messages that are to be sent."""
        added = [_Sent(one) for one in messages]
        self._sent.extend(added)
        return added

    def hand_over(self, one: _Sent) -> Callable[[Any, object], None]:
        """Note that the producer has a message; gives what takes the answer to it."""
        self.open_bytes += one.size

        def report(error: Any, _message: object) -> None:
            self.open_bytes -= one.size
            if error is not None:
                self.errors.append(error)
                return
            one.is_confirmed = True
            while self._sent and self._sent[0].is_confirmed:
                self._sent.popleft()
            self._on_confirmed(one.size)

        return report

    def take_left(self) -> list[Message]:
        """Take out those to be sent again, in their order: not confirmed, or behind such a one of the key."""
        left: list[Message] = []
        keys: set[bytes] = set()
        for one in self._sent:
            message = one.message
            if not one.is_confirmed or message.key in keys:
                left.append(message)
                if message.key is not None:
                    keys.add(message.key)
        self._sent.clear()
        return left


class _Patience:
    """How long a writer waits for the next confirmation.

    A broker that answers has ``timeout_s`` for it, from the end of the time for which it throttles. One that
    gives no answer, or does not let us in, is away and is waited for ``down_after_s``, whatever was sent: a
    restart, which would send it again, would find it no sooner. That time counts from when anybody found that
    the cluster gives no answer (``outage``). A broker that refuses for a reason that may pass has as long.

    ``ask`` gives what is wrong with the broker, after so many seconds at most. ``report`` is told what is
    wrong again and again while a confirmation is late.
    """

    def __init__(
        self,
        where: str,
        *,
        timeout_s: float,
        down_after_s: float,
        ask: Callable[[float], str],
        report: Callable[[str, str], None],
        outage: Outage,
        throttled_until: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._ask = ask
        self._report = report
        self._outage = outage
        self._throttled_until = throttled_until
        self._now = now
        self._confirmed = 0
        self._say_due = now() + _SAY_S
        self.is_late = False
        """Whether it was said that something is wrong."""
        self.begin()
        self.away = ""
        """Why the broker counts as away; empty when it does not."""

    def begin(self) -> None:
        """Note that something is sent while nothing was on its way."""
        self._since = self._due = self._now()
        self._refused_since: float | None = None

    @property
    def limit_s(self) -> float:
        """Seconds that the next confirmation may take, as things are."""
        return self._down_after_s if self.away else self._timeout_s

    def lasts(self, confirmed: int) -> bool:
        """Whether to go on waiting, now that so many messages are confirmed; may ask the broker."""
        until = self._throttled_until()
        is_throttled = self._now() < until
        if confirmed != self._confirmed:
            self._confirmed, self._since = confirmed, self._now()
            if not is_throttled:
                self.end()
            self._refused_since = None
        if is_throttled:
            self._since = until
            self._while_throttled()
            return True
        quiet_s = self._now() - self._since
        if quiet_s >= _QUIET_S and self._now() >= self._due:
            self._look(quiet_s)
            self._due = self._now() + _QUIET_S
        since = self._outage.begin(self._since) if self.away else self._since
        return self._now() - since < self.limit_s

    def bears(self, why: str) -> bool:
        """Whether to send again, after a pause, what the broker refused for a reason that may pass."""
        self._since = self._now()
        if self._refused_since is None:
            self._refused_since = self._since
            _log.warning("%s: %s, waiting up to %g s", self._where, why, self._down_after_s)
        self.is_late = True
        self._report(self._where, why)
        return self._since - self._refused_since < self._down_after_s

    def end(self) -> None:
        """Note that a confirmation came."""
        if self.away or self._refused_since is not None:
            _log.warning("%s: Kafka answers again", self._where)
        if self.is_late:
            self._report(self._where, "")
        self.is_late, self.away, self._refused_since = False, "", None
        self._outage.end()

    def _while_throttled(self) -> None:
        if self._now() < self._due:
            return
        self._due = self._now() + _QUIET_S
        self.is_late, self.away = True, ""
        self._report(
            self._where, "throttled by the broker, for which we write more than a quota of its allows"
        )
        if self._now() >= self._say_due:
            self._say_due = self._now() + _SAY_S
            _log.warning(
                "%s: throttled by the broker (a quota): %d messages are confirmed so far",
                self._where,
                self._confirmed,
            )

    def _look(self, quiet_s: float) -> None:
        was_away, self.is_late = self.away, True
        self.away = self._ask(min(_ASK_S, max(self._down_after_s - quiet_s, 0.1)))
        if self.away:
            self._report(self._where, self.away)
            if not was_away:
                _log.warning("%s: %s, waiting up to %g s", self._where, self.away, self._down_after_s)
            return
        self._outage.end()
        if was_away:
            _log.warning("%s: Kafka answers again", self._where)
            self._since, quiet_s = self._now(), 0.0
        self._report(self._where, f"nothing confirmed for {quiet_s:.0f} s" if quiet_s > _LATE_S else "")


class TopicWriter(StatefulSinkPartition[Message, None]):
    """One idempotent producer (``acks=all``); :meth:`snapshot` returns when all is confirmed. No state.

    What is refused for a reason that may pass, such as a right that was taken away, is sent again, in its
    order, and all behind it that has the same key.

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
        compression: str = COMPRESSION,
        linger_ms: float = LINGER_MS,
        on_trouble: Callable[[str, str], None] = untold,
        on_throttled: Callable[[str, float], None] = unthrottled,
        outage: Outage | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._where = f"topic {topic!r} at {bootstrap}"
        self._client = client
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._window = _Window()
        self._confirmed = 0

        def throttled(seconds: float) -> None:
            self._window.shrink()
            on_throttled(topic, seconds)

        self._throttle = _Throttle(throttled)
        self._patience = _Patience(
            self._where,
            timeout_s=timeout_s,
            down_after_s=down_after_s,
            ask=self._trouble,
            report=on_trouble,
            outage=Outage() if outage is None else outage,
            throttled_until=lambda: self._throttle.until,
        )
        self._sending = _Sending(self._on_confirmed)
        ours = client_config(
            bootstrap,
            client,
            compression_type=compression,
            linger_ms=linger_ms,
            batch_size=_BATCH_BYTES,
            message_max_bytes=8_000_000,
            reconnect_backoff_max_ms=1000,
        )
        self._told = Told()
        self._config = {
            **ours,
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": 0,  # none: `_Patience` says when it is enough
            "error_cb": self._told.note,
            "throttle_cb": self._throttle.note,
        }
        self._producer: Any = self._connected()
        try:  # connects, so that the first write does not wait for the producer's id (0.5 to 1 s)
            self._producer.list_topics(topic, timeout=min(timeout_s, _CONNECT_S))
        except KafkaException as err:
            why = KafkaException(self._told.why(err.args[0], self._producer.poll))
            raise unreachable(bootstrap, why, client) from None

    @override
    def write_batch(self, items: list[Message]) -> None:
        """Send all; waits only for room on the way, and where something was refused.

        Raises:
            DeliveryError: some were refused, or not confirmed in time by a broker that answers.
            StayedAwayFault: no broker has answered, or let us write, for ``down_after_s``.
        """
        if not self._sending:
            self._patience.begin()
        self._send(items)
        if self._sending.errors:
            self.snapshot()

    @override
    def snapshot(self) -> None:
        """Wait until the broker has confirmed all that was written.

        Raises:
            DeliveryError, StayedAwayFault: as `write_batch`.
        """
        if not self._sending and not self._patience.is_late:
            return
        while self._sending:
            self._settle()
            if left := self._sending.take_left():
                self._on_refusal(self._sending.errors, len(left))
            self._sending.errors = []
            self._send(left)
        self._patience.end()

    @override
    def close(self) -> None:
        """Leave; waits for nothing: what is not confirmed is of an epoch that failed, and is sent again."""
        if self._sending:
            self._discard()

    def _connected(self) -> Any:
        try:
            return Producer(self._config, logger=client_log)
        except KafkaException as err:
            raise bad_settings(err, self._client) from None

    def _send(self, items: Sequence[Message]) -> None:
        """Hand all to the producer, or those before one that is refused."""
        try:
            for one in self._sending.add(items):
                while self._sending.open_bytes >= self._window.size or not self._produce(one):
                    self._producer.poll(_QUIET_S)
                    self._check()
                self._producer.poll(0)
                if self._sending.errors:
                    break
        except KafkaException as err:  # the producer is beyond repair
            self._sending.errors.append(err.args[0])
        self._check()

    def _settle(self) -> None:
        """Wait until all that was handed over is answered."""
        try:
            while self._producer.flush(_QUIET_S):
                self._check()
        except KafkaException as err:
            self._sending.errors.append(err.args[0])

    def _check(self) -> None:
        if self._sending and not self._patience.lasts(self._confirmed):
            self._give_up()

    def _produce(self, one: _Sent) -> bool:
        """Hand one message to the producer; False when its queue is full."""
        key, value, headers = one.message
        try:
            self._producer.produce(
                self._topic,
                key=key,
                value=value,
                headers=list(headers),
                on_delivery=self._sending.hand_over(one),
            )
        except BufferError:
            self._sending.open_bytes -= one.size
            return False
        except KafkaException as err:  # too large, not allowed, or the producer is beyond repair
            self._sending.open_bytes -= one.size
            self._sending.errors.append(err.args[0])
        return True

    def _on_confirmed(self, size: int) -> None:
        self._confirmed += 1
        self._window.confirm(size)

    def _on_refusal(self, errors: list[Any], lacking: int) -> None:
        """Wait before what was refused is sent again; raise where that does not help, or it took too long."""
        telling = [error for error in errors if error.code() not in _BEYOND_REPAIR] or errors
        first = next((error for error in telling if not _may_pass(error)), telling[0])
        why = self._reason(first)
        if not _may_pass(first):
            kind = TooLargeError if first.code() in _TOO_LARGE else DeliveryError
            msg = f"{self._where}: {len(telling)} messages refused, {lacking} unconfirmed; first error: {why}"
            raise kind(msg)
        if not self._patience.bears(why):
            msg = (
                f"{self._where}: {lacking} messages unconfirmed, refused for {self._down_after_s:g} s: "
                f"{why}; {_RESTART}"
            )
            raise StayedAwayFault(msg)
        if any(error.fatal() or error.code() in _BEYOND_REPAIR for error in errors):
            self._discard()
            self._producer = self._connected()
        time.sleep(_AGAIN_S)
        with contextlib.suppress(KafkaException):  # else a topic that was refused is so for minutes
            self._producer.list_topics(self._topic, timeout=_ASK_S)

    def _reason(self, error: Any) -> str:
        if error.code() in _RIGHTS:
            (grant,) = grants(self._bootstrap, [Right("Write", "topic", self._topic)], self._client)
            return f"no right to write to it ({KafkaError(error.code()).str()}); grant it: {grant}"
        return f"{redact(error.str(), self._client)}; {_MENDS.get(error.code(), _MEND)}"

    def _discard(self) -> None:
        """Give up what the producer has; its reports, served now, are of no interest."""
        with contextlib.suppress(KafkaException):
            self._producer.purge()
        with contextlib.suppress(KafkaException):
            self._producer.flush(_QUIET_S)

    def _trouble(self, timeout_s: float) -> str:
        """What is wrong with the cluster, by a connection of its own: that of the producer may be busy."""
        with admin_client(self._bootstrap, self._client) as admin:
            try:
                admin.list_topics(timeout=timeout_s)
            except KafkaException as err:
                error = err.args[0]
                if is_refusal(error):
                    return f"the broker does not let us in: {redact(error.str(), self._client)}"
                return NO_ANSWER if passes(error) else ""
        return ""

    def _give_up(self) -> NoReturn:
        errors, patience = self._sending.errors, self._patience
        lacking = len(self._sending.take_left())
        self._discard()
        if patience.away:
            why = (
                f"no broker has answered for {patience.limit_s:g} s; check that Kafka runs and is reachable"
                if patience.away == NO_ANSWER
                else f"for {patience.limit_s:g} s {patience.away}"
            )
            msg = f"{self._where}: {lacking} messages unconfirmed, {why}; {_RESTART}"
            raise StayedAwayFault(msg)
        first = f"first error: {self._reason(errors[0])}" if errors else _MEND
        msg = (
            f"{self._where}: {len(errors)} messages refused, {lacking} unconfirmed after "
            f"{patience.limit_s:g} s; {first}"
        )
        raise DeliveryError(msg)


def _may_pass(error: Any) -> bool:
    """Whether what was refused may be taken later: a right that was taken away may be given back."""
    return error.code() in _RIGHTS or error.code() in _PURGED or passes(error)


class _Unused(StatefulSinkPartition[Message, None]):
    """What an earlier run wrote to, which had more processes."""

    @override
    def write_batch(self, items: list[Message]) -> None:
        msg = "messages for a process that there is not"
        raise AssertionError(msg)

    @override
    def snapshot(self) -> None:
        return None


class KafkaSink(FixedPartitionedSink[Message, None]):
    """Writes messages to one topic; one producer for each process of a dataflow.

    ``write_batch`` sends and does not wait; at the end of the epoch ``snapshot`` returns when the broker has
    confirmed every message, so no epoch commits before its messages are safe; after a crash the last epoch
    is sent again. While confirmations come there is no limit of time: a broker that answers has ``timeout_s``
    for the next one, from when it no longer throttles (``on_throttled`` is told of each time, in seconds).
    One that is away, or refuses for a reason that may pass, is waited for ``down_after_s``, and
    ``on_trouble`` is told of it (see `Connector`). ``outage`` is shared with others who use the cluster. A
    null value is a tombstone. Client settings pass through, but for ``acks``, ``enable.idempotence`` and
    ``message.timeout.ms``, which carry the guarantee.

    A part is a process, by its number (``process`` of so many ``processes``): messages stay in the process
    that made them. Bytewax wants every part of which it has a state, so each process has the parts of others
    that an earlier run may have had; nothing is written to those.

    Raises:
        KafkaSettingsFault: when bytewax lists the parts and the topic does not exist.
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
        compression: str = COMPRESSION,
        linger_ms: float = LINGER_MS,
        on_trouble: Callable[[str, str], None] = untold,
        on_throttled: Callable[[str, float], None] = unthrottled,
        outage: Outage | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._client = client
        self._compression = compression
        self._linger_ms = linger_ms
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._on_trouble = on_trouble
        self._on_throttled = on_throttled
        self._outage = outage
        self._process = process
        self._processes = processes
        self._open: TopicWriter | None = None

    @override
    def list_parts(self) -> list[str]:
        """Also connects: bytewax builds a part with its first message, which should not wait for that."""
        if self._open is None:
            self._open = self._writer()
        return [_part(number) for number in range(self._process, _MOST_PROCESSES, self._processes)]

    @override
    def part_fn(self, item_key: str) -> int:
        return self._process

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSinkPartition[Message, None]:
        if for_part != _part(self._process):
            return _Unused()
        made, self._open = self._open, None
        return made or self._writer()

    def _writer(self) -> TopicWriter:
        deadline = time.monotonic() + _SETTLE_S
        while True:
            try:
                required_topics(self._bootstrap, [self._topic], "Write", client=self._client)
                break
            except NoAnswerFault:  # at once: a broker comes or goes; else after all the time of the question
                if time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_S)
        return TopicWriter(
            self._bootstrap,
            self._topic,
            client=self._client,
            compression=self._compression,
            linger_ms=self._linger_ms,
            timeout_s=self._timeout_s,
            down_after_s=self._down_after_s,
            on_trouble=self._on_trouble,
            on_throttled=self._on_throttled,
            outage=self._outage,
        )


def _part(number: int) -> str:
    """Name of a process's part; names sort by number."""
    return f"{number:04}"
