"""``recstream forget``: erase a user."""

from __future__ import annotations

from typing import Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

__all__ = ["command"]


def command(
    user: Annotated[str, typer.Argument(help="The user to erase.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Erase from the store directly; no job may be running.")
    ] = False,
    config: ConfigFile = None,
    store: Store = None,
    overrides: Overrides = None,
) -> None:
    """Erase a user: by a `forget` event for the running job, or from the store directly (--offline)."""
    from recstream.operations.forget import erase_user, request_erasure

    settings = load_settings(config, overrides, store=store)
    if offline:
        was_known = erase_user(settings, user)
        typer.echo(f"user {user!r} erased" if was_known else f"user {user!r} is not in {settings.store_dir}")
        raise typer.Exit(0 if was_known else 1)
    topic = request_erasure(settings, user)
    typer.echo(f"sent to topic {topic!r}: the job erases user {user!r} and sends a tombstone")
