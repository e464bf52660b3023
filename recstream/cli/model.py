"""``recstream model`` and ``recstream show --model``: what was learned of the signals."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

__all__ = ["app", "print_model", "reset"]

app = typer.Typer(help="What was learned of the signals.", no_args_is_help=True)


@app.callback()
def _model() -> None:
    """What was learned of the signals (to see it: recstream show --model)."""


@app.command()
def reset(store: Store = None, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Forget what the signals were found to be worth: learning begins anew. No job may be running.

    Users, items, sessions and statistics stay as they are.
    """
    from recstream.operations.model import reset_model
    from recstream.runtime.locks import job_lock
    from recstream.runtime.wiring import Wiring

    named = {"store.path": None if store is None else str(store)}
    settings = load_settings(config, overrides, named)
    with job_lock(settings.store_dir, "model reset", backend=settings.store.backend):
        wiring = Wiring(settings, create=False, alone=True)
        removed = reset_model(wiring.database.models, wiring)
    if not removed.workers:
        typer.echo(f"nothing to do: {settings.store_dir} holds no weights that were learned")
        return
    told = (
        "written by another version" if removed.examples is None else f"of {removed.examples:,.0f} examples"
    )
    typer.echo(f"removed: the weights of {removed.workers} worker(s), {told}; learning begins anew")


def print_model(console: Console, seen: dict[str, Any]) -> None:
    """Print the model as `recstream.operations.model.inspect_model` gives it."""
    frozen = "" if seen["learns"] else " (frozen: ranking.learn is false)"
    if seen["examples"]:
        console.print(f"learned from {seen['examples']:,} choices by {seen['workers']} worker(s){frozen}")
    else:
        console.print(f"nothing was learned yet{frozen}")
    table = Table(box=None, pad_edge=False)
    table.add_column("signal")
    table.add_column("worth now", justify="right")
    table.add_column("at first", justify="right")
    table.add_column("measures")
    for one in sorted(seen["signals"], key=lambda one: -abs(one["worth"])):
        table.add_row(one["signal"], f"{one['worth']:+.2f}", f"{one['start']:+.2f}", one["measures"])
    console.print(table)
    transform = seen["transform"]
    if transform is None:
        console.print("text: no transform is stored yet, the first lists will have it fitted")
    else:
        console.print(
            f"text: transform {transform['version']}, fitted on {transform['items']:,} items, "
            f"{transform['dims']} dimensions"
        )
    console.print(f"sessions held: {seen['sessions']:,}")
    console.print(f"repeats: {seen['repeats']:.1%} of engagements are with items the user had before")
