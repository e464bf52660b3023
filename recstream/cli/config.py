"""``recstream config``: the settings in force."""

from __future__ import annotations

from typing import Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, load_settings

__all__ = ["command"]


def command(
    config: ConfigFile = None,
    overrides: Overrides = None,
    variables: Annotated[
        bool, typer.Option("--env", help="As environment variables instead of a file.")
    ] = False,
) -> None:
    """Print the settings in force with their meaning, as a file to start from; secrets are masked."""
    settings = load_settings(config, overrides)
    if variables:
        for key, value in sorted(settings.environ_for_child().items()):
            if "API_KEY" not in key and "CLIENT" not in key:
                typer.echo(f"{key}={value}")
        return
    typer.echo(settings.as_toml(), nl=False)
