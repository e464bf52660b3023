"""``recstream schema``: the JSON Schema of the records."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from recstream.records.schema import all_schemas

__all__ = ["command"]


def command(
    name: Annotated[
        str, typer.Argument(help="event, item, recommendation, reject or session; by default all of them.")
    ] = "",
) -> None:
    """Print the JSON Schema of the records."""
    known = all_schemas()
    if name and name not in known:
        msg = f"{name!r}: wanted one of {', '.join(known)}"
        raise typer.BadParameter(msg)
    typer.echo(orjson.dumps(known[name] if name else known, option=orjson.OPT_INDENT_2).decode())
