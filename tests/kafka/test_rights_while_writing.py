"""A right to write that is taken away is waited for; what it refused is written in order when it is back."""

from __future__ import annotations

import threading
import uuid

import pytest

from recstream.connectors.kafka.client import StayedAwayFault
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import TopicWriter
from recstream.records.transport import Message
from tests.support.apache_kafka import ApacheKafka
from tests.support.live_jobs import wait_until


def messages(name: str, count: int) -> list[Message]:
    return [Message(b"u%d" % (number % 7), b"%s %d" % (name.encode(), number)) for number in range(count)]


def write(writer: TopicWriter, sent: list[Message]) -> None:
    """Send, and wait until all is confirmed."""
    writer.write_batch(sent)
    writer.snapshot()


def by_key(all_of_them: list[Message]) -> dict[bytes | None, list[bytes | None]]:
    found: dict[bytes | None, list[bytes | None]] = {}
    for one in all_of_them:
        found.setdefault(one.key, []).append(one.value)
    return found


@pytest.mark.parametrize(
    "others",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["other topics may be written", "no topic may"],
)
def test_a_right_that_is_taken_away_and_given_back(
    secure_kafka: ApacheKafka, others: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no other topic may be written, the producer gets no id any more and is beyond repair."""
    topic, other = f"out-{uuid.uuid4().hex}", f"other-{uuid.uuid4().hex}"
    secure_kafka.create(topic, other)
    told: list[str] = []
    before, after = messages("before", 50), messages("after", 300)
    granted = [topic, other] if others else [topic]
    secure_kafka.grant("Write", topics=granted)
    try:
        writer = TopicWriter(
            secure_kafka.secure,
            topic,
            client=secure_kafka.client(),
            timeout_s=30.0,
            down_after_s=120.0,
            on_trouble=lambda _, trouble: told.append(trouble),
        )
        write(writer, before)
        secure_kafka.revoke("Write", topics=[topic])
        writing = threading.Thread(target=write, args=[writer, after], daemon=True)
        writing.start()
        wait_until(lambda: any("no right to write" in one for one in told), "refused")
        assert writing.is_alive()
        assert f"--operation Write --topic {topic}" in told[-1]
        secure_kafka.grant("Write", topics=[topic])
        writing.join(60)
        assert not writing.is_alive()
        assert told[-1] == ""
        assert caplog.text.count("Kafka answers again") == 1
        writer.close()
    finally:
        secure_kafka.revoke("Write", topics=granted)
    read = read_topic(secure_kafka.bootstrap, topic, start="earliest", follow=False)
    assert by_key([Message(one.key, one.value) for one in read]) == by_key(before + after)


@pytest.mark.slow
def test_a_right_that_stays_away_is_a_fault_that_names_it(secure_kafka: ApacheKafka) -> None:
    topic = f"out-{uuid.uuid4().hex}"
    secure_kafka.create(topic)
    writer = TopicWriter(
        secure_kafka.secure, topic, client=secure_kafka.client(), timeout_s=30.0, down_after_s=2.0
    )
    with pytest.raises(StayedAwayFault, match=f"no right to write .*--operation Write --topic {topic}"):
        write(writer, messages("never", 5))
    writer.close()  # bytewax closes it then, and a panic within a panic would abort the process
