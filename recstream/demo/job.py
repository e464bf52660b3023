"""The dataflow as a process of its own: started, watched through its metrics, stopped."""

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
from recstream.runtime.process import summary_path

__all__ = ["Job", "JobDiedError", "Reading", "free_port"]

_LIVES_WITH_PARENT: Final = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.executable, [sys.executable, "-m", "recstream.runtime.process"])
"""
_LOG_LINES: Final = 15


class JobDiedError(Exception):
    """The dataflow ended when it should not have; the message has the end of its log."""


class Reading:
    """The job's metrics at one moment."""

    def __init__(self, text: str = "") -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **labels: str) -> int:
        """Sum over the samples of a counter or gauge that have these labels; 0 when there are none.

        >>> Reading('recstream_kafka_lag{partition="events/0"} 3').total("kafka_lag")
        3
        """
        full = f"recstream_{name}"
        samples = self._samples.get(full) or self._samples.get(full + "_total") or []
        return int(sum(value for have, value in samples if labels.items() <= have.items()))

    @property
    def done(self) -> int:
        """Events that are applied, or otherwise finished with."""
        rejected = self.total("records_rejected", stream="events")
        return rejected + sum(
            self.total(name) for name in ("events_applied", "events_duplicate", "events_absorbed")
        )


class Job:
    """``python -m recstream.runtime.process`` with these settings; ends with this process at the latest."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process, None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self, environ: Mapping[str, str]) -> None:
        """Start; must be called from the main thread, which the process then lives with."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-c", _LIVES_WITH_PARENT, str(os.getpid())],
                env=self._settings.environ_for_child(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we then ask the job
            )

    def read(self) -> Reading:
        """The metrics now; empty while the endpoint is not up.

        Raises:
            JobDiedError: the process has ended.
        """
        if self.pid is None:
            raise JobDiedError(self._obituary("ended"))
        connection = http.client.HTTPConnection("127.0.0.1", self._settings.run.metrics_port, timeout=2.0)
        try:
            connection.request("GET", "/metrics")
            return Reading(connection.getresponse().read().decode())
        except (OSError, http.client.HTTPException):
            return Reading()
        finally:
            connection.close()

    def stop(self, while_waiting: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Ask it to stop (SIGTERM), wait, and give its summary.

        Raises:
            JobDiedError: it did not end well, or not in time.
        """
        process = self._process
        if process is None or process.poll() is not None:
            raise JobDiedError(self._obituary("ended"))
        process.send_signal(signal.SIGTERM)
        limit = self._settings.run.stop_timeout_s
        deadline = time.monotonic() + limit
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise JobDiedError(self._obituary(f"did not stop within {limit:g} s"))
            while_waiting()
            time.sleep(0.02)
        path = summary_path(self._settings.store_dir, 0)
        if process.returncode or not path.exists():
            raise JobDiedError(self._obituary("did not stop well"))
        return merge_summaries([orjson.loads(path.read_bytes())])

    def end(self, patience_s: float = 5.0) -> None:
        """Make sure that it is gone: SIGTERM, then SIGKILL; harmless when it is."""
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

    def _obituary(self, what: str) -> str:
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
