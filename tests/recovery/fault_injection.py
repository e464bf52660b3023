"""Fault injection: a process of the job that kills itself at a chosen point, or that lacks a mechanism.

``python -m tests.recovery.fault_injection`` is ``python -m recstream.runtime.process`` with wrappers around
the methods that crash tests are about. Two variables of the environment give it its orders:

* ``CRASH_ORDERS``: a file, looked at whenever one of `POINTS` is passed. It holds ``point n delay_ms``: the
  process kills itself (SIGKILL) when the point is passed for the n-th time since the file came. At points
  named ``inside`` it does so ``delay_ms`` after entering, while the work goes on.
* ``CRASH_MUTATION``: one of `MUTATIONS`, a mechanism that is switched off in this process.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import lancedb.table

from recstream.connectors.kafka.partition import KafkaPartition
from recstream.connectors.kafka.reader import GroupMirror
from recstream.connectors.kafka.sink import KafkaSink, TopicWriter
from recstream.dataflow import user_cache
from recstream.dataflow.outbox import Outbox
from recstream.dataflow.user_cache import UserCache
from recstream.dataflow.worker import Worker
from recstream.records.event import Event
from recstream.runtime import process as child
from recstream.runtime.supervisor import _die_with_parent
from recstream.stores.lance import database, journalled_users
from recstream.stores.lance.journal import Journal
from recstream.stores.lance.journalled_users import JournalledUserStore
from recstream.stores.lance.tables import LanceItemStore, LanceStatisticsStore, LanceUserStore
from recstream.users import state as user_state_module
from recstream.users.codec import OPEN_SESSION
from recstream.users.sessions import Session
from recstream.users.state import UserState

__all__ = ["INSTRUMENTS", "MUTATIONS", "POINTS", "main"]

ORDERS: Final = "CRASH_ORDERS"
MUTATION: Final = "CRASH_MUTATION"
ROWS_A_CALL: Final = 3
"""User rows a call of the store, instead of thousands: so that a barrier of few users has several calls."""
_LONG_S: Final = 1.0
"""An event that has waited so long is surely not of the epoch that its item comes in."""
_LISTS: Final = "RECSTREAM_KAFKA__LISTS_TOPIC"
_DEAD_LETTERS: Final = "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC"


class Orders:
    """The point at which to die, as `tests.recovery.crash_driver` writes it to a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._text = ""
        self._left = 0

    def reached(self, point: str) -> float | None:
        """The delay (s) with which to die if this passing of a point is the ordered one, else None."""
        if self._path is None:
            return None
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return None
        wanted, nth, delay_ms = text.split()
        if wanted != point:
            return None
        if text != self._text:
            self._text, self._left = text, int(nth)
        self._left -= 1
        return float(delay_ms) / 1000 if self._left == 0 else None

    def at(self, point: str) -> None:
        """Die here, if so ordered."""
        if self.reached(point) is not None:
            die()

    def inside(self, point: str) -> None:
        """Die soon, if so ordered, while the caller goes on."""
        delay_s = self.reached(point)
        if delay_s is not None:

            def later() -> None:
                time.sleep(delay_s)
                die()

            threading.Thread(target=later, daemon=True).start()


def die() -> None:
    """``kill -9`` of this process; returns never."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Put a function ``(original, *args)`` in place of a method."""
    original = getattr(owner, name)

    def put(around: Callable[..., Any]) -> None:
        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        setattr(owner, name, wrapped)

    return put


def around_users(orders: Orders) -> None:
    """Before, in, between and after the calls that write users, and after the one that erases some."""
    user_cache._UPSERT_ROWS = ROWS_A_CALL  # type: ignore[misc]  # the constant of this process only
    journalled_users._EVERY_S = 0.5  # type: ignore[misc]  # likewise: so that merges are under way often
    calls = [0]

    @wrap(JournalledUserStore, "upsert")
    def _(original: Any, store: Any, rows: Any) -> None:
        orders.at("users.before")
        orders.inside("users.inside")
        original(store, rows)
        calls[0] += 1
        if calls[0] == 1 and len(rows) == ROWS_A_CALL:
            orders.at("users.between")

    @wrap(Journal, "_write")
    def _(original: Any, journal: Journal, head: bytes, body: Any) -> None:
        if orders.reached("journal.half") is not None:
            original(journal, head, memoryview(body)[: len(body) // 2])
            die()
        original(journal, head, body)

    @wrap(LanceUserStore, "put")
    def _(original: Any, store: Any, rows: Any) -> None:
        orders.at("merge.before")
        orders.inside("merge.inside")
        original(store, rows)
        orders.at("merge.after")

    @wrap(LanceUserStore, "delete")
    def _(original: Any, store: Any, users: Any) -> None:
        original(store, users)
        orders.at("users.erased")

    @wrap(UserCache, "flush")
    def _(original: Any, users: UserCache, **last: Any) -> int:
        calls[0] = 0
        written: int = original(users, **last)
        if written:
            orders.at("users.after")
        return written


def around_the_barrier(orders: Orders) -> None:
    """When positions are taken, between the store's write and the commit, and about when it commits."""

    @wrap(KafkaPartition, "snapshot")
    def _(original: Any, partition: Any) -> Any:
        position = original(partition)
        orders.at("positions.taken")
        return position

    written = [0]

    @wrap(UserCache, "flush")
    def _(original: Any, users: UserCache, **last: Any) -> int:
        written[0] = original(users, **last)
        return written[0]

    @wrap(Worker, "flush")
    def _(original: Any, worker: Worker) -> None:
        original(worker)
        if written[0]:
            written[0] = 0
            orders.at("barrier.after")
            orders.inside("commit.inside")


def around_what_leaves(orders: Orders) -> None:
    """Before the first, in the middle of, and after the last message of a batch; nothing confirmed yet."""
    names = {os.environ.get(_LISTS): "lists", os.environ.get(_DEAD_LETTERS): "dead_letters"}
    left = [0, 0]

    @wrap(TopicWriter, "write_batch")
    def _(original: Any, writer: Any, items: Any) -> None:
        name = names.get(writer._topic, "sessions")
        left[:] = len(items), len(items) // 2
        if items:
            orders.at(f"{name}.before")
        original(writer, items)

    @wrap(TopicWriter, "snapshot")
    def _(original: Any, writer: Any) -> None:
        name = names.get(writer._topic, "sessions")
        orders.at(f"{name}.unconfirmed")
        original(writer)
        orders.at(f"{name}.confirmed")

    @wrap(TopicWriter, "_produce")
    def _(original: Any, writer: Any, *args: Any) -> bool:
        goes_on: bool = original(writer, *args)
        name = names.get(writer._topic, "sessions")
        left[0] -= 1
        if left[0] == left[1] and left[1]:
            orders.at(f"{name}.half")
        if left[0] == 0:
            orders.at(f"{name}.produced")
            orders.inside(f"{name}.inside")
        return goes_on


def around_what_no_event_causes(orders: Orders) -> None:
    """Die with it written to the store, as an early flush may, and not yet sent.

    That is the list of an event that waited, the reject of one that waited too long, a closed session.
    """
    state = {"wanted": False, "unsent": False}

    @wrap(Outbox, "keep")
    def _(original: Any, outbox: Any, user_state: Any, what: Any) -> None:
        original(outbox, user_state, what)
        if isinstance(what, (Event, Session)):
            point = "unsent.reject" if isinstance(what, Event) else "unsent.session"
            if orders.reached(point) is not None:
                state["wanted"] = True

    @wrap(UserState, "settle")
    def _(original: Any, user_state: UserState, *args: Any, now: float, wait_s: float) -> Any:
        long_here = {id(event) for received_at, event in user_state.waiting if now - received_at > _LONG_S}
        applied, given_up = original(user_state, *args, now=now, wait_s=wait_s)
        if any(id(event) in long_here for event, _ in applied) and orders.reached("unsent.list") is not None:
            state["wanted"] = True
        return applied, given_up

    @wrap(Outbox, "keep_refusal")
    def _(original: Any, outbox: Any, *args: Any) -> Any:
        reason = original(outbox, *args)
        if orders.reached("unsent.refusal") is not None:
            state["wanted"] = True
        return reason

    @wrap(Worker, "step")
    def _(original: Any, worker: Worker) -> Any:
        step = original(worker)
        if state["wanted"]:
            worker.flush()
            state["unsent"] = True
        return step

    @wrap(TopicWriter, "write_batch")
    def _(original: Any, writer: Any, items: Any) -> None:
        if state["unsent"] and items:
            die()
        original(writer, items)


def around_the_rest(orders: Orders) -> None:
    """In the writes of items and statistics, while tables are compacted, while positions are mirrored."""

    @wrap(LanceItemStore, "upsert")
    def _(original: Any, store: Any, rows: Any) -> None:
        orders.inside("items.inside")
        original(store, rows)
        orders.at("items.after")

    @wrap(LanceStatisticsStore, "upsert")
    def _(original: Any, store: Any, rows: Any) -> None:
        orders.inside("statistics.inside")
        original(store, rows)

    @wrap(lancedb.table.LanceTable, "optimize")
    def _(original: Any, *args: Any, **kwargs: Any) -> Any:
        orders.inside("compacting.inside")
        done = original(*args, **kwargs)
        orders.at("compacting.after")
        return done

    @wrap(GroupMirror, "_send")
    def _(original: Any, mirror: Any, *args: Any) -> None:
        original(mirror, *args)
        orders.at("mirror.sent")


INSTRUMENTS: Final = (
    around_users,
    around_the_barrier,
    around_what_leaves,
    around_what_no_event_causes,
    around_the_rest,
)

POINTS: Final = (
    "users.before",
    "users.inside",
    "users.between",
    "journal.half",
    "merge.before",
    "merge.inside",
    "merge.after",
    "users.after",
    "users.erased",
    "positions.taken",
    "barrier.after",
    "commit.inside",
    "lists.before",
    "lists.half",
    "lists.produced",
    "lists.inside",
    "lists.unconfirmed",
    "lists.confirmed",
    "dead_letters.before",
    "dead_letters.produced",
    "sessions.before",
    "unsent.list",
    "unsent.reject",
    "unsent.session",
    "unsent.refusal",
    "items.inside",
    "items.after",
    "statistics.inside",
    "compacting.inside",
    "compacting.after",
    "mirror.sent",
)
"""Points at which a process can be ordered to die."""


def without_offset_ranges() -> None:
    """No event is ever known to be absorbed."""

    @wrap(user_state_module, "is_absorbed")
    def _(_original: Any, _ranges: Any, _offset: Any) -> bool:
        return False


def without_rows_at_the_barrier() -> None:
    """Users are written long after the positions of their events: when the job is asked to stop."""
    ending = [False]

    @wrap(Worker, "flush")
    def _(original: Any, worker: Worker) -> None:
        ending[0] = worker.is_ending
        original(worker)

    @wrap(UserCache, "flush")
    def _(original: Any, users: UserCache, **last: Any) -> int:
        written: int = original(users, **last) if ending[0] else 0
        return written


def without_recovery() -> None:
    """What a process that died had written down is not looked for."""

    @wrap(database, "recover")
    def _(_original: Any, _folder: Any, _put: Any, *, wait_s: float) -> int:
        return 0


def without_confirmation() -> None:
    """Messages are handed to the client, and nobody waits until the broker has them."""

    @wrap(KafkaSink, "__init__")
    def _(original: Any, *args: Any, **kwargs: Any) -> None:
        original(*args, **{**kwargs, "linger_ms": 3000.0})

    @wrap(TopicWriter, "write_batch")
    def _(_original: Any, writer: Any, items: Any) -> None:
        for item in items:
            writer._producer.produce(writer._topic, item.value, item.key, headers=list(item.headers))

    @wrap(TopicWriter, "snapshot")
    def _(_original: Any, _writer: Any) -> None: ...


def without_the_outbox() -> None:
    """What no event of the epoch causes leaves once, and nothing is kept of it."""

    @wrap(Outbox, "keep")
    def _(_original: Any, *_args: Any) -> None: ...


def without_refusals() -> None:
    """That an event was refused is not kept: read again, it is taken for absorbed."""

    @wrap(Outbox, "keep_refusal")
    def _(_original: Any, _outbox: Any, _user_state: Any, _event: Any, reason: Any) -> Any:
        return reason


def without_open_sessions() -> None:
    """Sessions that were open at the crash are not looked for."""

    @wrap(UserCache, "unfinished")
    def _(original: Any, users: UserCache, shards: Any) -> dict[str, int]:
        return {user: why & ~OPEN_SESSION for user, why in original(users, shards).items()}


MUTATIONS: Final = {
    "offset_ranges": without_offset_ranges,
    "rows_at_the_barrier": without_rows_at_the_barrier,
    "recovery": without_recovery,
    "confirmation": without_confirmation,
    "outbox": without_the_outbox,
    "refusals": without_refusals,
    "open_sessions": without_open_sessions,
}


def main() -> int:
    """Run the process of the job with its orders; gives its exit code."""
    _die_with_parent()
    path = os.environ.get(ORDERS)
    mutation = os.environ.get(MUTATION)
    if mutation:
        MUTATIONS[mutation]()
    orders = Orders(None if path is None else Path(path))
    for instrument in INSTRUMENTS:
        instrument(orders)
    return child.main()


if __name__ == "__main__":
    sys.exit(main())
