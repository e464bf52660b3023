"""The commands of Kafka's own programs on the page about Kafka do on Apache Kafka what the page says."""

from __future__ import annotations

import pytest

from recstream.config import Settings
from recstream.connectors.kafka.connector import KafkaConnector
from recstream.operations.demands import demands_of
from recstream.operations.topics import create_topics
from tests.support.apache_kafka import ApacheKafka
from tests.support.documents import blocks
from tests.support.kafka_commands import carry_out

PAGE = "docs/kafka.md"


def commands(heading: str) -> list[str]:
    lines = [
        line
        for block in blocks(PAGE)
        if block.language == "sh" and block.heading == heading
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if line.startswith("kafka-")]


@pytest.mark.slow
def test_the_topics_of_the_page_are_as_they_should_be_and_its_rights_are_enough(
    secure_kafka: ApacheKafka,
) -> None:
    """The principal of the page is the one of this broker."""
    for line in commands("Topics"):
        carry_out(secure_kafka, line)
    plain = Settings.load(None, {}, {"kafka.bootstrap": secure_kafka.bootstrap})
    made = list(create_topics(plain, partitions=8))
    assert all(finding.ok and not finding.mend for finding in made), made
    for line in commands("Rights"):
        carry_out(secure_kafka, line.replace("User:recstream", "User:rec"))
    chosen: dict[str, object] = {"kafka.bootstrap": secure_kafka.secure}
    chosen |= {f"kafka.client.{name}": value for name, value in secure_kafka.client().items()}
    settings = Settings.load(None, {}, chosen)
    connector, live = KafkaConnector(settings.options_of("kafka")), settings.live
    connector.check(reads=[live.events, live.items], writes=[live.lists, live.dead_letter])
    found = connector.diagnose(settings.live_settings(), demands_of(settings), timeout_s=10.0)
    assert [finding for finding in found if not finding.ok] == []


@pytest.mark.slow
def test_the_quota_of_the_page_is_one(secure_kafka: ApacheKafka) -> None:
    """Of a client of that name; it is taken back."""
    (line,) = commands("Quotas")
    carry_out(secure_kafka, line)
    assert "producer_byte_rate=" in secure_kafka.tool("configs", "--describe", "--entity-type", "clients")
    back = line.replace("--add-config", "--delete-config").replace("=1000000", "")
    carry_out(secure_kafka, back)
    assert "producer_byte_rate" not in secure_kafka.tool("configs", "--describe", "--entity-type", "clients")


def test_every_command_of_the_page_is_under_a_heading_that_is_tried() -> None:
    named = {
        block.heading
        for block in blocks(PAGE)
        if block.language == "sh" and any(line.startswith("kafka-") for line in block.text.splitlines())
    }
    assert named == {"Topics", "Rights", "Quotas"}
