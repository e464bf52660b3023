"""Stores of older layouts become stores of this one, step by step; each step is one commit.

A kill between two steps leaves a store that the same call goes on with: the layout in the meta table
changes last, and each step looks whether it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from recstream.stores.base import StoreMeta
from recstream.stores.lance.arrow import model_schema
from recstream.stores.lance.database import LanceDatabase, connect
from recstream.stores.lance.errors import translated
from recstream.stores.lance.keyed_table import committed, creation_mode
from recstream.stores.lance.locks import TableLock, folder_lock
from recstream.stores.lance.meta import read_meta, write_meta
from recstream.stores.meta import misfit, misfits, no_store
from recstream.users.counting_rules import changes

__all__ = ["Step", "upgrade_store"]


class Step(NamedTuple):
    """One commit of an upgrade."""

    what: str
    run: Callable[[], object]


def upgrade_store(
    folder: Path, schema: int, rules: str, *, accept: bool = False, dry_run: bool = False
) -> Iterator[str]:
    """Bring the store there to a layout and, with ``accept``, to other rules of counting.

    Gives a sentence for each step that was done (``dry_run``: that would be). No job may be running on it.
    A store that did not note its rules yet is taken to have been counted by these.

    Raises:
        StoreError: there is no store, or it cannot be changed.
        StoreMismatchError: it is of a newer layout, or its rules differ and are not accepted.
    """
    folder = LanceDatabase.require(folder)
    with translated(str(folder), "upgrading the store"):
        connection = connect(folder)
        stored = read_meta(connection, folder)
        if stored is None:
            raise no_store(folder, "holds no recstream store any more")
        with folder_lock(folder):
            for step in _steps(connection, folder, stored, schema, rules, accept=accept):
                if not dry_run:
                    step.run()
                yield step.what


def _steps(
    connection: Any, folder: Path, stored: StoreMeta, schema: int, rules: str, *, accept: bool
) -> Iterator[Step]:
    wanted = stored._replace(schema=schema, rules=rules)
    for layout in range(stored.schema, schema):
        yield from _LAYOUTS[layout](connection, folder)
    if stored.schema < schema:
        parts = [f"meta: layout {schema}"]
        if not stored.rules:
            parts.append("the rules of counting in the configuration are noted as the store's")
        parts += [_TO_DO[layout] for layout in range(stored.schema, schema) if layout in _TO_DO]
        stored = now = stored._replace(schema=schema, rules=stored.rules or rules)
        yield Step("; ".join(parts), lambda: write_meta(connection, folder, now))
    found = list(misfits(folder, stored, wanted))
    if any(one.name == "schema" for one in found) or (found and not accept):
        raise misfit(folder, found)
    changed = list(changes(stored.rules, rules))
    if changed:
        what = f"meta: rules of counting from here on: {'; '.join(map(str, changed))}"
        yield Step(what, lambda: write_meta(connection, folder, wanted))


def _unfinished(connection: Any, folder: Path) -> Iterator[Step]:
    """Layout 2: users say why to come back to them (``unfinished``), not how many events wait."""
    if not committed(folder, "users"):
        return  # a creation that was killed; the next start completes it
    names = connection.open_table("users").schema.names
    change = partial(_change, connection, folder, "users")
    if "unfinished" not in names:
        value = {"unfinished": "cast(waiting > 0 as int)"}
        yield change("column unfinished added", lambda table: table.add_columns(value))
    if "waiting" in names:
        yield change("column waiting dropped", lambda table: table.drop_columns(["waiting"]))


def _terms(connection: Any, folder: Path) -> Iterator[Step]:
    """Layout 3: items have lexical terms, and what is learned about the stream as a whole has a table."""
    if committed(folder, "items") and "terms" not in connection.open_table("items").schema.names:
        empty = {"terms": "X''"}
        yield _change(
            connection, folder, "items", "column terms added", lambda table: table.add_columns(empty)
        )
    if not committed(folder, "models"):  # made here, not at the next start: a mere look needs it too

        def make() -> None:
            connection.create_table("models", schema=model_schema(), mode=creation_mode(folder, "models"))

        yield Step("models: table made", make)


def _change(connection: Any, folder: Path, name: str, what: str, how: Callable[[Any], object]) -> Step:
    def run() -> None:
        with TableLock(folder, name).alone():
            how(connection.open_table(name))

    return Step(f"{name}: {what}", run)


_LAYOUTS: Final[Mapping[int, Callable[[Any, Path], Iterator[Step]]]] = {1: _unfinished, 2: _terms}
"""What leads from each layout to the next."""
_TO_DO: Final[Mapping[int, str]] = {
    2: "load the catalogue again (`recstream catalogue load`), so that its items get their terms"
}
"""What is left to do for the user when a store of that layout became one of the next."""
