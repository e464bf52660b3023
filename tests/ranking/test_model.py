"""The shallow network: the contract of every ranking model, its gradients, and what it learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.config import ConfigError, Settings
from recstream.ranking.models import shallow_network as module
from recstream.ranking.models.base import RankingModel
from recstream.ranking.models.shallow_network import ShallowNetwork
from recstream.ranking.models.table import MODELS, new_model
from recstream.ranking.signals.table import SIGNALS, default_weights
from recstream.records.arrays import AnyArray, Matrix
from recstream.testing.ranking_models import RankingModelContract
from tests.support.documents import snippets

NAMES = ("a", "b", "c", "d")
MAX_WEIGHTS = {name: one.max_weight for name, one in SIGNALS.items() if math.isfinite(one.max_weight)}
seeds = st.integers(0, 2**32 - 1)


class TestShallowNetwork(RankingModelContract):
    def make(self, weights: Mapping[str, float], max_weights: Mapping[str, float]) -> RankingModel:
        return ShallowNetwork(weights, max_weights=max_weights)


def test_the_page_about_models_runs_this_contract() -> None:
    (example,) = snippets("extending.md", "A ranking model")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own page
    assert issubclass(names["TestShallowNetwork"], RankingModelContract)
    assert names["TestShallowNetwork"]().make({"a": 1.0}, {}).names == ("a",)


@pytest.mark.parametrize("name", MODELS)
def test_every_registered_model_is_over_all_signals(name: str) -> None:
    model = new_model(default_weights(), name)
    assert isinstance(model, MODELS[name])
    assert model.feature_effects == pytest.approx(default_weights())
    assert dict(zip(model.names, model.max_weights.tolist(), strict=True)) == {
        name: signal.max_weight for name, signal in SIGNALS.items()
    }


def test_the_settings_take_registered_models_only() -> None:
    with pytest.raises(ConfigError, match="unknown nothing, wanted one of shallow_network"):
        Settings.load(None, {}, {"ranking.model": "nothing"})


def lists_of(seed: int, lists: int, candidates: int = 12, signals: int = len(NAMES)) -> list[Matrix]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(lists):
        rows = random.random((candidates, signals)).astype(np.float32)
        found.append(rows * (random.random(rows.shape) < 0.6))  # most items lack some signal
    return found


def taught(seed: int, lists: int = 60) -> ShallowNetwork:
    """A model after random examples."""
    model = ShallowNetwork(dict.fromkeys(NAMES, 0.5))
    random = np.random.default_rng(seed)
    for rows in lists_of(seed, lists):
        model.learn(rows, int(random.integers(len(rows))))
    return model


@given(seeds)
@settings(max_examples=50)
def test_an_example_lifts_the_chosen_one(seed: int) -> None:
    model = taught(seed, 20)
    (rows,) = lists_of(seed + 1, 1)
    chosen = seed % len(rows)
    before = log_likelihood(model, rows, chosen)
    for _ in range(5):
        model.learn(rows, chosen, weight=0.2)
    assert log_likelihood(model, rows, chosen) > before


@given(seeds, st.sampled_from([0.1, 1.0, 2.0]))
@settings(max_examples=30)
def test_a_step_is_adagrads_along_the_gradient_of_the_likelihood(seed: int, weight: float) -> None:
    """Each weight moves by its rate times the gradient over the root of all squared gradients so far."""
    model = taught(seed, 10)
    (rows,) = lists_of(seed + 1, 1)
    chosen = seed % len(rows)
    after = copy.deepcopy(model)
    after.learn(rows, chosen, weight=weight)
    rates = (module._LINEAR_RATE, *[module._HIDDEN_RATE] * 3)
    for mine, moved, squares, rate in zip(
        model.parameters, after.parameters, after.squares, rates, strict=True
    ):
        slope = weight * numeric(model, mine, rows, chosen)
        np.testing.assert_allclose((moved - mine) * np.sqrt(squares), rate * slope, atol=1e-3 * rate)
        assert (squares >= 0.999 * slope**2).all()


def numeric(model: ShallowNetwork, array: AnyArray, rows: Matrix, chosen: int) -> AnyArray:
    """The gradient of the log-likelihood by finite differences."""
    slope, wide = np.zeros_like(array), 1e-5
    for at in np.ndindex(array.shape):
        held = array[at]
        array[at] = held + wide
        above = log_likelihood(model, rows, chosen)
        array[at] = held - wide
        below = log_likelihood(model, rows, chosen)
        array[at] = held
        slope[at] = (above - below) / (2.0 * wide)
    return slope


def log_likelihood(model: ShallowNetwork, rows: Matrix, chosen: int) -> float:
    """Of the chosen one under a softmax of the scores, by the formula of the class."""
    linear, inward, bias, outward = model.parameters
    x = rows.astype(np.float64)
    scores = x @ linear + (np.tanh(x @ inward.T + bias) - np.tanh(bias)) @ outward
    return float(scores[chosen] - scores.max() - np.log(np.exp(scores - scores.max()).sum()))


@given(seeds)
@settings(max_examples=30)
def test_scores_are_those_of_the_formula(seed: int) -> None:
    model = taught(seed)
    (rows,) = lists_of(seed + 1, 1)
    linear, inward, bias, outward = model.parameters
    wanted = rows @ linear + (np.tanh(rows @ inward.T + bias) - np.tanh(bias)) @ outward
    np.testing.assert_allclose(model.score(rows), wanted, atol=1e-5)


def test_a_signal_that_tells_the_chosen_ones_comes_to_weigh_most() -> None:
    model = ShallowNetwork({"a": 1.0, "b": 0.0})
    random = np.random.default_rng(1)
    for _ in range(400):
        rows = random.random((20, 2)).astype(np.float32)
        model.learn(rows, int(rows[:, 1].argmax()))
    assert model.feature_effects["b"] > 2.0
    assert abs(model.feature_effects["a"]) < model.feature_effects["b"] / 4
    rows = random.random((200, 2)).astype(np.float32)
    assert np.corrcoef(model.score(rows), rows[:, 1])[0, 1] > 0.95


def test_the_hidden_units_learn_what_no_weights_can() -> None:
    """Chosen is what has both signals or none: linear weights cannot tell that apart."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    with_units, without = ShallowNetwork({"a": 0.0, "b": 0.0}), ShallowNetwork({"a": 0.0, "b": 0.0}, hidden=0)
    for step in range(2000):
        for model in (with_units, without):
            model.learn(corners, 0 if step % 2 else 3)
    scores = with_units.score(corners)
    assert min(scores[0], scores[3]) > max(scores[1], scores[2]) + 0.5
    flat = without.score(corners)
    assert flat[0] + flat[3] == pytest.approx(flat[1] + flat[2], abs=1e-5)


@given(seeds)
@settings(max_examples=20)
def test_what_speaks_against_an_item_never_comes_to_speak_for_it(seed: int) -> None:
    model = ShallowNetwork(default_weights(), max_weights=MAX_WEIGHTS)
    names = list(default_weights())
    for rows in lists_of(seed, 40, signals=len(names)):
        model.learn(rows, int(rows[:, names.index("disliked")].argmax()), weight=4.0)
    linear = dict(zip(names, model.linear.tolist(), strict=True))
    for name, most in MAX_WEIGHTS.items():
        assert linear[name] <= most
    assert linear["disliked"] == MAX_WEIGHTS["disliked"], "nothing pushed against the greatest weight"


def test_weights_stay_finite_whatever_is_taught() -> None:
    model = taught(1)
    for value in (np.nan, np.inf, 1e30):
        (rows,) = lists_of(2, 1)
        rows[3, 1] = value
        before = model.to_bytes()
        model.learn(rows, 0)
        assert model.to_bytes() == before, value
    (rows,) = lists_of(2, 1)
    for _ in range(50):
        model.learn(rows, 0, weight=1e6)
    assert all(np.isfinite(array).all() for array in model.parameters)


def test_no_signal_gets_round_its_greatest_weight_through_the_hidden_units() -> None:
    model = ShallowNetwork({"good": 1.0, "bad": -0.5}, max_weights={"bad": -0.1})
    signals = np.array([[0.5, 1.0], [0.5, 0.0], [0.2, 0.0]], np.float32)
    for _ in range(500):
        model.learn(signals, 0)
    assert model.feature_effects["bad"] <= -0.1 + 1e-6


def test_a_start_above_the_greatest_weight_is_kept_to() -> None:
    model = ShallowNetwork({"good": 1.0, "bad": 0.0}, max_weights={"bad": -0.5})
    model.learn(np.eye(2, dtype=np.float32), 0)
    assert model.linear[1] <= 0.0
    assert model.max_weights.tolist() == [np.inf, 0.0]


@given(seeds, st.lists(st.sampled_from([*NAMES, "e", "f"]), unique=True, min_size=1))
@settings(max_examples=50)
def test_a_signal_more_or_less_leaves_the_score_of_candidates_without_it(seed: int, names: list[str]) -> None:
    old, model = taught(seed), ShallowNetwork(dict.fromkeys(names, 0.5))
    assert model.take(old.to_bytes())
    shared = [name for name in names if name in NAMES]
    (values,) = lists_of(seed + 1, 1, signals=len(shared))
    before, after = np.zeros((12, len(NAMES)), np.float32), np.zeros((12, len(names)), np.float32)
    before[:, [NAMES.index(name) for name in shared]] = values
    after[:, [names.index(name) for name in shared]] = values
    np.testing.assert_allclose(model.score(after), old.score(before), atol=1e-5)


def test_a_signal_that_is_new_begins_as_in_a_new_model() -> None:
    """Its weights, and how cautiously they move."""
    model = ShallowNetwork(dict.fromkeys([*NAMES, "new"], 0.5))
    assert model.take(taught(1).to_bytes())
    for array, fresh in zip(model.arrays, model.untrained().arrays, strict=True):
        if array.shape[-1] == len(model.names):
            np.testing.assert_array_equal(array[..., -1], fresh[..., -1])
            assert (array[..., :-1] != fresh[..., :-1]).any()


def test_as_many_hidden_units_as_signals_are_no_confusion() -> None:
    names = [f"s{k}" for k in range(module.HIDDEN)]
    old, model = ShallowNetwork(dict.fromkeys(names, 0.5)), ShallowNetwork(dict.fromkeys(names[::-1], 0.5))
    for rows in lists_of(1, 20, signals=len(names)):
        old.learn(rows, 3)
    assert model.take(old.to_bytes())
    (rows,) = lists_of(2, 1, signals=len(names))
    np.testing.assert_allclose(model.score(rows[:, ::-1].copy()), old.score(rows), atol=1e-5)


def test_a_model_with_another_number_of_hidden_units_is_refused() -> None:
    assert not ShallowNetwork(dict.fromkeys(NAMES, 0.5), hidden=4).take(taught(1).to_bytes())
