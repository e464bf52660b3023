"""Nobody waits for a cluster that another has found to hang: a job that gives up on it ends at once."""

from __future__ import annotations

import threading
import time

import pytest

from recstream.connectors.kafka import reader
from recstream.connectors.kafka.client import NoAnswerFault, Outage
from recstream.connectors.kafka.earlier_run import committed_positions
from tests.kafka.test_reading import fill, only, source_of, wait
from tests.support.apache_kafka import ApacheKafka


def test_a_consumer_is_not_waited_for_once_anybody_has_found_that_the_cluster_hangs(
    kafka: ApacheKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither for its end nor for an answer to the positions that it mirrors, as both are otherwise."""
    monkeypatch.setattr(reader, "_CLOSE_S", 600.0)
    monkeypatch.setattr(reader, "_EVERY_S", 0.0)  # mirrors as often as it polls
    kafka.create("hanging", partitions=1)
    fill(kafka.bootstrap, "hanging", 10)
    outage = Outage()
    part = only(source_of(kafka.bootstrap, "hanging", group="hanging", outage=outage))

    def is_mirrored() -> bool:
        part.snapshot()
        part.next_batch()
        try:
            return committed_positions(kafka.bootstrap, "hanging", "hanging") > 0
        except NoAnswerFault:  # of a cluster's first group
            return False

    wait(is_mirrored, seconds=60.0)
    fill(kafka.bootstrap, "hanging", 10, first=10)
    wait(lambda: part.next_batch() is not None and part.snapshot()["offset"] == 20)
    kafka.brokers[0].freeze()
    try:
        part.snapshot()
        time.sleep(0.01)  # it polls again after two milliseconds
        part.next_batch()  # positions are on their way, and stay there
        outage.begin(time.monotonic())  # as who writes finds
        part.close()
        (left,) = [thread for thread in threading.enumerate() if thread.name == "recstream-close"]
    finally:
        kafka.brokers[0].thaw()
    left.join(60)
    assert not left.is_alive()
    assert "not mirrored" not in caplog.text
