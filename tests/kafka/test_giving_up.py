"""Nobody waits for a cluster that another has found to hang: a job that gives up on it ends at once."""

from __future__ import annotations

import threading
import time

import pytest

from recstream.connectors.kafka import reader
from recstream.connectors.kafka.client import NoAnswerFault, Outage
from recstream.connectors.kafka.earlier_run import committed_positions
from recstream.connectors.kafka.source import KafkaSource
from tests.support.apache_kafka import ApacheKafka
from tests.support.live_jobs import wait_until
from tests.support.topics import produce


def test_a_consumer_is_not_waited_for_once_anybody_has_found_that_the_cluster_hangs(
    kafka: ApacheKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither for its end nor for an answer to the positions that it mirrors, as both are otherwise."""
    monkeypatch.setattr(reader, "_CLOSE_S", 600.0)
    monkeypatch.setattr(reader, "_EVERY_S", 0.0)  # mirrors as often as it polls
    kafka.create("hanging", partitions=1)
    produce(kafka.bootstrap, "hanging", [b"1"])
    outage = Outage()
    source = KafkaSource(
        kafka.bootstrap,
        ["hanging"],
        poll_max=100,
        down_after_s=30.0,
        skips_losses=False,
        group="hanging",
        outage=outage,
    )
    (name,) = source.list_parts()
    part = source.build_part("in", name, None)

    def is_mirrored() -> bool:
        part.snapshot()
        part.next_batch()
        try:
            return committed_positions(kafka.bootstrap, "hanging", "hanging") > 0
        except NoAnswerFault:  # of a cluster's first group
            return False

    wait_until(is_mirrored, "positions")
    produce(kafka.bootstrap, "hanging", [b"2"])
    wait_until(lambda: part.next_batch() is not None and part.snapshot()["offset"] == 2, "all records")
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
