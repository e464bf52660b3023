"""The command line: ``recstream COMMAND``.

Each command is one module of this folder and one line of `COMMANDS`.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Final

import typer

import recstream.runtime.signals  # noqa: F401 - before all that takes long to import, see there
from recstream import __version__

__all__ = ["COMMANDS", "add_command", "app", "main"]

COMMANDS: Final = (
    "demo",
    "run",
    "backfill",
    "eval",
    "catalogue",
    "deadletter",
    "model",
    "tail",
    "show",
    "forget",
    "doctor",
    "topics",
    "positions",
    "upgrade",
    "schema",
    "config",
)
"""Commands in the order of the help. Each names a module with ``command``: a function or a `typer.Typer`."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"recstream {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="recstream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="All settings: `recstream config`. To find out what is wrong: `recstream doctor`.",
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Keeps recommendations fresh while people act."""


def add_command(name: str) -> None:
    """Add the command of the module ``recstream.cli.NAME`` to the command line."""
    command = import_module(f"recstream.cli.{name}").command
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


for _name in COMMANDS:
    add_command(_name)


def main() -> None:
    """Run the command line; a known fault ends it with one message and exit code 1, 2 or 4."""
    os.environ["RUST_BACKTRACE"] = "0"  # the stack of bytewax says nothing about the fault that stopped it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that has no such letter shows its number
    try:
        app()
    except Exception as error:
        from recstream.cli.output import print_fault
        from recstream.runtime.faults import exit_code, known_fault

        fault = known_fault(error)
        if fault is None:
            raise
        print_fault(fault)
        sys.exit(exit_code(fault))
