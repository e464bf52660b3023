"""``recstream catalogue``: load items in bulk, and fit how their texts are compared."""

from __future__ import annotations

from typing import Annotated

import typer

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
from recstream.connectors import FILES, NAMED, scheme_of

__all__ = ["command", "fit", "load"]

command = typer.Typer(help="Load items in bulk, and fit how their texts are compared.", no_args_is_help=True)


@command.command()
def load(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="ITEMS...", help=f"Items: .jsonl[.gz|.zst], .parquet, folders of parts, or {NAMED}."
        ),
    ],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="The file is a full export: items in the store that it leaves out are deleted. Refused when "
            "they are more than 10 %.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --replace: delete them however many they are.")
    ] = False,
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Encode items and store them; unchanged items are skipped, and without --replace none is deleted."""
    items = ",".join(files)
    if force and not replace:
        raise typer.BadParameter("it says how --replace deletes: give that, too", param_hint="--force")
    if replace and scheme_of(items) != FILES:
        msg = f"{items}: wanted a file; in a topic a null value, or a record with deleted, deletes its item"
        raise typer.BadParameter(msg, param_hint="--replace")
    settings = load_settings(config, overrides, {"backfill.items": items}, store=store)
    log_warnings()

    from recstream.operations.catalogue import load_catalogue
    from recstream.runtime.signals import Stop
    from recstream.runtime.wiring import Wiring

    stop = Stop(early_exit=EXIT_INTERRUPTED)
    stop.on_signals()
    console = stderr_console()
    dead_letters = Wiring(settings).item_dead_letters
    with reporting_rejects(lambda: {"items": dead_letters}), Progress(console) as progress:
        done = load_catalogue(settings, stop, progress.stage, replace=replace, force=force)
    print_summary(console, done.summary)
    if replace and not stop.asked():
        console.print(f"deleted  {done.deleted:,} items that {items} leaves out")
    console.print(f"store    {settings.store_dir}")
    if stop.asked():
        console.print("interrupted: all that was read is stored; the same command goes on from here")
        raise typer.Exit(EXIT_INTERRUPTED)
    if done.summary.get("records_rejected"):
        console.print(f"some records were rejected, each with its reason, in {dead_letters} (exit 3)")
        raise typer.Exit(EXIT_REJECTS)


@command.command()
def fit(
    whitening: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="0: directions weigh as texts differ along them; 1: all weigh the same."
        ),
    ] = 0.0,
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Fit how texts are compared to the items stored now. A running job uses it within seconds."""
    from recstream.operations.model import TextSpace, fit_transform
    from recstream.runtime.wiring import Wiring

    settings = load_settings(config, overrides, store=store)
    log_warnings()

    def described(space: TextSpace) -> str:
        if space.version:
            transform = f"transform {space.version}, fitted on {space.items:,} items, {space.dims} dimensions"
        else:
            transform = f"the encoder's own space, {space.dims} dimensions"
        return f"{transform}; mean cosine of two items {space.mean_cosine:.2f} (0: unlike, 1: the same)"

    result = fit_transform(Wiring(settings, create=False), whitening)
    typer.echo(f"before: {described(result.before)}")
    typer.echo(f"now:    {described(result.after)}")
    typer.echo("a running job uses it within seconds, any other when it starts")
