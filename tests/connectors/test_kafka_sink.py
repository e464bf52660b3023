"""Messages are confirmed or the write raises."""

from __future__ import annotations

import os
import pickle
import random
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.connectors.kafka.client import KafkaSettingsFault, Outage, StayedAwayFault
from recstream.connectors.kafka.read import read_topic
from recstream.connectors.kafka.sink import (
    DeliveryError,
    KafkaSink,
    TopicWriter,
    _Patience,
    _Sending,
    _Window,
)
from recstream.records.transport import Message

pytestmark = pytest.mark.kafka
Topics = Callable[..., str]
Run = Callable[..., None]


def _flow(messages: list[Message], sink: KafkaSink) -> Dataflow:
    df = Dataflow("sink")
    sent = op.input("in", df, TestingSource(messages, batch_size=50))
    op.output("out", op.key_on("key", sent, lambda one: repr(one.key)), sink)
    return df


def _write(writer: TopicWriter, messages: list[Message]) -> None:
    """Send, and wait until all is confirmed."""
    writer.write_batch(messages)
    writer.snapshot()


def test_keys_values_headers_and_tombstones_arrive(
    broker: EmbeddedBroker, topic: Topics, run_flow: Run
) -> None:
    name = topic("out")
    sent = [
        Message(b"u1", b"{}", (("recstream-version", b"1"), ("recstream-version", b"2"))),
        Message(b"u1", None),
        Message(None, b"plain"),
        Message("ключ".encode(), b""),
    ]
    run_flow(_flow(sent, KafkaSink(broker.bootstrap, name, timeout_s=30.0, down_after_s=30.0)))
    got = list(read_topic(broker.bootstrap, name, start="earliest", follow=False))
    assert [Message(r.key, r.value, r.headers) for r in got] == sent
    assert [r.offset for r in got] == [0, 1, 2, 3]
    assert all(r.ts is not None and abs(r.ts - time.time()) < 60 for r in got)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_message_arrives_whatever_the_number_of_workers(
    broker: EmbeddedBroker, topic: Topics, run_flow: Run, workers: int
) -> None:
    name = topic("out", partitions=3)
    sent = [Message(b"u%d" % (i % 17), b"%d" % i) for i in range(2000)]
    flow = _flow(
        sent, KafkaSink(broker.bootstrap, name, compression="lz4", timeout_s=30.0, down_after_s=30.0)
    )
    run_flow(flow, workers=workers, epoch=timedelta(seconds=10))
    got = list(read_topic(broker.bootstrap, name, start="earliest", follow=False))
    assert sorted(int(r.value or b"") for r in got) == list(range(2000))
    assert len({(r.key, r.partition) for r in got}) == 17, "one user, one partition"


def test_a_large_message_passes_and_a_too_large_one_is_an_error(
    broker: EmbeddedBroker, topic: Topics
) -> None:
    name = topic("out")
    writer = TopicWriter(broker.bootstrap, name, timeout_s=30.0, down_after_s=30.0)
    _write(writer, [Message(b"k", bytes(5_000_000))])
    with pytest.raises(DeliveryError, match=r"1 messages refused, 2 unconfirmed.*max\.message\.bytes"):
        _write(writer, [Message(b"k", bytes(9_000_000)), Message(b"k", b"small")])
    writer.close()


def test_a_queue_that_is_full_is_waited_for(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("out")
    writer = TopicWriter(
        broker.bootstrap,
        name,
        client={"queue.buffering.max.messages": "10"},
        timeout_s=30.0,
        down_after_s=30.0,
    )
    _write(writer, [Message(None, b"%d" % i) for i in range(500)])
    assert len(list(read_topic(broker.bootstrap, name, start="earliest", follow=False))) == 500


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_broker_that_goes_while_writing_is_waited_for_and_then_a_fault(blow: signal.Signals) -> None:
    """Not longer than ``down_after_s``, though an answer to what was sent might take far longer."""
    with EmbeddedBroker() as own:
        ensure_topics(own.bootstrap, {"out": 1})
        told: list[tuple[str, str]] = []
        writer = TopicWriter(
            own.bootstrap,
            "out",
            timeout_s=600.0,
            down_after_s=1.5,
            on_trouble=lambda place, trouble: told.append((place, trouble)),
        )
        _write(writer, [Message(b"k", b"before")])
        assert own.pid is not None
        threads = list(Path(f"/proc/{own.pid}/task").glob("*/stat"))
        os.kill(own.pid, blow)
        while blow is signal.SIGSTOP and any(") T " not in thread.read_text() for thread in threads):
            time.sleep(0.001)  # threads stop one by one, and one of them might still answer
        with pytest.raises(StayedAwayFault, match=r"topic 'out'.*check that Kafka runs") as caught:
            _write(writer, [Message(b"k", b"x" * 100)] * 100)
        assert caught.value.was_waited_for
        assert told[0] == (f"topic 'out' at {own.bootstrap}", "no broker answers")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes


def patience(
    answers: Callable[[float], bool],
    now: Callable[[], float],
    told: list[str],
    *,
    outage: Outage | None = None,
    throttled_until: Callable[[], float] = lambda: 0.0,
) -> _Patience:
    return _Patience(
        "out",
        timeout_s=20.0,
        down_after_s=50.0,
        ask=lambda limit_s: "" if answers(limit_s) else "no broker answers",
        report=lambda _, trouble: told.append(trouble),
        outage=Outage() if outage is None else outage,
        throttled_until=throttled_until,
        now=now,
    )


def lasted(waiting: _Patience, clock: list[float], done: Callable[[float], int]) -> float:
    """When the waiting ends, by a clock that goes on in steps of half a second."""
    while waiting.lasts(done(clock[0])):
        clock[0] += 0.5
    return clock[0]


@given(st.floats(0, 100), st.floats(0, 100))
def test_the_time_counts_from_the_last_confirmation(first: float, more: float) -> None:
    """A broker that answers has ``timeout_s`` for the next one, however long all of them take."""
    clock, told = [0.0], list[str]()
    end = lasted(
        patience(lambda _: True, lambda: clock[0], told),
        clock,
        lambda now: (now >= min(first, 15)) + (now >= min(first, 15) + min(more, 15)),
    )
    assert end == pytest.approx(min(first, 15) + min(more, 15) + 20.0, abs=0.51)
    assert "no broker answers" not in told


@given(st.floats(1, 15), st.floats(0, 40))
def test_a_broker_that_comes_back_has_its_time_again(goes: float, away: float) -> None:
    clock, told = [0.0], list[str]()
    end = lasted(
        patience(lambda _: not goes <= clock[0] < goes + away, lambda: clock[0], told), clock, lambda _: 0
    )
    seen = "no broker answers" in told
    assert not seen or told.index("no broker answers") < len(told) - 1
    assert end <= goes + away + 21.5 if seen else end == pytest.approx(20.0, abs=0.5)


def test_a_broker_that_stays_away_has_no_other_time_than_that() -> None:
    clock, told = [0.0], list[str]()
    assert lasted(patience(lambda _: False, lambda: clock[0], told), clock, lambda _: 0) == 50.0
    assert set(told) == {"no broker answers"}


def test_a_broker_that_answers_but_confirms_nothing_is_told_of_after_a_while() -> None:
    clock, told = [0.0], list[str]()
    lasted(patience(lambda _: True, lambda: clock[0], told), clock, lambda _: 0)
    assert told[:4] == ["", "", "", ""], "somebody is at work"
    assert told[-1] == "nothing confirmed for 20 s"


def test_a_broker_that_was_found_away_before_the_write_began_has_the_rest_of_its_time() -> None:
    """Source and sink wait together, not one after the other."""
    clock, told, outage = [40.0], list[str](), Outage()
    outage.begin(10.0)
    assert (
        lasted(patience(lambda _: False, lambda: clock[0], told, outage=outage), clock, lambda _: 0) == 60.0
    )


def test_an_outage_that_is_over_is_not_counted() -> None:
    clock, told, outage = [40.0], list[str](), Outage()
    outage.begin(10.0)
    waiting = patience(lambda _: clock[0] < 42, lambda: clock[0], told, outage=outage)
    assert lasted(waiting, clock, lambda _: 0) == pytest.approx(41.5 + 50.0, abs=1.5)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_the_time_counts_from_when_the_broker_throttles_no_longer(first: float, more: float) -> None:
    """Each answer says for how long it does; nobody asks it whether it is there meanwhile."""
    clock, told, asked = [0.0], list[str](), list[float]()

    def answers(_: float) -> bool:
        asked.append(clock[0])
        return True

    until = lambda: first if clock[0] < first else first + more  # noqa: E731 - as the answers come
    end = lasted(patience(answers, lambda: clock[0], told, throttled_until=until), clock, lambda _: 0)
    assert end == pytest.approx(first + more + 20.0, abs=0.51)
    assert all(at >= first + more for at in asked)
    assert any("throttled" in one for one in told) == (first + more > 0)


def test_what_is_refused_has_the_time_of_a_broker_that_is_away_anew_after_each_confirmation() -> None:
    clock, told = [0.0], list[str]()
    waiting = patience(lambda _: True, lambda: clock[0], told)
    refused = []
    for confirmed in (0, 1):
        began = clock[0]
        assert waiting.lasts(confirmed)
        while waiting.bears("no right"):
            clock[0] += 10.0
        refused.append(clock[0] - began)
    assert refused == [50.0, 50.0]
    assert "no right" in told


def test_nothing_of_a_key_overtakes_what_was_refused() -> None:
    """What follows it is sent again, too; messages without a key have no order."""
    keys = [b"a", b"b", b"a", None, b"b", None, b"a"]
    sending = _Sending(lambda _: None)
    sent = sending.add([Message(key, b"%d" % at) for at, key in enumerate(keys)])
    answers = [sending.hand_over(one) for one in sent]
    for at in (0, 1, 4, 5, 6):
        answers[at](None, None)
    answers[2](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)
    answers[3](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)
    assert [one.value for one in sending.take_left()] == [b"2", b"3", b"6"]


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", None]), st.booleans(), st.booleans())), st.randoms())
def test_what_is_left_is_what_did_not_arrive_and_what_follows_it(
    sent: list[tuple[bytes | None, bool, bool]], order: random.Random
) -> None:
    """Of messages sent over several batches, in whatever order the answers come; some are not answered."""
    arrived: list[int] = []
    sending = _Sending(arrived.append)
    answers = []
    for at, (key, is_answered, is_refused) in enumerate(sent):
        (one,) = sending.add([Message(key, b"%d" % at)])
        answers.append((sending.hand_over(one), is_answered, is_refused))
    order.shuffle(answers)
    for answer, is_answered, is_refused in answers:
        if is_answered:
            answer(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED) if is_refused else None, None)
    lacks = [not is_answered or is_refused for _, is_answered, is_refused in sent]
    wanted = [
        at
        for at, (key, _, _) in enumerate(sent)
        if lacks[at] or (key is not None and any(lacks[k] for k in range(at) if sent[k][0] == key))
    ]
    assert len(arrived) == lacks.count(False)
    assert len(sending) == (len(sent) - lacks.index(True) if any(lacks) else 0)
    assert sending.open_bytes == sum(
        len(key or b"") + len(b"%d" % at) for at, (key, is_answered, _) in enumerate(sent) if not is_answered
    )
    assert [int(one.value or b"") for one in sending.take_left()] == wanted


@given(st.lists(st.integers(1, 10_000_000) | st.none(), max_size=200))
def test_few_bytes_are_on_their_way_to_a_broker_that_throttles(steps: list[int | None]) -> None:
    """More once as many have arrived; None stands for a throttled answer."""
    window = _Window()
    for step in steps:
        before = window.size
        if step is None:
            window.shrink()
            assert window.size <= before
            assert window.size == _Window.LEAST
        else:
            window.confirm(step)
            assert window.size in {before, min(2 * before, _Window.MOST)}


def test_a_missing_topic_is_a_fault_at_start(broker: EmbeddedBroker) -> None:
    sink = KafkaSink(broker.bootstrap, "never-made", timeout_s=30.0, down_after_s=30.0)
    with pytest.raises(KafkaSettingsFault, match=r"no topic \['never-made'\]; create it"):
        sink.list_parts()


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("now", [1, 2, 3])
def test_any_number_of_processes_goes_on_after_any_other(
    broker: EmbeddedBroker, topic: Topics, before: int, now: int
) -> None:
    """Bytewax wants each part of which it has a state, in one process, and finds parts by their place."""
    name = topic("out")

    def sinks(processes: int) -> list[KafkaSink]:
        return [
            KafkaSink(
                *(broker.bootstrap, name),
                timeout_s=30.0,
                down_after_s=30.0,
                process=process,
                processes=processes,
            )
            for process in range(processes)
        ]

    stored = {sorted(sink.list_parts())[0] for sink in sinks(before)}
    again = sinks(now)
    listed = [sink.list_parts() for sink in again]
    every = sorted(part for parts in listed for part in parts)
    assert len(every) == len(set(every)), "each in one process"
    assert stored <= set(every)
    for sink, parts in zip(again, listed, strict=True):
        own = every[sink.part_fn("u1")]
        assert own in parts, "messages stay in their process"
        writers = [sink.build_part("out", part, None) for part in parts if part in stored or part == own]
        assert sum(isinstance(writer, TopicWriter) for writer in writers) == 1
        for writer in writers:
            writer.close()


def test_what_was_written_is_confirmed_at_the_end_of_the_epoch_only(
    broker: EmbeddedBroker, topic: Topics
) -> None:
    """No list waits for the confirmation of the one before it."""
    writer = TopicWriter(
        *(broker.bootstrap, topic("out")), timeout_s=30.0, down_after_s=30.0, linger_ms=60_000.0
    )
    writer.write_batch([Message(b"k", b"1")])
    writer.write_batch([Message(b"k", b"2")])
    assert len(writer._sending) == 2
    writer.snapshot()
    assert len(writer._sending) == 0
    writer.close()


def test_a_job_that_fails_does_not_wait_for_a_broker_that_hangs() -> None:
    """Somebody else found that it stayed away, while messages were on their way."""
    with EmbeddedBroker() as own:
        ensure_topics(own.bootstrap, {"out": 1})
        writer = TopicWriter(own.bootstrap, "out", timeout_s=600.0, down_after_s=600.0)
        assert own.pid is not None
        os.kill(own.pid, signal.SIGSTOP)
        writer.write_batch([Message(b"k", b"x")])
        writer.close()
        os.kill(own.pid, signal.SIGCONT)


def test_settings_that_are_refused_do_not_show_secrets() -> None:
    with pytest.raises(KafkaSettingsFault, match="refused") as caught:
        TopicWriter(
            "127.0.0.1:1",
            "out",
            client={"security.protocol": "hunter2", "sasl.password": "hunter2"},
            timeout_s=30.0,
            down_after_s=30.0,
        )
    assert "hunter2" not in str(caught.value)


def test_reading_from_the_end_sees_what_comes_after_the_call(broker: EmbeddedBroker, topic: Topics) -> None:
    name = topic("out", partitions=2)
    writer = TopicWriter(broker.bootstrap, name, timeout_s=30.0, down_after_s=30.0)
    _write(writer, [Message(b"%d" % i, b"old") for i in range(20)])
    records = read_topic(broker.bootstrap, name, timeout_s=10, until=lambda r: r.value == b"last")
    _write(writer, [Message(b"k", b"new"), Message(b"k", b"last"), Message(b"k", b"later")])
    assert [r.value for r in records] == [b"new", b"last"]


def test_reading_ends_after_silence(broker: EmbeddedBroker, topic: Topics) -> None:
    assert list(read_topic(broker.bootstrap, topic("out"), idle_s=0.1)) == []
