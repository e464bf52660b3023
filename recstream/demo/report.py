"""Report at the end of the demo: figures and whether they agree, a few lists, and commands to try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape

from recstream.demo.consumer import Latency
from recstream.demo.fans import LIKED, Fan
from recstream.demo.folder import DemoFolder
from recstream.demo.movielens import Film, Rating
from recstream.demo.screen import list_table, stars, titled
from recstream.metrics.accounting import accounting

__all__ = ["DemoResult", "Search", "print_lists", "print_next", "print_result", "print_search"]


@dataclass
class Search:
    """How a search in plain words changed a user's list."""

    user_id: str
    words: str
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None = None
    took_s: float | None = None


@dataclass
class DemoResult:
    """Figures of a run of the demo."""

    summary: Mapping[str, Any]
    """Totals that the dataflow reported."""
    sent: int
    lists: int
    dead_letters: Counter[str]
    latency: Latency | None
    held_s: float
    users: int
    """Users with an event that a list must reflect."""
    up_to_date: int
    """Those of them whose newest list reflects their last event."""
    seconds: Mapping[str, float]
    """Duration of each phase, in order."""
    problems: list[str] = field(default_factory=list)

    def check(self, *, others_sent: bool) -> None:
        """Compare the figures with each other, and add to ``problems`` what does not agree.

        ``others_sent``: other programs may have sent events, too.
        """
        account = accounting(self.summary)
        rejected = self.summary.get("records_rejected", {})
        by_reason: Counter[str] = Counter()
        for label, count in rejected.items():
            by_reason[label.rpartition("/")[2]] += int(count)
        for agrees, text in (
            (account.balanced, "the job's account does not balance"),
            (
                account.read == self.sent or others_sent,
                f"{self.sent:,} events were sent and {account.read:,} read",
            ),
            (
                by_reason == self.dead_letters,
                f"rejected {dict(by_reason)}, but dead letters {dict(self.dead_letters)}",
            ),
            (
                self.up_to_date == self.users,
                f"{self.users - self.up_to_date} users have no list that reflects their last event",
            ),
        ):
            if not agrees:
                self.problems.append(text)


def print_result(console: Console, result: DemoResult, folder: DemoFolder, films: int) -> None:
    """Print the figures of the run."""
    account = accounting(result.summary)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(result.dead_letters.items()))
    texts = result.summary.get("encoder_texts", {})
    encoded = int(texts.get("encoded", 0))
    cached = int(sum(texts.values())) - encoded
    if encoded:
        encoder = (
            f"{encoded:,} texts encoded of {encoded + cached:,} ({films:,} films and one search); "
            f"{cached:,} came from the cache"
        )
    else:
        encoder = f"nothing new to encode: all {cached:,} texts came from the cache"
    latency = result.latency
    rows = [
        ("events", f"sent {result.sent:,}; {account}"),
        ("dead letters", f"{sum(result.dead_letters.values())}: {reasons or 'none'}"),
        (
            "lists",
            f"{result.lists:,}, one a user and micro-batch (people rate many films at a sitting); "
            f"{result.up_to_date:,} of {result.users:,} users hold one that reflects their very last event",
        ),
        (
            "latency",
            "event sent to list received: "
            + (f"{latency}, worst {latency.worst_ms:,.0f} ms" if latency else "no list came")
            + (f"; sending was held back for {result.held_s:.1f} s" if result.held_s >= 0.1 else ""),
        ),
        ("encoder", encoder),
        ("time", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())),
        (
            "kept in",
            f"{folder.path}: state/ (LanceDB), cache/ (vectors), {folder.lists.name}, "
            f"{folder.dead_letters.name}, {folder.job_log.name}",
        ),
    ]
    console.print()
    for name, text in rows:
        console.print(f"[bold]{name:12}[/bold]  {escape(text)}", soft_wrap=True)
    for problem in result.problems:
        console.print(f"[bold red]PROBLEM[/bold red]       {escape(problem)}", soft_wrap=True)


def print_lists(
    console: Console,
    films: Mapping[str, Film],
    ratings: Sequence[Rating],
    fans: Sequence[Fan],
    latest: Mapping[str, bytes],
    *,
    items: int = 6,
) -> None:
    """Print the last lists of a few users beside the films that they liked last."""
    for fan in fans:
        if fan.user_id not in latest:
            continue
        own = [rating for rating in ratings if rating.user_id == fan.user_id]
        given = {rating.item_id: rating.stars for rating in own}
        liked = [rating for rating in own if rating.stars >= LIKED][-5:]
        console.print(f"\n[bold cyan]{escape(str(fan))}[/bold cyan]")
        films_liked = "; ".join(f"{titled(films, r.item_id)} {stars(r.stars)}" for r in reversed(liked))
        console.print(f"liked last: {escape(films_liked)}", soft_wrap=True)
        console.print(list_table(films, orjson.loads(latest[fan.user_id]), given, items))


def print_search(
    console: Console, films: Mapping[str, Film], search: Search, given: Mapping[str, float]
) -> None:
    """Print a user's list before and after a search."""
    took = "" if search.took_s is None else f" The new list came after {search.took_s * 1e3:.0f} ms."
    console.print(
        f"\n[bold cyan]user {search.user_id}[/bold cyan] now searches for "
        f"[bold]{escape(search.words)}[/bold].{took} Before:"
    )
    console.print(list_table(films, search.before, given, 5))
    if search.after is None:
        console.print("no list came after the search")
        return
    console.print("after:")
    console.print(list_table(films, search.after, given, 5))


def print_next(console: Console, folder: DemoFolder, user: str, other: str) -> None:
    """Print commands to try on the files that the run left."""
    config = f"-c {folder.settings}"
    rows = (
        (f"recstream show {user} {config}", "what is stored of this user, and their list"),
        (
            f"recstream tail --file {folder.lists} --user {user}",
            "all the lists they got, as a consumer reads them",
        ),
        (
            f'recstream show {other} {config} --search "animated films for small children"',
            "how one search would change a list",
        ),
    )
    console.print("\nTry next:")
    for command, meaning in rows:
        console.print(f"  [bold]{escape(command)}[/bold]\n      {meaning}", soft_wrap=True)
