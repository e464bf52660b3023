"""The tables of ``recstream eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from recstream.evaluation.job import Done

__all__ = ["print_done"]

_COLUMNS = ("hr", "ndcg", "mrr", "recall", "precision", "f1", "coverage", "diversity", "novelty")


def print_done(console: Console, done: Done) -> None:
    """Print what was tested, and a table of the methods for each length of list."""
    tests, protocol = len(done.found.tests.user), done.job.protocol
    console.print(
        f"{done.events:,} events of {done.users:,} users, {done.found.catalogue:,} items; "
        f"{tests:,} tests in the last {protocol.last_frac:.0%}, lists "
        + ("made when the user comes" if protocol.when == "request" else "left from the user's last event")
    )
    if done.rejected:
        told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(done.rejected.items()))
        console.print(f"rejected: {told}")
    if not tests:
        console.print("nothing to score: no event in the last part is of a user and an item as asked for")
        return
    for k in done.job.ks:
        console.print(_table(done, k))
    console.print("± 95 % of 1,000 draws of users; cold: fewer than 5 events before", style="dim")


def _table(done: Done, k: int) -> Table:
    table = Table(title=f"at {k}", title_justify="left", box=None, pad_edge=False)
    table.add_column("method")
    for name in (*_COLUMNS, "hr cold users", "hr cold items", "no list"):
        table.add_column(name, justify="right")
    best = {name: max(row[f"{name}@{k}"] or 0.0 for row in done.methods.values()) for name in ("hr", "ndcg")}
    for method, row in done.methods.items():
        cells = []
        for name in _COLUMNS:
            text = _number(row[f"{name}@{k}"], 2 if name == "novelty" else 4)
            if name in best:
                low, high = row[f"{name}@{k}_95"]
                text += f" ±{(high - low) / 2:.3f}"
                if row[f"{name}@{k}"] == best[name]:
                    text = f"[bold]{text}[/]"
            cells.append(text)
        cells += [_number(row[f"hr@{k}_cold_{who}"], 4) for who in ("users", "items")]
        table.add_row(method, *cells, _number(row["no_list_share"], 3))
    return table


def _number(value: Any, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
