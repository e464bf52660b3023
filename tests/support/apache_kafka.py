"""Apache Kafka in processes of its own: one broker or several, with TLS, SCRAM and ACLs where wanted.

``KAFKA_HOME`` names the download (its ``libs/*.jar``); Java 17 or later runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from typing_extensions import Self

from tests.support.ports import free_port

__all__ = ["ApacheKafka", "BrokerProcess", "kafka_home"]

USER: Final = "rec"
"""Who comes by the secure listener; has no right until one is granted."""
PASSWORD: Final = "pw1"  # noqa: S105 - of a broker that a test makes
_CLUSTER_ID: Final = "cmVjc3RyZWFtLXRlc3QtMQ"
_START_S: Final = 90.0
_UPPER: Final = re.compile("(?<=[a-z])(?=[A-Z])")
_PROGRAMS: Final = {
    "server": "kafka.Kafka",
    "storage": "kafka.tools.StorageTool",
    "configs": "kafka.admin.ConfigCommand",
    "topics": "org.apache.kafka.tools.TopicCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "acls": "org.apache.kafka.tools.AclCommand",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "elect": "org.apache.kafka.tools.LeaderElectionCommand",
}
"""Classes behind the download's shell scripts, which start Java in the same way."""


def kafka_home() -> Path | None:
    """The download named by ``KAFKA_HOME``; None without it, or without Java.

    Raises:
        FileNotFoundError: ``KAFKA_HOME`` is set and has no ``libs/*.jar``.
    """
    named = os.environ.get("KAFKA_HOME")
    if not named or shutil.which("java") is None:
        return None
    home = Path(named)
    if not any(home.glob("libs/*.jar")):
        msg = f"KAFKA_HOME={named} has no libs/*.jar; set it to the folder of an Apache Kafka download"
        raise FileNotFoundError(msg)
    return home.absolute()


def _java(program: str, *args: str, heap_mb: int = 256) -> list[str]:
    home = kafka_home()
    assert home is not None
    flags = [f"-Xmx{heap_mb}m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return ["java", *flags, "-cp", f"{home}/libs/*", _PROGRAMS[program], *args]


def _run(program: str, *args: str) -> str:
    done = subprocess.run(_java(program, *args), capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        msg = f"{program} {args}: {done.stdout[-500:]}{done.stderr[-500:]}"
        raise RuntimeError(msg)
    return done.stdout


_Acl = TypeVar("_Acl", AclBinding, AclBindingFilter)


def _rights(
    make: type[_Acl], operations: Collection[str], topics: Collection[str], groups: Collection[str]
) -> list[_Acl]:
    named = {ResourceType.TOPIC: topics, ResourceType.GROUP: groups}
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return [
        make(kind, name, literal, f"User:{USER}", "*", AclOperation[_UPPER.sub("_", one).upper()], allow)
        for kind, names in named.items()
        for name in names
        for one in operations
    ]


class BrokerProcess:
    """One broker; its data outlive its process."""

    def __init__(self, folder: Path, plain: int, secure: int) -> None:
        self.folder = folder
        self.plain = plain
        """Port of the plain-text listener."""
        self.secure = secure
        """Port of the SASL_SSL listener."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; the broker answers some seconds later."""
        words = _java("server", str(self.folder / "server.properties"), heap_mb=768)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
            )

    def stop(self) -> None:
        """Let it end by itself, handing over what it leads."""
        process = self._running()
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill -9."""
        process = self._running()
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._running().send_signal(signal.SIGCONT)

    def is_running(self) -> bool:
        """Whether the process is there, hung or not."""
        return self._process is not None and self._process.poll() is None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


class ApacheKafka:
    """A cluster of brokers that are controllers as well (KRaft), within ``with``.

    ``bootstrap`` is plain text; who comes by it may do everything. With ``secure=True``, `secure` is the
    first broker's SASL_SSL listener (SCRAM-SHA-512; `client` has the settings). Names of broker properties
    are written with ``_`` for ``.``.
    """

    def __init__(self, brokers: int = 1, *, secure: bool = False, **properties: object) -> None:
        self._is_secure = secure
        self._properties = {name.replace("_", "."): str(value) for name, value in properties.items()}
        self.folder = Path(tempfile.mkdtemp(prefix="apache-kafka-"))
        self.brokers = [
            BrokerProcess(self.folder / f"broker-{number}", free_port(), free_port())
            for number in range(brokers)
        ]
        self._controllers = [free_port() for _ in self.brokers]
        self.bootstrap = ",".join(f"127.0.0.1:{broker.plain}" for broker in self.brokers)
        self.secure = f"localhost:{self.brokers[0].secure}"
        self.ca = self.folder / "ca.pem"
        """Certificate of the authority behind the secure listener."""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._leave)
            if self._is_secure:
                self._make_certificates()
            for number, broker in enumerate(self.brokers):
                self._format(number, broker)
                broker.start()
            self.wait_until_it_answers()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for broker in self.brokers:
            if broker.is_running():
                broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_until_it_answers(self) -> None:
        """Wait until every broker is registered.

        Raises:
            RuntimeError: they are not within a minute and a half.
        """
        admin = self.admin()
        deadline = time.monotonic() + _START_S
        while True:
            try:
                if len(admin.list_topics(timeout=2).brokers) == len(self.brokers):
                    return
            except KafkaException:
                pass
            if time.monotonic() > deadline:
                log = (self.brokers[0].folder / "log").read_text()[-600:]
                msg = f"Apache Kafka did not start: {log}"
                raise RuntimeError(msg)
            time.sleep(0.1)

    def admin(self) -> AdminClient:
        """A client that may do everything."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create(self, *names: str, partitions: int = 4, **config: object) -> None:
        """Make topics, with a copy on each broker, three at most."""
        settings = {name.replace("_", "."): str(value) for name, value in config.items()}
        wanted = [NewTopic(name, partitions, min(len(self.brokers), 3), config=settings) for name in names]
        admin = self.admin()
        for made in admin.create_topics(wanted).values():
            made.result(30)

    def tool(self, name: str, *args: str) -> str:
        """Run one of Kafka's own programs, such as ``acls`` or ``configs``; gives what it printed."""
        return _run(name, "--bootstrap-server", self.bootstrap.partition(",")[0], *args)

    def grant(self, *operations: str, topics: Collection[str] = (), groups: Collection[str] = ()) -> None:
        """Give the user of the secure listener rights, by Kafka's names such as ``DescribeConfigs``."""
        admin = self.admin()  # kept: its requests die with it
        for done in admin.create_acls(_rights(AclBinding, operations, topics, groups)).values():
            done.result(10)

    def revoke(self, *operations: str, topics: Collection[str] = (), groups: Collection[str] = ()) -> None:
        """Take rights away that were granted."""
        admin = self.admin()
        for done in admin.delete_acls(_rights(AclBindingFilter, operations, topics, groups)).values():
            done.result(10)

    def client(self, password: str = PASSWORD) -> dict[str, str]:
        """Client settings for `secure`."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": password,
            "ssl.ca.location": str(self.ca),
        }

    def environment(self, password: str = PASSWORD) -> dict[str, str]:
        """Environment variables that lead `recstream` to `secure`."""
        client = {
            f"RECSTREAM_KAFKA__CLIENT__{name.replace('.', '_').upper()}": value
            for name, value in self.client(password).items()
        }
        return {"RECSTREAM_KAFKA__BOOTSTRAP": self.secure, **client}

    def _format(self, number: int, broker: BrokerProcess) -> None:
        broker.folder.mkdir()
        copies = min(len(self.brokers), 3)
        voters = ",".join(f"{voter}@127.0.0.1:{port}" for voter, port in enumerate(self._controllers))
        plain, control = (
            f"PLAINTEXT://127.0.0.1:{broker.plain}",
            f"CONTROLLER://127.0.0.1:{self._controllers[number]}",
        )
        settings = {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"{plain},{control}",
            "advertised.listeners": plain,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL",
            "log.dirs": broker.folder / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 6000,
            "log.cleaner.backoff.ms": 1000,
            "log.retention.check.interval.ms": 1000,
        }
        users: list[str] = []
        if self._is_secure:
            mechanism = "SCRAM-SHA-512"
            module = "org.apache.kafka.common.security.scram.ScramLoginModule"
            users = ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
            settings |= {
                "listeners": f"{plain},SASL_SSL://127.0.0.1:{broker.secure},{control}",
                "advertised.listeners": f"{plain},SASL_SSL://localhost:{broker.secure}",
                "sasl.enabled.mechanisms": mechanism,
                f"listener.name.sasl_ssl.{mechanism.lower()}.sasl.jaas.config": f"{module} required;",
                "ssl.keystore.type": "PKCS12",
                "ssl.keystore.location": self.folder / "server.p12",
                "ssl.keystore.password": "secret",
                "ssl.key.password": "secret",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        settings |= self._properties
        path = broker.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        _run("storage", "format", "-t", _CLUSTER_ID, "-c", str(path), *users)

    def _make_certificates(self) -> None:
        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], check=True, cwd=self.folder, capture_output=True)

        key = ("-newkey", "rsa:2048", "-nodes")
        openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=tests"
        )
        openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
        pair = ("-in", "server.pem", "-inkey", "server.key")
        openssl("pkcs12", "-export", *pair, "-out", "server.p12", "-passout", "pass:secret")
