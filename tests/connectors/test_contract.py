"""The contract of connectors, on files, on Kafka, and on the example of docs/extending.md."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.connectors.base import Connector
from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.read import read_topic
from recstream.testing.connectors import SinkContract, SourceContract
from tests.support.logs import write_lines

_numbers = itertools.count()


class Files:
    folder: Path

    @pytest.fixture(autouse=True)
    def in_a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def connector(self) -> Connector:
        return connector_for("log.jsonl", lambda _: {})


class TestFileSource(Files, SourceContract):
    def place(self, records: list[bytes]) -> str:
        return str(write_lines(self.folder / f"log-{next(_numbers)}.jsonl", records))

    def replace(self, address: str, records: list[bytes]) -> None:
        write_lines(Path(address), records)

    def missing(self) -> str:
        return str(self.folder / "none.jsonl")


class TestFileSink(Files, SinkContract):
    def new_place(self) -> str:
        return str(self.folder / f"out-{next(_numbers)}.jsonl")

    def contents(self, address: str) -> list[bytes]:
        return Path(address).read_bytes().splitlines()

    def unwritable(self) -> str:
        return str(self.folder / "no" / "folder.jsonl")


class Kafka:
    bootstrap: str

    @pytest.fixture(autouse=True)
    def with_a_broker(self, broker: EmbeddedBroker) -> None:
        self.bootstrap = broker.bootstrap

    def connector(self) -> Connector:
        settings = Settings.load(None, {}, {"kafka.bootstrap": self.bootstrap})
        return connector_for("kafka:any", settings.options_of)

    def make(self) -> str:
        name = f"contract-{next(_numbers)}"
        ensure_topics(self.bootstrap, {name: 1})
        return name

    def fill(self, name: str, records: list[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for record in records:
            producer.produce(name, record)
        assert producer.flush(20) == 0

    def missing(self) -> str:
        return "kafka:never-made"


@pytest.mark.kafka
class TestKafkaSource(Kafka, SourceContract):
    def place(self, records: list[bytes]) -> str:
        name = self.make()
        self.fill(name, records)
        return f"kafka:{name}"

    def replace(self, address: str, records: list[bytes]) -> None:
        name = address.removeprefix("kafka:")
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.delete_topics([name])[name].result(5)
        ensure_topics(self.bootstrap, {name: 1})
        self.fill(name, records)


@pytest.mark.kafka
class TestKafkaSink(Kafka, SinkContract):
    def new_place(self) -> str:
        return f"kafka:{self.make()}"

    def contents(self, address: str) -> list[bytes]:
        topic = address.removeprefix("kafka:")
        found = read_topic(self.bootstrap, topic, start="earliest", follow=False)
        return [one.value for one in found if one.value is not None]

    def unwritable(self) -> str:
        return self.missing()
