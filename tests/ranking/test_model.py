"""The blend of signals: exact splits, gradients, ceilings, and what learning does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.ranking import model as module
from recstream.ranking.model import RankingModel, split_scores
from recstream.ranking.signals import CEILINGS, DEFAULT_WEIGHTS
from recstream.records.arrays import AnyArray, Matrix

NAMES = ("a", "b", "c", "d")
seeds = st.integers(0, 2**32 - 1)


def lists_of(seed: int, lists: int, candidates: int = 12, signals: int = len(NAMES)) -> list[Matrix]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(lists):
        rows = random.random((candidates, signals)).astype(np.float32)
        found.append(rows * (random.random(rows.shape) < 0.6))  # most items lack some signal
    return found


def taught(seed: int, lists: int = 60, **more: object) -> RankingModel:
    """A blend after random lessons."""
    model = RankingModel(dict.fromkeys(NAMES, 0.5), **more)  # type: ignore[arg-type]  # passed on as given
    random = np.random.default_rng(seed)
    for rows in lists_of(seed, lists):
        model.learn(rows, int(random.integers(len(rows))))
    return model


def split(model: RankingModel, rows: Matrix) -> Matrix:
    """What each signal contributed to each score."""
    parts = np.empty(rows.shape, np.float32)
    split_scores(rows, model.parameters, parts)
    return parts


@given(seeds)
@settings(max_examples=50)
def test_parts_add_up_to_the_score(seed: int) -> None:
    model = taught(seed)
    assert np.abs(model.parameters[3]).max() > 0.0, "the hidden layer has learned nothing"
    (rows,) = lists_of(seed + 1, 1)
    np.testing.assert_allclose(split(model, rows).sum(axis=1), model.score(rows), atol=1e-5)


@given(seeds)
@settings(max_examples=50)
def test_what_an_item_has_not_contributes_nothing(seed: int) -> None:
    model = taught(seed)
    (rows,) = lists_of(seed + 1, 1)
    assert not split(model, rows)[rows == 0.0].any()
    nothing = np.zeros((2, len(NAMES)), np.float32)
    np.testing.assert_allclose(model.score(nothing), 0.0, atol=1e-6)


def test_before_any_lesson_it_is_the_linear_blend_it_was_given() -> None:
    start = {"a": 1.0, "b": -0.5, "c": 0.0, "d": 2.0}
    (rows,) = lists_of(3, 1)
    model = RankingModel(start)
    np.testing.assert_allclose(model.score(rows), rows @ np.array(list(start.values())), atol=1e-6)
    assert model.effect == pytest.approx(start)


@given(seeds)
@settings(max_examples=50)
def test_a_lesson_lifts_the_chosen_one(seed: int) -> None:
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


def numeric(model: RankingModel, array: AnyArray, rows: Matrix, chosen: int) -> AnyArray:
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


def log_likelihood(model: RankingModel, rows: Matrix, chosen: int) -> float:
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
    model = RankingModel({"a": 1.0, "b": 0.0})
    random = np.random.default_rng(1)
    for _ in range(400):
        rows = random.random((20, 2)).astype(np.float32)
        model.learn(rows, int(rows[:, 1].argmax()))
    assert model.effect["b"] > 2.0
    assert abs(model.effect["a"]) < model.effect["b"] / 4
    rows = random.random((200, 2)).astype(np.float32)
    assert np.corrcoef(model.score(rows), rows[:, 1])[0, 1] > 0.95


def test_the_hidden_units_learn_what_no_weights_can() -> None:
    """Chosen is what has both signals or none: linear weights cannot tell that apart."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    with_units, without = RankingModel({"a": 0.0, "b": 0.0}), RankingModel({"a": 0.0, "b": 0.0}, hidden=0)
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
    model = RankingModel(DEFAULT_WEIGHTS, ceilings=CEILINGS)
    names = list(DEFAULT_WEIGHTS)
    for rows in lists_of(seed, 40, signals=len(names)):
        model.learn(rows, int(rows[:, names.index("disliked")].argmax()), weight=4.0)
    linear = dict(zip(names, model.linear.tolist(), strict=True))
    for name, ceiling in CEILINGS.items():
        assert linear[name] <= ceiling
    assert linear["disliked"] == CEILINGS["disliked"], "nothing pushed against the ceiling"


def test_the_same_lessons_give_the_same_blend() -> None:
    assert taught(5).to_bytes() == taught(5).to_bytes() != taught(6).to_bytes()


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


def test_forgetting_what_was_learned_gives_the_start() -> None:
    model = taught(4)
    model.reset()
    assert model.to_bytes() == RankingModel(dict.fromkeys(NAMES, 0.5)).to_bytes()
    assert model.examples == 0.0


def test_a_choice_that_is_no_candidate_is_refused() -> None:
    model = RankingModel(dict.fromkeys(NAMES, 0.5))
    (rows,) = lists_of(1, 1)
    for chosen in (-1, len(rows)):
        with pytest.raises(ValueError, match=f"chosen is {chosen}, wanted a row of the {len(rows)}"):
            model.learn(rows, chosen)


def test_no_signal_gets_round_its_ceiling_through_the_hidden_units() -> None:
    model = RankingModel({"good": 1.0, "bad": -0.5}, ceilings={"bad": -0.1})
    signals = np.array([[0.5, 1.0], [0.5, 0.0], [0.2, 0.0]], np.float32)
    for _ in range(500):
        model.learn(signals, 0)
    assert model.effect["bad"] <= -0.1 + 1e-6


def test_a_start_above_the_ceiling_is_kept_to() -> None:
    model = RankingModel({"good": 1.0, "bad": 0.0}, ceilings={"bad": -0.5})
    model.learn(np.eye(2, dtype=np.float32), 0)
    assert model.linear[1] <= 0.0
    assert model.ceilings.tolist() == [np.inf, 0.0]


def test_signals_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"signals have shape \(2, 3\), wanted 2 columns"):
        RankingModel({"a": 1.0, "b": 1.0}).learn(np.zeros((2, 3), np.float32), 0)
