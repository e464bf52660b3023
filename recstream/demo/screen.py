"""Screen of the running demo: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recstream.demo.consumer import Latency
from recstream.demo.movielens import Film, Rating

__all__ = ["Followed", "Frame", "LiveScreen", "PlainScreen", "Screen", "list_table", "stars", "titled"]

_PLAIN_EVERY_S: Final = 5.0
"""Time between two plain lines of figures."""
_LIST_EVERY_S: Final = 10.0
"""Time between two plain lists of the followed user."""


class Followed(NamedTuple):
    """The followed user: their ratings and their newest list."""

    user_id: str
    rated: Sequence[Rating]
    """Ratings so far, oldest first."""
    record: Mapping[str, Any] | None
    """Their newest list; None before the first."""


class Frame(NamedTuple):
    """Figures of the running demo at one time."""

    elapsed_s: float
    sent: int
    total: int
    sent_rate: float
    lists: int
    list_rate: float
    lag: int
    """Events that were sent and not yet read by the dataflow."""
    latency: Latency | None
    encoded: int
    cached: int
    followed: Followed


class Screen(Protocol):
    """Output of the running demo, as a context manager."""

    def __enter__(self) -> Screen:
        """Take the terminal over."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""
        ...

    def say(self, text: str) -> None:
        """Print a line that stays."""
        ...

    def waiting(self, what: str, done: int, total: int) -> None:
        """Show the progress of the preparations."""
        ...

    def frame(self, frame: Frame) -> None:
        """Show the figures and the followed user."""
        ...


def stars(count: float) -> str:
    """A rating as five stars, filled or empty.

    >>> stars(4.0)
    '★★★★☆'
    """
    return "★" * round(count) + "☆" * (5 - round(count))


def titled(films: Mapping[str, Film], item_id: str) -> str:
    """Title and year of a film."""
    film = films.get(item_id)
    return item_id if film is None else film.label


def list_table(
    films: Mapping[str, Film], record: Mapping[str, Any], given: Mapping[str, float], count: int
) -> Table:
    """The first films of a list, with the score of each and the user's films that explain it.

    ``given`` is the user's rating of each film, in stars.
    """
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1), expand=True)
    table.add_column(justify="right", style="dim", width=3, no_wrap=True)
    table.add_column(width=36, no_wrap=True, overflow="ellipsis", style="bold")
    table.add_column(justify="right", style="dim", width=5, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for item in record["items"][:count]:
        title = titled(films, item["item_id"])
        table.add_row(f"{item['rank']}.", title, f"{item['score']:.2f}", _because(films, item, given))
    return table


def _because(films: Mapping[str, Film], item: Mapping[str, Any], given: Mapping[str, float]) -> str:
    if not item["because"]:
        words = item["signals"].get("short_term", 0.0) > max(0.0, *_trend(item), 0.0)
        return "fits the words searched for" if words else "popular at the moment"
    causes = [
        f"{titled(films, cause)} {stars(given[cause])}" if cause in given else titled(films, cause)
        for cause in item["because"]
    ]
    return "because of " + " and ".join(causes)


def _trend(item: Mapping[str, Any]) -> list[float]:
    return [item["signals"].get(name, 0.0) for name in ("rising", "trending", "popular")]


class PlainScreen:
    """Prints a line every few seconds, for logs and pipes."""

    def __init__(self, console: Console, films: Mapping[str, Film]) -> None:
        self._console = console
        self._films = films
        self._printed_at = self._printed_list_at = 0.0
        self._version, self._done = 0, -1

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True)

    def waiting(self, what: str, done: int, total: int) -> None:
        """Print the progress every few seconds."""
        if done != self._done and time.monotonic() - self._printed_at >= _PLAIN_EVERY_S / 2:
            self._printed_at, self._done = time.monotonic(), done
            self.say(f"  {what}: {done:,} of {total:,}" if total else f"  {what}")

    def frame(self, frame: Frame) -> None:
        """Print the figures every few seconds, and the followed user's list when it has changed."""
        now = time.monotonic()
        if now - self._printed_at >= _PLAIN_EVERY_S:
            self._printed_at = now
            self.say("  " + _figures(frame))
        record = frame.followed.record
        if (
            record is None
            or record["version"] == self._version
            or now - self._printed_list_at < _LIST_EVERY_S
        ):
            return
        self._printed_list_at, self._version = now, record["version"]
        self._console.print(_followed(self._films, frame.followed, rated=3, items=5))


class LiveScreen:
    """Redraws the screen of a terminal in place."""

    def __init__(self, console: Console, films: Mapping[str, Film]) -> None:
        self._console = console
        self._films = films
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the screen."""
        self._live.update("")
        self._console.print(text, soft_wrap=True)

    def waiting(self, what: str, done: int, total: int) -> None:
        """Show a progress bar."""
        text = f"{what}: {done:,} of {total:,}" if total else what
        bar = ProgressBar(total=total or None, completed=done, width=40, pulse=not total)
        self._live.update(Group(Text(text), bar))

    def frame(self, frame: Frame) -> None:
        """Show figures and the followed user."""
        bar = ProgressBar(total=max(frame.total, 1), completed=frame.sent)
        panel = Panel(_followed(self._films, frame.followed, rated=6, items=10), border_style="cyan")
        rows = Table.grid(expand=True)  # in a Group, the line after the bar would be lost
        for row in (bar, Text(_figures(frame)), panel):
            rows.add_row(row)
        self._live.update(rows)


def _figures(frame: Frame) -> str:
    latency = str(frame.latency) if frame.latency is not None else "..."
    return (
        f"{frame.elapsed_s:3.0f} s  events {frame.sent:,} of {frame.total:,} ({frame.sent_rate:,.0f}/s)  "
        f"lists {frame.lists:,} ({frame.list_rate:,.0f}/s)  lag {frame.lag:,}  latency {latency}  "
        f"texts encoded {frame.encoded:,}, cached {frame.cached:,}"
    )


def _followed(films: Mapping[str, Film], followed: Followed, *, rated: int, items: int) -> RenderableType:
    head = Text(f"user {followed.user_id}", style="bold cyan")
    if not followed.rated:
        return head.append(" has not rated anything yet", style="not bold default")
    lines = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    for rating in reversed(followed.rated[-rated:]):
        lines.add_row(Text(stars(rating.stars), style="yellow"), titled(films, rating.item_id))
    films_rated = len(followed.rated)
    head.append(
        f" has rated {films_rated} film{'s' if films_rated > 1 else ''}, last:", style="not bold default"
    )
    if followed.record is None:
        return Group(head, lines)
    given = {rating.item_id: rating.stars for rating in followed.rated}
    version = followed.record["version"]
    then = Text(f"and is now recommended (version {version}, made after {version} of their events):")
    return Group(head, lines, then, list_table(films, followed.record, given, items))
