"""What a Kafka cluster has: topics, their ids and partitions, the offsets they hold; making topics."""

from __future__ import annotations

import base64
import logging
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import ConfigResource, NewTopic, OffsetSpec

from recstream.connectors.kafka.client import (
    NO_GROUP,
    KafkaFault,
    KafkaSettingsFault,
    NoAnswerFault,
    admin_client,
    bad_settings,
    client_config,
    client_log,
    unreachable,
)
from recstream.connectors.kafka.rights import (
    Operation,
    Operations,
    Right,
    group_operations,
    lacks,
    operations_of,
    rights_fault,
)
from recstream.connectors.kafka.topic_plan import TopicConfig

__all__ = [
    "Cluster",
    "LookUp",
    "Overview",
    "Topic",
    "Watermarks",
    "check_rights",
    "configs",
    "describe",
    "ensure_topics",
    "list_topics",
    "look_up",
    "offset_bounds",
    "offsets_at",
    "overview",
    "required_topics",
    "topic_ids",
    "topics",
    "watermarks",
]

_log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 0.5
"""A broker that has only just started may not know all topics yet: what lacks is asked for twice."""
_ANSWER_S: Final = 2.0
"""How long a broker has at least to answer by a new connection."""


class Topic(NamedTuple):
    """One topic as the cluster describes it."""

    name: str
    id: str
    """32 hex digits; another one after the topic was deleted and made again. Zeros: the cluster has none."""
    partitions: tuple[int, ...]
    may: Operations = None
    """What we may do with it."""
    replicas: int = 0
    """Copies of its first partition."""

    def identity(self, partition: int) -> str:
        """Identity of a partition, by which offset ranges are stored: ``events/3@`` and 8 digits of a digest.

        A digest of the topic's id, because ids may be time-ordered (UUIDv7): their own first 8 digits are
        the same for a topic re-created within a minute.

        >>> Topic("events", "01a1fcda6ff07d81a5e401bf6035a453", (0, 1)).identity(1)
        'events/1@e4ff1bf9'
        """
        digest = blake2b(bytes.fromhex(self.id), digest_size=4).hexdigest()
        return f"{self.name}/{partition}@{digest}"


class LookUp(NamedTuple):
    """What :func:`look_up` found."""

    found: dict[str, Topic]
    hidden: tuple[str, ...]
    """Those that we have no right to describe: whether they exist is not told."""


class Watermarks(NamedTuple):
    """The offsets a partition holds: ``low <= offset < high``."""

    low: int
    high: int


class Overview(NamedTuple):
    """What :func:`overview` found."""

    topics: dict[str, int]
    """Number of partitions by name."""
    brokers: int
    out_of_reach: dict[str, str]
    """Why a broker cannot be asked, by ``host:port``: the address that the cluster tells its clients
    (``advertised.listeners``), which may be another one than that by which the cluster was found."""


class Cluster(NamedTuple):
    """What :func:`describe` found."""

    reachable: bool
    detail: str
    """Why it is not reachable, or how many brokers answered."""
    topics: tuple[Topic, ...]
    missing: tuple[str, ...]
    """Names asked for that do not exist."""
    watermarks: Mapping[str, Watermarks]
    """By partition: ``"events/3"``."""


def list_topics(
    bootstrap: str, *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> dict[str, int]:
    """Every topic with its number of partitions. Raises KafkaFault when no broker answers in time."""
    found = _metadata(bootstrap, client, timeout_s).topics
    return {name: len(topic.partitions) for name, topic in found.items()}


def _metadata(bootstrap: str, client: Mapping[str, str] | None, timeout_s: float) -> Any:
    with admin_client(bootstrap, client) as admin:
        try:
            return admin.list_topics(timeout=timeout_s)
        except KafkaException as err:
            raise unreachable(bootstrap, err, client) from None


def overview(
    bootstrap: str, names: Sequence[str], *, client: Mapping[str, str] | None = None, timeout_s: float = 5.0
) -> Overview:
    """Every topic, and whether the controller and each broker that leads partitions of ``names`` answers.

    Raises:
        KafkaFault: the cluster does not answer at all.
    """
    found = _metadata(bootstrap, client, timeout_s)
    asked: dict[int, Any] = {found.controller_id: None}
    for name in names:
        parts = found.topics[name].partitions.values() if name in found.topics else ()
        asked.update((part.leader, TopicPartition(name, part.id)) for part in parts)
    failed: dict[str, str] = {}
    for number, part in sorted(asked.items()):
        if number not in found.brokers:
            continue  # there is none just now
        broker = found.brokers[number]
        if why := _out_of_reach(bootstrap, broker.host, broker.port, part, client, timeout_s):
            failed[f"{broker.host}:{broker.port}"] = why
    counts = {name: len(topic.partitions) for name, topic in found.topics.items()}
    return Overview(counts, len(found.brokers), failed)


def _out_of_reach(
    bootstrap: str, host: str, port: int, led: Any, client: Mapping[str, str] | None, timeout_s: float
) -> str:
    """Why a broker cannot be asked, about a partition that it leads if it does; empty when it can."""
    wait_s = max(timeout_s, _ANSWER_S)
    try:
        socket.create_connection((host, port), wait_s).close()
    except OSError as err:
        return err.strerror or str(err)
    if led is None:
        return ""
    deadline = time.monotonic() + wait_s
    with admin_client(bootstrap, client) as admin:
        (future,) = admin.list_offsets({led: OffsetSpec.latest()}, request_timeout=wait_s).values()
        try:
            _offset_of(admin, future, deadline)
        except KafkaException as err:
            if err.args[0].code() < 0:  # librdkafka's own: the broker said nothing
                return f"it does not answer within {wait_s:g} s"
        return ""


def required_topics(
    bootstrap: str,
    names: Sequence[str],
    operation: Operation | None = None,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> dict[str, Topic]:
    """The named topics, by name. With ``operation`` we must have the right to do that with each.

    Raises:
        KafkaSettingsFault: some do not exist, or a right lacks; says which.
        KafkaFault: no broker answers in time.
    """
    found, lacking = _required(bootstrap, dict.fromkeys(names, operation), client, timeout_s)
    if lacking:
        raise rights_fault(bootstrap, lacking, client)
    return found


def check_rights(
    bootstrap: str,
    wanted: Mapping[str, Operation],
    group: str | None,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> None:
    """Check that topics exist, that we may do with each what is wanted, and that we may use a group.

    Raises:
        KafkaSettingsFault: some do not exist, or rights lack; says which, all at once.
        KafkaFault: no broker answers in time.
    """
    _, lacking = _required(bootstrap, wanted, client, timeout_s)
    if group is not None:
        try:
            may = group_operations(bootstrap, group, client=client, timeout_s=timeout_s)
        except NoAnswerFault:
            if not lacking:
                raise
        else:
            lacking += [Right("Read", "group", group)] if lacks(may, "Read") else []
    if lacking:
        raise rights_fault(bootstrap, lacking, client)


def _required(
    bootstrap: str,
    wanted: Mapping[str, Operation | None],
    client: Mapping[str, str] | None,
    timeout_s: float,
) -> tuple[dict[str, Topic], list[Right]]:
    """Topics, which must exist as far as we may know, and the rights in them that lack."""
    names = list(wanted)
    found, hidden = look_up(bootstrap, names, client=client, timeout_s=timeout_s)
    if len(found) + len(hidden) < len(names):
        time.sleep(_ASK_AGAIN_S)
        found, hidden = look_up(bootstrap, names, client=client, timeout_s=timeout_s)
    missing = [name for name in names if name not in found and name not in hidden]
    if missing:
        msg = f"Kafka at {bootstrap} has no topic {missing}; create it, or check its name"
        raise KafkaSettingsFault(msg)
    lacking = [
        Right(operation or "Describe", "topic", name)
        for name, operation in wanted.items()
        if name in hidden or (operation is not None and lacks(found[name].may, operation))
    ]
    return found, lacking


def topics(
    bootstrap: str, names: Sequence[str], *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> dict[str, Topic]:
    """Those of the named topics that exist, by name.

    Raises:
        KafkaSettingsFault: we have no right to see one of them.
        KafkaFault: no broker answers in time.
    """
    found, hidden = look_up(bootstrap, names, client=client, timeout_s=timeout_s)
    if hidden:
        raise rights_fault(bootstrap, [Right("Describe", "topic", name) for name in hidden], client)
    return found


def look_up(
    bootstrap: str, names: Sequence[str], *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> LookUp:
    """Those of the named topics that exist, with what we may do with them, and those that we may not see.

    Raises:
        KafkaFault: no broker answers in time.
    """
    if not names:
        return LookUp({}, ())
    with admin_client(bootstrap, client) as admin:
        deadline = time.monotonic() + timeout_s
        asked = admin.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=timeout_s
        )
        found: dict[str, Topic] = {}
        hidden: list[str] = []
        for name, future in asked.items():
            try:
                described = admin.result_of(future, deadline)
            except KafkaException as err:
                code = err.args[0].code()
                if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    hidden.append(name)
                elif code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    fault = unreachable(bootstrap, err, client, what=f"describing topic {name!r}")
                    raise _naming_brokers(fault, bootstrap, names, client) from None
                continue
            raw = (
                base64.b64decode(str(described.topic_id) + "==")
                if described.topic_id is not None
                else bytes(16)
            )
            parts = sorted(described.partitions, key=lambda part: part.id)
            found[name] = Topic(
                name,
                raw.hex(),
                tuple(part.id for part in parts),
                operations_of(described),
                len(parts[0].replicas) if parts else 0,
            )
        return LookUp(found, tuple(hidden))


def topic_ids(
    bootstrap: str, names: Sequence[str], *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> dict[str, str]:
    """Id of each named topic that exists, as 32 hex digits."""
    found = topics(bootstrap, names, client=client, timeout_s=timeout_s)
    return {name: topic.id for name, topic in found.items()}


def ensure_topics(
    bootstrap: str,
    wanted: Mapping[str, int],
    *,
    client: Mapping[str, str] | None = None,
    replication: int = 1,
    settings: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
) -> list[str]:
    """Create the topics that lack, with ``{name: partitions}``; gives the names created.

    A topic that exists is left as it is; another number of partitions than wanted is logged, for
    adding partitions would move users between them.
    """
    have = list_topics(bootstrap, client=client, timeout_s=timeout_s)
    for name, partitions in wanted.items():
        if name in have and have[name] != partitions:
            _log.warning("topic=%s partitions=%d wanted=%d: left as it is", name, have[name], partitions)
    lacking = [name for name in wanted if name not in have]
    if not lacking:
        return []
    deadline = time.monotonic() + timeout_s
    with admin_client(bootstrap, client) as admin:
        asked = admin.create_topics(
            [
                NewTopic(
                    name,
                    num_partitions=wanted[name],
                    replication_factor=replication,
                    config=dict(settings or {}),
                )
                for name in lacking
            ],
            operation_timeout=timeout_s,
            request_timeout=timeout_s,
        )
        created = []
        for name, future in asked.items():
            try:
                admin.result_of(future, deadline)
            except KafkaException as err:
                code = err.args[0].code()
                if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
                    raise rights_fault(bootstrap, [Right("Create", "topic", name)], client) from None
                if code != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker was quicker
                    raise unreachable(bootstrap, err, client, what=f"creating topic {name!r}") from None
            else:
                created.append(name)
        return created


def watermarks(
    bootstrap: str,
    parts: Iterable[tuple[str, int]],
    *,
    client: Mapping[str, str] | None = None,
    group: str = NO_GROUP,
    timeout_s: float = 10.0,
) -> dict[tuple[str, int], Watermarks]:
    """First offset held and next offset to be written, of each partition.

    The high one is what a fetch reports, not the answer to ListOffsets: Tansu's counts the last batch
    of records as one record. ``group`` is named only.
    """
    asked = [TopicPartition(topic, number) for topic, number in parts]
    if not asked:
        return {}
    deadline = time.monotonic() + timeout_s
    low = _list_offsets(bootstrap, asked, OffsetSpec.earliest(), client, timeout_s)
    high = _list_offsets(bootstrap, asked, OffsetSpec.latest(), client, timeout_s)
    ours = client_config(
        bootstrap,
        client,
        group_id=group,
        fetch_wait_max_ms=10,
        queued_max_messages_kbytes=1024,
    )
    fixed = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    try:
        probe = Consumer({**ours, **fixed, "isolation.level": "read_uncommitted"}, logger=client_log)
    except KafkaException as refusal:
        raise bad_settings(refusal, client) from None
    try:
        waiting = {(part.topic, part.partition) for part in asked}
        probe.assign([TopicPartition(*part, high[part]) for part in waiting])
        while waiting:
            if time.monotonic() > deadline:
                msg = (
                    f"Kafka at {bootstrap}: no answer about {sorted(waiting)} within {timeout_s:g} s; "
                    "check that the partitions' leaders are up and reachable from here"
                )
                names = sorted({name for name, _ in waiting})
                raise _naming_brokers(NoAnswerFault(msg), bootstrap, names, client)
            for message in probe.consume(len(waiting), timeout=0.05):
                if message.topic() is None:
                    continue  # about the group, in which it has no part
                part = (message.topic(), message.partition())
                err = message.error()
                if err is not None and err.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise unreachable(bootstrap, KafkaException(err), client, what=f"reading {part}")
                marks = probe.get_watermark_offsets(TopicPartition(*part), cached=True)
                high[part] = max(high[part], marks[1] if marks else 0)
                waiting.discard(part)
    finally:
        probe.close()
    return {part: Watermarks(low[part], high[part]) for part in high}


def offset_bounds(
    bootstrap: str,
    parts: Iterable[tuple[str, int]],
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> dict[tuple[str, int], Watermarks]:
    """As `watermarks`, without the right to read; Tansu may say a smaller high one, but above the low one."""
    asked = [TopicPartition(topic, number) for topic, number in parts]
    low = _list_offsets(bootstrap, asked, OffsetSpec.earliest(), client, timeout_s)
    high = _list_offsets(bootstrap, asked, OffsetSpec.latest(), client, timeout_s)
    return {part: Watermarks(low[part], high[part]) for part in high}


def offsets_at(
    bootstrap: str,
    parts: Iterable[tuple[str, int]],
    ms: int,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> dict[tuple[str, int], int]:
    """First offset whose record's timestamp is at or after ``ms`` (Unix), -1 when there is none.

    A lower bound only: Tansu says 0 always, so a reader must drop older records itself.
    """
    asked = [TopicPartition(topic, number) for topic, number in parts]
    return _list_offsets(bootstrap, asked, OffsetSpec.for_timestamp(ms), client, timeout_s)


def _list_offsets(
    bootstrap: str,
    asked: Sequence[Any],
    spec: object,
    client: Mapping[str, str] | None,
    timeout_s: float,
) -> dict[tuple[str, int], int]:
    if not asked:
        return {}
    deadline = time.monotonic() + timeout_s
    with admin_client(bootstrap, client) as admin:
        futures = admin.list_offsets(dict.fromkeys(asked, spec), request_timeout=timeout_s)
        found = {}
        for part, future in futures.items():
            try:
                found[part.topic, part.partition] = _offset_of(admin, future, deadline)
            except KafkaException as err:
                where = f"asking for offsets of {part.topic}/{part.partition}"
                if err.args[0].code() == KafkaError._NOENT:  # noqa: SLF001 - its public name
                    msg = f"Kafka at {bootstrap}, {where}: it has no leader"
                    raise NoAnswerFault(msg, "check that the brokers that hold it are up") from None
                fault = unreachable(bootstrap, err, client, what=where)
                names = sorted({one.topic for one in asked})
                raise _naming_brokers(fault, bootstrap, names, client) from None
        return found


def _offset_of(admin: Any, future: Any, deadline: float) -> int:
    """The offset that a leader has answered; one that gave no answer in time is no error to librdkafka."""
    offset = int(admin.result_of(future, deadline).offset)
    if offset == OFFSET_INVALID:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
    return offset


def _naming_brokers(
    fault: KafkaFault, bootstrap: str, names: Sequence[str], client: Mapping[str, str] | None
) -> KafkaFault:
    """The fault of a request about topics; names the brokers to ask that cannot be reached, if any."""
    if not isinstance(fault, NoAnswerFault):
        return fault
    try:
        failed = overview(bootstrap, names, client=client, timeout_s=_ANSWER_S).out_of_reach
    except KafkaFault:
        return fault  # not even the bootstrap address answers
    if not failed:
        return fault
    msg = (
        f"Kafka at {bootstrap} sends its clients to {', '.join(failed)}, which cannot be reached from here "
        f"({next(iter(failed.values()))}); check the brokers' advertised.listeners, name resolution and "
        "firewalls"
    )
    return NoAnswerFault(msg)


def configs(
    bootstrap: str, names: Sequence[str], *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> dict[str, TopicConfig | None]:
    """Settings of topics, by name, as far as the cluster tells them; None: we have no right to read them."""
    if not names:
        return {}
    with admin_client(bootstrap, client) as admin:
        deadline = time.monotonic() + timeout_s
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        found: dict[str, TopicConfig | None] = {}
        for resource, future in admin.describe_configs(resources, request_timeout=timeout_s).items():
            try:
                entries = admin.result_of(future, deadline)
            except KafkaException as err:
                is_refused = err.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
                found[resource.name] = None if is_refused else {}
            else:
                found[resource.name] = {
                    name: entry.value for name, entry in entries.items() if entry.value is not None
                }
        return found


def describe(
    bootstrap: str,
    names: Sequence[str] | None = None,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> Cluster:
    """What a doctor asks: is the cluster there, are the topics, what do they hold. Never raises KafkaFault.

    ``names`` None asks about every topic that is not internal.
    """
    try:
        have = list_topics(bootstrap, client=client, timeout_s=timeout_s)
        wanted = sorted(n for n in have if not n.startswith("__")) if names is None else list(names)
        found = topics(bootstrap, [n for n in wanted if n in have], client=client, timeout_s=timeout_s)
        parts = [(topic.name, number) for topic in found.values() for number in topic.partitions]
        marks = watermarks(bootstrap, parts, client=client, timeout_s=timeout_s)
    except KafkaFault as err:
        return Cluster(False, str(err), (), tuple(names or ()), {})
    return Cluster(
        True,
        f"{len(have)} topics at {bootstrap}",
        tuple(found.values()),
        tuple(name for name in wanted if name not in found),
        {f"{topic}/{number}": mark for (topic, number), mark in sorted(marks.items())},
    )
