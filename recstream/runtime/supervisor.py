"""Keeps the processes of the live job running: all together, or none."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import orjson

from recstream.config import Settings
from recstream.connectors import connector_for, scheme_of
from recstream.connectors.base import PartitionWatch
from recstream.records.reject_limit import RejectLimitError
from recstream.runtime.faults import (
    EXIT_REJECT_LIMIT,
    EXIT_SETTINGS,
    EXIT_WAITED,
    JobError,
    RefusedError,
)
from recstream.runtime.output import ProcessOutput
from recstream.runtime.positions import LIVE, positions_dir
from recstream.runtime.process import ADDRESSES, PROCESS_ID, command, summary_path, throttled_path
from recstream.runtime.signals import Stop, bury_orphans

__all__ = ["Supervisor", "check_places"]

_log = logging.getLogger(__name__)
_STABLE_S: Final = 60.0
"""A job that ran this long before it failed gets all its restarts again."""
_BACK_S: Final = 5.0
"""A clock that is set back by no more is waited for."""
_PR_SET_PDEATHSIG: Final = 1
_CLEAN: Final = (0, -signal.SIGTERM)
"""Exit codes of a process that was asked to end; the second before it could install a handler."""
_LAST_WORDS_S: Final = 3.0
"""How long the others may take to end when one has: the one to blame may be the last to be gone."""


def check_places(settings: Settings) -> None:
    """Refuse what no start would mend: places of the live job that do not exist, and rights that lack.

    Raises:
        ConnectorError: of exit code 2.
    """
    live = settings.live
    reads, writes = [live.events, live.items], [live.lists, live.dead_letter, live.sessions]
    for scheme in dict.fromkeys(scheme_of(address) for address in live if address):
        of_it = {address for address in live if address and scheme_of(address) == scheme}
        connector_for(next(iter(of_it)), settings.options_of).check(
            reads=[address for address in reads if address in of_it],
            writes=[address for address in writes if address in of_it],
        )


class Supervisor:
    """Starts the processes, restarts them all when one dies, ends them all on request.

    In a bytewax cluster the death of one process ends the others, and none can rejoin: so a restart
    is a restart of all, from the last committed epoch. When a topic got more partitions, all are stopped as
    on request and started again, for only a new start reads these; that is no failure. Nor is it when the
    clock was set back: bytewax wakes sources by the wall clock, so they would sleep for as long.
    """

    def __init__(self, settings: Settings, stop: Stop, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._stop = stop
        self._environ = settings.environ_for_child(environ)
        self._children: list[subprocess.Popen[bytes]] = []
        self._output = ProcessOutput(sys.stderr.buffer)

    def run(self) -> list[dict[str, object]]:
        """Keep the job running until a stop is asked for; gives the summaries of those that had begun.

        Raises:
            JobError: it failed more often than ``run.restarts``, or did not stop within
                ``run.stop_timeout_s``.
            RefusedError: it refused its settings, or the store.
            ConnectorError: what it should read or write does not exist, or settings for it are refused.
            RejectLimitError: too many records were rejected; starting again would read the same ones.
        """
        live = self._settings.live
        connector = connector_for(live.events, self._settings.options_of)
        self._check()
        with connector.watch([live.events, live.items]) as watch:
            return self._keep_running(watch)

    def _check(self) -> None:
        check_places(self._settings)

    def _keep_running(self, watch: PartitionWatch) -> list[dict[str, object]]:
        failures = 0
        positions_dir(self._settings.store_dir, LIVE)
        while True:
            watch.begin(self._stop.asked)
            begin = time.monotonic()
            self._start()
            try:
                codes, why = self._watch(watch.grown)
            finally:
                self._kill()
            if self._stop.asked() and all(code in _CLEAN for code in codes):
                return self._summaries()
            if self._stop.asked():
                msg = f"the job was asked to stop and ended with exit codes {codes}: see the log above"
                raise JobError(msg)
            if why and all(code is None or code in _CLEAN for code in codes):
                continue
            if EXIT_SETTINGS in codes:
                msg = (
                    "a process refused its settings, or the store: see the log above; starting it again "
                    "would not help"
                )
                raise RefusedError(msg)
            if EXIT_REJECT_LIMIT in codes:
                msg = "a process stopped at too many rejects: see the log above; not started again by itself"
                raise RejectLimitError(msg)
            if EXIT_WAITED in codes:
                msg = (
                    "what the job reads or writes stayed away: see the log above. Mend it and start again: "
                    "it resumes where it was. `recstream doctor` checks the set-up"
                )
                raise JobError(msg)
            failures = 1 if time.monotonic() - begin > _STABLE_S else failures + 1
            if failures > self._settings.run.restarts:
                msg = (
                    f"the job failed {failures} times in a row (exit codes {codes}); the reason is in the "
                    "log above. Mend it and start again: it resumes where it was. `recstream doctor` checks "
                    "the set-up"
                )
                raise JobError(msg)
            wait_s = min(2.0 ** (failures - 1), 30.0)
            _log.error("a process died exit_codes=%s restart=%s wait_s=%s", codes, failures, wait_s)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and not self._stop.asked():
                time.sleep(0.05)
            if self._stop.asked():
                msg = "stopped while waiting to restart after a failure: the reason is in the log above"
                raise JobError(msg)
            self._check()

    def _start(self) -> None:
        count = self._settings.run.processes
        addresses = ";".join(f"127.0.0.1:{port}" for port in _free_ports(count)) if count > 1 else ""
        for process_id in range(count):
            summary_path(self._settings.store_dir, process_id).unlink(missing_ok=True)
            throttled_path(self._settings.store_dir, process_id).unlink(missing_ok=True)
            environ = {**self._environ, PROCESS_ID: str(process_id), ADDRESSES: addresses}
            child = subprocess.Popen(  # noqa: S603 - the command is ours
                command(),
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then asks each
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no locks
            )
            self._children.append(child)
            self._output.follow(child)

    def _watch(self, grown: Callable[[], str]) -> tuple[list[int | None], str]:
        """Wait until all ended, or one failed, or the stop took too long; stop them when a new start is due.

        Gives the exit codes, and why it is.
        """
        stopping: _StopTime | None = None
        why = ""
        clock = _Clock()
        while True:
            bury_orphans({child.pid for child in self._children})
            codes = [child.poll() for child in self._children]
            if all(code is not None for code in codes):
                return codes, why
            why = why or grown() or clock.set_back()
            is_ending = self._stop.asked() or bool(why)
            clean = _CLEAN if is_ending else (0,)
            if any(code is not None and code not in clean for code in codes):
                return self._last_words(), why
            if is_ending:
                if stopping is None:
                    if not self._stop.asked():
                        _log.warning("%s: all is stopped and started again", why)
                    store, count = self._settings.store_dir, len(self._children)
                    throttled = [throttled_path(store, process_id) for process_id in range(count)]
                    stopping = _StopTime(throttled, self._settings.run.stop_timeout_s)
                    for child in self._children:
                        child.send_signal(signal.SIGTERM)
                elif stopping.is_over():
                    limit = self._settings.run.stop_timeout_s
                    slow = [child.pid for child in self._children if child.poll() is None]
                    msg = (
                        f"processes {slow} did not stop within {limit:g} s and were killed; nothing is lost, "
                        "the next start resumes from the last committed epoch. If this recurs, raise "
                        "run.stop_timeout_s"
                    )
                    if self._stop.asked():
                        raise JobError(msg)
                    _log.warning(msg)
                    return codes, why
            time.sleep(0.05)

    def _last_words(self) -> list[int | None]:
        """Exit codes once all have ended, or after a while: the death of one ends the others."""
        deadline = time.monotonic() + _LAST_WORDS_S
        while any(child.poll() is None for child in self._children) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [child.poll() for child in self._children]

    def _kill(self) -> None:
        well = all(child.poll() in {None, *_CLEAN} for child in self._children)
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
        self._children.clear()
        self._output.end(well=well)

    def _summaries(self) -> list[dict[str, object]]:
        paths = [
            summary_path(self._settings.store_dir, process_id)
            for process_id in range(self._settings.run.processes)
        ]
        return [orjson.loads(path.read_bytes()) for path in paths if path.exists()]


class _StopTime:
    """The time that a stop may take: as long again each time that a broker throttles what is written.

    It then confirms what is left, if slowly: under a quota there is no telling how long that takes.
    """

    def __init__(self, throttled: Sequence[Path], limit_s: float) -> None:
        self._limit_s = limit_s
        self._throttled = dict.fromkeys(throttled, "")
        self._deadline = time.monotonic() + limit_s

    def is_over(self) -> bool:
        for path, before in self._throttled.items():
            until = path.read_text() if path.exists() else ""
            if until != before:
                self._throttled[path] = until
                self._deadline = max(self._deadline, float(until) + self._limit_s)
        return time.monotonic() > self._deadline


class _Clock:
    """Notices that the wall clock was set back since this was made."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def set_back(self) -> str:
        """By how much, for a log; empty when it was not."""
        ahead = time.time() - time.monotonic()
        back = self._ahead - ahead
        self._ahead = max(self._ahead, ahead)
        return f"the clock was set back by {back:.0f} s" if back > _BACK_S else ""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process should its supervisor be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
