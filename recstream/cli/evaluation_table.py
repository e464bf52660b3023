"""What ``recstream eval`` prints: tables for people, one object for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from recstream.evaluation.experiment import Experiment, PairedDifference

__all__ = ["print_experiment", "record_of"]

_COLUMNS = ("hr", "ndcg", "mrr", "recall", "precision", "f1", "coverage", "diversity", "novelty")
_STRONGEST = 6
"""Signals named as those worth most."""


def print_experiment(console: Console, experiment: Experiment) -> None:
    """Print what was tested, and a table of the methods for each length of list."""
    result = experiment.base
    tests, protocol = len(result.replay.targets.user), result.run.protocol
    console.print(
        f"{result.events:,} events of {result.users:,} users, {result.replay.catalogue:,} items; "
        f"{tests:,} tests in the last {protocol.last_frac:.0%}, lists "
        + ("made when the user comes" if protocol.when == "request" else "left from the user's last event")
    )
    if result.rejected:
        told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.rejected.items()))
        console.print(f"rejected: {told}")
    if not tests:
        console.print("nothing to score: no event in the last part is a test (see --last-frac, --min-prior)")
        return
    for k in result.run.ks:
        console.print(_methods(experiment, k))
    console.print("± 95 % of 1,000 draws of users; cold: fewer than 5 events before", style="dim")
    lead = experiment.lead
    if lead is not None:
        rival, ahead = lead
        console.print(
            f"NDCG@{experiment.k} {ahead.ndcg:+.4f} against {rival}, 95 % "
            f"{ahead.ndcg_95.low:+.4f} to {ahead.ndcg_95.high:+.4f}"
        )
    learned = result.replay.learned
    if learned.examples:
        effects = sorted(learned.effects[-1][1].items(), key=lambda pair: -abs(pair[1]))[:_STRONGEST]
        told = ", ".join(f"{name} {worth:+.1f}" for name, worth in effects)
        console.print(f"learned from {learned.examples:,} choices; worth most: {told}")
    if experiment.emitted is not None:
        row = experiment.emitted.methods["recstream"]
        console.print(
            f"as emitted, lists were {row['events_behind']:,.0f} events of the log old on average "
            f"(median {row['age_s'] / 3600:,.1f} h)"
        )
    if experiment.without:
        console.print(_ablation(experiment))
    if experiment.grid:
        console.print(_grid(experiment))


def record_of(experiment: Experiment) -> dict[str, object]:
    """All that was found, for ``--json``."""
    result = experiment.base
    protocol = result.run.protocol
    return {
        "log": result.log_name,
        "events": result.events,
        "users": result.users,
        "catalogue": result.replay.catalogue,
        "tests": len(result.replay.targets.user),
        "rejected": result.rejected,
        "protocol": {
            "last_frac": protocol.last_frac,
            "min_prior": protocol.min_prior,
            "repeats": protocol.repeats,
            "ties": protocol.ties,
            "not_target": list(protocol.not_target),
            "when": protocol.when,
        },
        "methods": experiment.methods,
        "model": {
            "examples": result.replay.learned.examples,
            "effects": dict(result.replay.learned.effects[-1][1]) if result.replay.learned.effects else {},
        },
        "lead": None
        if experiment.lead is None
        else {"over": experiment.lead[0], **_record(experiment.lead[1])},
        "without": {name: _record(change) for name, change in experiment.ablation.items()},
        "grid": [{"settings": name, **result.methods["recstream"]} for name, result in experiment.grid],
    }


def _record(change: PairedDifference) -> dict[str, object]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in change._asdict().items()
    }


def _methods(experiment: Experiment, k: int) -> Table:
    table = Table(title=f"at {k}", title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    table.add_column("method", no_wrap=True)
    for name in (*_COLUMNS, "hr cold users", "hr cold items", "no list"):
        table.add_column(name, justify="right", no_wrap=name in ("hr", "ndcg"))
    rows = experiment.methods
    best = {name: max(row[f"{name}@{k}"] or 0.0 for row in rows.values()) for name in ("hr", "ndcg")}
    for method, row in rows.items():
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


def _ablation(experiment: Experiment) -> Table:
    table = Table(
        title="what each signal is worth",
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("without")
    for name in (f"hr@{experiment.k}", f"ndcg@{experiment.k}", "95 %"):
        table.add_column(name, justify="right")
    for name, change in sorted(experiment.ablation.items(), key=lambda pair: pair[1].ndcg):
        between = f"{change.ndcg_95.low:+.4f} to {change.ndcg_95.high:+.4f}"
        style = None if change.is_sure else "dim"
        table.add_row(name, f"{change.hr:+.4f}", f"{change.ndcg:+.4f}", between, style=style)
    return table


def _grid(experiment: Experiment) -> Table:
    keys = [f"{name}@{k}" for k in experiment.base.run.ks for name in ("hr", "ndcg")]
    table = Table(
        title="grid, the best first", title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    table.add_column("settings", overflow="fold")
    for key in keys:
        table.add_column(key, justify="right")
    for name, result in experiment.grid:
        row = result.methods["recstream"]
        table.add_row(name, *(_number(row[key], 4) for key in keys))
    return table


def _number(value: Any, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
