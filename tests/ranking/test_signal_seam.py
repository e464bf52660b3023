"""A signal of one's own: the example of docs/extending.md, from the query to lists and learning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from recstream.config import ConfigError, Settings
from recstream.evaluation.ablations import signals_of
from recstream.items.catalogue import Catalogue
from recstream.items.session_index import SessionIndex
from recstream.ranking.features import FeatureExtractor
from recstream.ranking.kernels.structs import PER_ITEM, POPULARITY, TEXT
from recstream.ranking.query import Query
from recstream.ranking.recommender import RankingRules, Recommender
from recstream.ranking.signals.base import CandidateBlock, Column, Signal
from recstream.ranking.signals.table import SIGNALS, default_weights
from tests.support.builders import DIM, arrived, event, popular, query, unit, user_state_after
from tests.support.documents import snippets
from tests.support.rules import ranking_rules

(FILE,) = snippets("extending.md", "A signal")
NAME = "dwell_time"


def example() -> Signal:
    """The signal that the page's file defines."""
    names: dict[str, Any] = {}
    exec(FILE, names)  # noqa: S102 - our own page
    signal = names["DWELL_TIME"]
    assert isinstance(signal, Signal)
    return signal


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Signal:
    """The example's row is in the table."""
    signal = example()
    monkeypatch.setitem(SIGNALS, NAME, signal)
    return signal


def catalogue() -> Catalogue:
    """Two long films, two short ones, and one of neither category."""
    made = Catalogue(DIM)
    for name in ("long1", "long2", "short1", "short2", "other"):
        made.put(name, unit(name), categories=[name.rstrip("12")] if name != "other" else [])
    return made


def asked(films: Catalogue) -> Query:
    """By a user who stayed ten minutes with a long film, one with a short one, and was away after both."""
    events = [
        event(0.0, "view", "long1"),
        event(600.0, "view", "short1"),
        event(660.0, "search", text="more"),
        event(90_000.0, "search", text="even more"),
    ]
    return query(user_state_after(arrived(events), films))


def only(name: str, *, weight: float = 1.0) -> RankingRules:
    return ranking_rules(top_n=5, weights=dict.fromkeys(default_weights(), 0.0) | {name: weight})


def recommender(films: Catalogue, rules: RankingRules) -> Recommender:
    return Recommender(films, popular({row: 1 for row in range(len(films))}), rules)


def test_its_column_holds_what_it_computed_for_each_candidate_of_each_list(installed: Signal) -> None:
    films = catalogue()
    nobody = query(user_state_after(arrived([event(1.0, "search", text="jazz")]), films))
    extractor = FeatureExtractor(
        films, popular({2: 1}), SessionIndex(), weights=dict.fromkeys(SIGNALS, 1.0), wanted=5
    )
    (features,) = extractor.extract([nobody, asked(films), nobody])
    column = features.signals[:, list(SIGNALS).index(NAME)]
    found = [
        {films.ids[item]: float(value) for item, value in zip(features.items[of], column[of], strict=True)}
        for of in map(features.of, range(3))
    ]
    assert set(found[0].values()) == {0.0} == set(found[2].values())
    assert found[1] == pytest.approx({"long2": 1.0, "short2": 0.1, "other": 0.0})


@pytest.mark.usefixtures("installed")
def test_lists_are_ranked_by_it_and_name_it() -> None:
    films = catalogue()
    (ranked,) = recommender(films, only(NAME, weight=2.0)).rank([asked(films)])
    assert [films.ids[one.item] for one in ranked][:2] == ["long2", "short2"]
    assert [one.signals.get(NAME, 0.0) for one in ranked] == pytest.approx([2.0, 0.2, 0.0], abs=1e-5)
    assert all(math.isclose(sum(one.signals.values()), one.score, abs_tol=1e-4) for one in ranked)


@pytest.mark.usefixtures("installed")
def test_it_is_learned_what_it_is_worth() -> None:
    films = catalogue()
    made = recommender(films, ranking_rules(top_n=5))
    before = made.model.feature_effects[NAME]
    assert before == pytest.approx(0.5)
    for _ in range(40):
        assert made.learn(asked(films), films.handle("long2") or 0)
    assert made.model.feature_effects[NAME] > before + 0.5


def test_settings_and_ablations_know_it_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ranking.weights.{NAME}"
    with pytest.raises(ConfigError, match=f"unknown {NAME}"):
        Settings.load(None, {}, {name: 0.3})
    monkeypatch.setitem(SIGNALS, NAME, example())
    assert Settings.load(None, {}, {name: 0.3}).ranking.weights == {NAME: 0.3}
    assert signals_of("history") == signals_of(NAME) == (NAME,)


def test_one_of_weight_0_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(block: CandidateBlock, column: Column) -> None:
        raise AssertionError("it is not used")

    monkeypatch.setitem(SIGNALS, "costly", Signal("costly", "whatever", 0.0, compute=compute))
    films = catalogue()
    assert recommender(films, ranking_rules()).rank([asked(films)])[0]


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.5, math.inf])
def test_a_value_that_is_no_share_stops_with_the_signal_and_the_item(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(block: CandidateBlock, column: Column) -> None:
        column[block.items == 1] = value

    monkeypatch.setitem(SIGNALS, "bad", Signal("bad", "whatever", 1.0, compute=compute))
    films = catalogue()
    with pytest.raises(ValueError, match=r"signal 'bad' is .* for item 'long2', wanted a share from 0 to 1"):
        recommender(films, ranking_rules()).rank([asked(films)])


def test_a_signal_that_computes_cannot_nominate() -> None:
    with pytest.raises(ValueError, match="signal 'x' nominates candidates and has a compute of its own"):
        Signal("x", "whatever", 1.0, nominates=True, compute=lambda block, column: None)


def test_those_that_nominate_are_known_of_all_items() -> None:
    """The kernels find the best items of these alone."""
    nominating = {name for name, signal in SIGNALS.items() if signal.nominates}
    assert nominating <= {*TEXT, *PER_ITEM, *POPULARITY, "newcomer", "repeat"}


def test_whether_a_signal_nominates_is_said_by_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By no position: with each one switched off, its best item is no candidate any more."""
    films = Catalogue(DIM)
    for k in range(40):
        films.put(f"i{k}", unit(k))
    statistics = popular({39: 9})

    def candidates(**rows: Signal) -> set[int]:
        with monkeypatch.context() as patch:
            for name, row in rows.items():
                patch.setitem(SIGNALS, name, row)
            extractor = FeatureExtractor(
                films, statistics, SessionIndex(), weights=default_weights(), wanted=0
            )
            (features,) = extractor.extract([query(user_state_after([], films))])
            return set(features.items.tolist())

    assert candidates() == {39}
    off = {
        name: Signal(name, SIGNALS[name].meaning, SIGNALS[name].default_weight)
        for name in (*POPULARITY, "newcomer")
    }
    assert candidates(**off) == set()
    assert candidates(**{name: row for name, row in off.items() if name != "lasting"}) == {39}


def test_the_order_of_the_table_is_of_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every column is found by its name."""
    films = catalogue()
    (before,) = recommender(films, ranking_rules(top_n=5)).rank([asked(films)])
    rows = dict(reversed(SIGNALS.items()))
    for name in list(rows):
        monkeypatch.delitem(SIGNALS, name)
    for name, row in rows.items():
        monkeypatch.setitem(SIGNALS, name, row)
    assert list(SIGNALS) == list(rows)
    (after,) = recommender(films, ranking_rules(top_n=5)).rank([asked(films)])
    assert [one.item for one in after] == [one.item for one in before]
    for one, other in zip(after, before, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.signals == pytest.approx(other.signals, abs=2e-5)
        assert one.because == other.because


def test_what_it_captures_is_of_the_moment_of_the_query(installed: Signal) -> None:
    films = catalogue()
    user_state = user_state_after(
        arrived([event(0.0, "view", "long1"), event(60.0, "view", "short1")]), films
    )
    made = query(user_state)
    user_state.recent.clear()
    assert made.captured == {NAME: {0: 60.0}}
    assert installed.capture is not None
    assert np.isclose(installed.default_weight, 0.5)
