"""``recstream forget``: erase a user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

if TYPE_CHECKING:
    from recstream.config import Settings

__all__ = ["command"]


def command(
    user: Annotated[str, typer.Argument(help="The user to erase.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Erase from the store directly; no job may be running.")
    ] = False,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge-dead-letters", help="Also remove the user's rejected records from files in the store."
        ),
    ] = False,
    config: ConfigFile = None,
    store: Store = None,
    overrides: Overrides = None,
) -> None:
    """Erase a user: by a `forget` event for the running job, or from the store directly (--offline).

    Nothing of the user is on the disk of the store when --offline returns, or a minute after the job has read
    the event. Topics and files of lists keep what they hold.

    Exit codes: 0 done, or sent to the job, 1 a fault, or there was nothing of the user, 2 settings are wrong
    or not those of the store.
    """
    from recstream.operations.forget import erase_user, request_erasure

    settings = load_settings(config, overrides, store=store)
    is_found = True
    if offline:
        done = erase_user(settings, user)
        is_found = done.was_known
        typer.echo(f"user {user!r} erased" if is_found else f"user {user!r} is not in {settings.store_dir}")
        if not done.is_gone:
            typer.echo(
                "some of their bytes stay on the disk, in a file of over a million users, until a tenth of "
                "the users in it were written again or erased"
            )
    else:
        topic = request_erasure(settings, user)
        typer.echo(
            f"sent to topic {topic!r}: the job erases user {user!r} within a minute and sends a tombstone"
        )
    is_found = _rejected(settings, user, purge=purge) or is_found
    _elsewhere(settings, offline=offline)
    if not is_found:
        raise typer.Exit(1)


def _rejected(settings: Settings, user: str, *, purge: bool) -> bool:
    """Say which files of dead letters hold records of the user; ``purge`` removes them, gives if any were."""
    from recstream.operations.forget import purge_rejected, rejected_of

    was_purged = False
    for found in rejected_of(settings, user):
        if not found.can_be_purged:
            typer.echo(f"{found.file} holds {found.records:,} rejected records of theirs: delete the file")
        elif purge:
            typer.echo(
                f"{purge_rejected(found.file, user):,} rejected records of theirs purged: {found.file}"
            )
            was_purged = True
        else:
            typer.echo(
                f"{found.file} holds {found.records:,} rejected records of theirs: --purge-dead-letters "
                "removes them"
            )
    return was_purged


def _elsewhere(settings: Settings, *, offline: bool) -> None:
    """Say what keeps the user that is not the store's."""
    from recstream.operations.forget import topics_of

    typer.echo(
        f"not erased: what the topics {', '.join(topics_of(settings))} hold of the user, and files of lists "
        "that `backfill --out` wrote"
    )
    if offline:
        typer.echo(
            "no tombstone was sent for the list: `recstream forget` without --offline has a job send one"
        )
