"""``recstream backfill``: replay a log through the same graph as the live job."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import (
    EXIT_INTERRUPTED,
    EXIT_REJECTS,
    log_warnings,
    print_summary,
    reporting_rejects,
    stderr_console,
)
from recstream.cli.progress import Progress
from recstream.config.settings import START
from recstream.connectors import NAMED
from recstream.records.time_order import out_of_order

if TYPE_CHECKING:
    from rich.console import Console

    from recstream.config import Settings
    from recstream.operations.verify import Comparison

__all__ = ["command"]

EXIT_DIFFERENT = 5
"""Exit code: ``--verify`` found users whose state differs from that in the store."""


def command(
    events: Annotated[
        list[str],
        typer.Option(
            help=f"Event log: .jsonl[.gz|.zst], .parquet, a folder of parts, or {NAMED}. Repeated: another "
            "file of the log."
        ),
    ],
    items: Annotated[
        list[str] | None, typer.Option(help=f"Items to load first: files as above, or {NAMED}.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help=f"Lists: a .jsonl[.gz|.zst] file, or {NAMED}; none: state only.")
    ] = None,
    refresh: Annotated[
        str | None,
        typer.Option(
            help="event: a list after each event, strictly in log order; batch; end: last lists only."
        ),
    ] = None,
    store: Store = None,
    limit: Annotated[int | None, typer.Option(help="Read only this many events.")] = None,
    sort: Annotated[
        bool, typer.Option("--sort", help="Read the events of a file in order of time (held in memory).")
    ] = False,
    top_n: Annotated[int | None, typer.Option(help="Items in a list (ranking.top_n).")] = None,
    start: Annotated[
        str | None, typer.Option(help="Of a topic of events: earliest, latest, ts=... or offsets={...}.")
    ] = None,
    stop_at: Annotated[
        str | None, typer.Option("--stop", help="Of a topic of events: end, ts=... or offsets={...}.")
    ] = None,
    max_rejects: Annotated[
        int | None,
        typer.Option(help="Exit with 3 when more records than this are rejected; ignored with --verify."),
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Compare the resulting users with those of this store; exit with 5 when they differ. "
            "Give the items that the store knows, too (--items). "
            "Without --state, a temporary store is used. Events that wait for their items in the store are "
            "rejects in the replay. If the job did not begin at earliest, give its beginning by --start "
            "(ts=... or offsets={...}).",
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Replay an event log into a store, and write lists. Interrupted, the same command resumes it.

    To process rejected records after settings were changed, use `recstream deadletter replay`: replaying the
    log into the same store skips them.

    Exit codes: 0 done, 1 a fault, 2 settings are wrong or not those of the store, 3 more were rejected than
    --max-rejects allows, 4 the reject limit (too many rejects), 5 --verify found a difference, 130
    interrupted.
    """
    if verify is not None and out is None and refresh is None:
        refresh = "end"  # state does not depend on when lists are made, and no lists are wanted
    with ExitStack() as stack:
        is_temporary = verify is not None and store is None
        if is_temporary:
            store = stack.enter_context(TemporaryDirectory(prefix="recstream-verify-"))
        named = {
            "backfill.events": ",".join(events),
            "backfill.items": ",".join(items) if items else None,
            "backfill.out": out,
            "backfill.refresh": refresh,
            "backfill.limit": limit,
            "backfill.sort": sort or None,
            "backfill.max_rejects": max_rejects,
            "backfill.stop": stop_at,
            START: start,
            "ranking.top_n": top_n,
        }
        settings = load_settings(config, overrides, named, store=store)
        there = None if verify is None else load_settings(config, overrides, store=verify).store_dir
        if there is not None and there.resolve() == settings.store_dir.resolve():
            msg = f"{verify} is also the store to replay into: name another --state, or none"
            raise typer.BadParameter(msg, param_hint="--verify")
        log_warnings()
        _run(settings, there, is_temporary=is_temporary)


def _run(settings: Settings, verify: Path | None, *, is_temporary: bool) -> None:
    from recstream.operations.verify import replay_and_compare
    from recstream.runtime.replay import replay
    from recstream.runtime.signals import Stop

    stop = Stop(early_exit=EXIT_INTERRUPTED)
    stop.on_signals()
    console = stderr_console()
    comparison = None
    with (
        reporting_rejects(lambda: _places(settings, is_temporary=is_temporary)),
        Progress(console) as progress,
    ):
        if verify is None:
            done = replay(settings, stop, progress.stage)
        else:
            done, comparison = replay_and_compare(settings, verify, stop, progress.stage)
    print_summary(console, done.summary)
    rejects = sum(done.summary.get("records_rejected", {}).values())
    _print_places(console, settings, rejects, done.dead_letters, is_temporary=is_temporary)
    late = int(done.summary.get("events_late", 0))
    lateness_s = settings.profile.lateness_s
    if told := out_of_order(settings.backfill.events, late, done.account.read, lateness_s):
        console.print(
            f"{told}: their lists were made of what came later; for an order of time replay it with --sort, "
            "into another --state",
            markup=False,
        )
    if not done.account.read and not done.interrupted and settings.backfill.refresh != "end":
        console.print(
            "nothing new to read: this store has absorbed the log; for the lists of all of it, "
            "replay it into another --state"
        )
    if done.interrupted:
        console.print(
            "interrupted: nothing was compared; with --state, the same command would go on from here"
            if is_temporary
            else "interrupted: all that was read is stored; the same command goes on from here"
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    if not done.account.balanced:
        console.print("the account does not balance: this is a bug in recstream, please report it")
        raise typer.Exit(1)
    if comparison is not None:
        _print_comparison(console, comparison, done.unknown_items)
        if not comparison.same:
            raise typer.Exit(EXIT_DIFFERENT)
    elif rejects > settings.backfill.max_rejects:
        console.print(
            f"{rejects:,} records were rejected, --max-rejects allows "
            f"{settings.backfill.max_rejects:,}: exit 3"
        )
        raise typer.Exit(EXIT_REJECTS)


def _print_places(
    console: Console, settings: Settings, rejects: int, dead_letters: str, *, is_temporary: bool
) -> None:
    """Print where the state, the lists and the rejected records are."""
    from recstream.runtime.wiring import Wiring

    chosen = settings.backfill
    place = "temporary" if is_temporary else str(settings.store_dir)
    console.print(f"store    {place}" + (f", lists {chosen.out}" if chosen.out else ""))
    if rejects and is_temporary and not chosen.dead_letter:
        console.print(f"         {rejects:,} rejected records; to keep them, name a --state")
    elif rejects:
        console.print(f"         {rejects:,} rejected records, each with its reason, in {dead_letters}")
        if chosen.items:
            console.print(f"         (those of items in {Wiring(settings).item_dead_letters})")


def _places(settings: Settings, *, is_temporary: bool) -> dict[str, str]:
    """Addresses of the dead letters by kind of record, but for those inside a temporary store."""
    from recstream.runtime.positions import replay_place
    from recstream.runtime.wiring import Wiring

    places = {"events": replay_place(settings).dead_letter, "items": Wiring(settings).item_dead_letters}
    if not settings.backfill.items:
        del places["items"]
    within = settings.store_dir.resolve()
    return {
        kind: place
        for kind, place in places.items()
        if not (is_temporary and Path(place).resolve().is_relative_to(within))
    }


def _print_comparison(console: Console, comparison: Comparison, unknown_items: int) -> None:
    if unknown_items and not comparison.same:
        console.print(
            f"{unknown_items:,} events were rejected in the replay as unknown_item: give the items that the "
            f"store knows (--items FILE or --items {NAMED})"
        )
    console.print(
        f"users    {comparison.users:,} compared: {comparison.equal:,} equal, "
        f"{comparison.different:,} different, {comparison.only_here:,} only in the replay, "
        f"{comparison.only_there:,} only in the store"
    )
    for user_id, what in comparison.first:
        console.print(f"         {escape(repr(user_id))}: {escape(what[0])}")
        for line in what[1:]:
            console.print(f"             {escape(line)}")
    unnamed = comparison.users - comparison.equal - len(comparison.first)
    if unnamed:
        console.print(f"         and {unnamed:,} more")
