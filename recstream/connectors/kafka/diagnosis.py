"""What `recstream doctor` says of a cluster and of a job's topics on it, and how those that lack are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from recstream.connectors.base import Demands, Finding
from recstream.connectors.kafka.admin import LookUp, Topic, configs, ensure_topics, look_up, overview
from recstream.connectors.kafka.client import KafkaFault
from recstream.connectors.kafka.rights import (
    Operation,
    Right,
    RightsFault,
    grants,
    group_operations,
    lacks,
)
from recstream.connectors.kafka.topic_plan import (
    EVENTS,
    ITEMS,
    TopicConfig,
    TopicDifference,
    create_command,
    days,
    differences,
    partitions_command,
    wanted_config,
    wanted_replicas,
)

__all__ = ["ClusterDoctor", "operation_on"]

_NO_RIGHT: Final = "its configuration may not be read (no right DescribeConfigs), and was not checked"


def operation_on(setting: str) -> Operation:
    """What the live job does with the topic that a setting names."""
    return "Read" if setting in (EVENTS, ITEMS) else "Write"


class ClusterDoctor:
    """Looks at one cluster, as the client settings of a job reach it.

    ``topics`` are those that the job uses, by name, each with the setting that names it.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Mapping[str, str],
        demands: Demands,
        *,
        client: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._demands = demands
        self._client = client
        self._timeout_s = timeout_s

    def diagnose(self, group: str) -> Iterator[Finding]:
        """Say whether the cluster answers, its brokers can be reached, and topics are as they should be.

        What the cluster does not let us know is not judged.
        """
        try:
            found = overview(
                self._bootstrap, list(self._topics), client=self._client, timeout_s=self._timeout_s
            )
        except KafkaFault as err:
            yield Finding("broker", False, err.wrong, err.mend)
            return
        yield Finding("broker", True, f"{self._bootstrap} answers and shows us {len(found.topics)} topics")
        for address, why in found.out_of_reach.items():
            detail = f"{self._bootstrap} sends its clients to {address}, which cannot be reached: {why}"
            mend = (
                "let the broker advertise an address that can be reached from here "
                "(advertised.listeners), or mend name resolution and firewalls"
            )
            yield Finding(f"broker {address}", False, detail, mend)
        try:
            looked = look_up(
                self._bootstrap, list(self._topics), client=self._client, timeout_s=self._timeout_s
            )
        except KafkaFault as err:
            if not found.out_of_reach:  # which is why, and is said
                yield Finding("topics", False, err.wrong, err.mend or "see the message")
            return
        told = configs(self._bootstrap, list(looked.found), client=self._client, timeout_s=self._timeout_s)
        for topic, setting in self._topics.items():
            if topic in looked.found:
                yield self._existing(setting, looked.found[topic], told[topic], found.brokers)
            elif topic in looked.hidden:
                yield self._hidden(setting, topic)
            else:
                yield self._missing(setting, topic, found.brokers, found.topics)
        yield self._group(group)

    def create(
        self, *, partitions: int | None = None, copies: int | None = None, dry_run: bool = False
    ) -> Iterator[Finding]:
        """Make the topics that lack; say of each other one what differs from what it should be."""
        names = list(self._topics)
        looked: LookUp = look_up(self._bootstrap, names, client=self._client, timeout_s=self._timeout_s)
        brokers = overview(self._bootstrap, [], client=self._client, timeout_s=self._timeout_s).brokers
        told = configs(self._bootstrap, list(looked.found), client=self._client, timeout_s=self._timeout_s)
        for name, setting in self._topics.items():
            if name in looked.found:
                yield self._compared(
                    setting, looked.found[name], told[name], brokers, partitions=partitions, copies=copies
                )
                continue
            replicas = copies or wanted_replicas(brokers)
            count = partitions or self._demands.partitions
            config = wanted_config(setting, replicas, self._record_bytes(setting)[0])
            command = create_command(self._bootstrap, name, count, replicas, config)
            if dry_run and name not in looked.hidden:
                yield Finding(f"topic {name}", True, f"would be made: {command}")
                continue
            yield self._made(name, count, replicas, config, command)

    def _made(
        self, name: str, partitions: int, replicas: int, config: Mapping[str, str], command: str
    ) -> Finding:
        what = f"{partitions} partitions, {replicas} {'copy' if replicas == 1 else 'copies'}, "
        what += ", ".join("=".join(pair) for pair in config.items())
        if "retention.ms" in config:
            what += f" ({days(int(config['retention.ms']))})"
        try:
            made = ensure_topics(
                self._bootstrap,
                {name: partitions},
                client=self._client,
                replication=replicas,
                settings=config,
            )
        except RightsFault:
            lacking = [Right("Create", "topic", name), Right("Describe", "topic", name)]
            mend = " ; ".join(grants(self._bootstrap, lacking, self._client))
            detail = "we have no right to make it (if it exists: none to see it)"
            return Finding(f"topic {name}", False, detail, f"{mend} ; or have it made: {command}")
        except KafkaFault as err:
            return Finding(f"topic {name}", False, f"not made: {err}", f"correct it, or make it by {command}")
        return Finding(f"topic {name}", True, f"made: {what}" if made else "is there already")

    def _compared(
        self,
        setting: str,
        topic: Topic,
        config: TopicConfig | None,
        brokers: int,
        *,
        partitions: int | None,
        copies: int | None,
    ) -> Finding:
        """A topic that exists, with all that differs from what it should be."""
        count = len(topic.partitions)
        details, mends = [f"is there with {count} partitions"], []
        if partitions is not None and count != partitions:
            details.append(f"wanted {partitions} partitions")
            mends.append(
                partitions_command(self._bootstrap, topic.name, partitions)
                if partitions > count
                else "partitions are never taken away: make another topic, or let it be"
            )
        if copies is not None and topic.replicas not in (0, copies):
            details.append(f"has {topic.replicas} copies, wanted {copies}")
            mends.append("change the copies by kafka-reassign-partitions.sh")
        for one in self._differences(setting, topic, config, brokers):
            details.append(one.detail)
            mends.append(one.mend)
        if config is None:
            details.append(_NO_RIGHT)
        return Finding(
            f"topic {topic.name}", True, "; ".join(details), " ; ".join(mends), is_warning=bool(mends)
        )

    def _existing(self, setting: str, topic: Topic, config: TopicConfig | None, brokers: int) -> Finding:
        name, operation = f"topic {topic.name}", operation_on(setting)
        count = len(topic.partitions)
        detail = f"{setting} has {count} partitions"
        if lacks(topic.may, operation):
            mend = grants(self._bootstrap, [Right(operation, "topic", topic.name)], self._client)
            return Finding(name, False, f"{detail}, but we have no right {operation} on it", " ; ".join(mend))
        found = [one for one in self._differences(setting, topic, config, brokers) if one.kind != "other"]
        faults = [one for one in found if one.kind == "fault"]
        details = [one.detail for one in found]
        mends = [one.mend for one in found]
        if setting == EVENTS and count < self._demands.processes:
            details.append(
                f"is shared by {self._demands.processes} processes (run.processes): some read nothing"
            )
            mends.append(partitions_command(self._bootstrap, topic.name, self._demands.processes))
        detail += f", but {'; '.join(details)}" if details else ""
        if config is None:
            detail += f"; {_NO_RIGHT}"
        return Finding(name, not faults, detail, " ; ".join(mends), is_warning=bool(mends) and not faults)

    def _differences(
        self, setting: str, topic: Topic, config: TopicConfig | None, brokers: int
    ) -> Iterator[TopicDifference]:
        return differences(
            self._bootstrap,
            setting,
            topic.name,
            config or {},
            brokers=brokers,
            replicas=topic.replicas,
            record_bytes=self._record_bytes(setting),
        )

    def _record_bytes(self, setting: str) -> tuple[int, str]:
        return self._demands.record_bytes.get(setting, (0, ""))

    def _hidden(self, setting: str, topic: str) -> Finding:
        detail = f"{setting} is {topic!r}, which we have no right to see: whether it exists is not told"
        lacking = [Right(operation_on(setting), "topic", topic)]
        return Finding(
            f"topic {topic}", False, detail, " ; ".join(grants(self._bootstrap, lacking, self._client))
        )

    def _missing(self, setting: str, topic: str, brokers: int, others: Mapping[str, int]) -> Finding:
        replicas = wanted_replicas(brokers)
        config = wanted_config(setting, replicas, self._record_bytes(setting)[0])
        create = create_command(self._bootstrap, topic, self._demands.partitions, replicas, config)
        kept = f" (records are kept for {days(int(ms))})" if (ms := config.get("retention.ms")) else ""
        near = get_close_matches(topic, sorted(one for one in others if not one.startswith("__")), n=1)
        mend = f"set {setting} to {near[0]!r} if that is meant, or " if near else ""
        mend += f"create it{kept}: {create}"
        return Finding(
            f"topic {topic}", False, f"{setting} is {topic!r}, which the broker does not have", mend
        )

    def _group(self, group: str) -> Finding:
        try:
            may = group_operations(self._bootstrap, group, client=self._client, timeout_s=self._timeout_s)
        except KafkaFault as err:
            return Finding(f"group {group}", False, str(err), "see the message")
        if lacks(may, "Read"):
            mend = grants(self._bootstrap, [Right("Read", "group", group)], self._client)
            detail = "kafka.group: we have no right Read on it, and cannot show positions by it"
            return Finding(f"group {group}", False, detail, " ; ".join(mend))
        detail = "may be used" if may is not None else "the broker does not tell whether it may be used"
        return Finding(f"group {group}", True, f"kafka.group: {detail}")
