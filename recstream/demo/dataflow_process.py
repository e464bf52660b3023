"""The dataflow in a process of its own: started, observed through its metrics, stopped."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client.parser import text_string_to_metric_families

from recstream.config import Settings
from recstream.metrics.accounting import merge_summaries
from recstream.runtime.process import command, summary_path

__all__ = ["DataflowDiedError", "DataflowProcess", "MetricsSnapshot", "free_port"]

_LIVES_WITH_PARENT: Final = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_LOG_LINES: Final = 15
"""Last lines of the log that the message of an error contains."""


class DataflowDiedError(Exception):
    """The dataflow ended unexpectedly, or did not do in time what it was to do."""


class MetricsSnapshot:
    """The metrics of the dataflow at one time, from the text that its endpoint serves."""

    def __init__(self, text: str = "") -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **labels: str) -> int:
        """Sum of the samples of a counter or gauge with these labels; 0 when there are none.

        >>> MetricsSnapshot('recstream_kafka_lag{partition="events/0"} 3').total("kafka_lag")
        3
        """
        full = f"recstream_{name}"
        samples = self._samples.get(full) or self._samples.get(full + "_total") or []
        return int(sum(value for have, value in samples if labels.items() <= have.items()))

    @property
    def done(self) -> int:
        """Events that were applied, rejected, or recognised as known."""
        rejected = self.total("records_rejected", stream="events")
        return rejected + sum(
            self.total(name) for name in ("events_applied", "events_duplicate", "events_absorbed")
        )


class DataflowProcess:
    """One process of the live job with these settings, killed if this process dies."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Id of the process; None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self, environ: Mapping[str, str]) -> None:
        """Start the process, from the main thread: it is killed when the thread that started it ends."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-I", "-S", "-c", _LIVES_WITH_PARENT, str(os.getpid()), *command()],
                env=self._settings.environ_for_child(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo, which then stops the dataflow
            )

    def metrics(self) -> MetricsSnapshot:
        """The metrics now; empty while the endpoint does not answer.

        Raises:
            DataflowDiedError: The process has ended.
        """
        if self.pid is None:
            raise DataflowDiedError(self._failure("ended"))
        connection = http.client.HTTPConnection("127.0.0.1", self._settings.run.metrics_port, timeout=2.0)
        try:
            connection.request("GET", "/metrics")
            return MetricsSnapshot(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException):
            return MetricsSnapshot()
        finally:
            connection.close()

    def stop(self, while_waiting: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Stop it by SIGTERM, wait, and give its summary.

        Raises:
            DataflowDiedError: It failed, or did not stop in time.
        """
        process = self._process
        if process is None or process.poll() is not None:
            raise DataflowDiedError(self._failure("ended"))
        process.send_signal(signal.SIGTERM)
        limit = self._settings.run.stop_timeout_s
        deadline = time.monotonic() + limit
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise DataflowDiedError(self._failure(f"did not stop within {limit:g} s"))
            while_waiting()
            time.sleep(0.02)
        path = summary_path(self._settings.store_dir, 0)
        if process.returncode or not path.exists():
            raise DataflowDiedError(self._failure("did not stop well"))
        return merge_summaries([orjson.loads(path.read_bytes())])

    def end(self, patience_s: float = 5.0) -> None:
        """End it by SIGTERM, then SIGKILL; does nothing when it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def _failure(self, what: str) -> str:
        code = self._process.poll() if self._process is not None else None
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        tail = "\n".join("  " + line for line in lines[-_LOG_LINES:]) or "  (nothing)"
        return f"the dataflow {what} (exit code {code}); its log {self.log} ends:\n{tail}"


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
