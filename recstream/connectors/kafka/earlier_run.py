"""What an earlier run of a job has left on a cluster: positions of its group, and records."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from recstream.connectors.kafka.admin import offset_bounds, topics
from recstream.connectors.kafka.client import bad_settings, client_config, client_log, unreachable

__all__ = ["committed_positions", "holds_records"]

_log = logging.getLogger(__name__)


def committed_positions(
    bootstrap: str,
    topic: str,
    group: str,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> int:
    """Number of partitions of a topic in which a consumer group has a position; 0 without the topic.

    A group that may not be looked at counts as one without positions, with a warning.

    Raises:
        KafkaFault: no answer came.
    """
    found = topics(bootstrap, [topic], client=client, timeout_s=timeout_s)
    if topic not in found:
        return 0
    ours = client_config(bootstrap, client, group_id=group)
    try:
        asker = Consumer({**ours, "enable.auto.commit": False}, logger=client_log)
    except KafkaException as err:
        raise bad_settings(err, client) from None
    parts = [TopicPartition(topic, number) for number in found[topic].partitions]
    try:
        return sum(one.offset >= 0 for one in asker.committed(parts, timeout=timeout_s))
    except KafkaException as err:
        if err.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            _log.warning("group=%s: its positions may not be looked at: taken to have none", group)
            return 0
        raise unreachable(bootstrap, err, client, what=f"asking for positions of group {group!r}") from None
    finally:
        asker.close()


def holds_records(
    bootstrap: str, topic: str, *, client: Mapping[str, str] | None = None, timeout_s: float = 10.0
) -> bool:
    """Whether a topic holds anything; False without the topic. The right to read it is not needed.

    Raises:
        KafkaFault: no answer came.
    """
    found = topics(bootstrap, [topic], client=client, timeout_s=timeout_s)
    if topic not in found:
        return False
    parts = [(topic, number) for number in found[topic].partitions]
    bounds = offset_bounds(bootstrap, parts, client=client, timeout_s=timeout_s)
    return any(low < high for low, high in bounds.values())
