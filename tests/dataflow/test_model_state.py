"""What was learned of the whole stream: exact after a clean stop, bounded after a crash, shared, frozen."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import msgspec
import numpy as np
import pytest

from recstream.dataflow.messages import EncodedList
from recstream.dataflow.model_state.text_transform import TRANSFORM
from recstream.dataflow.model_state.weights import WEIGHTS, mean_of, stored_weights
from recstream.dataflow.worker import Worker
from recstream.items.codec import RowFormatError
from recstream.items.text_transform import TextTransform
from recstream.ranking.signals.base import CandidateBlock, Column, Signal
from recstream.ranking.signals.table import SIGNALS
from recstream.records.arrays import Matrix
from recstream.records.event import Event
from recstream.stores.base import ModelRow
from tests.support.builders import WorkerHarness
from tests.support.learning_workers import (
    FROZEN,
    ITEMS,
    REPEATS,
    TwoWorkers,
    effect,
    habitual_log,
    learning_harness,
    model,
    play,
    stop,
)
from tests.support.rules import ranking_rules


def weights_rows(harness: WorkerHarness) -> list[str]:
    return [name for name in harness.models.rows if name.startswith(WEIGHTS)]


def test_after_a_clean_stop_the_weights_are_exactly_those_there_were() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    before, examples, repeats = effect(harness), model(harness).examples, harness.worker.learner.repeats
    assert examples > 20
    assert before != list(WorkerHarness().worker.recommender.model.feature_effects.values())
    harness.again()
    assert effect(harness) == before
    assert (model(harness).examples, harness.worker.learner.repeats) == (examples, repeats)
    assert weights_rows(harness) == ["weights/0"]


def test_that_people_come_back_to_items_is_known_after_a_restart() -> None:
    harness = WorkerHarness(ranking=ranking_rules(top_n=5, repeats=None))
    harness.know(*ITEMS)
    play(harness, habitual_log(250))
    assert harness.worker.recommender.people_repeat
    stop(harness)
    harness.again()
    assert harness.worker.recommender.people_repeat


def test_what_a_crash_loses_of_the_weights_is_bounded() -> None:
    harness = learning_harness()
    play(harness, habitual_log(400))
    learned = model(harness).examples
    assert learned > 200
    harness.again()
    assert learned - 110 < model(harness).examples < learned


def test_a_barrier_without_lessons_writes_no_weights() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    calls = len(harness.models.calls)
    stop(harness)
    assert len(harness.models.calls) == calls


def test_whoever_only_reads_writes_nothing() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    rows = dict(harness.models.rows)
    harness.models.calls.clear()
    Worker(harness.services(), harness.rules)
    assert {name for name, _ in harness.models.calls} == {"fetch"}
    assert harness.models.rows == rows


def test_frozen_weights_are_used_but_neither_changed_nor_written() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    learned, row = effect(harness), harness.models.rows["weights/0"]
    harness.rules = dataclasses.replace(harness.rules, learning=FROZEN)
    harness.again()
    play(harness, habitual_log(100, seed=1, begin=150))
    stop(harness)
    assert effect(harness) == learned
    assert harness.models.rows["weights/0"] == row


def test_weights_of_a_signal_that_is_gone_are_dropped_and_all_others_kept() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    learned, examples = dict(model(harness).feature_effects), model(harness).examples
    row = harness.models.rows["weights/0"]
    harness.models.upsert([row._replace(state=row.state.replace(b"lasting", b"l4sting"))])
    harness.again()
    start = model(harness).untrained().feature_effects
    assert model(harness).examples == examples
    assert model(harness).feature_effects == learned | {"lasting": pytest.approx(start["lasting"], abs=1.0)}
    assert model(harness).linear[list(start).index("lasting")] == pytest.approx(start["lasting"])


def half(block: CandidateBlock, column: Column) -> None:
    column[:] = 0.5


EXTRA = Signal("extra", "one half for every item", 0.7, compute=half)


def test_a_signal_that_comes_and_goes_leaves_what_was_learned_of_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights and replay buffer written with 23 signals are read with 24, and those again with 23."""
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    before, buffer = model(harness), list(harness.worker.recommender.replay_buffer)
    rows = random_rows(len(before.names))
    with monkeypatch.context() as patch:
        patch.setitem(SIGNALS, "extra", EXTRA)
        harness.rules = dataclasses.replace(harness.rules, ranking=ranking_rules(top_n=5, repeats=True))
        harness.again()
        more = model(harness)
        assert (more.names, more.examples) == ((*before.names, "extra"), before.examples)
        without = np.hstack([rows, np.zeros((len(rows), 1), np.float32)])
        np.testing.assert_allclose(more.score(without), before.score(rows), atol=1e-5)
        for (signals, *chosen), (kept, *mine) in zip(
            buffer, harness.worker.recommender.replay_buffer, strict=True
        ):
            np.testing.assert_array_equal(kept[:, :-1], signals)
            assert not kept[:, -1].any()
            assert mine == chosen
        play(harness, habitual_log(100, seed=1, begin=150))
        stop(harness)
        assert more.examples > before.examples
        assert more.feature_effects["extra"] == pytest.approx(0.7, abs=0.5)
    harness.rules = dataclasses.replace(harness.rules, ranking=REPEATS)
    harness.again()
    assert (model(harness).names, model(harness).examples) == (before.names, more.examples)
    np.testing.assert_allclose(model(harness).score(rows), more.score(without), atol=1e-5)


def random_rows(signals: int) -> Matrix:
    return np.random.default_rng(3).random((20, signals)).astype(np.float32)


def test_weights_of_another_model_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    row = harness.models.rows["weights/0"]
    raw, *others = msgspec.msgpack.decode(row.state[1:])
    another = msgspec.msgpack.encode(["another model", *msgspec.msgpack.decode(raw)[1:]])
    harness.models.upsert([row._replace(state=row.state[:1] + msgspec.msgpack.encode([another, *others]))])
    with caplog.at_level(logging.WARNING):
        harness.again()
    assert "was written by another ranking model than ShallowNetwork" in caplog.text
    assert (model(harness).examples, effect(harness)) == (
        0.0,
        list(model(harness).untrained().feature_effects.values()),
    )


def test_weights_of_another_layout_stop_the_start_and_say_how_to_mend_it() -> None:
    harness = learning_harness()
    harness.models.upsert([ModelRow("weights/0", 1, b"\x63...")])
    with pytest.raises(RowFormatError, match=r"layout 63.*recstream model reset"):
        harness.again()


def test_two_workers_write_a_row_each_and_start_from_the_mean_of_both() -> None:
    pair = TwoWorkers()
    play(pair.one, habitual_log(120))
    play(pair.other, habitual_log(240, seed=1, name="v"))
    for harness in (pair.one, pair.other):
        stop(harness)
    learned = model(pair.one).examples + model(pair.other).examples
    lowest, highest = sorted((effect(pair.one)[8], effect(pair.other)[8]))
    assert weights_rows(pair.one) == ["weights/3", "weights/4"]
    pair.again()
    assert effect(pair.one) == effect(pair.other)
    assert lowest < effect(pair.one)[8] < highest
    assert model(pair.one).examples == model(pair.other).examples == learned


def test_a_running_worker_takes_in_what_the_other_has_learned_since() -> None:
    pair = TwoWorkers()
    play(pair.one, habitual_log(300))
    before = effect(pair.other)
    pair.other.step()
    assert effect(pair.other) == before, "the time to look has not come"
    pair.other.clock.now += 5.0
    pair.other.step()
    taken = effect(pair.other)
    assert taken != before
    pair.other.clock.now += 5.0
    pair.other.step()
    assert effect(pair.other) == taken, "once"


def test_rows_of_workers_that_are_gone_count_once_and_are_dropped() -> None:
    pair = TwoWorkers()
    for harness, name in ((pair.one, "u"), (pair.other, "v")):
        play(harness, habitual_log(120, name=name))
        stop(harness)
    lone = pair.one
    lone.rules = dataclasses.replace(lone.rules, processes=1)
    lone.again()
    begun = model(lone).examples
    assert weights_rows(lone) == ["weights/3", "weights/4"], "reading drops nothing"
    play(lone, habitual_log(60, seed=2, begin=120))
    stop(lone)
    assert weights_rows(lone) == ["weights/0"]
    learned = model(lone).examples
    assert learned > begun
    lone.again()
    assert model(lone).examples == learned


def test_the_row_of_a_worker_that_writes_first_does_not_take_the_others_with_it() -> None:
    pair = TwoWorkers()
    for begin in (0, 120):
        for harness, name in ((pair.one, "u"), (pair.other, "v")):
            play(harness, habitual_log(60, begin=begin, name=name))
            stop(harness)
        pair.again()
    assert weights_rows(pair.one) == ["weights/3", "weights/4"]


def test_the_mean_of_one_is_that_one() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    (stored,) = stored_weights(harness.models.rows, model(harness)).values()
    assert mean_of([stored]).model.to_bytes() == model(harness).to_bytes()


def recommend_step(harness: WorkerHarness, events: list[Event]) -> list[EncodedList | None]:
    """The lists of one micro-batch, made as the flow's ``recommend`` step makes them."""
    return list(harness.worker.lists.rank(harness.step(*events).queries))


def text_of(harness: WorkerHarness) -> np.ndarray[Any, Any]:
    return harness.worker.replica.catalogue.text()


def test_lists_after_a_restart_rest_on_the_transform_of_before() -> None:
    """Two items more would have it fitted anew over all; the catalogue has not outgrown it."""
    harness = learning_harness()
    play(harness, habitual_log(20))
    harness.know("new0", "new1")
    before = text_of(harness)
    stop(harness)
    harness.again()
    np.testing.assert_array_equal(text_of(harness), before)


def test_a_catalogue_that_has_outgrown_its_transform_fits_its_own_and_stores_it() -> None:
    harness = learning_harness()
    play(harness, habitual_log(20))
    stop(harness)
    first = TextTransform.from_bytes(harness.models.rows[TRANSFORM].state)
    harness.know(*(f"new{k}" for k in range(12)))
    harness.flush()
    harness.again()
    play(harness, habitual_log(20, seed=3, begin=20))
    stop(harness)
    second = TextTransform.from_bytes(harness.models.rows[TRANSFORM].state)
    assert (first.items, second.items) == (12, 24)
    assert second.version > first.version


def test_a_barrier_has_no_transform_fitted_that_no_list_asked_for() -> None:
    harness = learning_harness(lists=False, learning=FROZEN)
    play(harness, habitual_log(20))
    stop(harness)
    assert TRANSFORM not in harness.models.rows


def test_a_job_that_learns_nothing_stores_the_transform_of_its_lists() -> None:
    """The live job's lists are made by a step of their own, past the worker's micro-batch."""
    harness = learning_harness(learning=FROZEN)
    lists = recommend_step(harness, habitual_log(20))
    used = harness.worker.replica.catalogue.transform
    stop(harness)
    assert lists
    assert harness.models.rows[TRANSFORM].state == used.to_bytes()
    before = text_of(harness)
    harness.know("new0", "new1")  # all over, another one would be fitted
    stop(harness)
    harness.again()
    assert recommend_step(harness, habitual_log(20, begin=20))
    np.testing.assert_array_equal(text_of(harness)[: len(ITEMS)], before)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_running_job_takes_up_a_transform_written_by_another_process(processes: int) -> None:
    harness = learning_harness(processes=processes)
    play(harness, habitual_log(20))
    fitted = harness.worker.replica.catalogue.fitted(whitening=0.5)
    seq = int((harness.clock() + 1.0) * 1e9)
    harness.models.upsert([ModelRow(TRANSFORM, seq, fitted.to_bytes())])
    harness.clock.now += 15.0  # a lone process looks every ten seconds
    harness.step()
    assert harness.worker.replica.catalogue.transform.version == fitted.version
    made = play(harness, habitual_log(20, seed=1, begin=20))
    assert made[-1]["items"]
    stop(harness)
    assert harness.models.rows[TRANSFORM].seq == seq, "it is not written again"


def test_only_one_process_of_a_job_stores_the_transform() -> None:
    pair = TwoWorkers()
    play(pair.one, habitual_log(20))
    stop(pair.one)
    assert TRANSFORM not in pair.one.models.rows
    services = dataclasses.replace(pair.one.services(), maintain=lambda: None)
    pair.one.worker = Worker(services, pair.one.rules)
    play(pair.one, habitual_log(20, begin=20))
    stop(pair.one)
    assert TRANSFORM in pair.one.models.rows
