"""``recstream backfill``: replay a log through the same graph as the live job."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from recstream.cli import console as consoles
from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.progress import Reporter
from recstream.cli.summary import print_summary

__all__ = ["backfill"]

EXIT_REJECTS = 3
"""More records were rejected than ``--max-rejects`` allows."""
EXIT_INTERRUPTED = 130


def backfill(
    events: Annotated[str, typer.Option(help="Event log: .jsonl[.gz|.zst], .parquet, or kafka:TOPIC.")],
    items: Annotated[
        str | None, typer.Option(help="Items to load first: a file as above, or kafka:TOPIC.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Lists: a .jsonl[.gz|.zst] file, or kafka:TOPIC; none: state only.")
    ] = None,
    refresh: Annotated[
        str | None,
        typer.Option(
            help="event: a list after each event, strictly in log order; batch; end: last lists only."
        ),
    ] = None,
    store: Store = None,
    limit: Annotated[int | None, typer.Option(help="Read only the first so many events.")] = None,
    top_n: Annotated[int | None, typer.Option(help="Items in a list (ranking.top_n).")] = None,
    start: Annotated[
        str | None, typer.Option(help="kafka: earliest, latest, ts=... or offsets={...}.")
    ] = None,
    stop_at: Annotated[
        str | None, typer.Option("--stop", help="kafka: end, ts=... or offsets={...}.")
    ] = None,
    max_rejects: Annotated[
        int | None, typer.Option(help="Exit with 3 when more records than this are rejected.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Replay an event log into a store, and write lists. Interrupted, the same command resumes it."""
    named = {
        "backfill.events": events,
        "backfill.items": items,
        "backfill.out": out,
        "backfill.refresh": refresh,
        "backfill.limit": limit,
        "backfill.max_rejects": max_rejects,
        "backfill.stop": stop_at,
        "kafka.start": start,
        "ranking.top_n": top_n,
        "store.path": None if store is None else str(store),
    }
    settings = load_settings(config, overrides, named)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

    from recstream.replay import replay
    from recstream.runner import Stop
    from recstream.wiring import Wiring

    stop = Stop()
    stop.on_signals()
    console = consoles.errors()
    with Reporter(console) as reporter:
        done = replay(settings, stop, reporter.stage)
    print_summary(console, done.summary)
    rejects = sum(done.summary.get("records_rejected", {}).values())
    wiring = Wiring(settings)
    console.print(f"store    {settings.store_dir}" + (f", lists {out}" if out else ""))
    if rejects:
        console.print(
            f"         {rejects:,} rejected records, each with its reason, in {wiring.dead_letters}"
        )
        if items is not None:
            console.print(f"         (those of items in {wiring.item_dead_letters})")
    if not done.account.read and not done.interrupted and settings.backfill.refresh != "end":
        console.print(
            "nothing new to read: this store has absorbed the log; for the lists of all of it, "
            "replay it into another --state"
        )
    if done.interrupted:
        console.print("interrupted: all that was read is stored; the same command goes on from here")
        raise typer.Exit(EXIT_INTERRUPTED)
    if not done.account.balanced:
        console.print("the account does not balance: this is a bug in recstream, please report it")
        raise typer.Exit(1)
    if rejects > settings.backfill.max_rejects:
        console.print(
            f"{rejects:,} records were rejected, --max-rejects allows "
            f"{settings.backfill.max_rejects:,}: exit 3"
        )
        raise typer.Exit(EXIT_REJECTS)
