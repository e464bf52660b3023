"""Consoles: long lines are not broken, and tables are wide where nobody's window limits them."""

from __future__ import annotations

from typing import Final

from rich.console import Console

__all__ = ["errors", "output"]

_WIDE: Final = 140


def output() -> Console:
    """Standard output: what a command was asked for."""
    return _console(stderr=False)


def errors() -> Console:
    """Standard error: progress, summaries, faults."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, soft_wrap=True, width=_WIDE)
    return console
