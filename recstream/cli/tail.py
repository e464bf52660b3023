"""``recstream tail``: print lists as a consumer reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import print_list, stdout_console
from recstream.records.recommendation import tombstone_line

if TYPE_CHECKING:
    from recstream.config import Settings
    from recstream.connectors.base import StoredRecord
    from recstream.operations.titles import StoredTitles

__all__ = ["command"]

_EXCERPT = 60
"""Bytes that are shown of a record that is no list."""


class _Item(msgspec.Struct):
    item_id: str
    rank: int
    score: float
    signals: dict[str, float]
    because: list[str]


class _AsOf(msgspec.Struct):
    partition: str
    offset: int


class _List(msgspec.Struct):
    """What is printed of a list; records may have more."""

    user_id: str
    version: int
    generated_at: float
    as_of: _AsOf
    trigger: str
    items: list[_Item]


class _Tombstone(msgspec.Struct):
    """A line of a file of lists that says whose list is deleted."""

    user_id: str
    deleted: bool


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
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Print recommendation lists as they arrive, with the items' titles where their store is at hand.

    A user who was forgotten is told, too. What is no list is left out, with
    a line on standard error for each.
    """
    settings = load_settings(config, overrides, store=store)
    console = stdout_console()
    titles = None if json else _titles(settings)
    printed = 0
    for record in _records(file, settings, from_start=from_start, idle_s=idle_s):
        owner, listed = _read(record)
        if owner is None or user not in (None, owner):
            continue
        if json:
            typer.echo(record.value if record.value is not None else tombstone_line(record.key or b""))
        elif listed:
            _print(console, listed, items, titles)
        else:
            console.print(f"user {escape(owner)}  erased: their list is dropped  ({escape(record.place)})")
        printed += 1
        if printed == count:
            return
    if not printed:
        typer.echo("no list" + (f" of user {user!r}" if user is not None else ""), err=True)
        raise typer.Exit(1)


def _records(
    file: Path | None, settings: Settings, *, from_start: bool, idle_s: float | None
) -> Iterator[StoredRecord]:
    from recstream.connectors import connector_for

    if file is not None:
        return connector_for(str(file), lambda _: {}).records(str(file))
    lists = settings.live.lists
    return connector_for(lists, settings.options_of).records(
        lists, start="earliest" if from_start else "latest", follow=True, idle_s=idle_s
    )


def _read(record: StoredRecord) -> tuple[str | None, _List | None]:
    """Whose list it is, and the list, or None for a tombstone; nobody's where it is neither."""
    if record.value is None:
        return (record.key or b"").decode(errors="replace"), None
    try:
        found = msgspec.json.decode(record.value, type=_List)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if (user := _deleted(record.value)) is not None:
            return user, None
        excerpt = record.value[:_EXCERPT].decode(errors="replace")
        more = "..." if len(record.value) > _EXCERPT else ""
        wanted = "wanted a record as `recstream schema recommendation` describes it"
        typer.echo(f"{record.place} is no list: {error}: got {excerpt + more!r}, {wanted}", err=True)
        return None, None
    return found.user_id, found


def _deleted(line: bytes) -> str | None:
    """Whose list a line of a file deletes, if it is such a line."""
    try:
        found = msgspec.json.decode(line, type=_Tombstone)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found.user_id if found.deleted else None


def _titles(settings: Settings) -> StoredTitles | None:
    from recstream.operations.titles import StoredTitles
    from recstream.stores.base import StoreError

    try:
        return StoredTitles(settings)
    except StoreError as error:
        typer.echo(
            f"items are shown by their ids: {error.path} {error.problem} (--store names another)", err=True
        )
        return None


def _print(console: Console, listed: _List, items: int, titles: StoredTitles | None) -> None:
    shown = listed.items[:items]
    record: dict[str, Any] = msgspec.to_builtins(listed)
    known: Mapping[str, str] = {}
    if titles is not None:
        known = titles.of([one.item_id for one in shown] + [cause for one in shown for cause in one.because])
    print_list(console, record, items=items, titles=known)
