"""Options that several commands share, and the settings they add up to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from recstream.config import Settings

__all__ = ["ConfigFile", "Overrides", "Store", "load_settings"]

ConfigFile = Annotated[
    Path | None, typer.Option("-c", "--config", help="Settings file (TOML).", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override one setting.", show_default=False),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", "--state", metavar="FOLDER", help="Folder of the store (store.path).", show_default=False
    ),
]


def load_settings(
    config: Path | None,
    overrides: Sequence[str] | None = None,
    named: Mapping[str, object] | None = None,
    *,
    store: str | None = None,
) -> Settings:
    """Settings from the file, the environment, ``--set`` and a command's own options; later ones override.

    ``named`` gives the values of a command's own options by setting; None is an option that was not given.

    Raises:
        typer.BadParameter: A ``--set`` has no ``=``.
        ConfigError: A setting is unknown or wrong; all problems are named at once.
    """
    values: dict[str, object] = {}
    for text in overrides or ():
        key, equals, value = text.partition("=")
        if not equals:
            msg = f"{text!r}: wanted SECTION.FIELD=VALUE, such as ranking.top_n=10"
            raise typer.BadParameter(msg)
        values[key.strip()] = value
    values.update({key: value for key, value in (named or {}).items() if value is not None})
    if store is not None:
        values["store.path"] = store
    return Settings.load(config, os.environ, values)
