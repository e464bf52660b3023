"""The command line: ``recstream COMMAND``.

Each command is one module of this folder and one line of `COMMANDS`.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

import typer

import recstream.runtime.signals  # noqa: F401 - before all that takes long to import, see there

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
    "upgrade",
    "schema",
    "config",
)
"""Commands in the order of the help. Each names a module with ``command``: a function or a `typer.Typer`."""

app = typer.Typer(
    name="recstream",
    help="Keeps recommendations fresh while people act.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="All settings: `recstream config`. To find out what is wrong: `recstream doctor`.",
)


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
