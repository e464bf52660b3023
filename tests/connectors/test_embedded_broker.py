"""The embedded broker starts, answers, and is sure to end."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from recstream.connectors.kafka.admin import (
    describe,
    ensure_topics,
    list_topics,
    topic_ids,
    topics,
)
from recstream.connectors.kafka.broker import BrokerError, EmbeddedBroker
from recstream.connectors.kafka.client import KafkaFault

pytestmark = pytest.mark.kafka


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_it_answers_inside_the_block_and_is_gone_after_it() -> None:
    with EmbeddedBroker() as broker:
        pid = broker.pid
        assert pid is not None
        assert list_topics(broker.bootstrap) == {}
        assert "listening" in broker.log_path.read_text()
    assert _gone_within(pid, 1)
    assert broker.pid is None
    assert not broker.log_path.exists()
    broker.stop()


def test_it_outlives_the_thread_that_started_it() -> None:
    broker = EmbeddedBroker()
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert list_topics(broker.bootstrap) == {}
    broker.stop()


def test_it_ends_when_its_parent_is_killed() -> None:
    code = (
        "from recstream.connectors.kafka.broker import EmbeddedBroker\n"
        "import time\n"
        "b = EmbeddedBroker().start()\n"
        "print(b.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
    assert _gone_within(pid, 2)


def test_a_broker_that_dies_at_start_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "tansu"
    fake.write_text("#!/bin/sh\necho no storage today\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(fake))
    with pytest.raises(BrokerError, match=r"exited with code 3(?s:.*)no storage today"):
        EmbeddedBroker().start()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recstream.connectors.kafka.broker.find_spec", lambda _name: None)
    with pytest.raises(BrokerError, match=r'pip install "recstream\[demo\]"'):
        EmbeddedBroker().start()


def test_a_cluster_out_of_reach_is_described_not_raised() -> None:
    found = describe("127.0.0.1:1", ["events"], timeout_s=0.5)
    assert not found.reachable
    assert found.missing == ("events",)
    assert "127.0.0.1:1" in found.detail


def test_topics_are_made_once_and_described(broker: EmbeddedBroker) -> None:
    assert ensure_topics(broker.bootstrap, {"made": 3}) == ["made"]
    assert ensure_topics(broker.bootstrap, {"made": 3}) == []
    found = describe(broker.bootstrap, ["made", "not-made"])
    assert found.reachable
    assert found.missing == ("not-made",)
    assert found.topics[0].partitions == (0, 1, 2)
    assert found.watermarks["made/2"] == (0, 0)
    assert topic_ids(broker.bootstrap, ["made", "not-made"]) == {"made": found.topics[0].id}


def test_identity_differs_after_the_topic_is_made_again(broker: EmbeddedBroker) -> None:
    ensure_topics(broker.bootstrap, {"again": 1})
    before = topics(broker.bootstrap, ["again"])["again"]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics(["again"])["again"].result(5)
    ensure_topics(broker.bootstrap, {"again": 1})
    after = topics(broker.bootstrap, ["again"])["again"]
    assert before.identity(0) != after.identity(0)
    assert before.identity(0).startswith("again/0@")


def test_faults_survive_pickling_and_hide_secrets() -> None:
    client = {"sasl.mechanism": "PLAIN", "security.protocol": "nonsense hunter2", "sasl.password": "hunter2"}
    with pytest.raises(KafkaFault) as caught:
        list_topics("127.0.0.1:1", client=client, timeout_s=0.2)
    assert "hunter2" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes
