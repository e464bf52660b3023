"""``recstream demo``: every part at work on a real film log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recstream.cli.output import print_fault

__all__ = ["command"]


def command(
    events: Annotated[int, typer.Option(min=1, help="Ratings to replay, of 100,000.")] = 100_000,
    rate: Annotated[float, typer.Option(min=1.0, help="Events sent a second, at most.")] = 2_000.0,
    user: Annotated[
        str | None,
        typer.Option(help="User whose list is shown; by default one with a clear taste.", show_default=False),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder for the films, encoded texts and results.")] = Path(
        ".demo"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Encode all texts again, as in the first run.")
    ] = False,
    keep_alive: Annotated[
        bool, typer.Option("--keep-alive", help="Keep broker and dataflow running until Ctrl-C.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live screen.")] = False,
) -> None:
    """Watch real events become real recommendations: embedded broker, dataflow, encoder, store, consumer."""
    from recstream.demo.dataflow_process import DataflowDiedError
    from recstream.demo.folder import FolderError
    from recstream.demo.movielens import DataError
    from recstream.demo.run import DemoOptions, run_demo

    options = DemoOptions(
        events=events, rate=rate, user=user, data=data, fresh=fresh, keep_alive=keep_alive, plain=plain
    )
    try:
        code = run_demo(options)
    except (DataError, FolderError, DataflowDiedError) as fault:
        print_fault(fault)
        raise typer.Exit(1) from None
    raise typer.Exit(code)
