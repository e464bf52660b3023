"""``recstream eval``: how good the lists would have been on a log, beside built-in baselines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import orjson
import typer
from rich.console import Console
from rich.table import Table

from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.cli.output import log_warnings, stderr_console, stdout_console
from recstream.cli.progress import Progress
from recstream.records.time_order import out_of_order

if TYPE_CHECKING:
    from recstream.config import Settings
    from recstream.evaluation.experiment import Experiment, PairedDifference
    from recstream.evaluation.protocol import Ties
    from recstream.evaluation.runs import RunResult

__all__ = ["command"]

TOP_N = 50
"""Items in a list. More than are scored: items that the user has had meanwhile are dropped before scoring."""
_COLUMNS = ("hr", "ndcg", "mrr", "recall", "precision", "f1", "coverage", "diversity", "novelty")
_STRONGEST = 6
"""Signals printed as those with the strongest effect."""


def command(
    events: Annotated[str, typer.Option(help="Event log: .jsonl[.gz|.zst] or .parquet, in order of time.")],
    items: Annotated[
        str | None, typer.Option(help="Items, a file as above; by default events carry their items.")
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            help="Baselines by commas: popularity, recent, transitions, itemknn, sessionknn, and owncounts "
            "(with --repeats); all; none."
        ),
    ] = "all",
    k: Annotated[str, typer.Option("--k", help="Lengths at which lists are scored, by commas.")] = "10,20",
    when: Annotated[
        str,
        typer.Option(help="request: lists made when users come; emitted: left from their last event; both."),
    ] = "request",
    last_frac: Annotated[float, typer.Option(help="Share of the log, at its end, that is scored.")] = 0.2,
    min_prior: Annotated[int, typer.Option(help="Events a user must have before being scored.", min=0)] = 1,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Also score and list items the user has had before.")
    ] = False,
    ties: Annotated[
        str, typer.Option(help="Events of a user at one time: group (they have no order), or sequence.")
    ] = "group",
    not_target: Annotated[str, typer.Option(help="Actions that are learned from, not scored.")] = "ask",
    limit: Annotated[int | None, typer.Option(help="Read only this many events.", min=1)] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Read the events in order of time.")] = False,
    top_n: Annotated[int, typer.Option(help="Items in a list (ranking.top_n).", min=1)] = TOP_N,
    ablate: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Run again without each of these signals or groups, such as text,short_term; "
            "all: each signal; groups: each group.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING=A,B|FILE.toml",
            help="Also run with each combination of these values; may be given more than once.",
            show_default=False,
        ),
    ] = None,
    write_settings: Annotated[
        Path | None,
        typer.Option(
            help="Write the values of the grid's best NDCG to this new file, and nothing else.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots to this file.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Runs at a time.", min=1, show_default="cores"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the confidence intervals.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate lists on a log, prequentially: each list is made of nothing but the events before it.

    No store is read or written; texts are encoded through the cache (cache.path). Lists are those of
    `recstream backfill --refresh event` on the same log, with a request before each event that is scored.

    To tune settings, give values by --grid: every combination is run, each learning anew from the log. An
    example: --grid ranking.learn=true,false --grid ranking.weights.fresh=0,0.8 --write-settings best.toml

    Exit codes: 0 done, 1 a fault, 2 settings are wrong, 4 the reject limit (too many rejects).
    """
    ks = _numbers(k)
    if top_n < max(ks):
        msg = f"{top_n}: wanted at least the greatest of --k, {max(ks)}"
        raise typer.BadParameter(msg, param_hint="--top-n")
    named = {"ranking.top_n": top_n, "ranking.repeats": "always" if repeats else None}
    settings = load_settings(config, overrides, named)
    points = _points(grid or (), config, overrides, named)
    _check_outputs(write_settings, report, has_grid=bool(points))
    without = _without(ablate, settings)
    log_warnings()

    from recstream.evaluation.baselines import BASELINES, OF_REPEATS
    from recstream.evaluation.experiment import run_experiment
    from recstream.evaluation.log import check_files
    from recstream.evaluation.protocol import Protocol
    from recstream.evaluation.runs import EvaluationRun

    check_files(events, items)
    protocol = Protocol(
        last_frac=_share(last_frac),
        min_prior=min_prior,
        repeats=repeats,
        ties=cast("Ties", _one_of(ties, "--ties", "group", "sequence")),
        not_target=tuple(name for name in not_target.split(",") if name),
        when="emitted" if _when(when) == "emitted" else "request",
    )
    run = EvaluationRun(
        settings,
        events,
        items,
        protocol=protocol,
        against=_baselines(against, tuple(name for name in BASELINES if repeats or name not in OF_REPEATS)),
        ks=ks,
        limit=limit or 0,
        sort=sort,
        seed=seed,
    )
    cores = len(os.sched_getaffinity(0))
    with Progress(stderr_console()) as progress:
        experiment = run_experiment(
            run,
            jobs or cores,
            progress.stage,
            emitted=when == "both",
            ablate=without,
            grid={name: settings for name, (settings, _) in points.items()},
        )
    if write_settings is not None and experiment.grid:
        name, _ = experiment.grid[0]
        best, found = points[name]
        head = f"# recstream eval, best of {len(points)}: {name}\n# For your settings file."
        write_settings.write_text(f"{head}\n\n{best.as_toml(found)}", encoding="utf-8")
    if report is not None:
        _write_report(report, experiment)
    _say_order(experiment.base)
    _print(experiment, as_json=as_json)


def _say_order(result: RunResult) -> None:
    """Warn of a log that is not in order of time: the past would be tested with the future."""
    lateness_s = result.run.settings.profile.lateness_s
    if told := out_of_order(result.log_name, result.late, result.events, lateness_s):
        stderr_console().print(
            f"{told}: lists were made of what came later; for events in order of time give --sort",
            markup=False,
        )


def _print(experiment: Experiment, *, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(_record_of(experiment)))
    else:
        _print_tables(stdout_console(), experiment)


def _write_report(path: Path, experiment: Experiment) -> None:
    from recstream.evaluation.replay_loop import OWN
    from recstream.evaluation.report import html_report

    grid = [(name, result.methods[OWN]) for name, result in experiment.grid]
    page = html_report(experiment.base, methods=experiment.methods, ablation=experiment.ablation, grid=grid)
    path.write_text(page, encoding="utf-8")


def _without(text: str | None, settings: Settings) -> list[str]:
    """Names in ``--ablate``, checked."""
    if text is None:
        return []
    from recstream.evaluation.ablations import ablated_settings

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not ablated_settings(settings, names):
        msg = f"{text!r}: wanted a signal that is used, or a group with one; all; groups"
        raise typer.BadParameter(msg, param_hint="--ablate")
    return names


def _points(
    texts: Sequence[str], config: Path | None, overrides: Sequence[str] | None, named: Mapping[str, object]
) -> dict[str, tuple[Settings, set[str]]]:
    """Each point of the grid by what is set: its settings, and the names of those that make it."""
    if not texts:
        return {}
    from recstream.config import ConfigError
    from recstream.evaluation.ablations import grid_points

    points: dict[str, tuple[Settings, set[str]]] = {}
    policy = {"ranking.repeats"} if named.get("ranking.repeats") is not None else set()
    problems: dict[str, None] = {}
    for point in grid_points(texts):
        name = ", ".join(f"{key}={value}" for key, value in point.items())
        try:
            points[name] = (load_settings(config, overrides, {**named, **point}), {*point, *policy})
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return points


def _check_outputs(write_settings: Path | None, report: Path | None, *, has_grid: bool) -> None:
    """Check the files to write before any long work."""
    if write_settings is not None and not has_grid:
        msg = "there is no winner without a grid: give --grid, too"
        raise typer.BadParameter(msg, param_hint="--write-settings")
    if write_settings is not None and write_settings.exists():
        msg = f"{write_settings} is there already: name a new file"
        raise typer.BadParameter(msg, param_hint="--write-settings")
    for path, option in ((write_settings, "--write-settings"), (report, "--report")):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            msg = f"{path}: wanted a file in a folder that exists"
            raise typer.BadParameter(msg, param_hint=option)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        ks = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        ks = ()
    if not ks or min(ks) < 1:
        raise typer.BadParameter(f"{text!r}: wanted whole numbers from 1, such as 10,20", param_hint="--k")
    return ks


def _share(share: float) -> float:
    if not 0.0 < share <= 1.0:
        raise typer.BadParameter(f"{share}: wanted a share above 0, at most 1", param_hint="--last-frac")
    return share


def _when(text: str) -> str:
    return _one_of(text, "--when", "request", "emitted", "both")


def _one_of(value: str, option: str, *known: str) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r}: wanted {' or '.join(known)}", param_hint=option)
    return value


def _baselines(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text in ("all", "none"):
        return known if text == "all" else ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        msg = f"{text!r}: wanted all, none, or names among {', '.join(known)}"
        raise typer.BadParameter(msg, param_hint="--against")
    return names


def _print_tables(console: Console, experiment: Experiment) -> None:
    """Print what was tested, a table of the methods for each length, and the other runs."""
    result = experiment.base
    tests, protocol = len(result.replay.targets.user), result.run.protocol
    console.print(
        f"{result.events:,} events of {result.users:,} users, {result.replay.catalogue:,} items; "
        f"{tests:,} tests in the last {protocol.last_frac:.0%}, lists "
        + ("made when the user comes" if protocol.when == "request" else "left from the user's last event")
    )
    if result.rejected:
        rejects = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.rejected.items()))
        console.print(f"rejected: {rejects}")
    if not tests:
        console.print("nothing to score: no event in the last part is a test (see --last-frac, --min-prior)")
        return
    for k in result.run.ks:
        console.print(_methods_table(experiment, k))
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
        strongest = ", ".join(f"{name} {effect:+.1f}" for name, effect in effects)
        console.print(f"learned from {learned.examples:,} choices; strongest effects: {strongest}")
    if experiment.emitted is not None:
        row = experiment.emitted.methods["recstream"]
        console.print(
            f"as emitted, lists were {row['events_behind']:,.0f} events of the log old on average "
            f"(median {row['age_s'] / 3600:,.1f} h)"
        )
    if experiment.without:
        console.print(_ablation_table(experiment))
    if experiment.grid:
        console.print(_grid_table(experiment))


def _record_of(experiment: Experiment) -> dict[str, object]:
    """The object that ``--json`` prints."""
    result = experiment.base
    protocol = result.run.protocol
    return {
        "log": result.log_name,
        "events": result.events,
        "users": result.users,
        "catalogue": result.replay.catalogue,
        "tests": len(result.replay.targets.user),
        "rejected": result.rejected,
        "late": result.late,
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
        else {"over": experiment.lead[0], **_difference_record(experiment.lead[1])},
        "without": {name: _difference_record(change) for name, change in experiment.ablation.items()},
        "grid": [{"settings": name, **result.methods["recstream"]} for name, result in experiment.grid],
    }


def _difference_record(change: PairedDifference) -> dict[str, object]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in change._asdict().items()
    }


def _methods_table(experiment: Experiment, k: int) -> Table:
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


def _ablation_table(experiment: Experiment) -> Table:
    table = Table(
        title="change without each signal",
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


def _grid_table(experiment: Experiment) -> Table:
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
