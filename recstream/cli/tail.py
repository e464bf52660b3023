"""``recstream tail``: print lists as a consumer reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.cli.output import print_list, stdout_console

__all__ = ["command"]


def command(
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's lists.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Read lists from a .jsonl file instead of the topic.")
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Print all lists in the topic, not only new ones.")
    ] = False,
    count: Annotated[int | None, typer.Option("-n", help="Stop after this many lists.")] = None,
    idle_s: Annotated[float | None, typer.Option(help="Stop after this many seconds without a list.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the records as they are.")] = False,
    items: Annotated[int, typer.Option(help="Items shown of each list.")] = 5,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Print recommendation lists as they arrive."""
    console = stdout_console()
    printed = 0
    for raw in _records(file, config, overrides, from_start=from_start, idle_s=idle_s):
        record: dict[str, Any] = orjson.loads(raw)
        if user is not None and record["user_id"] != user:
            continue
        if json:
            typer.echo(raw.decode())
        elif record.get("deleted"):
            console.print(f"user {escape(record['user_id'])}  erased: their list is dropped")
        else:
            print_list(console, record, items=items)
        printed += 1
        if printed == count:
            return
    if not printed:
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
