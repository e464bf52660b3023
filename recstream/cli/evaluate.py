"""``recstream eval``: how good the lists would have been on a log, against built-in baselines."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import orjson
import typer

from recstream.cli import console as consoles
from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.cli.progress import Reporter

if TYPE_CHECKING:
    from recstream.config import Settings
    from recstream.evaluation.experiment import Experiment
    from recstream.evaluation.protocol import Ties

__all__ = ["evaluate"]

TOP_N = 50
"""Items in a list: more than are scored, for those that the user has had meanwhile are dropped before."""


def evaluate(
    events: Annotated[str, typer.Option(help="Event log: .jsonl[.gz|.zst] or .parquet, in order of time.")],
    items: Annotated[
        str | None, typer.Option(help="The catalogue, a file as above; none: events bring their items.")
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            help="Baselines, by commas: popularity, recent, transitions, itemknn, sessionknn; all; none."
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
        bool, typer.Option("--repeats", help="Score, and list, items the user has had before.")
    ] = False,
    ties: Annotated[
        str, typer.Option(help="Events of a user at one time: group (they have no order), or sequence.")
    ] = "group",
    not_target: Annotated[str, typer.Option(help="Actions that are learned from, not scored.")] = "ask",
    limit: Annotated[int | None, typer.Option(help="Read only the first so many events.", min=1)] = None,
    top_n: Annotated[int, typer.Option(help="Items in a list (ranking.top_n).", min=1)] = TOP_N,
    ablate: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Run again without each of these signals or groups, by commas, such as text,short_term; "
            "all: each signal; groups: each group.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING=A,B|FILE.toml",
            help="Run with each combination of these values too; may be given more than once.",
            show_default=False,
        ),
    ] = None,
    write_settings: Annotated[
        Path | None,
        typer.Option(help="Write the settings of the grid's best NDCG to this new file.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots to this file.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Runs at a time.", min=1, show_default="cores"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the confidence intervals.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate on a log, prequentially: each list is made of nothing but what came before, then scored.

    No store is read or written; texts are encoded through the cache (cache.path). Lists are those of
    `recstream backfill --refresh event` on the same log, with a request at each moment that is scored.

    To tune, give --grid values of settings: every combination is run, each learning anew from the log.
    Such as: --grid ranking.learn=true,false --grid ranking.weights.fresh=0,0.8 --write-settings best.toml

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
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

    from recstream.evaluation.baselines import BASELINES
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
        against=_baselines(against, tuple(BASELINES)),
        ks=ks,
        limit=limit or 0,
        seed=seed,
    )
    cores = len(os.sched_getaffinity(0))
    with Reporter(consoles.errors()) as reporter:
        experiment = run_experiment(
            run,
            jobs or cores,
            reporter.stage,
            emitted=when == "both",
            ablate=without,
            grid={name: settings for name, (settings, _) in points.items()},
        )
    if write_settings is not None and experiment.grid:
        name, _ = experiment.grid[0]
        best = points[name][1].as_toml()
        head = f"# recstream eval, best of {len(points)}: {name}"
        write_settings.write_text(f"{head}\n{best}\n", encoding="utf-8")
    if report is not None:
        _write_report(report, experiment)
    _print(experiment, as_json=as_json)


def _print(experiment: Experiment, *, as_json: bool) -> None:
    from recstream.cli.evaluation_table import print_experiment, record_of

    if as_json:
        consoles.output().print(orjson.dumps(record_of(experiment)).decode(), markup=False, soft_wrap=True)
    else:
        print_experiment(consoles.output(), experiment)


def _write_report(path: Path, experiment: Experiment) -> None:
    from recstream.evaluation.replay_loop import OWN
    from recstream.evaluation.report import html_report

    grid = [(name, result.methods[OWN]) for name, result in experiment.grid]
    page = html_report(experiment.base, methods=experiment.methods, ablation=experiment.ablation, grid=grid)
    path.write_text(page, encoding="utf-8")


def _without(text: str | None, settings: Settings) -> list[str]:
    """Names that ``--ablate`` gives, each known."""
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
) -> dict[str, tuple[Settings, Settings]]:
    """Settings of each point of the grid by what is set: to evaluate with, and to write."""
    if not texts:
        return {}
    from recstream.config import ConfigError
    from recstream.evaluation.ablations import grid_points

    points: dict[str, tuple[Settings, Settings]] = {}
    problems: dict[str, None] = {}
    for point in grid_points(texts):
        name = ", ".join(f"{key}={value}" for key, value in point.items())
        try:
            evaluated = load_settings(config, overrides, {**named, **point})
            written = {"ranking.repeats": named["ranking.repeats"], **point}  # what the winner won with
            points[name] = (evaluated, load_settings(config, overrides, written))
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return points


def _check_outputs(write_settings: Path | None, report: Path | None, *, has_grid: bool) -> None:
    """Look at the files to write before anything that takes long."""
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
