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

from recstream.witness import PeerLostError, Witness

__all__ = ["RECOVERY_PARTS", "PositionsError", "Stop", "recovery_dir", "run_flow"]

RECOVERY_PARTS = 1
"""The recovery store holds source positions only: one small database is enough, however many processes."""

_log = logging.getLogger(__name__)
_SAID: Final = re.compile(r'Some\("([^"]*)"\)')
"""What sqlite said, in the text of bytewax's error."""


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
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._is_heard = False

    def asked(self) -> bool:
        """Whether the sources should end."""
        self._is_heard = True
        return self._event.is_set()

    def ask(self) -> None:
        """Let the sources end."""
        self._event.set()

    def on_signals(self, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """Ask on the first of these signals; a second SIGINT ends the process at once.

        So does the first signal while nobody has begun to ask: nothing is read yet, nothing is in flight.

        Raises:
            ValueError: not called from the main thread.
        """

        def handle(number: int, _: FrameType | None) -> None:
            if not self._is_heard:
                os._exit(0 if number == signal.SIGTERM else 128 + number)
            if self._event.is_set() and number == signal.SIGINT:
                os._exit(128 + number)
            self.ask()

        for one in signals:
            signal.signal(one, handle)


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
    finish: Callable[[], None] | None = None,
    fail: Callable[[BaseException], None] | None = None,
) -> None:
    """Run a dataflow until its sources end.

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
    if addresses is not None and fail is not None:
        Witness(flow, fail)
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
