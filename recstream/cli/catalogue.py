"""``recstream catalogue``: items in bulk."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from recstream.cli import console as consoles
from recstream.cli.errors import reporting_rejects
from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.progress import Reporter
from recstream.cli.summary import print_summary
from recstream.connectors import NAMED

__all__ = ["app", "fit", "load"]

EXIT_INTERRUPTED = 130

app = typer.Typer(help="Items in bulk, and how their texts are compared.", no_args_is_help=True)


@app.callback()
def _catalogue() -> None:
    """Items in bulk, and how their texts are compared."""


@app.command()
def load(
    items: Annotated[str, typer.Argument(help=f"Items: .jsonl[.gz|.zst], .parquet, or {NAMED}.")],
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Encode items and store them; those that did not change are left as they are."""
    named = {"backfill.items": items, "store.path": None if store is None else str(store)}
    settings = load_settings(config, overrides, named)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

    from recstream.runtime.replay import load_items
    from recstream.runtime.signals import Stop
    from recstream.runtime.wiring import Wiring

    stop = Stop(early_exit=EXIT_INTERRUPTED)
    stop.on_signals()
    console = consoles.errors()
    dead_letters = Wiring(settings).item_dead_letters
    with reporting_rejects(lambda: {"items": dead_letters}), Reporter(console) as reporter:
        summary = load_items(settings, stop, reporter.stage)
    print_summary(console, summary)
    console.print(f"store    {settings.store_dir}")
    if stop.asked():
        console.print("interrupted: all that was read is stored; the same command goes on from here")
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.get("records_rejected"):
        console.print(f"some records were rejected, each with its reason, in {dead_letters} (exit 3)")
        raise typer.Exit(3)


@app.command()
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
    """Fit how texts are compared to the items stored now. A running job takes it up within seconds."""
    from recstream.operations.model import Space, fit_transform
    from recstream.runtime.wiring import Wiring

    named = {"store.path": None if store is None else str(store)}
    settings = load_settings(config, overrides, named)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

    def told(space: Space) -> str:
        if space.version:
            made = f"transform {space.version}, fitted on {space.items:,} items, {space.dims} dimensions"
        else:
            made = f"the encoder's own space, {space.dims} dimensions"
        return f"{made}; two items are {space.alike:.2f} alike on average (0: not at all, 1: the same)"

    fitted = fit_transform(Wiring(settings, create=False), whitening)
    typer.echo(f"before: {told(fitted.before)}")
    typer.echo(f"now:    {told(fitted.after)}")
    typer.echo("a running job takes it up within seconds, another one when it starts")
