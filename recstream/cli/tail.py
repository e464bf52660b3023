"""``recstream tail``: read the lists as a consumer would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from recstream.cli import console as consoles
from recstream.cli.lists import print_list
from recstream.cli.options import ConfigFile, Overrides, load_settings

__all__ = ["tail"]


def tail(
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's lists.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Read lists from a .jsonl file instead of the topic.")
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="All lists still in the topic, not only new ones.")
    ] = False,
    count: Annotated[int | None, typer.Option("-n", help="Stop after so many lists.")] = None,
    idle_s: Annotated[float | None, typer.Option(help="Stop after so long without a list.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the records as they are.")] = False,
    items: Annotated[int, typer.Option(help="Items shown of each list.")] = 5,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Print recommendation lists as they arrive."""
    console = consoles.output()
    shown = 0
    for raw in _records(file, config, overrides, from_start=from_start, idle_s=idle_s):
        record: dict[str, Any] = orjson.loads(raw)
        if user is not None and record["user_id"] != user:
            continue
        if json:
            typer.echo(raw.decode())
        else:
            print_list(console, record, items=items)
        shown += 1
        if shown == count:
            return
    if not shown:
        typer.echo("no list" + (f" of user {user!r}" if user is not None else ""), err=True)
        raise typer.Exit(1)


def _records(
    file: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    *,
    from_start: bool,
    idle_s: float | None,
) -> Iterator[bytes]:
    from recstream.connectors import connector_for

    if file is not None:
        records = connector_for(str(file), lambda _: {}).records(str(file))
    else:
        settings = load_settings(config, overrides)
        lists = settings.live.lists
        records = connector_for(lists, settings.options_of).records(
            lists, start="earliest" if from_start else "latest", follow=True, idle_s=idle_s
        )
    for record in records:
        if record.value is not None:
            yield record.value
