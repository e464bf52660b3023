"""Learning is safe: no robot turns the weights, no outlier is learned from, nothing grows without bound."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recstream.ranking.models.shallow_network import ShallowNetwork
from tests.support.builders import WorkerHarness, event
from tests.support.learning_workers import ITEMS, effect, habitual_log, learning_harness, model, play
from tests.support.rules import learning_rules

BOUND = 30.0


def moved(one: list[float], other: list[float]) -> float:
    return float(np.abs(np.subtract(one, other)).sum())


def flood(harness: WorkerHarness, count: int, *, step: int = 10) -> None:
    """One user who jumps as nobody else does, again and again, and nobody else is there."""
    log = [
        event(600.0 + k, "view", ITEMS[5 * k % len(ITEMS)], user="robot", offset=600 + k)
        for k in range(count)
    ]
    for at in range(0, count, step):
        done = harness.step(*log[at : at + step])
        harness.count(done.interactions)


def test_a_flood_by_one_user_moves_the_weights_less_than_all_others_did() -> None:
    """As many lessons as a day of everybody; at full weight they would count for thrice as much."""
    harness = learning_harness(learning=learning_rules(all_of=1 << 30))
    play(harness, habitual_log(600))
    learned, examples = effect(harness), model(harness).examples
    flood(harness, 1500)
    assert model(harness).examples > 2.5 * examples, "it is a flood"
    assert moved(effect(harness), learned) < moved(
        learned, list(model(harness).untrained().feature_effects.values())
    )


def test_a_flood_within_one_micro_batch_moves_them_no_further() -> None:
    """How events are batched changes little of what they weigh."""
    moves = []
    for step in (10, 400):
        harness = learning_harness(learning=learning_rules(all_of=1 << 30))
        play(harness, habitual_log(600))
        learned = effect(harness)
        flood(harness, 400, step=step)
        moves.append(moved(effect(harness), learned))
    assert moves[1] < 1.5 * moves[0]


def test_others_learn_at_full_weight_once_the_flood_is_over() -> None:
    """A window forgets: 1,024 lessons of others later nothing of the flood is counted."""
    harness = learning_harness()
    play(harness, habitual_log(100))
    flood(harness, 200)
    learner = harness.worker.learner
    assert learner._share(7) == 1.0
    assert learner._share(crc32(b"robot")) < 0.1
    for k in range(1024):
        learner._share(100 + k)
    assert learner._share(crc32(b"robot")) == 1.0
    assert len(learner.sampling_state.newest) == 1024


signals = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(4)),
    elements=st.floats(0.0, 1.0, width=32),
)
replay_buffer = st.lists(st.tuples(signals, st.integers(0, 5), st.floats(0.0, 2.0)), min_size=1, max_size=30)


@given(replay_buffer, st.integers(1, 40))
@settings(max_examples=60)
def test_whatever_is_learned_weights_stay_finite_bounded_and_under_their_greatest(
    taught: list[tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], int, float]], times: int
) -> None:
    model = ShallowNetwork({"a": 0.5, "b": 0.5, "c": 0.5, "d": -0.5}, max_weights={"d": 0.0})
    for _ in range(times):
        for rows, chosen, weight in taught:
            model.learn(rows, chosen % len(rows), weight=weight)
    for array in model.parameters:
        assert np.abs(array).max() <= BOUND
    assert model.linear[3] <= 0.0
    assert np.isfinite(model.score(np.ones((1, 4), np.float32))).all()


def test_a_weight_stops_at_the_bound() -> None:
    model = ShallowNetwork({"a": BOUND - 0.01, "b": BOUND - 0.01})
    for _ in range(20):
        model.learn(np.eye(2, dtype=np.float32), 0)
    assert model.linear[0] == BOUND


@given(st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -7.0, 1.5]), st.integers(0, 3))
@settings(max_examples=20)
def test_nothing_is_learned_from_an_outlier(value: float, place: int) -> None:
    model = ShallowNetwork(dict.fromkeys("abcd", 0.5))
    rows = np.full((3, 4), 0.5, np.float32)
    rows[1, place] = value
    before = model.to_bytes()
    model.learn(rows, 1)
    assert model.to_bytes() == before
