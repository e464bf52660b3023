"""What recstream knows of bytewax beyond its documentation, all of it checked with `BYTEWAX_VERSION`.

* *Recovery store.* A folder of SQLite files ``part-N.sqlite3``. Table ``snaps`` has a row for each change of
  a key: ``step_id`` (begins with the flow's id), ``state_key``, and ``ser_change``, the pickled state, or
  NULL for a key that is gone. `stored_keys` and `stored_states` read it. A run goes on from the epoch that
  the slowest worker of the run before had reached (``exs``, ``fronts``), and loads of each key the newest row
  of an earlier epoch: these are the committed ones. `committed_states` reads and `set_states` rewrites them.
* *Errors.* A fault of SQLite arrives as an exception whose text has ``SqliteFailure``, and SQLite's words in
  ``Some("...")``: `recovery_store_error`. In a cluster any exception of a worker becomes "Send thread panic"
  in every process, itself among them, or a panic within the panic aborts the process. The exception that
  says how to mend it is gone; `ErrorCapture` wraps what bytewax calls, to learn of it before bytewax does.
* *Beginning.* ``list_parts`` of a source is called in every process of a cluster, ``build_part`` only where
  the partition is read, and no source is read before all processes have listed: `once_listed`.
* *Order within a stateful step.* ``on_batch``; then ``on_notify`` if ``notify_at`` is past by the machine's
  clock; then, at the end of the epoch, ``snapshot`` of each key that was awake in it; then the epoch commits.
* *Commits.* Nobody is told of them. The ``snapshot`` of a source's partition is asked for once the epoch of
  the one before is closed.

`tests/runtime/test_bytewax_internals.py` fails when another version does otherwise.
"""

from __future__ import annotations

import os
import pickle
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, NamedTuple

from bytewax.dataflow import Dataflow
from bytewax.recovery import init_db_dir

__all__ = [
    "BYTEWAX_VERSION",
    "AlignedEpochs",
    "ErrorCapture",
    "StoredState",
    "committed_states",
    "has_recovery_store",
    "make_recovery_store",
    "once_listed",
    "panics_unannounced",
    "recovery_store_error",
    "set_states",
    "stored_keys",
    "stored_states",
]

BYTEWAX_VERSION: Final = "0.21.1"
"""The version that all of this is known of; pyproject.toml pins it."""

_CALLED: Final = (
    *("list_parts", "build_part", "build", "part_fn"),
    *("next_batch", "next_awake", "write_batch", "on_batch", "on_notify", "on_eof", "notify_at"),
    *("snapshot", "close"),
)
"""What bytewax calls of sources, sinks, their partitions, and logics."""
_MAKERS: Final = ("build_part", "build")
_PARTS: Final = "part-*.sqlite3"
_PAUSE_S: Final = 0.1
"""No source is left alone for longer, unless it waits for something."""
_SPARE_S: Final = 0.02
"""How much later than bytewax would a process of a cluster may close an epoch."""
_EARLY_S: Final = 0.005
"""Bytewax reads its clock so much earlier, at most, than it asks for the snapshot of a partition."""
_SQLITE_SAYS: Final = re.compile(r'Some\("([^"]*)"\)')


class StoredState(NamedTuple):
    """One change of a key that a recovery store holds."""

    step: str
    """``"recommend.events"``: flow and step."""
    key: str
    """Name of the partition, or key of the logic."""
    state: Any
    """What ``snapshot`` gave; None for a key that is gone."""


def has_recovery_store(folder: Path) -> bool:
    """Whether there is a recovery store in a folder."""
    return any(folder.glob(_PARTS))


def make_recovery_store(folder: Path, parts: int = 1) -> None:
    """Make a recovery store of so many files in a folder, where there is none.

    Raises:
        OSError, RuntimeError: it cannot be made.
    """
    if not has_recovery_store(folder):
        folder.mkdir(parents=True, exist_ok=True)
        init_db_dir(folder, parts)


def stored_keys(folder: Path) -> dict[str, set[str]]:
    """Keys that a recovery store has by step (``"backfill.events"``); none where there is no store."""
    keys: dict[str, set[str]] = {}
    for step, key in _rows(folder, "SELECT DISTINCT step_id, state_key FROM snaps"):
        keys.setdefault(step, set()).add(key)
    return keys


def stored_states(folder: Path) -> Iterator[StoredState]:
    """All that a recovery store holds, older changes of a key too."""
    for step, key, pickled in _rows(folder, "SELECT step_id, state_key, ser_change FROM snaps"):
        yield StoredState(step, key, None if pickled is None else pickle.loads(pickled))  # noqa: S301 - ours


def committed_states(folder: Path) -> dict[tuple[str, str], Any]:
    """States that a next run begins with, by step and key; those of the last epoch committed.

    A run may be under way.
    """
    before = _resume_epoch(folder)
    query = (
        "SELECT step_id, state_key, ser_change, MAX(snap_epoch) FROM snaps WHERE snap_epoch < ? "
        "GROUP BY step_id, state_key"  # the other columns are those of the row that has the maximum
    )
    return {
        (step, key): pickle.loads(pickled)  # noqa: S301 - ours
        for step, key, pickled, _ in _rows(folder, query, before)
        if pickled is not None
    }


def set_states(folder: Path, states: Mapping[tuple[str, str], Any]) -> None:
    """Put states, by step and key, in the place of committed ones. No run may be under way.

    All of them, or none: those of one file of the store, of which `make_recovery_store` makes one.

    Raises:
        KeyError: a key has no committed state.
        sqlite3.Error: the store cannot be written.
    """
    unknown = states.keys() - committed_states(folder).keys()
    if unknown:
        raise KeyError(f"no state is stored of {sorted(unknown)}")
    before = _resume_epoch(folder)
    update = (
        "UPDATE snaps SET ser_change = ?1 WHERE step_id = ?2 AND state_key = ?3 AND snap_epoch = "
        "(SELECT MAX(snap_epoch) FROM snaps WHERE step_id = ?2 AND state_key = ?3 AND snap_epoch < ?4)"
    )
    for path in sorted(folder.glob(_PARTS)):
        with closing(sqlite3.connect(path)) as database, database:  # the second commits, or rolls back
            for (step, key), state in states.items():
                database.execute(update, (pickle.dumps(state), step, key, before))


def _resume_epoch(folder: Path) -> int:
    """The epoch that a next run begins with, as bytewax computes it; 0 before the first run."""
    runs = list(_rows(folder, "SELECT ex_num, worker_count, resume_epoch FROM exs"))
    if not runs:
        return 0
    newest, workers, begin = max(runs)
    reached: dict[int, int] = dict.fromkeys(range(workers), begin)
    for run, worker, epoch in _rows(folder, "SELECT ex_num, worker_index, worker_frontier FROM fronts"):
        if run == newest:
            reached[worker] = max(epoch, reached[worker])
    return min(reached.values())


def _rows(folder: Path, query: str, *values: object) -> Iterator[Any]:
    for path in sorted(folder.glob(_PARTS)):
        with closing(sqlite3.connect(path)) as database:
            yield from database.execute(query, values)


def recovery_store_error(error: BaseException) -> str | None:
    """SQLite's words in an error of bytewax's; None for any other error.

    >>> recovery_store_error(RuntimeError('SqliteFailure(Error { code: DiskFull }, Some("disk is full"))'))
    'disk is full'
    """
    text = str(error)
    if "SqliteFailure" not in text:
        return None
    found = _SQLITE_SAYS.findall(text)
    return found[-1] if found else text


class ErrorCapture:
    """Reports the first exception that a callback of a dataflow raises. Make it before the dataflow runs.

    >>> import bytewax.operators as op
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> flow = Dataflow("division")
    >>> numbers = op.map("divide", op.input("numbers", flow, TestingSource([1, 0])), lambda n: 1 // n)
    >>> op.output("out", numbers, TestingSink([]))
    >>> capture = ErrorCapture(flow, lambda err: print(repr(err)))
    >>> try:
    ...     run_main(flow)
    ... except RuntimeError:
    ...     print("bytewax knows, too")
    ZeroDivisionError('integer division or modulo by zero')
    bytewax knows, too
    """

    def __init__(self, flow: Dataflow, report: Callable[[BaseException], None]) -> None:
        self._report = report
        self._has_reported = False
        for step in _steps(flow.substeps):
            if hasattr(step, "mapper"):
                _set(step, "mapper", self._capturing(_eager(step.mapper)))
            for name in ("predicate", "inspector"):
                if hasattr(step, name):
                    _set(step, name, self._capturing(getattr(step, name)))
            if hasattr(step, "builder"):
                _set(step, "builder", self._making(step.builder))
            for name in ("source", "sink"):
                if hasattr(step, name):
                    self._watch(getattr(step, name))

    def _capturing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def capturing(*args: Any, **kwargs: Any) -> Any:
            try:
                return call(*args, **kwargs)
            except StopIteration:
                raise  # the end of a source
            except BaseException as err:
                if not self._has_reported:
                    self._has_reported = True
                    self._report(err)
                raise

        return capturing

    def _making(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """The same for what makes a partition or a logic, whose methods are called then."""
        capturing = self._capturing(make)

        def making(*args: Any, **kwargs: Any) -> Any:
            return self._watch(capturing(*args, **kwargs))

        return making

    def _watch(self, one: Any) -> Any:
        for name in _CALLED:
            if callable(method := getattr(one, name, None)):
                with suppress(AttributeError):  # it has slots: what it raises is not reported early
                    _set(one, name, self._making(method) if name in _MAKERS else self._capturing(method))
        return one


@contextmanager
def panics_unannounced(flow: Dataflow) -> Iterator[None]:
    """Run a dataflow within, alone in its process: an exception of a callback arrives without Rust's words.

    It passes through bytewax as a panic, of which Rust writes ("panicked at ... Box<dyn Any>") before anybody
    can say the reason. So from the exception on, until the end, file descriptor 2 leads nowhere.
    """
    with ExitStack() as unmuting:
        is_running = True

        def mute(_: BaseException) -> None:
            if is_running:  # a sink of this flow may be used by another one afterwards
                kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
                unmuting.callback(os.close, kept)
                unmuting.callback(os.dup2, kept, 2)

        ErrorCapture(flow, mute)
        try:
            yield
        finally:
            is_running = False


def once_listed(flow: Dataflow, call: Callable[[], None]) -> None:
    """Have ``call`` called once the last source has listed its partitions.

    Of what bytewax calls of sources, only that is called in every process of a cluster, and none reads
    before all have done it.

    >>> import bytewax.operators as op
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> flow = Dataflow("one")
    >>> op.output("out", op.input("numbers", flow, TestingSource([1])), TestingSink([]))
    >>> once_listed(flow, lambda: print("listed"))
    >>> run_main(flow)
    listed
    """
    last = [
        step.source for step in _steps(flow.substeps) if hasattr(getattr(step, "source", None), "list_parts")
    ][-1]
    list_parts = last.list_parts

    def listing() -> list[str]:
        found: list[str] = list_parts()
        call()
        return found

    _set(last, "list_parts", listing)


class AlignedEpochs:
    """Has the partitions of several sources close their epochs together. Make it before the dataflow runs.

    Bytewax closes the epoch of a partition when it looks at its source and some time has passed since it
    closed the one before, each by itself. A partition that has closed an epoch is not asked for records until
    all have, and all of that epoch is done. So two sources that are looked at in turn drift apart, and make
    each other wait: *measured* 160 ms of each second after 17 seconds. Here no source is looked at between
    the time at which the first of them would close its epoch and that at which the last would.

    The processes of a cluster do not know when the others would. ``is_one_of_many``: each closes its epochs
    at whole multiples of ``interval_s`` of the wall clock, or comes closer to that epoch by epoch.
    """

    def __init__(
        self,
        flow: Dataflow,
        interval_s: float,
        *,
        is_one_of_many: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._spare_s = min(_SPARE_S, interval_s / 10.0) if is_one_of_many else 0.0
        self.epoch_s = interval_s - self._spare_s
        """After which time bytewax is to close an epoch."""
        self._grid_s = interval_s
        self._clock = clock
        self._now = now
        self._hold_from = self._hold_until = float("-inf")
        self._epochs = 0
        """Most epochs that a partition has closed."""
        sources = [step.source for step in _steps(flow.substeps) if hasattr(step, "source")]
        partitioned = [source for source in sources if hasattr(source, "build_part")]
        if len(partitioned) > 1 or is_one_of_many:
            for source in partitioned:
                _set(source, "build_part", self._building(source.build_part))

    def _building(self, build: Callable[..., Any]) -> Callable[..., Any]:
        def building(*args: Any) -> Any:
            return self.align(build(*args))

        return building

    def align(self, part: Any) -> Any:
        """Let a partition, which has just begun an epoch, close it together with the others."""
        snapshot, next_awake, closed = part.snapshot, part.next_awake, 0
        self._begin(closed)

        def noting() -> Any:
            nonlocal closed
            closed += 1
            self._begin(closed)
            return snapshot()

        def holding() -> datetime | None:
            at: datetime | None = next_awake()
            now = self._clock()
            if now < self._hold_from - _PAUSE_S or now >= self._hold_until:
                return at
            utc = self._now()
            look = now if at is None else max(now, now + (at - utc).total_seconds())
            if not self._hold_from <= look < self._hold_until:
                return at
            return utc + timedelta(seconds=self._hold_until - now)

        _set(part, "snapshot", noting)
        _set(part, "next_awake", holding)
        return part

    def _begin(self, closed: int) -> None:
        """Note that a partition begins an epoch after so many others."""
        end = self._clock() + self.epoch_s
        if closed > self._epochs or self._hold_from == float("-inf"):
            self._epochs, self._hold_from = closed, end - _EARLY_S
        if self._spare_s:
            early = -(self._now().timestamp() + self.epoch_s) % self._grid_s
            end += early if early <= self._spare_s else 0.0
        self._hold_until = max(self._hold_until, end)


def _eager(mapper: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Map when called, not when bytewax iterates over the result."""

    def mapping(batch: Any) -> list[Any]:
        return list(mapper(batch))

    return mapping


def _steps(steps: list[Any]) -> Iterator[Any]:
    """The operators that bytewax itself runs."""
    for step in steps:
        if getattr(step, "core", False):
            yield step
        else:
            yield from _steps(step.substeps)


def _set(one: Any, name: str, value: Any) -> None:
    object.__setattr__(one, name, value)  # steps are frozen for their users
