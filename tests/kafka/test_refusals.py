"""Who does not let us in is named in its own words, with its mend, by every client; secrets are not shown."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.connectors.base import Demands
from recstream.connectors.kafka.admin import list_topics, required_topics
from recstream.connectors.kafka.client import KafkaFault, NoAnswerFault, RefusedFault
from recstream.connectors.kafka.sink import TopicWriter
from tests.support.apache_kafka import ApacheKafka
from tests.support.commands import recstream


@dataclass(frozen=True)
class Stranger:
    """Somebody who is not let in, and how it is said."""

    bootstrap: str
    client: dict[str, str]
    says: str
    mend: str
    is_certain: bool = True


def authority(folder: Path) -> str:
    """The certificate of an authority that has signed nothing."""
    key = ("-newkey", "rsa:2048", "-nodes", "-keyout", "other.key")
    words = ("req", "-x509", *key, "-out", "other.pem", "-days", "2", "-subj", "/CN=other")
    subprocess.run(["openssl", *words], check=True, cwd=folder, capture_output=True)
    return str(folder / "other.pem")


STRANGERS = (
    *("password", "user", "mechanism", "authority", "plain text to TLS", "TLS to plain text"),
    *("credentials to who wants none", "no credentials", "unknown host", "nobody there"),
)


@pytest.fixture
def stranger(request: pytest.FixtureRequest, secure_kafka: ApacheKafka, tmp_path: Path) -> Stranger:
    secure, plain, good = secure_kafka.secure, secure_kafka.bootstrap, secure_kafka.client()
    made: dict[str, Callable[[], Stranger]] = {
        "password": lambda: Stranger(
            secure, secure_kafka.client("hunter2"), "refuses our credentials .*'rec'", "sasl.password"
        ),
        "user": lambda: Stranger(
            secure, {**good, "sasl.username": "nobody"}, "refuses our credentials .*'nobody'", "sasl.username"
        ),
        "mechanism": lambda: Stranger(
            secure,
            {**good, "sasl.mechanism": "SCRAM-SHA-256"},
            "does not know the SASL mechanism SCRAM-SHA-256.*supported mechanisms: SCRAM-SHA-512",
            "sasl.mechanism",
        ),
        "authority": lambda: Stranger(
            secure,
            {**good, "ssl.ca.location": authority(tmp_path)},
            "certificate is not trusted",
            "ssl.ca.location",
        ),
        "plain text to TLS": lambda: Stranger(
            secure, {}, "plain text is spoken to a port that expects TLS", "security.protocol"
        ),
        "TLS to plain text": lambda: Stranger(
            plain, good, "TLS is spoken to a port that expects plain text", "security.protocol"
        ),
        "credentials to who wants none": lambda: Stranger(
            plain,
            {**good, "security.protocol": "SASL_PLAINTEXT"},
            "a port that wants none",
            "security.protocol",
        ),
        "no credentials": lambda: Stranger(
            secure,
            {"security.protocol": "SSL", "ssl.ca.location": good["ssl.ca.location"]},
            "as one does that wants credentials",
            "sasl_ssl",
            is_certain=False,
        ),
        "unknown host": lambda: Stranger(
            "no-such-host.invalid:9092", {}, "host's name is not known", "kafka.bootstrap", is_certain=False
        ),
        "nobody there": lambda: Stranger("127.0.0.1:1", {}, "refused", "start a broker", is_certain=False),
    }
    found = made[request.param]()
    assert set(made) == set(STRANGERS)
    return found


def slowly(names: Iterable[str], *but: str) -> list[object]:
    """Parameters of which only some are tried in the short form."""
    return [name if name in but else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize(
    "stranger", slowly(STRANGERS, "password", "authority", "plain text to TLS"), indirect=True
)
def test_who_does_not_let_us_in_is_named_with_the_mend(stranger: Stranger) -> None:
    with pytest.raises(KafkaFault, match=f"(?s){stranger.says}.*{stranger.mend}") as caught:
        list_topics(stranger.bootstrap, client=stranger.client, timeout_s=2)
    assert isinstance(caught.value, RefusedFault if stranger.is_certain else NoAnswerFault)
    assert caught.value.exit_code == (2 if stranger.is_certain else 1)
    assert stranger.mend in caught.value.mend
    assert "hunter2" not in str(caught.value)


CERTAIN = [name for name in STRANGERS if name not in {"no credentials", "unknown host", "nobody there"}]


@pytest.mark.parametrize("stranger", slowly(CERTAIN, "password"), indirect=True)
def test_it_is_named_by_whatever_client_asks(stranger: Stranger) -> None:
    """One that awaits an answer of its own, one that writes, and what checks a job before it starts."""
    with pytest.raises(RefusedFault, match=stranger.says):
        required_topics(stranger.bootstrap, ["any"], client=stranger.client, timeout_s=2)
    with pytest.raises(RefusedFault, match=stranger.says):
        TopicWriter(stranger.bootstrap, "any", client=stranger.client, timeout_s=1, down_after_s=2)
    chosen = {"kafka.bootstrap": stranger.bootstrap, "kafka.client": stranger.client}
    connector = connector_for("kafka:any", Settings.load(None, {}, chosen).options_of)
    with pytest.raises(RefusedFault, match=stranger.says):
        connector.check(reads=["kafka:any"], writes=[])
    (finding,) = connector.diagnose({"kafka.events_topic": "kafka:any"}, Demands(), timeout_s=2)
    assert stranger.mend in finding.mend


COMMANDS = {
    "run": ("run",),
    "tail": ("tail",),
    "forget": ("forget", "u1"),
    "deadletter": ("deadletter", "list"),
}


@pytest.mark.parametrize("command", slowly(COMMANDS, "tail"))
def test_commands_say_so_in_one_line_and_do_not_try_again(
    secure_kafka: ApacheKafka, tmp_path: Path, command: str
) -> None:
    done = recstream(*COMMANDS[command], env=secure_kafka.environment("hunter2"), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "refuses our credentials" in line]
    assert "sasl.password" in line
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "process=0" not in done.stderr
