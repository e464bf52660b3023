"""``recstream eval``: how good the lists would have been on a log, against built-in baselines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from recstream.cli import console as consoles
from recstream.cli.options import ConfigFile, Overrides, load_settings
from recstream.cli.progress import Reporter

if TYPE_CHECKING:
    from recstream.evaluation.job import Done

__all__ = ["evaluate"]

TOP_N = 50
"""Items in a list, unless the settings or ``--top-n`` say otherwise: some are dropped before it is scored."""


def evaluate(
    events: Annotated[str, typer.Option(help="Event log: .jsonl[.gz|.zst] or .parquet, in order of time.")],
    items: Annotated[
        str | None, typer.Option(help="The catalogue, a file as above; none: events bring their items.")
    ] = None,
    k: Annotated[str, typer.Option("--k", help="Lengths at which lists are scored, by commas.")] = "10,20",
    against: Annotated[
        str, typer.Option(help="Baselines, by commas; all, or none.", show_default=True)
    ] = "all",
    when: Annotated[
        str,
        typer.Option(help="request: lists made when users come; emitted: left from their last event."),
    ] = "request",
    last_frac: Annotated[float, typer.Option(help="Share of the log, at its end, that is scored.")] = 0.2,
    min_prior: Annotated[int, typer.Option(help="Events a user must have before being scored.")] = 1,
    repeats: Annotated[
        bool, typer.Option("--repeats", help="Score items the user has had before, too.")
    ] = False,
    ties: Annotated[
        str, typer.Option(help="Events of a user at one time: group (no order), or sequence.")
    ] = "group",
    not_target: Annotated[str, typer.Option(help="Actions that are learned from, not scored.")] = "ask",
    limit: Annotated[int | None, typer.Option(help="Read only the first so many events.")] = None,
    top_n: Annotated[int, typer.Option(help="Items in a list (ranking.top_n).")] = TOP_N,
    seed: Annotated[int, typer.Option(help="Of the confidence intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate on a log, prequentially: each list is made of nothing but what came before, then scored.

    No store is read or written; texts are encoded through the cache (cache.path). Lists are those of
    `recstream backfill --refresh event` on the same log, with a request at each moment that is scored.

    Exit codes: 0 done, 1 a fault, 2 settings are wrong, 4 the fuse (too many rejects).
    """
    ks = _numbers(k)
    if top_n < max(ks):
        raise typer.BadParameter(
            f"{top_n}: wanted at least the greatest of --k, {max(ks)}", param_hint="--top-n"
        )
    named = {"ranking.top_n": top_n, "ranking.repeats": repeats or None}
    settings = load_settings(config, overrides, named)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")

    from recstream.cli.evaluation_table import print_done
    from recstream.evaluation.baselines import BASELINES
    from recstream.evaluation.job import Job, run_job
    from recstream.evaluation.log import check_files
    from recstream.evaluation.protocol import Protocol

    check_files(events, items)
    protocol = Protocol(
        last_frac=_share(last_frac),
        min_prior=min_prior,
        repeats=repeats,
        ties=_one_of(ties, "--ties", "group", "sequence"),  # type: ignore[arg-type]
        not_target=tuple(name for name in not_target.split(",") if name),
        when=_one_of(when, "--when", "request", "emitted"),  # type: ignore[arg-type]
    )
    job = Job(
        settings,
        events,
        items,
        protocol=protocol,
        against=_baselines(against, tuple(BASELINES)),
        ks=ks,
        limit=limit or 0,
        seed=seed,
    )
    with Reporter(consoles.errors()) as reporter:
        done = run_job(job, reporter.stage)
    if as_json:
        consoles.output().print(orjson.dumps(_record(done)).decode(), markup=False)
    else:
        print_done(consoles.output(), done)


def _record(done: Done) -> dict[str, object]:
    protocol = done.job.protocol
    return {
        "events": done.events,
        "users": done.users,
        "catalogue": done.found.catalogue,
        "rejected": done.rejected,
        "protocol": {
            "last_frac": protocol.last_frac,
            "min_prior": protocol.min_prior,
            "repeats": protocol.repeats,
            "ties": protocol.ties,
            "not_target": list(protocol.not_target),
            "when": protocol.when,
        },
        "methods": done.methods,
    }


def _numbers(text: str) -> tuple[int, ...]:
    try:
        ks = tuple(int(part) for part in text.split(","))
    except ValueError:
        ks = ()
    if not ks or min(ks) < 1:
        raise typer.BadParameter(f"{text!r}: wanted whole numbers from 1, such as 10,20", param_hint="--k")
    return ks


def _share(share: float) -> float:
    if not 0.0 < share <= 1.0:
        raise typer.BadParameter(f"{share}: wanted a share above 0, at most 1", param_hint="--last-frac")
    return share


def _one_of(value: str, option: str, *known: str) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r}: wanted {' or '.join(known)}", param_hint=option)
    return value


def _baselines(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text == "all":
        return known
    names = tuple(name.strip() for name in text.split(",") if name.strip() and text != "none")
    wrong = [name for name in names if name not in known]
    if wrong:
        raise typer.BadParameter(
            f"{', '.join(map(repr, wrong))}: wanted all, none, or names among {', '.join(known)}",
            param_hint="--against",
        )
    return names
