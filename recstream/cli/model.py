"""``recstream model``: the learned weights of the signals, printed and reset."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

__all__ = ["command", "print_model", "reset"]

command = typer.Typer(
    help="The learned weights of the signals (to see them: recstream show --model).", no_args_is_help=True
)


@command.command()
def reset(store: Store = None, config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Delete the learned weights of the signals: learning begins anew. No job may be running.

    Users, items, sessions and statistics stay as they are.
    """
    from recstream.operations.model import reset_model
    from recstream.runtime.locks import job_lock
    from recstream.runtime.wiring import Wiring

    settings = load_settings(config, overrides, store=store)
    with job_lock(settings.store_dir, "model reset", backend=settings.store.backend):
        wiring = Wiring(settings, create=False, alone=True)
        removed = reset_model(wiring.database.models, wiring)
    if not removed.workers:
        typer.echo(f"nothing to do: {settings.store_dir} holds no learned weights")
        return
    examples = (
        "written by another version" if removed.examples is None else f"of {removed.examples:,.0f} examples"
    )
    typer.echo(f"removed: the weights of {removed.workers} worker(s), {examples}; learning begins anew")


def print_model(console: Console, model: dict[str, Any]) -> None:
    """Print a model as `recstream.operations.model.inspect_model` gives it."""
    frozen = "" if model["learns"] else " (frozen: ranking.learn is false)"
    if model["examples"]:
        console.print(f"learned from {model['examples']:,} choices by {model['workers']} worker(s){frozen}")
    else:
        console.print(f"nothing was learned yet{frozen}")
    table = Table(box=None, pad_edge=False)
    table.add_column("signal")
    table.add_column("effect now", justify="right")
    table.add_column("effect at first", justify="right")
    table.add_column("measures")
    for one in sorted(model["signals"], key=lambda one: -abs(one["worth"])):
        table.add_row(one["signal"], f"{one['worth']:+.2f}", f"{one['start']:+.2f}", one["measures"])
    console.print(table)
    transform = model["transform"]
    if transform is None:
        console.print("text: no transform is stored yet; it is fitted for the first list")
    else:
        console.print(
            f"text: transform {transform['version']}, fitted on {transform['items']:,} items, "
            f"{transform['dims']} dimensions"
        )
    console.print(f"sessions held: {model['sessions']:,}")
    console.print(f"repeats: {model['repeats']:.1%} of engagements are with items the user had before")
