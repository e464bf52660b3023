"""One process of the live job, which the supervisor starts by `command`.

It reads its settings from the environment alone, where the supervisor puts them.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import orjson

from recstream.config import ConfigError, Settings
from recstream.runtime.periodic import PeriodicCall
from recstream.runtime.positions import positions_dir
from recstream.runtime.runner import prepare, run_flow
from recstream.runtime.signals import Stop

__all__ = ["ADDRESSES", "PROCESS_ID", "command", "main", "run", "summary_path"]

PROCESS_ID = "RECSTREAM_PROCESS_ID"
ADDRESSES = "RECSTREAM_ADDRESSES"
_START: Final = (
    "'recstream.runtime.process'; import sys; sys.path[:], sys.argv[1:] = sys.argv[1:], []; "
    "from recstream.runtime.process import run; sys.exit(run())"
)
"""Begins with what ``ps`` is to show."""
_SWITCH_S: Final = 0.0005
"""Seconds that a background thread may hold up the worker's, in place of Python's five milliseconds."""
_UPKEEP_S: Final = 5.0
"""Seconds between two looks at what the store needs."""
_LAG_S: Final = 60.0
"""Seconds between two looks at how much of what partitions hold is not read yet."""
_LAG_END_S: Final = 1.0
"""How long the end waits for such a look, which may wait for an answer."""


def command() -> list[str]:
    """What starts one. It imports from where this process does.

    With ``-m`` modules in the working directory would come first: a ``numpy.py`` there, another recstream.
    """
    return [sys.executable, "-c", _START, *sys.path]


def summary_path(store: Path, process_id: int) -> Path:
    """Where a process leaves the totals of its last run."""
    return store / "summaries" / f"{process_id}.json"


def throttled_path(store: Path, process_id: int) -> Path:
    """Where a process leaves until when a broker throttles what it writes, on the monotonic clock."""
    return store / "summaries" / f"{process_id}.throttled"


def main() -> int:
    """Run the live job until it is asked to stop; gives the exit code."""
    faulthandler.enable()  # a crash of a library says at least where it came from
    environ = dict(os.environ)
    process_id = int(environ.pop(PROCESS_ID, "0"))
    addresses = environ.pop(ADDRESSES, "").split(";")
    stop = Stop()
    stop.on_signals()
    settings = Settings.load(None, environ)
    logging.basicConfig(
        level=settings.run.log_level.upper(),
        format=f"%(asctime)s %(levelname)s process={process_id} %(name)s %(message)s",
    )
    _bound_threads(settings.run.processes)
    sys.setswitchinterval(_SWITCH_S)

    from recstream.dataflow.graph import recommend_flow
    from recstream.runtime.wiring import Wiring

    wiring = Wiring(
        settings,
        stop=stop,
        maintains=process_id == 0,
        process=process_id,
        processes=len(addresses),
    )
    throttled = throttled_path(settings.store_dir, process_id)
    throttled.parent.mkdir(parents=True, exist_ok=True)

    def note_throttled(seconds: float) -> None:
        new = throttled.with_suffix(".new")
        new.write_text(f"{time.monotonic() + seconds}")
        new.replace(throttled)

    wiring.on_throttled = note_throttled
    if settings.run.metrics_port:
        try:
            wiring.meters.serve(
                settings.run.metrics_port + process_id,
                why_dead=wiring.health.why_dead,
                why_not_ready=wiring.health.why_not_ready,
            )
        except OSError as error:
            raise ConfigError([str(error)]) from error
    wiring.database  # noqa: B018 - a store that does not fit is refused before the processes meet
    rules = wiring.rules()
    if settings.encoder.preload and settings.encoder.backend == "transformers":
        wiring.preload(_fail)
    prepare()
    flow = recommend_flow(wiring.live_inputs(), wiring.live_outputs(), wiring.services(), rules)

    def finish() -> None:
        path = summary_path(settings.store_dir, process_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(wiring.summary()))

    is_first = process_id == 0
    with ExitStack() as threads:
        if is_first:
            maintain, report = wiring.database.maintain, wiring.report_positions
            threads.enter_context(PeriodicCall("upkeep", maintain, _fail, every_s=_UPKEEP_S))
            threads.enter_context(
                PeriodicCall("lag", report, traceback.print_exception, every_s=_LAG_S, end_s=_LAG_END_S)
            )
        run_flow(
            flow,
            recovery=positions_dir(settings.store_dir, flow.flow_id),
            epoch_s=settings.run.epoch_s,
            process_id=process_id if len(addresses) > 1 else None,
            addresses=addresses if len(addresses) > 1 else None,
            stop=stop,
            finish=finish,
            fail=_fail,
        )
    if is_first:
        wiring.database.purge()
    wiring.close()
    return 0


def _bound_threads(processes: int) -> None:
    """The encoder's threads share the cores with the other processes; set before torch is loaded."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def _fail(error: BaseException) -> None:
    """Say why, and end the process at once: what was not committed is done again."""
    code = _report(error)
    if code is None:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if code is None else code)


def _report(error: BaseException) -> int | None:
    """Print a fault that says how to mend it, and give its exit code; None for any other error."""
    from recstream.runtime.faults import known_fault, process_exit_code

    fault = known_fault(error)
    if fault is None:
        return None
    sys.stderr.write(f"error: {fault}\n")
    return process_exit_code(fault)


def run() -> int:
    """Run `main`; a fault that says how to mend it needs no traceback."""
    try:
        return main()
    except Exception as error:
        _fail(error)  # to free the clients of a broker that hangs would take some ten seconds
        raise


if __name__ == "__main__":
    sys.exit(run())
