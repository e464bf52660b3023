"""What an earlier run of a job has left on a cluster: positions of its group, and records."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from recstream.connectors.kafka.admin import offset_bounds, topics
from recstream.connectors.kafka.client import admin_client, unreachable
from recstream.connectors.kafka.rights import Right, rights_fault

__all__ = ["committed_positions", "holds_records"]


def committed_positions(
    bootstrap: str,
    topic: str,
    group: str,
    *,
    client: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> int:
    """Number of partitions of a topic in which a consumer group has a position; 0 without the topic.

    Raises:
        KafkaSettingsFault: we have no right to look at the group, or at the topic.
        KafkaFault: no answer came.
    """
    found = topics(bootstrap, [topic], client=client, timeout_s=timeout_s)
    if topic not in found:
        return 0
    parts = [TopicPartition(topic, number) for number in found[topic].partitions]
    with admin_client(bootstrap, client) as admin:
        deadline = time.monotonic() + timeout_s
        (future,) = admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, parts)], request_timeout=timeout_s
        ).values()
        try:
            return sum(one.offset >= 0 for one in admin.result_of(future, deadline).topic_partitions)
        except KafkaException as err:
            if err.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise rights_fault(bootstrap, [Right("Read", "group", group)], client) from None
            raise unreachable(
                bootstrap, err, client, what=f"asking for positions of group {group!r}"
            ) from None


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
