"""``recstream show``: a user's state and list, or the model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from recstream.cli.model import print_model
from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import print_json, print_list, stdout_console, utc

if TYPE_CHECKING:
    from recstream.runtime.wiring import Wiring

__all__ = ["command"]


def command(
    user: Annotated[str | None, typer.Argument(help="User id.", show_default=False)] = None,
    model: Annotated[
        bool,
        typer.Option("--model", help="In place of a user: the effect of each signal, as learned so far."),
    ] = False,
    search: Annotated[
        str | None,
        typer.Option(help="Also the list after a search for these words; nothing is stored."),
    ] = None,
    items: Annotated[int, typer.Option(help="Number of items shown.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Show a user's state, sessions and explained list, or the model. Does not disturb a running job."""
    from recstream.operations.inspect import inspect_user
    from recstream.runtime.wiring import Wiring

    if (user is None) != model:
        raise typer.BadParameter("wanted a user id, or --model: one of them")
    settings = load_settings(config, overrides, store=store)
    wiring = Wiring(settings, create=False)
    if user is None:
        _show_model(wiring, json=json)
        return
    found = inspect_user(wiring, user, search=search, now=time.time())
    if found is None:
        late = f"an event is in it {settings.run.epoch_s:g} s after it was read, at the latest"
        typer.echo(f"user {user!r} is not in {settings.store_dir} ({late})", err=True)
        raise typer.Exit(1)
    if json:
        print_json(found)
        return
    _print(stdout_console(), found, items)


def _show_model(wiring: Wiring, *, json: bool) -> None:
    from recstream.operations.model import inspect_model

    found = inspect_model(wiring)
    if json:
        print_json(found)
    else:
        print_model(stdout_console(), found)


def _print(console: Console, found: dict[str, Any], items: int) -> None:
    titles: dict[str, str] = found["titles"]
    console.print(
        f"user {escape(found['user_id'])}: {found['version']} events applied, {found['seen']} items seen, "
        f"{found['hidden']} hidden, {found['waiting']} events waiting for their item"
    )
    for session in found["sessions"][-3:]:
        begin, end = utc(session["start"]), utc(session["end"])
        counts = ", ".join(f"{n} {action}" for action, n in session["actions"].items())
        console.print(f"session {begin} to {end}: {counts}")
    console.print("latest:")
    for entry in found["recent"][:items]:
        name = titles.get(entry["item_id"], entry["item_id"]) if entry["item_id"] else "(words)"
        console.print(f"  {utc(entry['ts'])}  {entry['action']} ({entry['weight']:+.1f})  {escape(name)}")
    print_list(console, found["list"], items=items, titles=titles, heading="list:")
    if found["after_search"] is not None:
        heading = f"list after searching for {escape(repr(found['search']))}:"
        print_list(console, found["after_search"], items=items, titles=titles, heading=heading)
