"""``recstream upgrade``: bring a store to the layout and rules of counting of this release."""

from __future__ import annotations

from typing import Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

__all__ = ["command"]


def command(
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
    from recstream.operations.upgrade import upgrade
    from recstream.runtime.wiring import SCHEMA

    settings = load_settings(config, overrides, store=store)
    count = 0
    for step in upgrade(settings, accept=accept, dry_run=dry_run):
        typer.echo(f"{'would do' if dry_run else 'done'}: {step}")
        count += 1
    if not count:
        typer.echo(f"nothing to do: {settings.store_dir} has layout {SCHEMA} and these rules of counting")
