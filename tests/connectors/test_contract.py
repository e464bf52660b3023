"""The contract of connectors, on files, on Kafka, and on the example of docs/extending.md."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from recstream.connectors import connector_for
from recstream.connectors.base import Connector
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.testing.connectors import SinkContract, SourceContract
from tests.support.logs import write_lines
from tests.support.topic_contract import TopicSinkContract, TopicSourceContract

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


class OnTansu:
    bootstrap: str

    @pytest.fixture(autouse=True)
    def with_a_broker(self, broker: EmbeddedBroker) -> None:
        self.bootstrap = broker.bootstrap


@pytest.mark.kafka
class TestKafkaSource(OnTansu, TopicSourceContract):
    pass


@pytest.mark.kafka
class TestKafkaSink(OnTansu, TopicSinkContract):
    pass
