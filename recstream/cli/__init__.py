"""The command line: ``recstream COMMAND``. One module a command, registered here."""

from __future__ import annotations

import os
import sys

import typer

import recstream.runtime.signals  # noqa: F401 - first of ours, see there
from recstream.cli import (
    admin,
    catalogue,
    deadletter,
    demo,
    errors,
    evaluate,
    model,
    replay,
    run,
    show,
    tail,
    upgrade,
)
from recstream.runtime.faults import exit_code, known_fault

__all__ = ["app", "main"]

app = typer.Typer(
    name="recstream",
    help="Keeps recommendations fresh while people act.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Settings: `recstream config`. Something wrong: `recstream doctor`.",
)

app.command()(demo.demo)
app.command()(run.run)
app.command()(replay.backfill)
app.command("eval")(evaluate.evaluate)
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(deadletter.app, name="deadletter")
app.add_typer(model.app, name="model")
app.command()(tail.tail)
app.command()(show.show)
app.command()(admin.forget)
app.command()(admin.doctor)
app.command()(upgrade.upgrade)
app.command()(admin.schema)
app.command()(admin.config)


def main() -> None:
    """Run the command line; known faults end it with one clear message and exit code 1, 2 or 4."""
    # A fault that stops a dataflow unwinds through bytewax, whose stack says nothing to anybody here.
    os.environ["RUST_BACKTRACE"] = "0"
    try:
        app()
    except Exception as error:
        fault = known_fault(error)
        if fault is None:
            raise
        errors.report(fault)
        sys.exit(exit_code(fault))
