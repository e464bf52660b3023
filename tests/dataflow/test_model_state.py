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
from tests.support.builders import Bench
from tests.support.learning_workers import (
    FROZEN,
    ITEMS,
    REPEATS,
    TwoWorkers,
    effect,
    habitual_log,
    learning_bench,
    model,
    play,
    stop,
)
from tests.support.rules import ranking_rules


def weights_rows(bench: Bench) -> list[str]:
    return [name for name in bench.models.rows if name.startswith(WEIGHTS)]


def test_after_a_clean_stop_the_weights_are_exactly_those_there_were() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    before, examples, repeats = effect(bench), model(bench).examples, bench.worker.learner.repeats
    assert examples > 20
    assert before != list(Bench().worker.recommender.model.feature_effects.values())
    bench.again()
    assert effect(bench) == before
    assert (model(bench).examples, bench.worker.learner.repeats) == (examples, repeats)
    assert weights_rows(bench) == ["weights/0"]


def test_that_people_come_back_to_items_is_known_after_a_restart() -> None:
    bench = Bench(ranking=ranking_rules(top_n=5, repeats=None))
    bench.know(*ITEMS)
    play(bench, habitual_log(250))
    assert bench.worker.recommender.people_repeat
    stop(bench)
    bench.again()
    assert bench.worker.recommender.people_repeat


def test_what_a_crash_loses_of_the_weights_is_bounded() -> None:
    bench = learning_bench()
    play(bench, habitual_log(400))
    learned = model(bench).examples
    assert learned > 200
    bench.again()
    assert learned - 110 < model(bench).examples < learned


def test_a_barrier_without_lessons_writes_no_weights() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    calls = len(bench.models.calls)
    stop(bench)
    assert len(bench.models.calls) == calls


def test_whoever_only_reads_writes_nothing() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    rows = dict(bench.models.rows)
    bench.models.calls.clear()
    Worker(bench.services(), bench.rules)
    assert {name for name, _ in bench.models.calls} == {"fetch"}
    assert bench.models.rows == rows


def test_frozen_weights_are_used_but_neither_changed_nor_written() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    learned, row = effect(bench), bench.models.rows["weights/0"]
    bench.rules = dataclasses.replace(bench.rules, learning=FROZEN)
    bench.again()
    play(bench, habitual_log(100, seed=1, begin=150))
    stop(bench)
    assert effect(bench) == learned
    assert bench.models.rows["weights/0"] == row


def test_weights_of_a_signal_that_is_gone_are_dropped_and_all_others_kept() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    learned, examples = dict(model(bench).feature_effects), model(bench).examples
    row = bench.models.rows["weights/0"]
    bench.models.upsert([row._replace(state=row.state.replace(b"lasting", b"l4sting"))])
    bench.again()
    start = model(bench).untrained().feature_effects
    assert model(bench).examples == examples
    assert model(bench).feature_effects == learned | {"lasting": pytest.approx(start["lasting"], abs=1.0)}
    assert model(bench).linear[list(start).index("lasting")] == pytest.approx(start["lasting"])


def half(block: CandidateBlock, column: Column) -> None:
    column[:] = 0.5


EXTRA = Signal("extra", "one half for every item", 0.7, compute=half)


def test_a_signal_that_comes_and_goes_leaves_what_was_learned_of_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights and replay buffer written with 23 signals are read with 24, and those again with 23."""
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    before, buffer = model(bench), list(bench.worker.recommender.replay_buffer)
    rows = random_rows(len(before.names))
    with monkeypatch.context() as patch:
        patch.setitem(SIGNALS, "extra", EXTRA)
        bench.rules = dataclasses.replace(bench.rules, ranking=ranking_rules(top_n=5, repeats=True))
        bench.again()
        more = model(bench)
        assert (more.names, more.examples) == ((*before.names, "extra"), before.examples)
        without = np.hstack([rows, np.zeros((len(rows), 1), np.float32)])
        np.testing.assert_allclose(more.score(without), before.score(rows), atol=1e-5)
        for (signals, *chosen), (kept, *mine) in zip(
            buffer, bench.worker.recommender.replay_buffer, strict=True
        ):
            np.testing.assert_array_equal(kept[:, :-1], signals)
            assert not kept[:, -1].any()
            assert mine == chosen
        play(bench, habitual_log(100, seed=1, begin=150))
        stop(bench)
        assert more.examples > before.examples
        assert more.feature_effects["extra"] == pytest.approx(0.7, abs=0.5)
    bench.rules = dataclasses.replace(bench.rules, ranking=REPEATS)
    bench.again()
    assert (model(bench).names, model(bench).examples) == (before.names, more.examples)
    np.testing.assert_allclose(model(bench).score(rows), more.score(without), atol=1e-5)


def random_rows(signals: int) -> Matrix:
    return np.random.default_rng(3).random((20, signals)).astype(np.float32)


def test_weights_of_another_model_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    row = bench.models.rows["weights/0"]
    raw, *others = msgspec.msgpack.decode(row.state[1:])
    another = msgspec.msgpack.encode(["another model", *msgspec.msgpack.decode(raw)[1:]])
    bench.models.upsert([row._replace(state=row.state[:1] + msgspec.msgpack.encode([another, *others]))])
    with caplog.at_level(logging.WARNING):
        bench.again()
    assert "was written by another ranking model than ShallowNetwork" in caplog.text
    assert (model(bench).examples, effect(bench)) == (
        0.0,
        list(model(bench).untrained().feature_effects.values()),
    )


def test_weights_of_another_layout_stop_the_start_and_say_how_to_mend_it() -> None:
    bench = learning_bench()
    bench.models.upsert([ModelRow("weights/0", 1, b"\x63...")])
    with pytest.raises(RowFormatError, match=r"layout 63.*recstream model reset"):
        bench.again()


def test_two_workers_write_a_row_each_and_start_from_the_mean_of_both() -> None:
    pair = TwoWorkers()
    play(pair.one, habitual_log(120))
    play(pair.other, habitual_log(240, seed=1, name="v"))
    for bench in (pair.one, pair.other):
        stop(bench)
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
    for bench, name in ((pair.one, "u"), (pair.other, "v")):
        play(bench, habitual_log(120, name=name))
        stop(bench)
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
        for bench, name in ((pair.one, "u"), (pair.other, "v")):
            play(bench, habitual_log(60, begin=begin, name=name))
            stop(bench)
        pair.again()
    assert weights_rows(pair.one) == ["weights/3", "weights/4"]


def test_the_mean_of_one_is_that_one() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    (stored,) = stored_weights(bench.models.rows, model(bench)).values()
    assert mean_of([stored]).model.to_bytes() == model(bench).to_bytes()


def recommend_step(bench: Bench, events: list[Event]) -> list[EncodedList | None]:
    """The lists of one micro-batch, made as the flow's ``recommend`` step makes them."""
    return list(bench.worker.lists.rank(bench.step(*events).queries))


def text_of(bench: Bench) -> np.ndarray[Any, Any]:
    return bench.worker.replica.catalogue.text()


def test_lists_after_a_restart_rest_on_the_transform_of_before() -> None:
    """Two items more would have it fitted anew over all; the catalogue has not outgrown it."""
    bench = learning_bench()
    play(bench, habitual_log(20))
    bench.know("new0", "new1")
    before = text_of(bench)
    stop(bench)
    bench.again()
    np.testing.assert_array_equal(text_of(bench), before)


def test_a_catalogue_that_has_outgrown_its_transform_fits_its_own_and_stores_it() -> None:
    bench = learning_bench()
    play(bench, habitual_log(20))
    stop(bench)
    first = TextTransform.from_bytes(bench.models.rows[TRANSFORM].state)
    bench.know(*(f"new{k}" for k in range(12)))
    bench.flush()
    bench.again()
    play(bench, habitual_log(20, seed=3, begin=20))
    stop(bench)
    second = TextTransform.from_bytes(bench.models.rows[TRANSFORM].state)
    assert (first.items, second.items) == (12, 24)
    assert second.version > first.version


def test_a_barrier_has_no_transform_fitted_that_no_list_asked_for() -> None:
    bench = learning_bench(lists=False, learning=FROZEN)
    play(bench, habitual_log(20))
    stop(bench)
    assert TRANSFORM not in bench.models.rows


def test_a_job_that_learns_nothing_stores_the_transform_of_its_lists() -> None:
    """The live job's lists are made by a step of their own, past the worker's micro-batch."""
    bench = learning_bench(learning=FROZEN)
    lists = recommend_step(bench, habitual_log(20))
    used = bench.worker.replica.catalogue.transform
    stop(bench)
    assert lists
    assert bench.models.rows[TRANSFORM].state == used.to_bytes()
    before = text_of(bench)
    bench.know("new0", "new1")  # all over, another one would be fitted
    stop(bench)
    bench.again()
    assert recommend_step(bench, habitual_log(20, begin=20))
    np.testing.assert_array_equal(text_of(bench)[: len(ITEMS)], before)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_running_job_takes_up_a_transform_written_by_another_process(processes: int) -> None:
    bench = learning_bench(processes=processes)
    play(bench, habitual_log(20))
    fitted = bench.worker.replica.catalogue.fitted(whitening=0.5)
    seq = int((bench.clock() + 1.0) * 1e9)
    bench.models.upsert([ModelRow(TRANSFORM, seq, fitted.to_bytes())])
    bench.clock.now += 15.0  # a lone process looks every ten seconds
    bench.step()
    assert bench.worker.replica.catalogue.transform.version == fitted.version
    made = play(bench, habitual_log(20, seed=1, begin=20))
    assert made[-1]["items"]
    stop(bench)
    assert bench.models.rows[TRANSFORM].seq == seq, "it is not written again"


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
