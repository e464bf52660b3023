"""What every Kafka client here shares: its settings, its fault, and how long it waits."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, ClassVar, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from typing_extensions import Self

from recstream.connectors.base import ConnectorError
from recstream.connectors.kafka.refusal import is_refusal, refusal_of

__all__ = [
    "AWAY",
    "NO_ANSWER",
    "NO_GROUP",
    "PASSING",
    "Admin",
    "KafkaFault",
    "KafkaSettingsFault",
    "NoAnswerFault",
    "Outage",
    "RefusedFault",
    "StayedAwayFault",
    "Told",
    "admin_client",
    "bad_settings",
    "client_config",
    "client_log",
    "passes",
    "redact",
    "unreachable",
]

_QUIET_S: Final = 10.0
_LOOK_S: Final = 0.1
"""Pause between two looks at what a client tells while an answer is awaited."""
_REASON_S: Final = 0.5
"""How long the reason of a failure is waited for."""
_OTHERS_S: Final = 1.0
"""How long the other brokers of a cluster have to let us in when one does not."""
_TOLD: Final = 32
"""Errors of a client that are remembered."""
_RIGHTS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant the right to it on the topic (kafka-acls.sh)",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant the right to it on the group (kafka-acls.sh)",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant the right to it on the cluster (kafka-acls.sh)",
}
"""What helps where a right lacks."""


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
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.PREFERRED_LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._NODE_UPDATE,  # noqa: SLF001 - these are their public names
        KafkaError._UNKNOWN_BROKER,  # noqa: SLF001 - these are their public names
        KafkaError._WAIT_COORD,  # noqa: SLF001 - these are their public names
    }
)
"""Errors of a cluster whose brokers come and go: they pass, so they are waited for as an absence is."""

NO_ANSWER: Final = "no broker answers"
"""What is said of a cluster that is away."""

NO_GROUP: Final = "recstream-no-group"
"""librdkafka wants a group name even from a reader that never joins or commits: this, where none is set."""

_SECRET_WORDS: Final = ("password", "secret", "token", "key.pem", "jaas", "oauthbearer.config")


class KafkaFault(ConnectorError):
    """Kafka did not do what was asked; the message says what, where, got, and how to mend it.

    ``mend`` may be apart from the rest. Text arguments only, so that it survives pickling and being raised
    across bytewax.
    """

    def __init__(self, wrong: str, mend: str = "") -> None:
        super().__init__(wrong, mend)
        self.wrong = wrong
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.wrong}; {self.mend}" if self.mend else self.wrong


class KafkaSettingsFault(KafkaFault):
    """The settings are refused, or name what is not there: starting again would not help."""

    exit_code: ClassVar[int] = 2


class RefusedFault(KafkaSettingsFault):
    """The cluster does not let us in: credentials, certificates or the protocol do not fit.

    When a job starts its settings are wrong then. While it runs it waits, as for a cluster that is away: they
    fitted before.
    """


class NoAnswerFault(KafkaFault):
    """No broker, or not the one that leads a partition, answered in time; it may do so later."""


class StayedAwayFault(KafkaFault):
    """No broker has answered for ``kafka.down_after_s``."""

    was_waited_for: ClassVar[bool] = True


class Outage:
    """Since when a cluster gives no answer, as all found together who read and write there in one process.

    Each counts the time that it waits from the first to find it: so they do not wait one after the other.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        """None: it answers, as far as anybody has found."""

    def begin(self, at: float) -> float:
        """Note that there was no answer since ``at``; gives since when there is none."""
        self.since = at if self.since is None else min(self.since, at)
        return self.since

    def end(self) -> None:
        """Note that there is one."""
        self.since = None


def passes(error: Any) -> bool:
    """Whether an error goes by itself: nobody answers, or a broker that comes or goes does.

    >>> passes(KafkaError(KafkaError.UNKNOWN_LEADER_EPOCH)), passes(KafkaError(KafkaError.INVALID_CONFIG))
    (True, False)
    """
    return error.code() in AWAY or error.code() in PASSING or error.retriable()


def _text_of(error: Any) -> str:
    """An error's text, and the name of one that a broker has."""
    return f"{error.str()} ({error.name()})" if error.code() > 0 else str(error.str())


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


class Told:
    """What a client has reported of its connections (``error_cb``): why nobody answers it."""

    def __init__(self) -> None:
        self._errors: deque[Any] = deque(maxlen=_TOLD)

    def note(self, error: Any) -> None:
        """Take one error of the client."""
        self._errors.append(error)

    def why(self, error: Any, poll: Callable[[float], object]) -> Any:
        """The newest error that tells most of why nobody answered; an error of other kinds as it is.

        The client may tell the reason a moment after the failure: ``poll`` has it tell what it can.
        """
        poll(0)
        deadline = time.monotonic() + _REASON_S
        while error.code() in AWAY:
            telling = [one for one in reversed(self._errors) if _says(one)]
            if telling or time.monotonic() > deadline:
                return max((*telling, error), key=_says)
            poll(_LOOK_S)
        return error

    @property
    def is_refused(self) -> bool:
        """Whether a broker surely does not let us in, whatever the others do."""
        return any(one.code() in _REFUSALS and "Disconnected" not in one.str() for one in self._errors)


_REFUSALS: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})  # noqa: SLF001 - their public names


def _says(error: Any) -> int:
    """How much an error tells of why nobody answers."""
    if is_refusal(error):
        return 3
    if error.code() == KafkaError._RESOLVE:  # noqa: SLF001 - its public name
        return 2
    return int(error.code() == KafkaError._TRANSPORT)  # noqa: SLF001


class Admin:
    """An admin client that says why it got no answer, within ``with``; its requests end with that.

    Python frees objects that refer to each other, such as an exception and the frames it passed, at any time
    and in any thread. A client that is freed by a thread of its own, which hands over an answer, aborts the
    process. So it is held here alone, and let go of by the thread that asked.
    """

    def __init__(self, config: Mapping[str, object]) -> None:
        self._told = Told()
        # What it would log, it tells; so it need not be in the log, too.
        self._client: Any = AdminClient(
            {"log_level": 0, **config, "error_cb": self._told.note}, logger=client_log
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client = None

    def __getattr__(self, name: str) -> Any:
        """What is asked as `AdminClient` has it."""
        return getattr(self._client, name)

    def list_topics(self, *, timeout: float) -> Any:
        """The cluster's metadata."""
        try:
            return self._client.list_topics(timeout=timeout)
        except KafkaException as err:
            raise self._why(err.args[0]) from None

    def result_of(self, future: Future[Any], deadline: float) -> Any:
        """The future's result, until a second after the deadline: librdkafka's own time-out tells more.

        Raises:
            KafkaException: nobody answered in time, or we are not let in.
        """
        refused_at: float | None = None
        while True:
            left_s = deadline + 1.0 - time.monotonic()
            try:
                return future.result(min(_LOOK_S, max(left_s, 0.0)))
            except FutureTimeout:
                self._client.poll(0)
                now = time.monotonic()
                if self._told.is_refused and refused_at is None:
                    refused_at = now  # another broker may let us in
                if left_s <= 0 or (refused_at is not None and now - refused_at > _OTHERS_S):
                    timed_out = KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - its public name
                    raise self._why(timed_out) from None
            except KafkaException as err:
                raise self._why(err.args[0]) from None

    def _why(self, error: Any) -> KafkaException:
        return KafkaException(self._told.why(error, self._client.poll))


def admin_client(bootstrap: str, client: Mapping[str, str] | None) -> Admin:
    """An `Admin` for a cluster."""
    try:
        return Admin(client_config(bootstrap, client))
    except KafkaException as err:
        raise bad_settings(err, client) from None


def bad_settings(err: Exception, client: Mapping[str, str] | None) -> KafkaFault:
    """The fault for client settings that librdkafka refuses."""
    msg = f"Kafka client settings {sorted(client or {})} are refused: {redact(str(err), client)}"
    return KafkaSettingsFault(msg, "correct them in kafka.client")


def unreachable(
    bootstrap: str, err: Exception, client: Mapping[str, str] | None, *, what: str = "asking for the topics"
) -> KafkaFault:
    """The fault for a request that was not answered as wished. Looks at the port where TLS is in question."""
    error = err.args[0] if isinstance(err, KafkaException) else None
    where = f"Kafka at {bootstrap}, {what}"
    text = redact(str(err) if error is None else _text_of(error), client)
    refusal = None if error is None else refusal_of(error, bootstrap, client)
    if refusal is not None:
        kind = RefusedFault if refusal.is_certain else NoAnswerFault
        return kind(f"{where}: {refusal.why}: {text}", refusal.mend)
    if error is not None and error.code() == KafkaError._RESOLVE:  # noqa: SLF001 - its public name
        mend = "correct kafka.bootstrap, or the broker's advertised.listeners, or name resolution here"
        return NoAnswerFault(f"{where}: the host's name is not known: {text}", mend)
    if error is None or passes(error):
        mend = "start a broker there, or correct kafka.bootstrap (and kafka.client for TLS or SASL)"
        return NoAnswerFault(f"{where}: {text}", mend)
    return KafkaFault(f"{where}: {text}", _RIGHTS.get(error.code(), "the broker's log may say more"))
