"""Ablations and the points of a grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from recstream.config import ConfigError, Settings
from recstream.evaluation.ablations import ablated_settings, grid_points
from recstream.ranking.signals.table import SIGNALS, default_weights, signal_groups


def test_each_signal_that_weighs_anything_is_left_out_once() -> None:
    settings = Settings.load(None, {}, {"ranking.weights.rising": 0.0, "ranking.weights.words": 2.0})
    found = ablated_settings(settings, ["all"])
    assert set(found) == {name for name, weight in default_weights().items() if weight} - {"rising"}
    assert found["followed"].ranking.weights == {"rising": 0.0, "words": 2.0, "followed": 0.0}


def test_groups_and_signals_are_left_out_as_they_are_named() -> None:
    found = ablated_settings(
        Settings.load(None, {}, {"ranking.weights.lexical": 0.0}), ["lexicon", "fresh", "lexical"]
    )
    assert {name: one.ranking.weights for name, one in found.items()} == {
        "lexicon": {"lexical": 0.0, "lexical_last": 0.0},
        "fresh": {"lexical": 0.0, "fresh": 0.0},
    }
    assert list(ablated_settings(Settings.load(None, {}), ["groups"])) == list(signal_groups())


def test_groups_are_of_signals_and_named_like_none() -> None:
    assert {name for group in signal_groups().values() for name in group} <= SIGNALS.keys()
    assert not {*signal_groups(), "all", "groups"} & SIGNALS.keys()


def test_a_name_that_is_no_signal_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'txt': wanted all, groups, a group \(text, .*lexical_last"):
        ablated_settings(Settings.load(None, {}), ["words", "txt"])


def test_a_grid_file_and_options_make_every_combination(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text("[ranking]\nneighbours = [5, 6]\n[ranking.weights]\nwords = 1.5\n")
    points = grid_points([str(file), "profile.half_life_days=1,2"])
    assert len(points) == 4
    assert points[0] == {"ranking.neighbours": 5, "ranking.weights.words": 1.5, "profile.half_life_days": "1"}
    assert Settings.load(None, {}, points[3]).ranking.neighbours == 6


def test_all_that_is_wrong_with_a_grid_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[ranking\n")
    with pytest.raises(ConfigError) as raised:
        grid_points([str(tmp_path / "bad.toml"), "gone.toml", "word"])
    assert len(raised.value.problems) == 3
