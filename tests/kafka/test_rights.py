"""Rights on Apache Kafka: what lacks is told with the commands that grant it."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator

import pytest
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from recstream.config import Settings
from recstream.connectors.base import ConnectorError, Finding
from recstream.connectors.kafka.connector import KafkaConnector
from tests.support.apache_kafka import USER, ApacheKafka
from tests.support.kafka_commands import carry_out_mends
from tests.support.topics import produce

KINDS = ("events", "items", "lists", "dead_letter")
_numbers = itertools.count()


class Job:
    """A job with topics of its own, whose principal has the rights that a test grants."""

    def __init__(self, kafka: ApacheKafka, *, make: bool = True) -> None:
        number = next(_numbers)
        self.kafka = kafka
        self.topics = {kind: f"rights-{number}-{kind}" for kind in KINDS}
        self.group = f"rights-{number}"
        if make:
            kafka.create(*self.topics.values())
        chosen: dict[str, object] = {f"kafka.{kind}_topic": name for kind, name in self.topics.items()}
        chosen |= {"kafka.bootstrap": kafka.secure, "kafka.group": self.group}
        chosen |= {f"kafka.client.{name}": value for name, value in kafka.client().items()}
        self.settings = Settings.load(None, {}, chosen)
        self.connector = KafkaConnector(self.settings.options_of("kafka"))

    def grant_what_is_said(self, findings: Iterable[Finding]) -> int:
        """Grant what commands for ``kafka-acls.sh`` would grant; gives how many there were."""
        lines = [
            shlex.split(line) for finding in findings if finding.mend for line in finding.mend.split(" ; ")
        ]
        for words in lines:
            assert words[:2] == ["kafka-acls.sh", "--bootstrap-server"]
            assert words[3:6] == ["--add", "--allow-principal", f"User:{USER}"]
            given = list(zip(words[6::2], words[7::2], strict=True))
            (operation,) = (value for option, value in given if option == "--operation")
            named = {kind: [value for option, value in given if option == kind] for kind, _ in given}
            self.kafka.grant(operation, topics=named.get("--topic", ()), groups=named.get("--group", ()))
        return len(lines)

    def granted(self) -> set[tuple[str, AclOperation]]:
        """What is granted on the job's topics and group."""
        admin = self.kafka.admin()
        found = [one for rights in self._filters() for one in admin.describe_acls(rights).result(10)]
        return {(one.name, one.operation) for one in found}

    def end(self) -> None:
        """Take all rights back."""
        admin = self.kafka.admin()
        for done in admin.delete_acls(self._filters()).values():
            done.result(10)

    def _filters(self) -> list[AclBindingFilter]:
        names = {ResourceType.TOPIC: [*self.topics.values()], ResourceType.GROUP: [self.group]}
        return [
            AclBindingFilter(
                kind, name, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
            )
            for kind, of_kind in names.items()
            for name in of_kind
        ]

    @property
    def reads(self) -> list[str]:
        return [self.topics["events"], self.topics["items"]]

    @property
    def writes(self) -> list[str]:
        return [self.topics["lists"], self.topics["dead_letter"]]

    def findings(self) -> dict[str, Finding]:
        from recstream.operations.demands import demands_of

        places = self.settings.live_settings()
        found = self.connector.diagnose(places, demands_of(self.settings), timeout_s=10.0)
        return {finding.name: finding for finding in found}

    def check(self) -> None:
        live = self.settings.live
        self.connector.check(reads=[live.events, live.items], writes=[live.lists, live.dead_letter])

    def refusal(self) -> str:
        with pytest.raises(ConnectorError) as caught:
            self.check()
        assert caught.value.exit_code == 2
        return str(caught.value)


@pytest.fixture
def job(secure_kafka: ApacheKafka) -> Iterator[Job]:
    made = Job(secure_kafka)
    yield made
    made.end()


def bad(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if not finding.ok}


@pytest.mark.parametrize(
    "carry_out", [Job.grant_what_is_said, pytest.param(carry_out_mends, marks=pytest.mark.slow)]
)
def test_what_doctor_prints_grants_all_that_lacks_and_no_more(
    job: Job, carry_out: Callable[[Job | ApacheKafka, Iterable[Finding]], int]
) -> None:
    """Carried out by Kafka's own program, and by us in less time."""
    found = job.findings()
    assert bad(found) == {f"topic {name}" for name in job.topics.values()} | {f"group {job.group}"}
    assert "does not have" not in str(found), "a topic that may not be seen is not said to be missing"
    assert job.kafka.secure not in job.kafka.bootstrap
    assert carry_out(job if carry_out == Job.grant_what_is_said else job.kafka, found.values()) == 5
    assert bad(job.findings()) == set()
    job.check()
    assert job.granted() == {
        *((name, AclOperation.READ) for name in [*job.reads, job.group]),
        *((name, AclOperation.WRITE) for name in job.writes),
    }


def test_a_topic_that_can_be_seen_and_not_written_is_named_with_the_right(job: Job) -> None:
    job.kafka.grant("Read", topics=job.reads, groups=[job.group])
    job.kafka.grant("Describe", topics=job.writes)
    found = job.findings()
    assert bad(found) == {f"topic {name}" for name in job.writes}
    for name in job.writes:
        assert "no right Write" in found[f"topic {name}"].detail
    refusal = job.refusal()
    assert all(f"Write on topic {name!r}" in refusal for name in job.writes)
    assert job.topics["events"] not in refusal


@pytest.mark.parametrize("lacking", [*KINDS, "group"])
def test_a_start_is_refused_whichever_right_lacks(job: Job, lacking: str) -> None:
    """With its name, and the command: where all other rights are there."""
    reads = [name for name in job.reads if name != job.topics.get(lacking)]
    writes = [name for name in job.writes if name != job.topics.get(lacking)]
    job.kafka.grant("Read", topics=reads, groups=[] if lacking == "group" else [job.group])
    job.kafka.grant("Write", topics=writes)
    resource, name = ("group", job.group) if lacking == "group" else ("topic", job.topics[lacking])
    operation = "Write" if name in job.writes else "Read"
    refusal = job.refusal()
    assert f"no right {operation} on {resource} {name!r};" in refusal
    assert f"--allow-principal User:rec --operation {operation} --{resource} {name}" in refusal


def test_a_topic_that_does_not_exist_is_told_from_one_that_may_not_be_seen(secure_kafka: ApacheKafka) -> None:
    gone = Job(secure_kafka, make=False)
    gone.kafka.grant("Describe", topics=gone.writes)
    try:
        found = gone.findings()
        for name in gone.writes:
            assert "which the broker does not have" in found[f"topic {name}"].detail
            assert f"--create --topic {name}" in found[f"topic {name}"].mend
        for name in gone.reads:
            assert "no right to see" in found[f"topic {name}"].detail
            assert "kafka-topics.sh" not in found[f"topic {name}"].mend
    finally:
        gone.end()


@pytest.mark.parametrize(
    ("right", "kind", "command"),
    [
        ("Read", "lists", lambda job, address: list(job.connector.records(address))),
        ("Read", "dead_letter", lambda job, address: list(job.connector.records(address))),
        ("Write", "events", lambda job, address: job.connector.writer(address).close()),
        ("Read", "events", lambda job, address: job.connector.positions(address, {})),
        ("Read", "items", lambda job, address: job.connector.positions(address, {})),
    ],
    ids=["tail", "deadletter list", "forget", "positions of events", "positions of items"],
)
def test_a_command_needs_the_one_right_that_is_documented(
    job: Job, right: str, kind: str, command: Callable[[Job, str], object]
) -> None:
    """Without it, the right is named; with it, no other one is needed, on no group either."""
    name = job.topics[kind]
    produce(job.kafka.bootstrap, name, [b"{}"])
    with pytest.raises(ConnectorError, match=f"{right} on topic '{name}'"):
        command(job, f"kafka:{name}")
    job.kafka.grant(right, topics=[name])
    command(job, f"kafka:{name}")


def test_a_configuration_that_may_not_be_read_is_no_failure_and_is_said(job: Job) -> None:
    job.kafka.grant("Read", topics=job.reads, groups=[job.group])
    job.kafka.grant("Write", topics=job.writes)
    found = job.findings()
    assert bad(found) == set()
    for name in job.topics.values():
        assert "DescribeConfigs" in found[f"topic {name}"].detail
    job.kafka.grant("DescribeConfigs", topics=list(job.topics.values()))
    assert "DescribeConfigs" not in str(job.findings())


@pytest.mark.slow
def test_topics_are_not_made_without_the_right_to(secure_kafka: ApacheKafka) -> None:
    from recstream.operations.topics import create_topics

    job = Job(secure_kafka, make=False)
    try:
        refused = list(create_topics(job.settings))
        assert [finding.ok for finding in refused] == [False] * 4
        assert carry_out_mends(secure_kafka, refused) > 0
        assert all(finding.ok for finding in create_topics(job.settings))
    finally:
        job.end()
