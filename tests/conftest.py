"""What tests of more than one folder share: a real broker, fresh topics."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from recstream.io.broker import EmbeddedBroker
from recstream.io.kafka_admin import ensure_topics

_numbers = itertools.count()


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """One embedded broker for the whole test session; do not stop it."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def topic(broker: EmbeddedBroker) -> Callable[..., str]:
    """``topic("events", partitions=3)`` makes a topic nobody else has and gives its name."""

    def make(stem: str = "topic", *, partitions: int = 1) -> str:
        name = f"{stem}-{os.getpid()}-{next(_numbers)}"
        assert ensure_topics(broker.bootstrap, {name: partitions}) == [name]
        return name

    return make
