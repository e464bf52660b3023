"""``recstream run``: the live job."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import print_summary, stderr_console
from recstream.connectors import connector_for
from recstream.metrics.accounting import accounting, merge_summaries

__all__ = ["command"]


def command(
    config: ConfigFile = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-n", help="Worker processes (run.processes).")
    ] = None,
    store: Store = None,
    new_store: Annotated[
        bool,
        typer.Option(
            "--new-store", help="Begin with a new store although the job has left positions or lists before."
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Run the live job: events and items in, lists out, until SIGTERM or Ctrl-C.

    A store that is new is refused where the job has run before (positions, lists): it would send old lists
    after newer ones. `--new-store` begins anew all the same.

    Exit codes: 0 stopped, 1 a fault, 2 settings are wrong or not those of the store, 4 the reject limit
    (too many rejects).
    """
    from recstream.runtime.locks import job_lock
    from recstream.runtime.new_store import check_new_store, check_place
    from recstream.runtime.signals import Stop
    from recstream.runtime.supervisor import Supervisor, check_places

    settings = load_settings(config, overrides, {"run.processes": processes}, store=store)
    logging.basicConfig(
        level=settings.run.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    stop = Stop()
    stop.on_signals()
    console = stderr_console()
    connector = connector_for(settings.live.lists, settings.options_of)
    events, items, lists = map(connector.name_of, settings.live[:3])
    console.print(
        f"recstream: {events} + {items} -> {lists} at {connector.location}, "
        f"store {settings.store_dir.absolute()}, {settings.run.processes} process(es). "
        "Stop with Ctrl-C or SIGTERM."
    )
    check_place(settings)
    check_places(settings)
    if not new_store:
        check_new_store(settings, stop)
    with job_lock(settings.store_dir, "run"):
        summaries = Supervisor(settings, stop, os.environ).run()
    if not summaries:
        console.print("stopped before anything was read")
        return
    total = merge_summaries(summaries)
    print_summary(console, total)
    if not accounting(total).balanced:
        console.print("the account does not balance: this is a bug in recstream, please report it")
        raise typer.Exit(1)
