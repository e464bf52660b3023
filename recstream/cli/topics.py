"""``recstream topics``: the topics of a job."""

from __future__ import annotations

from typing import Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.cli.output import stdout_console

__all__ = ["command"]

command = typer.Typer(no_args_is_help=True, help="Make the topics of a job.")


@command.callback()
def _topics() -> None:
    """Make the topics of a job."""


@command.command()
def create(
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Partitions of each topic that is made; else four, or run.processes.",
            show_default=False,
        ),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1, help="Copies of each topic that is made; else three, or the brokers.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")
    ] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Make those topics of the job that lack, as they should be: what is there is left as it is.

    Items and lists are compacted, so that the newest record of each stays; events, sessions and dead letters
    are kept for a time, which is said. What differs in a topic that is there is said with the command that
    alters it.

    Exit codes: 0 all are there, 1 a fault, or some could not be made, 2 settings are wrong.
    """
    from recstream.operations.topics import create_topics

    settings = load_settings(config, overrides)
    console = stdout_console()
    is_well = True
    for finding in create_topics(settings, partitions=partitions, copies=replication, dry_run=dry_run):
        sign = "BAD  " if not finding.ok else "WARN " if finding.is_warning else "ok   "
        console.print(f"{sign}{finding.name}: {finding.detail}", markup=False)
        if finding.mend:
            console.print(f"       mend: {finding.mend}", markup=False)
        is_well &= finding.ok
    if not is_well:
        raise typer.Exit(1)
