"""The end of the demo: an account that adds up, a few lists to judge, and what to try next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape

from recstream.demo.films import Film, Rating
from recstream.demo.folder import DemoFolder
from recstream.demo.listener import Latency
from recstream.demo.people import LIKED, Fan
from recstream.demo.view import list_table, stars, titled
from recstream.metrics.accounting import accounting

__all__ = ["Outcome", "Search", "print_lists", "print_next", "print_outcome", "print_search"]


@dataclass
class Search:
    """What a search in plain words did to a list."""

    user_id: str
    words: str
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None = None
    took_s: float | None = None


@dataclass
class Outcome:
    """All figures of a run."""

    summary: Mapping[str, Any]
    """The job's own totals."""
    sent: int
    lists: int
    dead_letters: Counter[str]
    latency: Latency | None
    held_s: float
    users: int
    """Users with an event that a list must reflect."""
    up_to_date: int
    """Of these, users whose newest list reflects their last event."""
    seconds: Mapping[str, float]
    """What each phase took, in order."""
    problems: list[str] = field(default_factory=list)

    def check(self, *, others_sent: bool) -> None:
        """Hold the figures against each other; what does not agree is noted in ``problems``.

        ``others_sent``: there may be more events than ours.
        """
        account = accounting(self.summary)
        rejected = self.summary.get("records_rejected", {})
        by_reason: Counter[str] = Counter()
        for label, count in rejected.items():
            by_reason[label.rpartition("/")[2]] += int(count)
        for is_so, text in (
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
            if not is_so:
                self.problems.append(text)


def print_outcome(console: Console, outcome: Outcome, folder: DemoFolder, films: int) -> None:
    """Print the account."""
    account = accounting(outcome.summary)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.dead_letters.items()))
    texts = outcome.summary.get("encoder_texts", {})
    encoded = int(texts.get("encoded", 0))
    cached = int(sum(texts.values())) - encoded
    if encoded:
        told = (
            f"{encoded:,} texts encoded of {encoded + cached:,} ({films:,} films and one search); "
            f"{cached:,} came from the cache"
        )
    else:
        told = f"nothing new to encode: all {cached:,} texts came from the cache"
    took = outcome.latency
    rows = [
        ("events", f"sent {outcome.sent:,}; {account}"),
        ("dead letters", f"{sum(outcome.dead_letters.values())}: {reasons or 'none'}"),
        (
            "lists",
            f"{outcome.lists:,}, one a user and micro-batch (people rate many films at a sitting); "
            f"{outcome.up_to_date:,} of {outcome.users:,} users hold one that reflects their very last event",
        ),
        (
            "latency",
            "event sent to list received: "
            + (f"{took}, worst {took.worst_ms:,.0f} ms" if took else "no list came")
            + (f"; sending was held back for {outcome.held_s:.1f} s" if outcome.held_s >= 0.1 else ""),
        ),
        ("encoder", told),
        ("time", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())),
        (
            "kept in",
            f"{folder.path}: state/ (LanceDB), cache/ (vectors), {folder.lists.name}, "
            f"{folder.dead_letters.name}, {folder.job_log.name}",
        ),
    ]
    console.print()
    for name, text in rows:
        console.print(f"[bold]{name:12}[/bold]  {escape(text)}", soft_wrap=True)
    for problem in outcome.problems:
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
    """Print the last lists of a few users beside what they liked."""
    for fan in fans:
        if fan.user_id not in latest:
            continue
        own = [rating for rating in ratings if rating.user_id == fan.user_id]
        given = {rating.item_id: rating.stars for rating in own}
        liked = [rating for rating in own if rating.stars >= LIKED][-5:]
        console.print(f"\n[bold cyan]{escape(str(fan))}[/bold cyan]")
        told = "; ".join(f"{titled(films, r.item_id)} {stars(r.stars)}" for r in reversed(liked))
        console.print(f"liked last: {escape(told)}", soft_wrap=True)
        console.print(list_table(films, orjson.loads(latest[fan.user_id]), given, items))


def print_search(
    console: Console, films: Mapping[str, Film], search: Search, given: Mapping[str, float]
) -> None:
    """Print a list before and after a search."""
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
    """Print commands that work against what is left."""
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
