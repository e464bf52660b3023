"""Sessions over restarts and between workers: as they were, in few rows a barrier, erased with their user."""

from __future__ import annotations

import dataclasses

import pytest

from recstream.dataflow.model_state.session_index import SESSIONS, row_of_user, sessions_in, without_user
from recstream.items.codec import RowFormatError
from recstream.records.transport import shard_of
from recstream.stores.base import ModelRow
from tests.support.builders import WorkerHarness, event
from tests.support.learning_workers import FROZEN, TwoWorkers, habitual_log, learning_harness, play, stop

Seen = dict[str, list[list[str]]]


def sessions(harness: WorkerHarness) -> Seen:
    """Items of the users' sessions in the window."""
    window, ids = harness.worker.recommender.sessions, harness.worker.replica.catalogue.ids
    users = sorted(set(window._users.values()))
    return {user: [[ids[item] for item in one.items] for one in window.chunks_of(user)] for user in users}


def stored(harness: WorkerHarness) -> Seen:
    """Those of the rows."""
    rows = [row for name, row in harness.models.rows.items() if name.startswith(SESSIONS)]
    return {user: [one[1] for one in theirs] for row in rows for user, theirs in sessions_in(row).items()}


def test_after_a_clean_stop_the_sessions_are_those_there_were() -> None:
    harness = learning_harness()
    play(harness, habitual_log(150))
    stop(harness)
    before = sessions(harness)
    assert len(before) == 6
    assert stored(harness) == before
    harness.again()
    assert sessions(harness) == before
    assert harness.worker.recommender.sessions.take_changed() == []


def test_lists_after_a_clean_stop_are_those_without_it() -> None:
    """Ids, order, scores and reasons; nothing is learned, so that neither run is ahead."""
    whole, halves = learning_harness(learning=FROZEN), learning_harness(learning=FROZEN)
    play(whole, habitual_log(100))
    play(halves, habitual_log(100))
    stop(halves)
    halves.again()
    later = habitual_log(40, seed=5, begin=100)
    for mine, theirs in zip(play(halves, later), play(whole, later), strict=True):
        assert mine["items"]
        for one, other in zip(mine["items"], theirs["items"], strict=True):
            assert (one["item_id"], one["because"]) == (other["item_id"], other["because"])
            assert one["score"] == pytest.approx(other["score"], abs=5e-6)


def test_rows_are_written_once_in_some_barriers_until_the_end() -> None:
    harness = learning_harness()
    written = []
    for k in range(12):
        harness.step(event(float(k), "view", "i1", user=f"u{k}", offset=k))
        harness.flush()
        harness.flush()
        written.append(len(stored(harness)))
    assert written == [0] * 7 + [8] * 4 + [8]
    assert harness.worker.next_checkpoint() is not None
    stop(harness)
    assert len(stored(harness)) == 12
    assert not harness.worker.models.sessions.waits


def test_a_barrier_writes_a_bounded_part() -> None:
    harness = learning_harness()
    harness.step(*(event(1.0, "view", "i1", user=f"u{k}", offset=k) for k in range(600)))
    harness.flush()
    rows = [name for name in harness.models.rows if name.startswith(SESSIONS)]
    assert len(rows) == 64
    stop(harness)
    assert len(stored(harness)) == 600


def test_somebody_forgotten_leaves_the_rows_at_the_next_barrier() -> None:
    harness = learning_harness()
    play(harness, habitual_log(100))
    stop(harness)
    harness.again()
    assert "u1" in stored(harness)
    harness.step(event(1000.0, "forget", user="u1", offset=1000))
    assert "u1" not in sessions(harness)
    harness.flush()
    assert "u1" not in stored(harness)
    assert not any(b"u1" in row.state for name, row in harness.models.rows.items() if SESSIONS in name)
    assert sorted(stored(harness)) == ["u0", "u2", "u3", "u4", "u5"]


def test_somebody_forgotten_leaves_the_rows_whose_sessions_had_left_the_window() -> None:
    harness = learning_harness()
    play(harness, habitual_log(50))
    stop(harness)
    harness.worker.recommender.sessions.forget("u1")
    harness.worker.recommender.sessions.take_changed()
    assert "u1" in stored(harness)
    harness.step(event(1000.0, "forget", user="u1", offset=1000))
    harness.worker.is_ending = False
    harness.flush()
    assert "u1" not in stored(harness)


def test_the_rows_of_a_forgotten_user_are_written_before_the_user_is_erased() -> None:
    """A crash in between has the event read again, which finds the user and erases the sessions again."""
    harness = learning_harness()
    play(harness, habitual_log(50))
    stop(harness)
    order: list[str] = []
    users, models = harness.users.calls, harness.models.calls
    users.clear()
    models.clear()
    harness.step(event(1000.0, "forget", user="u1", offset=1000))

    class Told(list[object]):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def append(self, call: object) -> None:
            order.append(self.name)

    harness.users.calls, harness.models.calls = Told("users"), Told("models")  # type: ignore[assignment]  # a list that tells
    harness.flush()
    assert order.index("models") < order.index("users")


def test_a_worker_reads_the_sessions_of_the_other_and_drops_who_was_forgotten_there() -> None:
    pair = TwoWorkers()
    play(pair.one, habitual_log(60))
    stop(pair.one)
    assert sessions(pair.other) == {}
    pair.other.clock.now += 5.0
    pair.other.step()
    assert sessions(pair.other) == sessions(pair.one) != {}
    pair.one.step(event(1000.0, "forget", user="u1", offset=1000))
    pair.one.flush()
    pair.other.clock.now += 5.0
    pair.other.step()
    assert sessions(pair.other) == sessions(pair.one)
    assert "u1" not in sessions(pair.other)
    stop(pair.other)
    assert "u1" not in stored(pair.one), "it writes nobody's sessions but its own users'"


def test_with_another_number_of_workers_the_sessions_are_the_same() -> None:
    pair = TwoWorkers()
    for harness, name in ((pair.one, "u"), (pair.other, "v")):
        play(harness, habitual_log(60, name=name))
        stop(harness)
    lone = pair.one
    both = sessions(pair.one) | sessions(pair.other)
    lone.rules = dataclasses.replace(lone.rules, processes=1)
    lone.again()
    assert sessions(lone) == both


@pytest.mark.parametrize("shards", [1, 32, 100, 4096])
def test_all_users_of_a_row_are_of_one_shard(shards: int) -> None:
    shards_of: dict[str, set[int]] = {}
    for k in range(3000):
        shards_of.setdefault(row_of_user(f"u{k}", shards), set()).add(shard_of(f"u{k}", shards))
    assert all(len(found) == 1 for found in shards_of.values())
    assert len(shards_of) > 900


def test_a_user_is_taken_out_of_a_row() -> None:
    harness = learning_harness()
    play(harness, habitual_log(50))
    stop(harness)
    row = harness.models.rows[row_of_user("u1", harness.rules.shards)]
    cut = without_user(row, "u1")
    assert cut is not None
    assert b"u1" not in cut.state
    assert without_user(cut, "u1") is None


def test_sessions_of_another_layout_stop_the_start_and_say_how_to_mend_it() -> None:
    harness = learning_harness()
    harness.models.upsert([ModelRow("sessions/0001", 1, b"")])
    with pytest.raises(RowFormatError, match="layout nothing"):
        harness.again()
