"""``recstream show USER``: what is known of a user, and the list that follows from it; or the model."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from recstream.cli import console as consoles
from recstream.cli.lists import print_list
from recstream.cli.model import print_model
from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

if TYPE_CHECKING:
    from recstream.runtime.wiring import Wiring

__all__ = ["show"]


def show(
    user: Annotated[str | None, typer.Argument(help="User id.", show_default=False)] = None,
    model: Annotated[
        bool,
        typer.Option("--model", help="In place of a user: what each signal is worth, as learned so far."),
    ] = False,
    search: Annotated[
        str | None,
        typer.Option(help="Also the list as it would be after a search in these words; nothing is stored."),
    ] = None,
    items: Annotated[int, typer.Option(help="Items shown.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Show a user's state, sessions and list with reasons, or the model; no job is disturbed."""
    from recstream.operations.inspect import inspect_user
    from recstream.runtime.wiring import Wiring

    if (user is None) != model:
        raise typer.BadParameter("wanted a user id, or --model: one of them")
    named = {"store.path": None if store is None else str(store)}
    settings = load_settings(config, overrides, named)
    wiring = Wiring(settings, create=False)
    if user is None:
        _show_model(wiring, json=json)
        return
    seen = inspect_user(wiring, user, search=search, now=time.time())
    if seen is None:
        typer.echo(f"user {user!r} is not in {settings.store_dir}", err=True)
        raise typer.Exit(1)
    if json:
        typer.echo(orjson.dumps(seen, option=orjson.OPT_INDENT_2).decode())
        return
    _print(consoles.output(), seen, items)


def _show_model(wiring: Wiring, *, json: bool) -> None:
    from recstream.operations.model import inspect_model

    seen = inspect_model(wiring)
    if json:
        typer.echo(orjson.dumps(seen, option=orjson.OPT_INDENT_2).decode())
    else:
        print_model(consoles.output(), seen)


def _print(console: Console, seen: dict[str, Any], items: int) -> None:
    titles: dict[str, str] = seen["titles"]
    console.print(
        f"user {escape(seen['user_id'])}: {seen['version']} events applied, {seen['seen']} items seen, "
        f"{seen['hidden']} hidden, {seen['waiting']} events waiting for their item"
    )
    for session in seen["sessions"][-3:]:
        begin, end = _time(session["start"]), _time(session["end"])
        told = ", ".join(f"{n} {action}" for action, n in session["actions"].items())
        console.print(f"session {begin} to {end}: {told}")
    console.print("latest:")
    for entry in seen["recent"][:items]:
        name = titles.get(entry["item_id"], entry["item_id"]) if entry["item_id"] else "(words)"
        console.print(f"  {_time(entry['ts'])}  {entry['action']} ({entry['weight']:+.1f})  {escape(name)}")
    print_list(console, seen["list"], items=items, titles=titles, heading="list:")
    if seen["after_search"] is not None:
        heading = f"list after searching for {escape(repr(seen['search']))}:"
        print_list(console, seen["after_search"], items=items, titles=titles, heading=heading)


def _time(ts: float) -> str:
    return datetime.fromtimestamp(ts, tz=timezone.utc).strftime("%Y-%m-%d %H:%M")
