"""Sessions over restarts and between workers: as they were, in few rows a barrier, erased with their user."""

from __future__ import annotations

import dataclasses

import pytest

from recstream.dataflow.model_state.session_index import SESSIONS, row_of_user, sessions_in, without_user
from recstream.items.codec import RowFormatError
from recstream.records.transport import shard_of
from recstream.stores.base import ModelRow
from tests.support.builders import Bench, event
from tests.support.learning_workers import FROZEN, TwoWorkers, habitual_log, learning_bench, play, stop

Seen = dict[str, list[list[str]]]


def sessions(bench: Bench) -> Seen:
    """Items of the users' sessions in the window."""
    window, ids = bench.worker.recommender.sessions, bench.worker.replica.catalogue.ids
    users = sorted(set(window._users.values()))
    return {user: [[ids[item] for item in one.items] for one in window.chunks_of(user)] for user in users}


def stored(bench: Bench) -> Seen:
    """Those of the rows."""
    rows = [row for name, row in bench.models.rows.items() if name.startswith(SESSIONS)]
    return {user: [one[1] for one in theirs] for row in rows for user, theirs in sessions_in(row).items()}


def test_after_a_clean_stop_the_sessions_are_those_there_were() -> None:
    bench = learning_bench()
    play(bench, habitual_log(150))
    stop(bench)
    before = sessions(bench)
    assert len(before) == 6
    assert stored(bench) == before
    bench.again()
    assert sessions(bench) == before
    assert bench.worker.recommender.sessions.take_changed() == []


def test_lists_after_a_clean_stop_are_those_without_it() -> None:
    """Ids, order, scores and reasons; nothing is learned, so that neither run is ahead."""
    whole, halves = learning_bench(learning=FROZEN), learning_bench(learning=FROZEN)
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
    bench = learning_bench()
    written = []
    for k in range(12):
        bench.step(event(float(k), "view", "i1", user=f"u{k}", offset=k))
        bench.flush()
        bench.flush()
        written.append(len(stored(bench)))
    assert written == [0] * 7 + [8] * 4 + [8]
    assert bench.worker.next_checkpoint() is not None
    stop(bench)
    assert len(stored(bench)) == 12
    assert not bench.worker.models.sessions.waits


def test_a_barrier_writes_a_bounded_part() -> None:
    bench = learning_bench()
    bench.step(*(event(1.0, "view", "i1", user=f"u{k}", offset=k) for k in range(600)))
    bench.flush()
    rows = [name for name in bench.models.rows if name.startswith(SESSIONS)]
    assert len(rows) == 64
    stop(bench)
    assert len(stored(bench)) == 600


def test_somebody_forgotten_leaves_the_rows_at_the_next_barrier() -> None:
    bench = learning_bench()
    play(bench, habitual_log(100))
    stop(bench)
    bench.again()
    assert "u1" in stored(bench)
    bench.step(event(1000.0, "forget", user="u1", offset=1000))
    assert "u1" not in sessions(bench)
    bench.flush()
    assert "u1" not in stored(bench)
    assert not any(b"u1" in row.state for name, row in bench.models.rows.items() if SESSIONS in name)
    assert sorted(stored(bench)) == ["u0", "u2", "u3", "u4", "u5"]


def test_somebody_forgotten_leaves_the_rows_whose_sessions_had_left_the_window() -> None:
    bench = learning_bench()
    play(bench, habitual_log(50))
    stop(bench)
    bench.worker.recommender.sessions.forget("u1")
    bench.worker.recommender.sessions.take_changed()
    assert "u1" in stored(bench)
    bench.step(event(1000.0, "forget", user="u1", offset=1000))
    bench.worker.is_ending = False
    bench.flush()
    assert "u1" not in stored(bench)


def test_the_rows_of_a_forgotten_user_are_written_before_the_user_is_erased() -> None:
    """A crash in between has the event read again, which finds the user and erases the sessions again."""
    bench = learning_bench()
    play(bench, habitual_log(50))
    stop(bench)
    order: list[str] = []
    users, models = bench.users.calls, bench.models.calls
    users.clear()
    models.clear()
    bench.step(event(1000.0, "forget", user="u1", offset=1000))

    class Told(list[object]):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def append(self, call: object) -> None:
            order.append(self.name)

    bench.users.calls, bench.models.calls = Told("users"), Told("models")  # type: ignore[assignment]  # a list that tells
    bench.flush()
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
    for bench, name in ((pair.one, "u"), (pair.other, "v")):
        play(bench, habitual_log(60, name=name))
        stop(bench)
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
    bench = learning_bench()
    play(bench, habitual_log(50))
    stop(bench)
    row = bench.models.rows[row_of_user("u1", bench.rules.shards)]
    cut = without_user(row, "u1")
    assert cut is not None
    assert b"u1" not in cut.state
    assert without_user(cut, "u1") is None


def test_sessions_of_another_layout_stop_the_start_and_say_how_to_mend_it() -> None:
    bench = learning_bench()
    bench.models.upsert([ModelRow("sessions/0001", 1, b"")])
    with pytest.raises(RowFormatError, match="layout nothing"):
        bench.again()
