"""What several commands print: faults, where rejects are, the summary of a run, and a list."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recstream.connectors import FILES, scheme_of
from recstream.metrics.accounting import accounting, quantile
from recstream.records.reject_limit import RejectLimitError

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_REJECTS",
    "explanation",
    "log_warnings",
    "print_fault",
    "print_json",
    "print_list",
    "print_summary",
    "reporting_rejects",
    "stderr_console",
    "stdout_console",
    "utc",
]

EXIT_REJECTS: Final = 3
"""Exit code: done, but records were rejected."""
EXIT_INTERRUPTED: Final = 130
"""Exit code: stopped by Ctrl-C or SIGTERM; the same command resumes."""
_WIDTH: Final = 140
"""Columns of tables where no terminal limits them."""


def stdout_console() -> Console:
    """Standard output: the results of a command."""
    return _console(stderr=False)


def stderr_console() -> Console:
    """Standard error: progress, summaries, faults."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, soft_wrap=True, width=_WIDTH)
    return console


def log_warnings() -> None:
    """Send log lines from level WARNING to standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def print_fault(fault: Exception) -> None:
    """Print the message of a fault to standard error."""
    stderr_console().print(Text.assemble(("error: ", "bold red"), str(fault)))


@contextmanager
def reporting_rejects(places: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Print where the rejected records are if the reject limit ends the command.

    ``places`` gives the address of the dead letters by kind of record. Empty files are not named.
    """
    try:
        yield
    except Exception as error:
        from recstream.runtime.faults import exit_code, known_fault

        fault = known_fault(error)
        if not isinstance(fault, RejectLimitError):
            raise
        print_fault(fault)
        for kind, place in places().items():
            if scheme_of(place) != FILES or (Path(place).exists() and Path(place).stat().st_size):
                command = f"recstream deadletter list {shlex.quote(place)}"
                stderr_console().print(f"{kind} rejected so far: {command}", markup=False)
        raise typer.Exit(exit_code(fault)) from error


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a run's totals: events, lists, latency, items, texts, and rejects by reason."""
    console.print(f"events   {accounting(summary)}")
    if tombstones := int(summary.get("events_tombstone", 0)):
        console.print(f"         and {tombstones:,} null values (tombstone), which say nothing: left out")
    by_trigger = summary.get("lists_emitted", {})
    lists = ", ".join(f"{int(count):,} by {trigger}" for trigger, count in sorted(by_trigger.items()))
    console.print(f"lists    {lists or 'none'}")
    latency = summary.get("event_to_list_seconds", {})
    if latency.get("count"):
        p50, p99 = quantile(latency, 0.5), quantile(latency, 0.99)
        if p50 is not None and p99 is not None:
            console.print(f"latency  event read -> list made: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    items = int(summary.get("records_read", {}).get("items", 0))
    if items:
        console.print(f"items    {items:,} read, {int(summary.get('catalogue_items', 0)):,} in the catalogue")
    texts = summary.get("encoder_texts", {})
    encoded = int(texts.get("encoded", 0))
    cached = int(sum(texts.values())) - encoded
    if encoded or cached:
        new = f"{encoded:,} encoded" if encoded else "nothing new to encode"
        console.print(f"texts    {new}, {cached:,} from the cache")
    by_reason = summary.get("records_rejected", {})
    if by_reason:
        rejects = ", ".join(f"{reason} {int(count):,}" for reason, count in sorted(by_reason.items()))
        console.print(f"rejected {rejects}")
    by_field = summary.get("fields_left_out", {})
    if by_field:
        fields = ", ".join(f"{field} {int(count):,}" for field, count in sorted(by_field.items()))
        console.print(f"left out {fields}; the items are in")


def print_list(
    console: Console,
    record: Mapping[str, Any],
    *,
    items: int = 10,
    titles: Mapping[str, str] | None = None,
    heading: str | None = None,
) -> None:
    """Print the first ``items`` of a recommendation record, by their titles where these are given."""
    titles = titles or {}
    as_of = record["as_of"]
    console.print(
        heading
        or f"user {escape(record['user_id'])}  version {record['version']}  {utc(record['generated_at'])}  "
        f"({record['trigger']}, as of {escape(as_of['partition'])}:{as_of['offset']})"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for item in record["items"][:items]:
        name = titles.get(item["item_id"]) or item["item_id"]
        table.add_row(
            f"{item['rank']:>3}", escape(name), f"{item['score']:.3f}", escape(explanation(item, titles))
        )
    console.print(table)


def utc(ts: float) -> str:
    """A time in Unix seconds, as people read it.

    >>> utc(1_700_000_000.9)
    '2023-11-14 22:13:20 UTC'
    """
    return f"{datetime.fromtimestamp(int(ts), tz=timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def print_json(value: object) -> None:
    """Print a value as JSON, in UTF-8 on whatever terminal."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def explanation(item: Mapping[str, Any], titles: Mapping[str, str], *, signals: int = 2) -> str:
    """The strongest signals of an item of a list, and the user's items that explain it.

    >>> item = {"signals": {"together": 0.4, "trending": 0.1}, "because": ["i3"]}
    >>> explanation(item, {"i3": "Alien"})
    'together .40, trending .10; because of Alien'
    """
    strongest = sorted(item["signals"].items(), key=lambda pair: -abs(pair[1]))[:signals]
    text = ", ".join(f"{name} {_two_places(value)}" for name, value in strongest)
    because = " and ".join(titles.get(cause) or cause for cause in item["because"])
    return f"{text}; because of {because}" if because else text


def _two_places(value: float) -> str:
    """A number with two decimal places, without the zero before the point.

    >>> _two_places(0.4), _two_places(-0.25), _two_places(10.05)
    ('.40', '-.25', '10.05')
    """
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1.0 and not text.strip("-").startswith("1") else text
