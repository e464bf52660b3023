"""Kafka as a connector: topics by ``kafka:TOPIC``, read with exact positions, written with confirmation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Literal

from typing_extensions import override

from recstream.connectors.base import Connector, Finding, ReadOptions, StoredRecord
from recstream.connectors.kafka.admin import list_topics
from recstream.connectors.kafka.client import KafkaFault
from recstream.connectors.kafka.earlier_run import committed_positions, holds_records
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import KafkaSink
from recstream.connectors.kafka.source import KafkaSource
from recstream.connectors.kafka.watch import TopicWatch

__all__ = ["KafkaConnector", "KafkaOptions"]


@dataclass(frozen=True, kw_only=True)
class KafkaOptions:
    """The settings of section ``[kafka]`` that do not name places."""

    bootstrap: str
    client: Mapping[str, str]
    group: str
    poll_max: int
    delivery_timeout_s: float
    down_after_s: float
    partitions_every_s: float

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> KafkaOptions:
        """Take them out of the section."""
        return cls(**{name: section[name] for name in cls.__dataclass_fields__})


class KafkaConnector(Connector):
    """Topics of one cluster."""

    scheme: ClassVar[str] = "kafka"
    has_bounds: ClassVar[bool] = True

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._kafka = KafkaOptions.of(options)

    @property
    @override
    def location(self) -> str:
        return self._kafka.bootstrap

    @override
    def source(self, address: str, options: ReadOptions) -> KafkaSource:
        chosen = self._kafka
        return KafkaSource(
            chosen.bootstrap,
            [self.name_of(address)],
            client=chosen.client,
            group=chosen.group if options.is_live else None,
            poll_max=chosen.poll_max,
            down_after_s=chosen.down_after_s,
            start=options.start,
            stop=options.stop,
            stopping=options.stopping,
            on_lag=options.on_lag,
            known=options.known,
            kept=options.kept,
        )

    @override
    def identity_of(self, position: Any) -> str:
        return str(position["identity"])

    @override
    def owns(self, address: str, partition: str) -> bool:
        return partition.rpartition("/")[0] == self.name_of(address)

    @override
    def sink(self, address: str) -> KafkaSink:
        chosen = self._kafka
        return KafkaSink(
            chosen.bootstrap,
            self.name_of(address),
            client=chosen.client,
            timeout_s=chosen.delivery_timeout_s,
        )

    @override
    def records(
        self,
        address: str,
        *,
        start: Literal["earliest", "latest"] = "earliest",
        follow: bool = False,
        idle_s: float | None = None,
    ) -> Iterator[StoredRecord]:
        chosen, topic = self._kafka, self.name_of(address)
        found = read_topic(
            chosen.bootstrap, topic, start=start, follow=follow, idle_s=idle_s, client=chosen.client
        )
        return (StoredRecord(f"{topic}/{one.partition}:{one.offset}", one.value) for one in found)

    @override
    def read_before(self, address: str) -> str:
        chosen, topic = self._kafka, self.name_of(address)
        if not committed_positions(chosen.bootstrap, topic, chosen.group, client=chosen.client):
            return ""
        return f"consumer group {chosen.group!r} has positions in topic {topic!r}"

    @override
    def written_before(self, address: str) -> str:
        chosen, topic = self._kafka, self.name_of(address)
        is_empty = not holds_records(chosen.bootstrap, topic, client=chosen.client)
        return "" if is_empty else f"topic {topic!r} holds records"

    @override
    def watch(self, addresses: Sequence[str]) -> TopicWatch:
        chosen, names = self._kafka, [self.name_of(address) for address in addresses]
        return TopicWatch(chosen.bootstrap, names, every_s=chosen.partitions_every_s, client=chosen.client)

    @override
    def diagnose(self, places: Mapping[str, str], *, partitions: int, timeout_s: float) -> Iterator[Finding]:
        """Say whether a broker answers and has the topics."""
        chosen = self._kafka
        try:
            have = list_topics(chosen.bootstrap, client=chosen.client, timeout_s=timeout_s)
        except KafkaFault as err:
            mend = (
                f"start a broker at {chosen.bootstrap}, or set kafka.bootstrap "
                "(and kafka.client for TLS or SASL)"
            )
            yield Finding("broker", False, str(err), mend)
            return
        yield Finding("broker", True, f"{chosen.bootstrap} answers and has {len(have)} topics")
        for setting, address in places.items():
            yield self._topic(setting, self.name_of(address), have, partitions)

    def _topic(self, setting: str, topic: str, have: Mapping[str, int], partitions: int) -> Finding:
        name = f"topic {topic}"
        if topic in have:
            return Finding(name, True, f"{setting} has {have[topic]} partitions")
        create = (
            f"kafka-topics.sh --bootstrap-server {self._kafka.bootstrap} --create --topic {topic} "
            f"--partitions {partitions}"
        )
        near = get_close_matches(topic, sorted(other for other in have if not other.startswith("__")), n=1)
        mend = f"set {setting} to {near[0]!r} if that is meant, or create it: {create}" if near else create
        return Finding(name, False, f"{setting} is {topic!r}, which the broker does not have", mend)
