"""Kafka as a connector: topics by ``kafka:TOPIC``, read with exact positions, written with confirmation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, cast

from typing_extensions import override

from recstream.connectors.base import (
    Connector,
    Demands,
    Finding,
    PartitionPosition,
    ReadOptions,
    StoredRecord,
)
from recstream.connectors.kafka.admin import check_rights
from recstream.connectors.kafka.bounds import Position
from recstream.connectors.kafka.client import KafkaFault, KafkaSettingsFault, Outage
from recstream.connectors.kafka.diagnosis import ClusterDoctor
from recstream.connectors.kafka.earlier_run import committed_positions, holds_records
from recstream.connectors.kafka.positions import TopicPositions
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.rights import Operation
from recstream.connectors.kafka.sink import KafkaSink
from recstream.connectors.kafka.source import KafkaSource
from recstream.connectors.kafka.watch import TopicWatch
from recstream.records.bounds import Bound

__all__ = ["KafkaConnector", "KafkaOptions"]

_CHECK_S: Final = 3.0
"""How long a cluster is asked for its topics before a job is started anyway."""
_ADMIN_S: Final = 15.0
"""How long a cluster has for each answer when topics are made."""
_IDLE_S: Final = 0.002
_UNHURRIED_IDLE_S: Final = 0.01
"""Pause after a poll that found nothing: somebody waits for the lists of events, not for those of items."""


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
    on_loss: Literal["stop", "skip"]

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
        self._outage = Outage()

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
            group=chosen.group,
            mirrors=options.is_live,
            poll_max=chosen.poll_max,
            down_after_s=chosen.down_after_s,
            start=options.start,
            stop=options.stop,
            stopping=options.stopping,
            on_lag=options.on_lag,
            on_epoch=options.on_epoch,
            on_loss=options.on_loss,
            skips_losses=chosen.on_loss == "skip",
            on_trouble=self.on_trouble,
            outage=self._outage,
            waits=options.is_live,
            idle_s=_IDLE_S if options.is_urgent else _UNHURRIED_IDLE_S,
            known=options.known,
            kept=options.kept,
            positions=[cast(Position, one) for one in options.positions if isinstance(one, dict)],
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
            on_throttled=self.on_throttled,
            outage=self._outage,
            process=self.process,
            processes=self.processes,
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
            chosen.bootstrap,
            topic,
            start=start,
            follow=follow,
            idle_s=idle_s,
            client=chosen.client,
            group=chosen.group,
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
    def check(self, *, reads: Sequence[str], writes: Sequence[str]) -> None:
        chosen = self._kafka
        wanted: dict[str, Operation] = {self.name_of(address): "Read" for address in reads}
        wanted.update({self.name_of(address): "Write" for address in writes})
        try:
            check_rights(
                chosen.bootstrap,
                wanted,
                chosen.group if reads else None,
                client=chosen.client,
                timeout_s=_CHECK_S,
            )
        except KafkaSettingsFault:
            raise
        except KafkaFault:
            return  # those who read them wait, and say why

    @override
    def watch(self, addresses: Sequence[str]) -> TopicWatch:
        chosen, names = self._kafka, [self.name_of(address) for address in addresses]
        return TopicWatch(chosen.bootstrap, names, every_s=chosen.partitions_every_s, client=chosen.client)

    @override
    def diagnose(self, places: Mapping[str, str], demands: Demands, *, timeout_s: float) -> Iterator[Finding]:
        yield from self._doctor(places, demands, timeout_s).diagnose(self._kafka.group)

    @override
    def create(
        self,
        places: Mapping[str, str],
        demands: Demands,
        *,
        partitions: int | None = None,
        copies: int | None = None,
        dry_run: bool = False,
    ) -> Iterator[Finding]:
        doctor = self._doctor(places, demands, _ADMIN_S)
        yield from doctor.create(partitions=partitions, copies=copies, dry_run=dry_run)

    @override
    def positions(
        self, address: str, stored: Mapping[str, Any], *, in_full: bool = True
    ) -> list[PartitionPosition]:
        return self._positions(address).compared(stored, in_full=in_full)

    @override
    def moved(self, address: str, stored: Mapping[str, Any], to: Bound) -> dict[str, Any]:
        return dict(self._positions(address).moved(stored, to))

    def _positions(self, address: str) -> TopicPositions:
        chosen = self._kafka
        return TopicPositions(
            chosen.bootstrap, self.name_of(address), group=chosen.group, client=chosen.client
        )

    def _doctor(self, places: Mapping[str, str], demands: Demands, timeout_s: float) -> ClusterDoctor:
        topics = {self.name_of(address): setting for setting, address in places.items()}
        return ClusterDoctor(
            self._kafka.bootstrap, topics, demands, client=self._kafka.client, timeout_s=timeout_s
        )
