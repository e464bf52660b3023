"""``recstream positions``: how far the job has read, and where it goes on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from recstream.cli.options import ConfigFile, Overrides, Store, load_settings
from recstream.cli.output import print_json, stdout_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recstream.config import Settings
    from recstream.connectors.base import PartitionPosition
    from recstream.records.bounds import Bound

__all__ = ["command"]

_OFFSET: Final = re.compile(r"([A-Za-z0-9._-]+/\d+)=(\d+)")
_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def command(
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POSITION",
            help="Go on there: earliest, latest, ts=<Unix seconds or RFC 3339>, or "
            "<topic>/<partition>=<offset> (may be given again). The job must be stopped.",
            show_default=False,
        ),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            help="With --to: only in this topic (may be given again). Otherwise earliest is for all topics, "
            "latest and ts= for the events alone.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --to: say what would be set, and set nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    store: Store = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Show how far the job has read each partition of its inputs, and what is left before records are lost.

    Looking disturbs no running job. Going back counts nothing twice: users remember which events they have
    absorbed. What is left out by going ahead can be read later, by going back or by `recstream backfill`.

    Exit codes: 0 done, 1 a fault, or a position from which the job cannot go on, 2 settings are wrong.
    """
    settings = load_settings(config, overrides, store=store)
    if to:
        _set(settings, _bound(to), topic or [], dry_run=dry_run, json=json)
        return
    from recstream.runtime.positions import compared_positions

    found = compared_positions(settings)
    if json:
        print_json([_plain(one) for one in found])
    else:
        stdout_console().print(_table(found))
        for one in found:
            if one.trouble:
                stdout_console().print(f"{one.partition}: {one.trouble}", markup=False)
    if any(one.trouble for one in found):
        raise typer.Exit(1)


def _set(settings: Settings, to: Bound, names: list[str], *, dry_run: bool, json: bool) -> None:
    from recstream.operations.positions import set_job_positions

    moves = set_job_positions(settings, to, names=names, dry_run=dry_run)
    if json:
        print_json([move._asdict() for move in moves])
        return
    for move in moves:
        typer.echo(f"{'would set' if dry_run else 'set'} {move.partition}: {move.before} -> {move.after}")
    if not moves:
        typer.echo("nothing is stored: the job has not begun, and begins where the settings say")


def _bound(texts: Sequence[str]) -> Bound:
    from recstream.records.bounds import parse_bound

    offsets = [_OFFSET.fullmatch(text) for text in texts]
    if all(offsets):
        return {found[1]: int(found[2]) for found in offsets if found}
    if len(texts) > 1:
        raise typer.BadParameter("wanted one position, or <topic>/<partition>=<offset> several times")
    try:
        return parse_bound(texts[0], "start")
    except ValueError as error:
        msg = f"{texts[0]!r}: {error}, or <topic>/<partition>=<offset>"
        raise typer.BadParameter(msg) from None


def _plain(one: PartitionPosition) -> dict[str, object]:
    return {**one._asdict(), "lag_share": round(one.lag_share, 6)}


def _table(found: Sequence[PartitionPosition]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("partition")
    for title in ("position", "first held", "last held", "lag", "lag in time", "retention left"):
        table.add_column(title, justify="right")
    for one in found:
        is_empty = one.first is not None and one.last is not None and one.last < one.first
        numbers = (one.position, one.first, None if is_empty else one.last, one.lag)
        times = (_duration(one.lag_s), _duration(one.retention_left_s))
        table.add_row(one.partition, *("-" if n is None else f"{n:,}" for n in numbers), *times)
    return table


def _duration(seconds: float | None) -> str:
    """A duration in its largest unit.

    >>> _duration(None), _duration(7.26), _duration(5400.0), _duration(-1.0)
    ('-', '7.3 s', '1.5 h', '0 s')
    """
    if seconds is None:
        return "-"
    seconds = max(seconds, 0.0)
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds else "0 s"
