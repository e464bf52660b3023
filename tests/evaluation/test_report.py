"""The page and its plots: whole, self-contained, true to the figures."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from recstream.config import Settings
from recstream.evaluation.experiment import best_baseline, paired_difference
from recstream.evaluation.metrics import MISSED, ScoredLists, Targets
from recstream.evaluation.plots import Series, line_plot, nice_ticks
from recstream.evaluation.replay_loop import OWN, Learned, ReplayResult
from recstream.evaluation.report import by_prior_events, effects_over_time, html_report, over_time
from recstream.evaluation.runs import EvaluationRun, RunResult

VOID = {"meta"}


class Balanced(HTMLParser):
    """Every element that begins ends, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def scored(ranks: list[int]) -> ScoredLists:
    count = len(ranks)
    return ScoredLists(
        np.array(ranks),
        np.zeros((count, 2), np.int32),
        np.ones((count, 2), np.float32),
        np.zeros(count, np.int64),
        np.zeros(count),
    )


def result_of(own: list[int], other: list[int], *, name: str = "a & <b>.jsonl") -> RunResult:
    count = len(own)
    targets = Targets(
        user=np.arange(count, dtype=np.int32) // 2,
        trial=np.arange(count, dtype=np.int32),
        ts=1.7e9 + 86400.0 * np.arange(count, dtype=np.float64),
        prior=np.arange(count),
        popularity=np.arange(count),
    )
    methods = {OWN: scored(own), "transitions": scored(other)}
    replay = ReplayResult(targets, methods, np.ones((3, 2), np.float32), 3)
    run = EvaluationRun(Settings(), "log.jsonl", None, against=("transitions",), ks=(10,))
    rows = {method: replay.figures(method, run.ks) for method in methods}
    return RunResult(run, name, replay, rows, 100, 9, {}, 0)


def learned_by(
    result: RunResult, effects: list[tuple[int, dict[str, float]]], *, examples: int = 7
) -> RunResult:
    return replace(result, replay=replace(result.replay, learned=Learned(effects, examples)))


OWN_RANKS = [0, 1, MISSED, 3, 0, 0, 9, MISSED, 0, 2, 0, 5]
OTHERS = [4, MISSED, MISSED, 3, 1, 0, MISSED, MISSED, 7, 2, 5, 5]


def test_the_page_is_whole_and_asks_nobody_for_anything() -> None:
    result = learned_by(result_of(OWN_RANKS, OTHERS), [(0, {"words": 0.5}), (50, {"words": 0.7})])
    change = paired_difference((result, OWN), (result, "transitions"), 10)
    assert change is not None
    page = html_report(
        result, methods=result.methods, ablation={"text": change}, grid=[("ranking.x=1", result.methods[OWN])]
    )
    parsed = Balanced()
    parsed.feed(page)
    assert parsed.open == []
    assert parsed.links == []
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", page)
    assert "prefers-color-scheme:dark" in page
    assert "a & <b>.jsonl" in " ".join(parsed.words)
    assert f"{result.methods[OWN]['ndcg@10']:.4f}" in page
    plots = re.findall(r"<svg.*?</svg>", page)
    assert len(plots) == 3  # over time, by age, what was learned
    words = " ".join(parsed.words)
    assert "Learned online from 7 choices" in words
    assert "words +0.50 +0.70 likeness of the item's text to the user's latest searches" in words
    for plot in plots:
        ElementTree.fromstring(plot)  # noqa: S314 - our own


def test_a_plot_puts_points_where_they_belong() -> None:
    line, ticks = Series("up", [0.0, 1.0, 2.0], [0.0, 0.5, 1.0]), [(0.0, "a"), (2.0, "b")]
    plot = line_plot([line], title="t", x_ticks=ticks, y_label="y")
    root = ElementTree.fromstring(plot)  # noqa: S314 - our own
    dots = [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in root if e.tag.endswith("circle")]
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert (x0 < x2, y0 > y2) == (True, True)
    with pytest.raises(ValueError, match="no series has a point"):
        line_plot([], title="t", x_ticks=[], y_label="y")


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.0, 1e-4), (-0.3, 0.71), (0.0, 12345.0)])
def test_ticks_are_round_and_hold_the_data(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low < ticks[-1]
    assert high <= ticks[-1]
    assert 2 <= len(ticks) <= 8
    assert np.ptp(np.diff(ticks)) < 1e-9


def test_series_average_to_the_figure_they_show() -> None:
    result = result_of(OWN_RANKS, OTHERS)
    labels, lines = by_prior_events(result, 10)
    prior = result.replay.targets.prior
    sizes = [
        sum((prior >= low) & (prior < high))
        for low, high in [(0, 1), (1, 2), (2, 3), (3, 5), (5, 10), (10, 20)]
    ]
    assert labels == ["0", "1", "2", "3-4", "5-9", "10-19"]
    assert np.average(lines[0].y, weights=sizes) == pytest.approx(result.methods[OWN]["ndcg@10"])
    assert np.mean(over_time(result, 10, bins=4)[1].y) == pytest.approx(
        result.methods["transitions"]["ndcg@10"]
    )


def test_the_signals_worth_most_in_the_end_are_plotted_for_or_against() -> None:
    effects = [(0, {"a": 1.0, "b": 0.0, "c": 3.0}), (9, {"a": 2.0, "b": -3.0, "c": 1.0})]
    result = learned_by(result_of(OWN_RANKS, OTHERS), effects)
    wanted = [Series("b", [0.0, 9.0], [0.0, -3.0]), Series("a", [0.0, 9.0], [1.0, 2.0])]
    assert effects_over_time(result, 2) == wanted
    assert effects_over_time(learned_by(result, effects, examples=0), 2) == []


def test_a_difference_is_of_the_same_tests() -> None:
    result = result_of(OWN_RANKS, OTHERS)
    change = paired_difference((result, OWN), (result, "transitions"), 10)
    assert change is not None
    assert change.hr == pytest.approx(result.methods[OWN]["hr@10"] - result.methods["transitions"]["hr@10"])
    assert change.ndcg == pytest.approx(
        result.methods[OWN]["ndcg@10"] - result.methods["transitions"]["ndcg@10"]
    )
    assert change.ndcg_95.low < change.ndcg < change.ndcg_95.high
    assert change.is_sure
    assert best_baseline(result, 10) == "transitions"
    none = paired_difference((result, OWN), (result, OWN), 10)
    assert none is not None
    assert (none.hr, none.is_sure) == (0.0, False)
    with pytest.raises(ValueError, match="not of the same tests"):
        paired_difference((result, OWN), (result_of(OWN_RANKS[:6], OTHERS[:6]), OWN), 10)


def test_a_page_of_a_log_without_tests_says_so_by_its_table(tmp_path: Path) -> None:
    result = result_of([], [])
    page = html_report(result, methods=result.methods)
    assert "0 tests" in page
    assert "<svg" not in page
