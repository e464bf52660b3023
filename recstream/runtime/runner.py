"""Runs a dataflow in this process, alone or as one of a cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Final

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from threadpoolctl import threadpool_limits

from recstream.dataflow.worker import compile_kernels
from recstream.runtime.bytewax_internals import (
    AlignedEpochs,
    ErrorCapture,
    once_listed,
    panics_unannounced,
    recovery_store_error,
)
from recstream.runtime.positions import PositionsError
from recstream.runtime.signals import Stop

__all__ = ["PeerLostError", "prepare", "run_flow"]

_log = logging.getLogger(__name__)

_LONG_S: Final = 3.0
_COMPILING: Final = "compiling the ranking kernels: once after an install, for a minute or two"


class PeerLostError(Exception):
    """Another process of the job died, and this one with it."""


def prepare() -> None:
    """Compile what is not compiled yet, before anything is read: a stop then ends the process at once.

    Says so if it takes long, as it does once after an install.
    """
    note = threading.Timer(_LONG_S, _log.warning, [_COMPILING])
    note.daemon = True
    note.start()
    compile_kernels()
    note.cancel()


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

    ``stop``, which ends them, learns when the processes of a cluster meet and when they begin to read.
    ``finish`` is called at a good end: everything is then written and committed. ``fail`` is called in a
    cluster with the first exception, which bytewax would lose: it should end the process.

    Raises:
        Exception: whatever stopped the epoch; what was not committed is done again at the next start.
        PeerLostError: another process of the cluster stopped it.
        PositionsError: the recovery store cannot be read or written.
    """
    config = None if recovery is None else RecoveryConfig(str(recovery), backup_interval=timedelta(0))
    _log.info("flow=%s process=%s recovery=%s", flow.flow_id, process_id, recovery)
    epochs = AlignedEpochs(flow, epoch_s, is_one_of_many=addresses is not None)
    # One thread for numpy's products: a list is a small product, which waits for its second thread far
    # longer than it computes once anything else wants the core. Cores are used by processes.
    if addresses is not None and stop is not None:
        once_listed(flow, stop.is_read)
        stop.meet()
    if addresses is not None and fail is not None:
        ErrorCapture(flow, fail)
    unannounced = panics_unannounced(flow) if addresses is None else nullcontext()
    with threadpool_limits(1, "blas"), unannounced:
        try:
            cli_main(
                flow,
                workers_per_process=1,
                process_id=process_id,
                addresses=None if addresses is None else list(addresses),
                epoch_interval=timedelta(seconds=epochs.epoch_s),
                recovery_config=config,
            )
        except BaseException as err:
            if recovery is not None and (why := recovery_store_error(err)) is not None:
                raise PositionsError(recovery, why) from err
            if addresses is None or isinstance(err, (Exception, KeyboardInterrupt, SystemExit)):
                raise
            msg = f"process {process_id} ended because another process of the job did: its log says why"
            raise PeerLostError(msg) from err
    if finish is not None:
        finish()
