"""Topics on Apache Kafka: made as they should be, and what differs is said with a command that mends it."""

from __future__ import annotations

import itertools

import pytest
from confluent_kafka.admin import ConfigResource

from recstream.config import Settings
from recstream.connectors.base import Finding
from recstream.connectors.kafka.connector import KafkaConnector
from recstream.operations.demands import demands_of
from recstream.operations.topics import create_topics
from tests.support.apache_kafka import ApacheKafka
from tests.support.kafka_commands import carry_out, carry_out_mends

KINDS = ("events", "items", "lists", "dead_letter", "sessions")
_numbers = itertools.count()


def settings_of(kafka: ApacheKafka, **more: object) -> Settings:
    """Of a job whose topics nobody else has."""
    number = next(_numbers)
    chosen: dict[str, object] = {f"kafka.{kind}_topic": f"made-{number}-{kind}" for kind in KINDS}
    dotted = {name.replace("__", "."): value for name, value in more.items()}
    return Settings.load(None, {}, {**chosen, "kafka.bootstrap": kafka.bootstrap, **dotted})


def name_of(settings: Settings, kind: str) -> str:
    return str(getattr(settings.kafka, f"{kind}_topic"))


def findings(settings: Settings) -> dict[str, Finding]:
    connector = KafkaConnector(settings.options_of("kafka"))
    found = connector.diagnose(settings.live_settings(), demands_of(settings), timeout_s=10.0)
    return {finding.name: finding for finding in found}


def warnings(settings: Settings) -> set[str]:
    found = findings(settings)
    assert all(finding.ok for finding in found.values()), found
    return {name for name, finding in found.items() if finding.is_warning}


def config(kafka: ApacheKafka, topic: str) -> dict[str, str]:
    admin = kafka.admin()  # kept: its requests die with it
    (told,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in told.result(10).items()}


def shape(kafka: ApacheKafka, topic: str) -> tuple[int, int]:
    """Partitions and copies."""
    parts = kafka.admin().list_topics(topic, timeout=10).topics[topic].partitions
    return len(parts), len(parts[0].replicas)


def test_topics_are_made_as_they_should_be_once(kafka: ApacheKafka) -> None:
    settings = settings_of(kafka)
    made = list(create_topics(settings, partitions=3))
    assert all(finding.ok and not finding.mend for finding in made)
    assert all("made: 3 partitions, 1 copy" in finding.detail for finding in made)
    policies = {kind: config(kafka, name_of(settings, kind))["cleanup.policy"] for kind in KINDS}
    assert policies == dict.fromkeys(KINDS, "delete") | {"items": "compact", "lists": "compact"}
    assert config(kafka, name_of(settings, "events"))["retention.ms"] == "604800000"
    assert "(7 days)" in made[0].detail
    assert config(kafka, name_of(settings, "dead_letter"))["retention.ms"] == "2592000000"
    again = list(create_topics(settings, partitions=3))
    assert all(finding.ok and not finding.is_warning and "made" not in finding.detail for finding in again)
    assert warnings(settings) == set()


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_made_and_makes_nothing(kafka: ApacheKafka) -> None:
    settings = settings_of(kafka)
    said = list(create_topics(settings, partitions=2, dry_run=True))
    assert all(finding.ok for finding in said)
    assert (
        not {name_of(settings, kind) for kind in KINDS} & kafka.admin().list_topics(timeout=10).topics.keys()
    )
    for finding in said:
        carry_out(kafka, finding.detail.partition(": ")[2])
    assert all("is there with 2 partitions" in finding.detail for finding in create_topics(settings))


def made_otherwise(kafka: ApacheKafka) -> Settings:
    """Settings of a job all of whose topics but that of sessions are there, and not as they should be."""
    settings = settings_of(kafka, run__processes=3, ranking__top_n=200)
    names = {kind: name_of(settings, kind) for kind in KINDS}
    day = 86_400_000
    kafka.create(names["events"], partitions=2, retention_ms=day)
    kafka.create(names["items"], partitions=2, retention_ms=day)
    kafka.create(names["lists"], partitions=2, cleanup_policy="compact,delete", max_message_bytes=4000)
    kafka.create(names["dead_letter"], partitions=2, cleanup_policy="compact")
    return settings


def test_what_differs_is_said_and_left_as_it_is(kafka: ApacheKafka) -> None:
    settings = made_otherwise(kafka)
    names = {kind: name_of(settings, kind) for kind in KINDS}
    before = {name: config(kafka, name) for name in names.values() if not name.endswith("sessions")}
    said = {finding.name: finding for finding in create_topics(settings, partitions=4)}
    assert {name: config(kafka, name) for name in before} == before
    assert all(finding.ok for finding in said.values())
    differing = {name for name, finding in said.items() if finding.is_warning}
    assert differing == {f"topic {name}" for name in before}

    found = findings(settings)
    warned = {name for name, finding in found.items() if finding.is_warning}
    assert warned == {f"topic {name}" for name in before}, "doctor warns of each, and fails for none"
    assert "3 processes" in found[f"topic {names['events']}"].detail
    assert "keeps items for 1 days only" in found[f"topic {names['items']}"].detail
    assert "records of 4,000 bytes at most" in found[f"topic {names['lists']}"].detail
    assert "ranking.top_n = 200" in found[f"topic {names['lists']}"].detail


@pytest.mark.slow
def test_the_commands_that_are_said_mend_what_differs(kafka: ApacheKafka) -> None:
    settings = made_otherwise(kafka)
    said = list(create_topics(settings, partitions=4))
    assert carry_out_mends(kafka, said) >= 9
    assert not any(finding.is_warning for finding in create_topics(settings, partitions=4))
    assert warnings(settings) == set()


def test_compacted_events_are_a_fault(kafka: ApacheKafka) -> None:
    settings = settings_of(kafka)
    kafka.create(name_of(settings, "events"), cleanup_policy="compact")
    create = list(create_topics(settings))
    assert all(finding.ok for finding in create)
    assert not findings(settings)[f"topic {name_of(settings, 'events')}"].ok


def test_a_topic_whose_largest_list_is_beyond_the_default_is_made_with_room(kafka: ApacheKafka) -> None:
    settings = settings_of(kafka, ranking__top_n=1000)
    list(create_topics(settings))
    assert int(config(kafka, name_of(settings, "lists"))["max.message.bytes"]) > 1_048_588
    assert warnings(settings) == set()


def test_what_cannot_be_made_is_said_and_the_others_are_made(kafka: ApacheKafka) -> None:
    settings = settings_of(kafka)
    refused = list(create_topics(settings, copies=2))
    assert [finding.ok for finding in refused] == [False] * 5
    assert "--replication-factor 2" in refused[0].mend


@pytest.mark.slow
def test_three_brokers_have_three_copies_of_which_two_are_waited_for(kafka_cluster: ApacheKafka) -> None:
    settings = settings_of(kafka_cluster)
    names = [name_of(settings, kind) for kind in KINDS]
    kafka_cluster.tool(
        "topics", "--create", "--topic", names[0], "--partitions", "4", "--replication-factor", "1"
    )
    list(create_topics(settings))
    assert {shape(kafka_cluster, name) for name in names[1:]} == {(4, 3)}
    assert {config(kafka_cluster, name)["min.insync.replicas"] for name in names[1:]} == {"2"}
    found = findings(settings)
    assert {name for name, finding in found.items() if finding.is_warning} == {f"topic {names[0]}"}
    detail = found[f"topic {names[0]}"].detail
    assert "has 1 of 3 copies" in detail
    assert "min.insync.replicas=1" in detail
    kafka_cluster.tool(
        "configs", "--alter", "--entity-type", "topics", "--entity-name", names[1], "--add-config",
        "min.insync.replicas=1",
    )  # fmt: skip
    found = findings(settings)
    assert "min.insync.replicas=1" in found[f"topic {names[1]}"].detail
    carry_out_mends(kafka_cluster, [found[f"topic {names[1]}"]])
    assert f"topic {names[1]}" not in warnings(settings)
