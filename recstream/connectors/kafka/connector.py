"""Kafka as a connector: topics by ``kafka:TOPIC``, read with exact positions, written with confirmation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Final, Literal

from typing_extensions import override

from recstream.connectors.base import Connector, Finding, ReadOptions, StoredRecord
from recstream.connectors.kafka.admin import (
    Overview,
    Retention,
    overview,
    required_topics,
    retentions,
)
from recstream.connectors.kafka.client import KafkaFault, KafkaSettingsFault
from recstream.connectors.kafka.earlier_run import committed_positions, holds_records
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import KafkaSink
from recstream.connectors.kafka.source import KafkaSource
from recstream.connectors.kafka.watch import TopicWatch

__all__ = ["KafkaConnector", "KafkaOptions"]

_CHECK_S: Final = 3.0
"""How long a cluster is asked for its topics before a job is started anyway."""
_EVENTS: Final = "kafka.events_topic"
_LISTS: Final = "kafka.lists_topic"
_NEWEST_OF_A_KEY: Final = (_LISTS, "kafka.items_topic")
"""Topics of which every reader wants the newest record of each key, however old it is."""
_REPLICAS: Final = 3
"""Copies of a new topic, where there are as many brokers."""


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

    @property
    @override
    def patience_s(self) -> float:
        return max(2 * self._kafka.down_after_s, self._kafka.delivery_timeout_s)

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
            on_epoch=options.on_epoch,
            on_trouble=self.on_trouble,
            waits=options.is_live,
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
            down_after_s=chosen.down_after_s,
            on_trouble=self.on_trouble,
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
        return (StoredRecord(f"{topic}/{one.partition}:{one.offset}", one.value, one.key) for one in found)

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
    def check(self, addresses: Sequence[str]) -> None:
        chosen, names = self._kafka, [self.name_of(address) for address in addresses]
        try:
            required_topics(chosen.bootstrap, names, client=chosen.client, timeout_s=_CHECK_S)
        except KafkaSettingsFault:
            raise
        except KafkaFault:
            return  # those who read them wait, and say why

    @override
    def watch(self, addresses: Sequence[str]) -> TopicWatch:
        chosen, names = self._kafka, [self.name_of(address) for address in addresses]
        return TopicWatch(chosen.bootstrap, names, every_s=chosen.partitions_every_s, client=chosen.client)

    @override
    def diagnose(self, places: Mapping[str, str], *, partitions: int, timeout_s: float) -> Iterator[Finding]:
        """Say whether the cluster answers, its brokers can be reached, and topics are there and keep records.

        What the cluster does not let us know is not judged.
        """
        chosen = self._kafka
        topics = {self.name_of(address): setting for setting, address in places.items()}
        try:
            found = overview(chosen.bootstrap, list(topics), client=chosen.client, timeout_s=timeout_s)
        except KafkaFault as err:
            mend = (
                f"start a broker at {chosen.bootstrap}, or set kafka.bootstrap "
                "(and kafka.client for TLS or SASL)"
            )
            yield Finding("broker", False, str(err), mend)
            return
        yield Finding("broker", True, f"{chosen.bootstrap} answers and has {len(found.topics)} topics")
        for address, why in found.out_of_reach.items():
            detail = f"{chosen.bootstrap} sends its clients to {address}, which cannot be reached: {why}"
            mend = (
                "let the broker advertise an address that can be reached from here "
                "(advertised.listeners), or mend name resolution and firewalls"
            )
            yield Finding(f"broker {address}", False, detail, mend)
        there = [topic for topic in topics if topic in found.topics]
        kept = retentions(chosen.bootstrap, there, client=chosen.client, timeout_s=timeout_s)
        for topic, setting in topics.items():
            if topic in found.topics:
                yield self._existing(setting, topic, found.topics[topic], kept.get(topic))
            else:
                yield self._missing(setting, topic, found, partitions)

    def _existing(self, setting: str, topic: str, partitions: int, kept: Retention | None) -> Finding:
        name, detail = f"topic {topic}", f"{setting} has {partitions} partitions"
        alter = (
            f"kafka-configs.sh --bootstrap-server {self._kafka.bootstrap} --alter --entity-type topics "
            f"--entity-name {topic} --add-config cleanup.policy="
        )
        if kept is not None and kept.keeps_s is not None and setting == _LISTS:
            days = f"{kept.keeps_s / 86400.0:g} days"
            detail += f", but keeps lists for {days} only: who reads it later misses users"
            return Finding(name, False, detail, f"keep the newest list of each user: {alter}compact")
        if kept is not None and kept.is_compacted and setting == _EVENTS:
            detail += ", but is compacted: of the events of a user only the newest are kept"
            return Finding(name, False, detail, f"keep all of them: {alter}delete")
        return Finding(name, True, detail)

    def _missing(self, setting: str, topic: str, found: Overview, partitions: int) -> Finding:
        create = (
            f"kafka-topics.sh --bootstrap-server {self._kafka.bootstrap} --create --topic {topic} "
            f"--partitions {partitions} --replication-factor {max(1, min(found.brokers, _REPLICAS))}"
        )
        if setting in _NEWEST_OF_A_KEY:
            create += " --config cleanup.policy=compact"
        others = sorted(other for other in found.topics if not other.startswith("__"))
        near = get_close_matches(topic, others, n=1)
        mend = f"set {setting} to {near[0]!r} if that is meant, or create it: {create}" if near else create
        return Finding(
            f"topic {topic}", False, f"{setting} is {topic!r}, which the broker does not have", mend
        )
