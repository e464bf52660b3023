"""The deployment that recovery tests disturb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.support.deployments import ITEMS, Deployment
from tests.support.logs import item
from tests.support.topics import Reader, produce


@pytest.fixture
def deployment(broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path) -> Iterator[Deployment]:
    topics = {
        name: topic(name, partitions=4 if name == "events" else 1) for name in ("events", "lists", "items")
    }
    topics["dead-letters"] = topic("dead-letters")
    produce(broker.bootstrap, topics["items"], [item(number) for number in range(ITEMS)])
    made = Deployment(broker.bootstrap, tmp_path, topics, Reader(broker.bootstrap, topics["lists"]))
    yield made
    made.lists.close()
