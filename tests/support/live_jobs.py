"""`recstream run` as a process with children, and waiting for what it does."""

from __future__ import annotations

import http.client
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.commands import command, environment


class LiveJob:
    """``recstream run`` as a process, its log in a file."""

    def __init__(self, log: Path, settings: Mapping[str, str], *args: str) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command("run", *args), env=environment(settings), stdout=out, stderr=out
            )

    def children(self) -> list[int]:
        """Process ids of the dataflow processes."""
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [
            int(line.split()[0]) for line in found.stdout.splitlines() if "recstream.runtime.process" in line
        ]

    def kill(self) -> None:
        """``kill -9`` of the supervisor."""
        self.process.kill()
        self.process.wait()

    def stop(self, within_s: float = 15.0) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no stop within {within_s} s; its log:\n{self.text()}") from None

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")


@contextmanager
def live_job(log: Path, settings: Mapping[str, str], *args: str) -> Iterator[LiveJob]:
    """A job that is gone afterwards, with its children."""
    job = LiveJob(log, settings, *args)
    try:
        yield job
    finally:
        if job.process.poll() is None:
            job.process.terminate()
            try:
                job.process.wait(15)
            except subprocess.TimeoutExpired:
                job.kill()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def probe(port: int, path: str) -> tuple[int, str]:
    """Status and words of ``/healthz`` or ``/readyz``; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def wait_until(fact: Callable[[], bool], what: Callable[[], str] | str, *, seconds: float = 60.0) -> None:
    """Wait for a fact, or fail and say what was waited for."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)
