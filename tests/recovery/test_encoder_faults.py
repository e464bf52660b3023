"""An embeddings server that fails: the job waits for it, or stops and says why, and loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from recstream.config import Settings
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.metrics.accounting import Accounting, accounting, merge_summaries
from recstream.records.dead_letter import raw_of
from recstream.runtime.wiring import Wiring
from recstream.users.codec import UserRow
from tests.support.commands import recstream
from tests.support.live_jobs import LiveJob, live_job, wait_until
from tests.support.logs import Record, events, item, versions_after
from tests.support.servers import Answer, EmbeddingsServer, Question, embedding_server, words
from tests.support.stored_users import assert_same_users
from tests.support.topics import Reader, produce

pytestmark = pytest.mark.kafka
DIM = 32
ITEMS = 20
KEY = "sk-very-secret"
Reply = Callable[[Question, int], Answer]


@dataclass
class EncoderDeployment:
    """Topics with items in them, a store, and a server that encodes."""

    bootstrap: str
    folder: Path
    topics: dict[str, str]
    lists: Reader
    dead_letters: Reader
    server: EmbeddingsServer

    def settings(self, **more: str) -> dict[str, str]:
        """``section__field="value"`` changes a setting."""
        return {
            "RECSTREAM_KAFKA__BOOTSTRAP": self.bootstrap,
            "RECSTREAM_KAFKA__EVENTS_TOPIC": self.topics["events"],
            "RECSTREAM_KAFKA__ITEMS_TOPIC": self.topics["items"],
            "RECSTREAM_KAFKA__LISTS_TOPIC": self.topics["lists"],
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": self.topics["dead-letters"],
            "RECSTREAM_KAFKA__GROUP": self.topics["events"],
            "RECSTREAM_STORE__PATH": str(self.folder / "state"),
            "RECSTREAM_CACHE__ENABLED": "false",
            "RECSTREAM_ENCODER__BACKEND": "openai",
            "RECSTREAM_ENCODER__MODEL": "m",
            "RECSTREAM_ENCODER__URL": self.server.url,
            "RECSTREAM_ENCODER__API_KEY": KEY,
            "RECSTREAM_ENCODER__DIM": str(DIM),
            "RECSTREAM_ENCODER__RETRIES": "1",
            "RECSTREAM_RUN__RESTARTS": "0",
            "RECSTREAM_RUN__EPOCH_S": "0.2",
            "RECSTREAM_RUN__METRICS_PORT": "0",
            **{f"RECSTREAM_{key}".upper(): value for key, value in more.items()},
        }

    def job(self, **more: str) -> Any:
        """The live job."""
        return live_job(self.folder / "job.log", self.settings(**more))

    def send(self, log: list[Record]) -> None:
        produce(self.bootstrap, self.topics["events"], log)

    def until_delivered(self, log: list[Record], job: LiveJob) -> None:
        """Wait until a list of the last version of every user has come."""
        wanted = versions_after(log)
        wait_until(lambda: self.lists.versions() == wanted, job.text)

    def stop(self, job: LiveJob) -> Accounting:
        assert job.stop() == 0, job.text()
        account = accounting(
            merge_summaries([orjson.loads((self.folder / "state" / "summaries" / "0.json").read_bytes())])
        )
        assert account.balanced, str(account)
        return account

    def rows(self, store: str = "state") -> dict[str, UserRow]:
        wiring = Wiring(
            Settings.load(None, {**self.settings(), "RECSTREAM_STORE__PATH": str(self.folder / store)})
        )
        try:
            users = wiring.database.users
            return users.fetch(users.ids())
        finally:
            wiring.close()

    def assert_as_without_trouble(self, log: list[Record]) -> None:
        """Every row is that of a replay of the same topics, without any trouble on the way."""
        rows = self.rows()
        assert {user: row.version for user, row in rows.items()} == versions_after(log)
        done = recstream(
            *("backfill", "--events", "kafka:" + self.topics["events"], "--refresh", "end"),
            *("--items", "kafka:" + self.topics["items"], "--max-rejects", "9"),
            *("--state", self.folder / "reference"),
            env=self.settings(),
        )
        assert done.returncode == 0, done.stderr
        assert_same_users(rows, self.rows("reference"), tolerance=1e-6)


@pytest.fixture
def deployment(
    broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path
) -> Iterator[EncoderDeployment]:
    topics = {name: topic(name) for name in ("events", "lists", "items", "dead-letters")}
    produce(broker.bootstrap, topics["items"], [item(number) for number in range(ITEMS)])
    with embedding_server() as server:
        server.reply = words(DIM)
        lists, dead_letters = (Reader(broker.bootstrap, topics[name]) for name in ("lists", "dead-letters"))
        yield EncoderDeployment(broker.bootstrap, tmp_path, topics, lists, dead_letters, server)
        lists.close()
        dead_letters.close()


@pytest.mark.slow
def test_a_server_that_fails_for_a_while_is_waited_for(deployment: EncoderDeployment) -> None:
    log = events(120, items=ITEMS, users=8)
    with deployment.job(encoder__retries="8") as job:
        deployment.send(log[:40])
        deployment.until_delivered(log[:40], job)
        (child,) = job.children()
        asked = len(deployment.server.questions)
        failures: list[Answer] = [
            (500, {"error": "starting"}),
            (429, {}, {"Retry-After": "1"}),
            (503, b""),
            (502, b"<html>"),
        ]
        sound = words(DIM)
        deployment.server.reply = lambda question, n: (
            failures[n - asked - 1] if n - asked <= len(failures) else sound(question, n)
        )
        deployment.send(log[40:])
        deployment.until_delivered(log, job)
        assert len(deployment.server.questions) > asked + len(failures)
        assert job.children() == [child], "no process had to be started again"
        assert deployment.stop(job) == (120, 120, 0, 0, 0, 0, True)
    assert not deployment.dead_letters.poll()
    deployment.assert_as_without_trouble(log)


def late(question: Question, number: int) -> Answer:
    time.sleep(1.0)
    return words(DIM)(question, number)


def vectors(count: int, number: float) -> Reply:
    """A server that gives each text so often this number."""
    return lambda question, n: (
        200,
        {"data": [{"index": i, "embedding": [number] * count} for i in range(len(question["input"]))]},
    )


FAULTS: dict[str, tuple[Reply, str]] = {
    "another model": (
        vectors(8, 1.0),
        "another dimension: it has another model than before, or encoder.dim is wrong: "
        "got 8, wanted 32; to mend it: let url and model name the model that the store was made with",
    ),
    "500 for ever": (lambda *_: (500, {"error": "out of memory"}), "refuses a plain text too: got HTTP 500"),
    "503 for ever": (lambda *_: (503, b""), "no answer after 2 attempts: got HTTP 503"),
    "too slow": (late, "no answer after 2 attempts: got ReadTimeout"),
    "not JSON": (
        lambda *_: (200, b"<html>maintenance</html>"),
        "not an embeddings answer: got JSONDecodeError",
    ),
    "wrong count": (lambda *_: (200, {"data": []}), "the answer has other rows than asked: got 0"),
    "NaN for all": (vectors(DIM, float("nan")), "the server's vectors have no direction"),
    "key refused": (lambda *_: (401, {"error": "bad key"}), "the api_key was refused: got HTTP 401"),
    "all refused": (lambda *_: (400, {"error": "no such model"}), "refuses a plain text too: got HTTP 400"),
}
SHORT = ("503 for ever",)


@pytest.mark.parametrize(
    "fault", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS]
)
def test_a_server_that_stays_broken_stops_the_job_which_goes_on_when_it_is_mended(
    deployment: EncoderDeployment, fault: str
) -> None:
    log = events(120, items=ITEMS, users=8, seed=1)
    reply, said = FAULTS[fault]
    with deployment.job(encoder__timeout_s="0.5") as job:
        deployment.send(log[:40])
        deployment.until_delivered(log[:40], job)
        deployment.server.reply = reply
        deployment.send(log[40:])
        assert job.process.wait(30) == 1, job.text()
        log_text = " ".join(job.text().split())
        assert said in log_text
        assert "to mend it: " in log_text
        assert "it resumes where it was" in log_text
        assert KEY not in log_text
        assert "Traceback" not in log_text
    before = {user: row.version for user, row in deployment.rows().items()}
    assert all(version <= versions_after(log)[user] for user, version in before.items())
    deployment.server.reply = words(DIM)
    with deployment.job() as job:
        deployment.until_delivered(log, job)
        account = deployment.stop(job)
    assert account.read == account.applied + account.absorbed <= 80
    assert not deployment.dead_letters.poll(), "a fault of the encoder is nobody's dead letter"
    deployment.assert_as_without_trouble(log)


@pytest.mark.slow
def test_a_server_that_is_gone_is_waited_for_over_a_restart_of_the_dataflow(
    deployment: EncoderDeployment,
) -> None:
    log = events(60, items=ITEMS, users=8, seed=2)
    with deployment.job(run__restarts="5") as job:
        deployment.send(log[:20])
        deployment.until_delivered(log[:20], job)
        deployment.server.is_away = True
        deployment.send(log[20:])
        wait_until(lambda: "a process died" in job.text(), job.text)
        assert "RemoteProtocolError" in job.text()
        deployment.server.is_away = False
        deployment.until_delivered(log, job)
        assert deployment.stop(job).rejected == 0
    deployment.assert_as_without_trouble(log)


@pytest.mark.slow
@pytest.mark.parametrize("status", [413, 500])
def test_a_text_that_the_server_refuses_is_one_dead_letter_and_all_else_is_applied(
    deployment: EncoderDeployment, status: int
) -> None:
    log = events(120, items=ITEMS, users=8, seed=3)
    sound = words(DIM)
    deployment.server.reply = lambda question, n: (
        (status, {"error": "over the limit"})
        if any("unspeakable" in text.lower() for text in question["input"])
        else sound(question, n)
    )
    ts = log[59]["ts"]
    bad: list[Record] = [
        {"user_id": "u1", "ts": ts, "action": "search", "text": "unspeakable"},
        {"user_id": "u2", "ts": ts, "action": "like", "item": {"item_id": "x", "title": "Unspeakable"}},
    ]
    with deployment.job() as job:
        deployment.send([*log[:60], *bad, *log[60:]])
        deployment.until_delivered(log, job)
        produce(
            deployment.bootstrap, deployment.topics["items"], [{"item_id": "y", "title": "Unspeakable, too"}]
        )
        wait_until(lambda: len(deployment.dead_letters.poll()) == 3, job.text)
        assert deployment.stop(job) == (122, 120, 0, 0, 2, 0, True)
        assert "a process died" not in job.text()
    dead_letters = deployment.dead_letters.records()
    assert {dead_letter["reason"] for dead_letter in dead_letters} == {"unencodable"}
    assert [raw_of(dead_letter) for dead_letter in dead_letters[:2]] == [
        orjson.dumps(record) for record in bad
    ]
    assert all(f"HTTP {status}" in dead_letter["detail"] for dead_letter in dead_letters)
    deployment.assert_as_without_trouble(log)
    with deployment.job() as job:
        more = events(20, items=ITEMS, users=8, seed=4, first=120)
        deployment.send(more)
        deployment.until_delivered([*log, *more], job)
        assert deployment.stop(job) == (20, 20, 0, 0, 0, 0, True), "it is not read again"
    assert len(deployment.dead_letters.poll()) == 3
