"""How faults are shown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.text import Text

from recstream.cli import console as consoles
from recstream.connectors import FILES, scheme_of
from recstream.records.reject_limit import RejectLimitError
from recstream.runtime.faults import exit_code, known_fault

__all__ = ["report", "reporting_rejects"]


def report(fault: Exception) -> None:
    """Print a fault on stderr."""
    console = consoles.errors()
    console.print(Text.assemble(("error: ", "bold red"), str(fault)))


@contextmanager
def reporting_rejects(places: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Where the reject limit ends a command, say where its rejects until then are.

    ``places`` gives an address for each kind of them; a file with nothing in it is left out.
    """
    try:
        yield
    except Exception as error:
        fault = known_fault(error)
        if not isinstance(fault, RejectLimitError):
            raise
        report(fault)
        console = consoles.errors()
        for kind, place in places().items():
            if scheme_of(place) != FILES or (Path(place).exists() and Path(place).stat().st_size):
                quoted = shlex.quote(place)
                console.print(f"{kind} rejected so far: recstream deadletter list {quoted}", markup=False)
        raise typer.Exit(exit_code(fault)) from error
