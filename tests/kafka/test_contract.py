"""The contract of connectors on Apache Kafka."""

from __future__ import annotations

import pytest

from tests.support.apache_kafka import ApacheKafka
from tests.support.topic_contract import TopicSinkContract, TopicSourceContract


class OnApacheKafka:
    bootstrap: str

    @pytest.fixture(autouse=True)
    def with_a_broker(self, kafka: ApacheKafka) -> None:
        self.bootstrap = kafka.bootstrap


class TestSource(OnApacheKafka, TopicSourceContract):
    pass


class TestSink(OnApacheKafka, TopicSinkContract):
    pass
