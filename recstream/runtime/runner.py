"""Runs one dataflow process: recovery store, clean stop on signals, and a summary of what was done."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from threadpoolctl import threadpool_limits

from recstream.runtime.error_capture import ErrorCapture, PeerLostError, once_listed

__all__ = ["RECOVERY_PARTS", "PositionsError", "Stop", "recovery_dir", "run_flow"]

RECOVERY_PARTS = 1
"""The recovery store holds source positions only: one small database is enough, however many processes."""

_log = logging.getLogger(__name__)
_SAID: Final = re.compile(r'Some\("([^"]*)"\)')
"""What sqlite said, in the text of bytewax's error."""
_MEET_S: Final = 2.0
"""How long a process that is asked to stop waits for its peers, or for a broker, to begin to read."""


class PositionsError(Exception):
    """The recovery store cannot be read or written: says where, why, and how to mend it."""


class Stop:
    """Asked to stop? Set by a signal, read by the sources, which then end: the clean stop (guarantee G6).

    Ending the sources makes bytewax close the last epoch as at the end of a file: all that is in flight is
    worked off, written and committed. SIGTERM alone would end the process without a snapshot.

    >>> stop = Stop()
    >>> stop.asked()
    False
    >>> stop.ask()
    >>> stop.asked()
    True

    Until somebody listens, a signal ends the process at once: nothing is read yet, nothing is in flight.
    ``early_exit`` is the exit code of a SIGTERM then.
    """

    def __init__(self, early_exit: int = 0) -> None:
        self._event = threading.Event()
        self._early_exit = early_exit
        self._meets = False
        self._is_heard = False

    def asked(self) -> bool:
        """Whether the sources should end."""
        self._is_heard = True
        return self._event.is_set()

    def ask(self) -> None:
        """Let the sources end."""
        self._event.set()

    def meet(self) -> None:
        """The process is about to meet its peers: it should no more end at once, but with them.

        When they do not all come within two seconds of the stop, or the broker does not tell them what there
        is to read, nobody has read anything, and it ends after all.
        """
        self._meets = True

    def heard(self) -> None:
        """From now on a stop is heard: by sources, or, in a process that reads none, by those of its peers.

        A process without a partition never asks; it ends when the others do. Ended before them it would
        take them, and their epoch, along.
        """
        self._is_heard = True

    def on_signals(self, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """Ask on the first of these signals; a second SIGINT ends the process at once.

        So does the first signal while nobody listens.

        Raises:
            ValueError: not called from the main thread.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        for one in signals:
            signal.signal(one, _wake)
        told = frozenset(map(int, signals))
        threading.Thread(
            target=self._listen, args=[reading, told], name="recstream-signals", daemon=True
        ).start()

    def _listen(self, reading: int, told: frozenset[int]) -> None:
        """Hear of signals in a thread: the main one may be out of Python, waiting for peers or a broker."""
        while True:
            for number in os.read(reading, 64):
                if number in told:
                    self._on(number)

    def _on(self, number: int) -> None:
        code = self._early_exit if number == signal.SIGTERM else 128 + number
        if not self._is_heard and not self._meets:
            os._exit(code)
        if self._event.is_set() and number == signal.SIGINT:
            os._exit(128 + number)
        if not self._event.is_set() and not self._is_heard:
            waiting = threading.Timer(_MEET_S, self._give_up, [code])
            waiting.daemon = True
            waiting.start()
        self.ask()

    def _give_up(self, code: int) -> None:
        if not self._is_heard:
            os._exit(code)


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: with a handler of Python's, a signal wakes the thread that listens."""


def recovery_dir(store: Path, name: str) -> Path:
    """Where the source positions of a flow are kept; made when it is not there.

    Raises:
        PositionsError: it cannot be made.
    """
    folder = store / "positions" / name
    if not folder.exists() or not any(folder.glob("part-*.sqlite3")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            init_db_dir(folder, RECOVERY_PARTS)
        except (OSError, RuntimeError) as err:
            raise _bad_positions(folder, err) from err
    return folder


def _bad_positions(folder: Path, err: BaseException) -> PositionsError:
    """The fault for what sqlite, within bytewax, or the disk refuses."""
    said = _SAID.findall(str(err))
    why = said[-1] if said else str(err)
    is_full = "full" in why or "No space left" in why
    mend = "free disk space" if is_full else "check the folder's permissions and its disk"
    return PositionsError(
        f"the positions in {folder} cannot be kept: {why}; {mend}, then start again: it goes on from "
        "the last committed epoch"
    )


def run_flow(
    flow: Dataflow,
    *,
    recovery: Path | None,
    epoch_s: float,
    process_id: int | None = None,
    addresses: Sequence[str] | None = None,
    stop: Stop | None = None,
    finish: Callable[[], None] | None = None,
    fail: Callable[[BaseException], None] | None = None,
) -> None:
    """Run a dataflow until its sources end.

    ``stop``, which ends them, is told when the processes of a cluster meet and when they begin to read.

    ``finish`` is called when it has ended well: everything is then written and committed. ``fail`` is
    called in a cluster with the first exception, which bytewax would lose: it should end the process.

    Raises:
        Exception: whatever stopped the epoch; what was not committed is done again at the next start.
        PeerLostError: another process of the cluster stopped it.
        PositionsError: the recovery store cannot be read or written.
    """
    config = None if recovery is None else RecoveryConfig(str(recovery), backup_interval=timedelta(0))
    _log.info("flow=%s process=%s recovery=%s", flow.flow_id, process_id, recovery)
    # One thread for numpy's products: a list is a small product, which waits for its second thread far
    # longer than it computes once anything else wants the core. Cores are used by processes.
    if addresses is not None and stop is not None:
        once_listed(flow, stop.heard)
        stop.meet()
    if addresses is not None and fail is not None:
        ErrorCapture(flow, fail)
    with threadpool_limits(1, "blas"):
        try:
            cli_main(
                flow,
                workers_per_process=1,
                process_id=process_id,
                addresses=None if addresses is None else list(addresses),
                epoch_interval=timedelta(seconds=epoch_s),
                recovery_config=config,
            )
        except BaseException as err:
            if recovery is not None and "SqliteFailure" in str(err):
                raise _bad_positions(recovery, err) from err
            if addresses is None or isinstance(err, (Exception, KeyboardInterrupt, SystemExit)):
                raise
            msg = f"process {process_id} ended because another process of the job did: its log says why"
            raise PeerLostError(msg) from err
    if finish is not None:
        finish()
