"""Kafka goes away and comes back: the same records, or a fault; never another topic under the old name."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from bytewax.inputs import StatefulSourcePartition
from confluent_kafka import Producer

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.bounds import Position
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.client import KafkaFault
from recstream.connectors.kafka.source import KafkaSource
from recstream.records.transport import RawBatch

pytestmark = pytest.mark.kafka


class Wire:
    """A TCP relay that can be cut and mended: to its clients, a broker that goes and comes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.target = 0
        self.is_cut = False
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        ends: dict[socket.socket, socket.socket] = {}
        while self._open:
            ready, _, _ = select.select([self._listener, *ends], [], [], 0.02)
            if self.is_cut:
                for end in ends:
                    end.close()
                ends.clear()
            for end in ready:
                if end is self._listener:
                    near, _ = end.accept()
                    try:
                        if self.is_cut:
                            raise ConnectionRefusedError
                        far = socket.create_connection(("127.0.0.1", self.target))
                    except OSError:
                        near.close()
                    else:
                        ends[near], ends[far] = far, near
                elif end in ends:
                    got = b""
                    with contextlib.suppress(OSError):
                        got = end.recv(1 << 20)
                        if got:
                            ends[end].sendall(got)
                    if not got:
                        other = ends.pop(end)
                        ends.pop(other, None)
                        end.close()
                        other.close()
        for end in ends:
            end.close()

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._listener.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    relay = Wire()
    yield relay
    relay.close()


def _fill(bootstrap: str, first: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for i in range(first, first + count):
        producer.produce("events", b"%d" % i)
    assert producer.flush(10) == 0


def _read(
    part: StatefulSourcePartition[RawBatch, Position], count: int, *, seconds: float = 15.0
) -> list[bytes]:
    got: list[bytes] = []
    deadline = time.monotonic() + seconds
    while len(got) < count and time.monotonic() < deadline:
        for batch in part.next_batch():
            got += batch.values
        time.sleep(0.002)
    return got


def test_after_an_outage_reading_goes_on_where_it_was(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    address = f"127.0.0.1:{wire.port}"
    with EmbeddedBroker(advertised=address) as own:
        wire.target = int(own.bootstrap.split(":")[1])
        ensure_topics(address, {"events": 1})
        _fill(address, 0, 100)
        source = KafkaSource(address, ["events"], poll_max=10, down_after_s=20.0, skips_losses=False)
        part = source.build_part("in", source.list_parts()[0], None)
        got = _read(part, 20)
        wire.is_cut = True
        got += _read(part, 1000, seconds=2.0)
        assert "no broker answers" in caplog.text
        wire.is_cut = False
        _fill(address, 100, 50)
        got += _read(part, 150 - len(got))
        assert got == [b"%d" % i for i in range(150)]
        assert "answers again" in caplog.text
        assert len(caplog.records) < 40, "an outage must not flood the log"
        part.close()


def test_a_topic_made_again_during_an_outage_is_a_fault(wire: Wire) -> None:
    address = f"127.0.0.1:{wire.port}"
    with EmbeddedBroker(advertised=address) as own:
        wire.target = int(own.bootstrap.split(":")[1])
        ensure_topics(address, {"events": 1})
        _fill(address, 0, 10)
        source = KafkaSource(address, ["events"], poll_max=1000, down_after_s=20.0, skips_losses=False)
        part = source.build_part("in", source.list_parts()[0], None)
        assert len(_read(part, 10)) == 10
        own.kill()
        wire.is_cut = True
        _read(part, 1, seconds=0.5)
    with EmbeddedBroker() as other:
        wire.target = int(other.bootstrap.split(":")[1])
        ensure_topics(other.bootstrap, {"events": 1})
        _fill(other.bootstrap, 100, 50)
        wire.is_cut = False
        with pytest.raises(KafkaFault, match="re-created during an outage"):
            _read(part, 1)
        part.close()
