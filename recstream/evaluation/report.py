"""The report: one self-contained HTML page, for light and dark, that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from recstream.evaluation.experiment import PairedDifference
from recstream.evaluation.metrics import gains
from recstream.evaluation.plots import Series, line_plot
from recstream.evaluation.runs import RunResult
from recstream.ranking.signals.table import SIGNALS

__all__ = ["by_prior_events", "effects_over_time", "html_report", "over_time"]

_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1b1f24;--dim:#667;--rule:#d8dce2;--best:#e8f1e4;
--c0:#0b62c4;--c1:#c2410c;--c2:#15803d;--c3:#9333ea;--c4:#b45309;--c5:#0e7490;--c6:#be185d;--c7:#4d7c0f;
--c8:#475569}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e6e8eb;--dim:#9aa3ad;--rule:#343a42;--best:#21331f;
--c0:#6cb1ff;--c1:#fb923c;--c2:#4ade80;--c3:#c896fb;--c4:#facc15;--c5:#67d7ec;--c6:#f78bc0;
--c7:#bef264;--c8:#a9b6c6}}
body{background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif;
max-width:68rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}p.dim,caption{color:var(--dim);text-align:left}
div.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}td.words{text-align:left;white-space:normal}td.best{background:var(--best);font-weight:600}
svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:var(--ink)}
.mid{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:var(--rule);stroke-width:1}.line{fill:none;stroke-width:2}
""" + "".join(f".line.c{n}{{stroke:var(--c{n})}}.dot.c{n}{{fill:var(--c{n})}}\n" for n in range(9))

_STRONGEST: Final = 9
"""Lines in the plot of effects; more would share colours."""
_PRIOR_BINS: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200)
"""First value of each bin of users' prior events; the bin before the first is of new users."""
_LEGEND: Final = (
    '<p class="dim">&plusmn;: 95 % of 1,000 draws of users. Cold: fewer than 5 events before. Coverage: '
    "share of the catalogue that was in any list. Diversity: mean of 1 &minus; cosine within lists. Novelty: "
    "mean of &minus;log2 of the items' share of all events. Precision, recall and F1 are of the events of "
    "one user at one time together, all else of each.</p>"
)
_COLUMNS: Final = (
    ("hr", "HR"),
    ("ndcg", "NDCG"),
    ("mrr", "MRR"),
    ("recall", "recall"),
    ("precision", "precision"),
    ("f1", "F1"),
    ("coverage", "coverage"),
    ("diversity", "diversity"),
    ("novelty", "novelty"),
    ("hr_cold_users", "HR cold users"),
    ("hr_cold_items", "HR cold items"),
)


def html_report(
    result: RunResult,
    *,
    methods: Mapping[str, Mapping[str, Any]],
    ablation: Mapping[str, PairedDifference] | None = None,
    grid: Sequence[tuple[str, Mapping[str, Any]]] = (),
) -> str:
    """The page as HTML.

    ``methods`` are the rows of its table, ``ablation`` how figures change without each signal, ``grid`` the
    figures at each point.
    """
    k = result.run.ks[0]
    protocol = result.run.protocol
    when = "made when the user comes" if protocol.when == "request" else "left from the user's last event"
    tests = f"{len(result.replay.targets.user):,} tests in the last {protocol.last_frac:.0%} of the log"
    what = "items the user has had count too" if protocol.repeats else "tests are of items new to the user"
    parts = [
        f"<h1>How good lists would have been on {escape(result.log_name)}</h1>",
        f"<p>{result.events:,} events of {result.users:,} users, {result.replay.catalogue:,} items; {tests}, "
        f"lists {when}. Each is made of nothing but what came before, over the whole catalogue; {what}.</p>",
    ]
    for length in result.run.ks:
        parts.append(_methods_table(methods, length))
    parts.append(_LEGEND)
    if len(result.replay.targets.user):
        parts += [f"<h2>Quality over time</h2>{_time_plot(over_time(result, k), k)}"]
        labels, lines = by_prior_events(result, k)
        ticks = [(float(n), label) for n, label in enumerate(labels)]
        plot = line_plot(lines, title="NDCG by prior events of the user", x_ticks=ticks, y_label=f"NDCG@{k}")
        parts.append(f"<h2>Quality by the user's events before</h2>{plot}")
    parts += _learned(result)
    if ablation:
        parts.append(_ablation_table(ablation, k))
    if grid:
        parts.append(_grid_table(grid, result.run.ks))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>recstream eval</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _methods_table(methods: Mapping[str, Mapping[str, Any]], k: int) -> str:
    keys = [_key(name, k) for name, _ in _COLUMNS]
    best = {key: max((row[key] or 0.0 for row in methods.values()), default=0.0) for key in keys}
    rows = []
    for method, row in methods.items():
        cells = []
        for key in keys:
            text = _number(row[key])
            if f"{key}_95" in row:
                low, high = row[f"{key}_95"]
                text += f" &plusmn;{(high - low) / 2:.3f}"
            mark = ' class="best"' if row[key] and row[key] == best[key] else ""
            cells.append(f"<td{mark}>{text}</td>")
        rows.append(f"<tr><td>{escape(method)}</td>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(title)}</th>" for _, title in _COLUMNS)
    return f"<h2>At {k}</h2>{_table(f'<th>method</th>{head}', rows)}"


def _ablation_table(ablation: Mapping[str, PairedDifference], k: int) -> str:
    rows = [
        f"<tr><td>{escape(name)}</td><td>{change.hr:+.4f}</td><td>{change.ndcg:+.4f}</td>"
        f"<td>{change.ndcg_95.low:+.4f} to {change.ndcg_95.high:+.4f}</td></tr>"
        for name, change in sorted(ablation.items(), key=lambda pair: pair[1].ndcg)
    ]
    head = f"<th>without</th><th>HR@{k}</th><th>NDCG@{k}</th><th>95 %</th>"
    return f"<h2>Change without each signal</h2>{_table(head, rows)}"


def _grid_table(grid: Sequence[tuple[str, Mapping[str, Any]]], ks: tuple[int, ...]) -> str:
    keys = [f"{name}@{k}" for k in ks for name in ("hr", "ndcg")]
    rows = [
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{_number(row[key])}</td>' for key in keys)}</tr>"
        for name, row in grid
    ]
    head = "<th>settings</th>" + "".join(f"<th>{key}</th>" for key in keys)
    return f"<h2>Grid</h2>{_table(head, rows)}"


def _table(head: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _time_plot(lines: Sequence[Series], k: int) -> str:
    x = lines[0].x
    days = (x[-1] - x[0]) / 86400.0
    shape = "%Y-%m-%d" if days > 3 else "%d %b %H:%M"
    wanted = sorted({0, len(x) // 4, len(x) // 2, 3 * len(x) // 4, len(x) - 1})
    kept: list[tuple[float, str]] = []
    for n in wanted:
        # labels of times close together would overlap
        if not kept or x[n] - kept[-1][0] > 0.14 * (x[-1] - x[0]):
            kept.append((x[n], datetime.fromtimestamp(x[n], tz=timezone.utc).strftime(shape)))
    return line_plot(lines, title="NDCG over time", x_ticks=kept, y_label=f"NDCG@{k}")


def _learned(result: RunResult) -> list[str]:
    """A plot of the strongest effects of signals, and a table of all."""
    learned = result.replay.learned
    lines = effects_over_time(result, _STRONGEST)
    if not lines:
        return []
    ticks = [(float(part * result.events // 4), f"{part * result.events // 4:,}") for part in range(5)]
    plot = line_plot(lines, title="effects of the signals", x_ticks=ticks, y_label="score")
    first, last = learned.effects[0][1], learned.effects[-1][1]
    rows = [
        f"<tr><td>{escape(name)}</td><td>{first[name]:+.2f}</td><td>{worth:+.2f}</td>"
        f'<td class="words">{escape(SIGNALS[name].meaning)}</td></tr>'
        for name, worth in sorted(last.items(), key=lambda pair: -abs(pair[1]))
    ]
    head = "<th>signal</th><th>at first</th><th>in the end</th><th>measures</th>"
    return [
        "<h2>What was learned of the signals</h2>"
        f'<p class="dim">Learned online from {learned.examples:,} choices: the score of an item that has the '
        f"signal alone, and in full. The {len(lines)} strongest, by events of the log.</p>{plot}"
        + _table(head, rows)
    ]


def _key(name: str, k: int) -> str:
    column, _, who = name.partition("_")
    return f"{column}@{k}_{who}" if who else f"{column}@{k}"


def _number(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.4f}"


def over_time(result: RunResult, k: int, bins: int = 20) -> list[Series]:
    """Mean NDCG of each method in ``bins`` equal parts of the tests, by the median time of each part."""
    targets = result.replay.targets
    parts = [part for part in np.array_split(np.arange(len(targets.ts)), bins) if len(part)]
    x = [float(np.median(targets.ts[part])) for part in parts]
    return [
        Series(name, x, [float(values[part].mean()) for part in parts]) for name, values in _ndcg(result, k)
    ]


def by_prior_events(result: RunResult, k: int) -> tuple[list[str], list[Series]]:
    """Labels of bins of users by their prior events, and the mean NDCG of each method in each bin.

    ``x`` numbers the bins; bins without tests are left out.
    """
    prior = result.replay.targets.prior
    which = np.searchsorted(_PRIOR_BINS, prior, side="right")
    used = np.unique(which).tolist()
    labels = [_label(bin_) for bin_ in used]
    x = [float(n) for n in range(len(used))]
    return labels, [
        Series(name, x, [float(values[which == bin_].mean()) for bin_ in used])
        for name, values in _ndcg(result, k)
    ]


def effects_over_time(result: RunResult, most: int) -> list[Series]:
    """Effects of signals by number of events, for the strongest in the end, of either sign.

    Empty where nothing was learned.
    """
    learned = result.replay.learned
    if not learned.examples:
        return []
    last = learned.effects[-1][1]
    places = [float(place) for place, _ in learned.effects]
    strongest = sorted(last, key=lambda name: -abs(last[name]))[:most]
    return [Series(name, places, [effects[name] for _, effects in learned.effects]) for name in strongest]


def _ndcg(result: RunResult, k: int) -> list[tuple[str, npt.NDArray[np.float64]]]:
    return [(name, gains(scored.ranks, k)[1]) for name, scored in result.replay.methods.items()]


def _label(bin_: int) -> str:
    if bin_ == 0:
        return "0"
    first = _PRIOR_BINS[bin_ - 1]
    if bin_ == len(_PRIOR_BINS):
        return f"{first}+"
    last = _PRIOR_BINS[bin_] - 1
    return f"{first}" if last == first else f"{first}-{last}"
