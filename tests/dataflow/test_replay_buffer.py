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
from tests.support.builders import WorkerHarness, event, item_row
from tests.support.learning_workers import (
    FROZEN,
    TwoWorkers,
    habitual_log,
    learning_harness,
    model,
    play,
    stop,
)


def test_weights_learned_after_a_clean_stop_are_those_without_it() -> None:
    whole, halves = learning_harness(), learning_harness()
    for harness in (whole, halves):
        play(harness, habitual_log(150))
    stop(halves)
    halves.again()
    later = habitual_log(100, seed=5, begin=150)
    for mine, theirs in zip(play(halves, later), play(whole, later), strict=True):
        for one, other in zip(mine["items"], theirs["items"], strict=True):
            assert one["item_id"] == other["item_id"]
            assert abs(one["score"] - other["score"]) < 2e-6
    for kept, went_on in zip(model(halves).arrays, model(whole).arrays, strict=True):
        np.testing.assert_allclose(kept, went_on, rtol=1e-4, atol=1e-6)
    assert halves.worker.learner.sampling_state == whole.worker.learner.sampling_state


def test_lessons_are_written_at_the_end_only_and_leave_once_newer_ones_came() -> None:
    """A crash would else bring them back when they are long outdated."""
    harness = learning_harness()
    play(harness, habitual_log(150))
    assert REPLAY_BUFFER not in harness.models.rows
    stop(harness)
    assert REPLAY_BUFFER in harness.models.rows
    harness.again()
    harness.flush()
    assert REPLAY_BUFFER in harness.models.rows, "nothing was learned since"
    play(harness, habitual_log(20, seed=1, begin=150))
    assert REPLAY_BUFFER not in harness.models.rows


def test_lessons_of_another_layout_are_passed_over() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    harness.models.upsert([harness.models.rows[REPLAY_BUFFER]._replace(state=b"\x63")])
    harness.again()
    assert harness.worker.learner.sampling_state == (0, [])


def test_where_nothing_is_learned_or_several_learn_no_lessons_are_kept() -> None:
    frozen, pair = learning_harness(learning=FROZEN), TwoWorkers()
    for harness in (frozen, pair.one):
        play(harness, habitual_log(150))
        stop(harness)
        assert REPLAY_BUFFER not in harness.models.rows


def test_lessons_carry_no_names() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150, name="somebody-"))
    stop(harness)
    state = zlib.decompress(harness.models.rows[REPLAY_BUFFER].state[1:])
    assert len(state) > 1000
    assert b"somebody" not in state


def test_an_erased_user_leaves_no_lessons() -> None:
    """Not in memory, not in the store, and not as a checksum of their id."""
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    harness.again()
    assert harness.worker.recommender.replay_buffer
    play(harness, [event(1000.0, "forget", user="u0", offset=1000)])
    assert not harness.worker.recommender.replay_buffer
    assert harness.worker.learner.sampling_state.newest == []
    assert REPLAY_BUFFER not in harness.models.rows


def test_columns_are_found_by_the_names_of_their_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    harness.again()
    with monkeypatch.context() as then:
        then.setattr(model(harness), "names", ("another", *model(harness).names[1:]))
        harness.worker.learner.offer(event(2000.0, "view", "i1", user="u1"), 1, loaded(harness, "u1"))
        stop(harness)
    written = list(harness.worker.recommender.replay_buffer)
    harness.again()
    for (signals, *chosen), (kept, *mine) in zip(
        written, harness.worker.recommender.replay_buffer, strict=True
    ):
        assert not kept[:, 0].any(), "it is not known what the example had of this signal"
        np.testing.assert_array_equal(kept[:, 1:], signals[:, 1:])
        assert mine == chosen


def loaded(harness: WorkerHarness, user_id: str) -> UserState:
    harness.worker.users.load([user_id])
    return harness.worker.users.get(user_id)


def test_an_item_that_comes_with_its_event_is_no_lesson() -> None:
    """No list before the event could have held it: it would teach that untried items are what people take."""
    harness = learning_harness()
    play(harness, habitual_log(60))
    before = harness.worker.learner.sampling_state.offers
    brings = event(1000.0, "view", "new", user="u0", offset=1000)
    item = item_from({"item_id": "new", "title": "New"}, brings.partition, 1000, b"", rules=DecodeRules())
    assert isinstance(item, Item)
    row = item_row("new")
    harness.worker.inbox.append(EventBatch(harness.clock(), [brings._replace(item=item)], {1000: row}))
    harness.worker.step()
    assert harness.worker.learner.sampling_state.offers == before
    assert harness.worker.users.get("u0").engaged(1) == (harness.worker.replica.catalogue.handle("new"),)
