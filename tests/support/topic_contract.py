"""The contract of connectors on topics, for any server of Kafka's protocol."""

from __future__ import annotations

import itertools

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.connectors.base import Connector
from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.read import read_topic
from recstream.testing.connectors import SinkContract, SourceContract

_numbers = itertools.count()


class _Topics:
    """Subclasses set ``bootstrap`` by a fixture."""

    bootstrap: str

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


class TopicSourceContract(_Topics, SourceContract):
    """A topic is read."""

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


class TopicSinkContract(_Topics, SinkContract):
    """A topic is written."""

    def new_place(self) -> str:
        return f"kafka:{self.make()}"

    def contents(self, address: str) -> list[bytes]:
        topic = address.removeprefix("kafka:")
        found = read_topic(self.bootstrap, topic, start="earliest", follow=False)
        return [one.value for one in found if one.value is not None]

    def unwritable(self) -> str:
        return self.missing()
