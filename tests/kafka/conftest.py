"""Apache Kafka for the tests of this folder, which are skipped where ``KAFKA_HOME`` names none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.apache_kafka import ApacheKafka, kafka_home


@pytest.fixture(scope="session", autouse=True)
def _there_is_one() -> None:
    """Without one, skip."""
    if kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka download, or there is no java")


@pytest.fixture(scope="session")
def kafka() -> Iterator[ApacheKafka]:
    """One broker for the whole session, plain text; use topics of your own, and do not stop it."""
    with ApacheKafka() as running:
        yield running


@pytest.fixture(scope="session")
def secure_kafka() -> Iterator[ApacheKafka]:
    """One broker for the whole session, with TLS, SCRAM and ACLs; take back what you grant."""
    with ApacheKafka(secure=True) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[ApacheKafka]:
    """Three brokers for the whole session; leave all of them running. For tests marked ``slow``."""
    with ApacheKafka(3) as running:
        yield running
