"""``recstream upgrade``: a store of an older layout, or counted by other rules, is brought up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

__all__ = ["upgrade"]


def upgrade(
    store: Store = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept-rules",
            help="Count by the action weights, rating scale and half-life of the configuration from here on; "
            "old events keep the weight they were counted with.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Bring a store to the layout of this release. No job may be running; run again after a crash.

    Exit codes: 0 done, or nothing to do, 1 a fault, 2 settings are wrong or do not fit the store.
    """
    from recstream.operations.upgrade import upgrade as steps
    from recstream.runtime.wiring import SCHEMA

    named = {"store.path": None if store is None else str(store)}
    settings = load_settings(config, overrides, named)
    done = 0
    for what in steps(settings, accept=accept, dry_run=dry_run):
        typer.echo(f"{'would do' if dry_run else 'done'}: {what}")
        done += 1
    if not done:
        typer.echo(f"nothing to do: {settings.store_dir} has layout {SCHEMA} and these rules of counting")
