"""Watching the parts at work: until the catalogue is in, and until every event has its list."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson

from recstream.demo.job import Job, JobDiedError, Reading
from recstream.demo.listener import Listener
from recstream.demo.traffic import Sender
from recstream.demo.view import Followed, Frame, Screen

__all__ = ["up_to_date", "wait_for_catalogue", "watch_events"]

_START_LIMIT_S = 240.0
_SETTLE_LIMIT_S = 60.0

Pause = Callable[[float], None]
"""Waits some seconds; raises when the demo is to end."""


def wait_for_catalogue(screen: Screen, job: Job, films: int, pause: Pause) -> None:
    """Wait until every film is encoded and stored.

    Raises:
        JobDiedError: the job ended, or was not ready after four minutes.
    """
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        reading = job.read()
        if max(reading.total("catalogue_items"), reading.total("flushed_rows", table="items")) >= films:
            break
        if time.monotonic() > deadline:
            msg = f"the catalogue was not in after {_START_LIMIT_S:g} s; see {job.log}"
            raise JobDiedError(msg)
        texts = reading.total("encoder_texts")
        if texts:
            screen.waiting("films through the encoder (MiniLM, CPU)", texts, films)
        else:
            screen.waiting("starting the dataflow", 0, 0)
        pause(0.1)
    encoded = reading.total("encoder_texts", outcome="encoded")
    screen.say(
        f"The catalogue is in: {films:,} films, {encoded:,} texts encoded, "
        f"{reading.total('encoder_texts') - encoded:,} from the cache."
    )


def watch_events(
    screen: Screen, job: Job, sender: Sender, listener: Listener, pause: Pause, *, total: int, follow: str
) -> None:
    """Show what happens until every event is worked off and its list is here, or a minute after the last.

    Raises:
        JobDiedError: the job ended.
    """
    begin = time.monotonic()
    before = (begin, 0, 0)
    rates = (0.0, 0.0)
    settle_by: float | None = None
    while True:
        reading = job.read()
        for fault in (sender.fault, listener.fault):
            if fault is not None:
                raise fault
        now = time.monotonic()
        if now - before[0] >= 1.0:
            span = now - before[0]
            rates = ((sender.sent - before[1]) / span, (listener.received - before[2]) / span)
            before = (now, sender.sent, listener.received)
        screen.frame(_frame(now - begin, total, rates, reading, sender, listener, follow))
        if not sender.is_running:
            settle_by = settle_by or now + _SETTLE_LIMIT_S
            every_list_is_here = up_to_date(sender, listener) == len(sender.last_good)
            if (reading.done >= sender.sent and every_list_is_here) or now > settle_by:
                return
        pause(0.25)


def up_to_date(sender: Sender, listener: Listener) -> int:
    """How many users hold a list that reflects their last event."""
    return sum(listener.reflects(user, at) for user, at in list(sender.last_good.items()))


def _frame(
    elapsed_s: float,
    total: int,
    rates: tuple[float, float],
    reading: Reading,
    sender: Sender,
    listener: Listener,
    follow: str,
) -> Frame:
    encoded = reading.total("encoder_texts", outcome="encoded")
    newest = listener.followed[-1] if listener.followed else None
    return Frame(
        elapsed_s=elapsed_s,
        sent=sender.sent,
        total=total,
        sent_rate=rates[0],
        lists=listener.received,
        list_rate=rates[1],
        lag=max(0, sender.sent - reading.total("records_read", stream="events")),
        latency=listener.recent_latency(),
        encoded=encoded,
        cached=reading.total("encoder_texts") - encoded,
        followed=Followed(follow, list(sender.just_rated), None if newest is None else orjson.loads(newest)),
    )
