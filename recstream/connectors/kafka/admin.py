"""Asking a Kafka cluster about its topics: ids, partitions, watermarks; making topics that lack."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewTopic

from recstream.connectors.kafka.client import KafkaFault, admin_client, result_of, unreachable
from recstream.connectors.kafka.offsets import Watermarks, watermarks

__all__ = [
    "Cluster",
    "KafkaFault",
    "Topic",
    "Watermarks",
    "describe",
    "ensure_topics",
    "list_topics",
    "topic_ids",
    "topics",
    "watermarks",
]

_log = logging.getLogger(__name__)


class Topic(NamedTuple):
    """One topic as the cluster describes it."""

    name: str
    id: str
    """32 hex digits; another one after the topic was deleted and made again. Zeros: the cluster has none."""
    partitions: tuple[int, ...]

    def identity(self, partition: int) -> str:
        """What fences are keyed by: ``events/3@`` and 8 hex digits of a digest of the topic's id.

        A digest, because ids may be time-ordered (UUIDv7): their own first 8 digits are the same for
        a topic re-created within a minute.

        >>> Topic("events", "01a1fcda6ff07d81a5e401bf6035a453", (0, 1)).identity(1)
        'events/1@e4ff1bf9'
        """
        digest = blake2b(bytes.fromhex(self.id), digest_size=4).hexdigest()
        return f"{self.name}/{partition}@{digest}"


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
    try:
        admin = admin_client(bootstrap, client)
        found = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as err:
        raise unreachable(bootstrap, err, client) from None
    return {name: len(topic.partitions) for name, topic in found.items()}


def topics(
    bootstrap: str, names: Sequence[str], *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> dict[str, Topic]:
    """Those of the named topics that exist, by name."""
    if not names:
        return {}
    admin = admin_client(bootstrap, client)
    deadline = time.monotonic() + timeout_s
    asked = admin.describe_topics(TopicCollection(list(names)), request_timeout=timeout_s)
    found: dict[str, Topic] = {}
    for name, future in asked.items():
        try:
            told = result_of(future, deadline)
        except KafkaException as err:
            if err.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            raise unreachable(bootstrap, err, client, what=f"describing topic {name!r}") from None
        raw = base64.b64decode(str(told.topic_id) + "==") if told.topic_id is not None else bytes(16)
        found[name] = Topic(name, raw.hex(), tuple(sorted(part.id for part in told.partitions)))
    return found


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
    admin = admin_client(bootstrap, client)  # kept: its requests die with it
    asked = admin.create_topics(
        [
            NewTopic(
                name, num_partitions=wanted[name], replication_factor=replication, config=dict(settings or {})
            )
            for name in lacking
        ],
        operation_timeout=timeout_s,
        request_timeout=timeout_s,
    )
    created = []
    for name, future in asked.items():
        try:
            result_of(future, deadline)
        except KafkaException as err:
            if err.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker was quicker
                raise unreachable(bootstrap, err, client, what=f"creating topic {name!r}") from None
        else:
            created.append(name)
    return created


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
