"""Small commands around the job: forget, doctor, schema, config."""

from __future__ import annotations

import time
from typing import Annotated

import orjson
import typer

from recstream.cli import console as consoles
from recstream.cli.options import ConfigFile, Overrides, Store, load_settings

__all__ = ["config", "doctor", "forget", "schema"]


def forget(
    user: Annotated[str, typer.Argument(help="The user to erase.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Erase from the store directly; no job may be running.")
    ] = False,
    config: ConfigFile = None,
    store: Store = None,
    overrides: Overrides = None,
) -> None:
    """Erase a user: asks the running job by a `forget` event, or does it in the store (--offline)."""
    named = {"store.path": None if store is None else str(store)}
    settings = load_settings(config, overrides, named)
    if offline:
        from recstream.operations.model import forget_sessions
        from recstream.runtime.locks import job_lock
        from recstream.runtime.wiring import Wiring

        with job_lock(settings.store_dir, "forget", backend=settings.store.backend):
            database = Wiring(settings, create=False, alone=True).database
            known = forget_sessions(database.models, user, settings.store.shards)
            known |= bool(database.users.fetch([user]))
            database.users.delete([user])
        typer.echo(f"user {user!r} erased" if known else f"user {user!r} is not in {settings.store_dir}")
        raise typer.Exit(0 if known else 1)

    from recstream.connectors import connector_for
    from recstream.records.transport import Message

    event = {"user_id": user, "ts": time.time(), "action": "forget"}
    connector = connector_for(settings.live.events, settings.options_of)
    writer = connector.writer(settings.live.events)
    writer.write([Message(user.encode(), orjson.dumps(event))])
    writer.close()
    topic = connector.name_of(settings.live.events)
    typer.echo(f"asked by topic {topic!r}: the job erases user {user!r} and sends a tombstone")


def doctor(config: ConfigFile = None, store: Store = None, overrides: Overrides = None) -> None:
    """Check settings, broker, topics, model, store and cache: what is wrong, and how to mend it."""
    from recstream.operations.doctor import diagnose

    named = {} if store is None else {"store.path": str(store)}
    findings = diagnose(lambda: load_settings(config, overrides, named))
    console = consoles.output()
    for finding in findings:
        sign = "[green]ok  [/]" if finding.ok else "[bold red]BAD [/]"
        console.print(f"{sign} {finding.name}: ", end="")
        console.print(finding.detail, markup=False)
        if not finding.ok and finding.mend:
            console.print(f"       mend: {finding.mend}", markup=False)
    bad = sum(not finding.ok for finding in findings)
    console.print("all is well" if not bad else f"{bad} of {len(findings)} checks failed")
    if bad:
        raise typer.Exit(1)


def schema(
    name: Annotated[
        str, typer.Argument(help="event, item, recommendation, reject, session; all of them by default.")
    ] = "",
) -> None:
    """Print the JSON Schema of the records."""
    from recstream.records import schema as schemas

    known = schemas.all_schemas()
    if name and name not in known:
        msg = f"{name!r}: wanted one of {', '.join(known)}"
        raise typer.BadParameter(msg)
    typer.echo(orjson.dumps(known[name] if name else known, option=orjson.OPT_INDENT_2).decode())


def config(
    config: ConfigFile = None,
    overrides: Overrides = None,
    variables: Annotated[
        bool, typer.Option("--env", help="As environment variables instead of a file.")
    ] = False,
) -> None:
    """Print the settings in force, with their meaning, as a file to start from; secrets are masked."""
    settings = load_settings(config, overrides)
    if variables:
        for key, value in sorted(settings.environ_for_child().items()):
            if "API_KEY" not in key and "CLIENT" not in key:
                typer.echo(f"{key}={value}")
        return
    typer.echo(settings.as_toml(), nl=False)
