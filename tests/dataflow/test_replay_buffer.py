"""Learning goes on after a clean stop as if there had been none: the newest lessons are kept."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from recstream.dataflow.messages import EventBatch
from recstream.dataflow.model_state.replay_buffer import REPLAY_BUFFER
from recstream.records.actions import DecodeRules
from recstream.records.item import Item, item_from
from recstream.users.state import UserState
from tests.support.builders import Bench, event, item_row
from tests.support.learning_workers import FROZEN, TwoWorkers, habitual_log, learning_bench, model, play, stop


def test_weights_learned_after_a_clean_stop_are_those_without_it() -> None:
    whole, halves = learning_bench(), learning_bench()
    for bench in (whole, halves):
        play(bench, habitual_log(150))
    stop(halves)
    halves.again()
    later = habitual_log(100, seed=5, begin=150)
    for mine, theirs in zip(play(halves, later), play(whole, later), strict=True):
        for one, other in zip(mine["items"], theirs["items"], strict=True):
            assert one["item_id"] == other["item_id"]
            assert abs(one["score"] - other["score"]) < 2e-6
    for kept, went_on in zip(model(halves).arrays, model(whole).arrays, strict=True):
        np.testing.assert_allclose(kept, went_on, rtol=1e-4, atol=1e-6)
    assert halves.worker.learner.offered == whole.worker.learner.offered


def test_lessons_are_written_at_the_end_only_and_leave_once_newer_ones_came() -> None:
    """A crash would else bring them back when they are long outdated."""
    bench = learning_bench()
    play(bench, habitual_log(150))
    assert REPLAY_BUFFER not in bench.models.rows
    stop(bench)
    assert REPLAY_BUFFER in bench.models.rows
    bench.again()
    bench.flush()
    assert REPLAY_BUFFER in bench.models.rows, "nothing was learned since"
    play(bench, habitual_log(20, seed=1, begin=150))
    assert REPLAY_BUFFER not in bench.models.rows


def test_lessons_of_another_layout_are_passed_over() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    bench.models.upsert([bench.models.rows[REPLAY_BUFFER]._replace(state=b"\x63")])
    bench.again()
    assert bench.worker.learner.offered == (0, [])


def test_where_nothing_is_learned_or_several_learn_no_lessons_are_kept() -> None:
    frozen, pair = learning_bench(learning=FROZEN), TwoWorkers()
    for bench in (frozen, pair.one):
        play(bench, habitual_log(150))
        stop(bench)
        assert REPLAY_BUFFER not in bench.models.rows


def test_lessons_carry_no_names() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150, name="somebody-"))
    stop(bench)
    state = zlib.decompress(bench.models.rows[REPLAY_BUFFER].state[1:])
    assert len(state) > 1000
    assert b"somebody" not in state


def test_an_erased_user_leaves_no_lessons() -> None:
    """Not in memory, not in the store, and not as a checksum of their id."""
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    bench.again()
    assert bench.worker.recommender.replay_buffer
    play(bench, [event(1000.0, "forget", user="u0", offset=1000)])
    assert not bench.worker.recommender.replay_buffer
    assert bench.worker.learner.offered.newest == []
    assert REPLAY_BUFFER not in bench.models.rows


def test_columns_are_found_by_the_names_of_their_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    bench.again()
    with monkeypatch.context() as then:
        then.setattr(model(bench), "names", ("another", *model(bench).names[1:]))
        bench.worker.learner.meet(event(2000.0, "view", "i1", user="u1"), 1, loaded(bench, "u1"))
        stop(bench)
    written = list(bench.worker.recommender.replay_buffer)
    bench.again()
    for (signals, *chosen), (kept, *mine) in zip(
        written, bench.worker.recommender.replay_buffer, strict=True
    ):
        assert not kept[:, 0].any(), "it is not known what the example had of this signal"
        np.testing.assert_array_equal(kept[:, 1:], signals[:, 1:])
        assert mine == chosen


def loaded(bench: Bench, user_id: str) -> UserState:
    bench.worker.users.load([user_id])
    return bench.worker.users.get(user_id)


def test_an_item_that_comes_with_its_event_is_no_lesson() -> None:
    """No list before the event could have held it: it would teach that untried items are what people take."""
    bench = learning_bench()
    play(bench, habitual_log(60))
    before = bench.worker.learner.offered.offers
    brings = event(1000.0, "view", "new", user="u0", offset=1000)
    item = item_from({"item_id": "new", "title": "New"}, brings.partition, 1000, b"", rules=DecodeRules())
    assert isinstance(item, Item)
    row = item_row("new")
    bench.worker.inbox.append(EventBatch(bench.clock(), [brings._replace(item=item)], {1000: row}))
    bench.worker.step()
    assert bench.worker.learner.offered.offers == before
    assert bench.worker.users.get("u0").engaged(1) == (bench.worker.replica.catalogue.handle("new"),)
