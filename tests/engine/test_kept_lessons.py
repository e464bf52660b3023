"""Learning goes on after a clean stop as if there had been none: the newest lessons are kept."""

from __future__ import annotations

import zlib

import numpy as np

from recstream.engine.kept_lessons import LESSONS
from tests.engine.test_models import FROZEN, Pair, bench_of, blend, log_of, play, stop


def test_weights_learned_after_a_clean_stop_are_those_without_it() -> None:
    whole, halves = bench_of(), bench_of()
    for bench in (whole, halves):
        play(bench, log_of(150))
    stop(halves)
    halves.again()
    later = log_of(100, seed=5, begin=150)
    for mine, theirs in zip(play(halves, later), play(whole, later), strict=True):
        for one, other in zip(mine["items"], theirs["items"], strict=True):
            assert one["item_id"] == other["item_id"]
            assert abs(one["score"] - other["score"]) < 2e-6
    for kept, went_on in zip(blend(halves).arrays, blend(whole).arrays, strict=True):
        np.testing.assert_allclose(kept, went_on, rtol=1e-4, atol=1e-6)
    assert halves.worker.learner.offered == whole.worker.learner.offered


def test_lessons_are_written_at_the_end_only_and_leave_once_newer_ones_came() -> None:
    """A crash would else bring them back when they are long outdated."""
    bench = bench_of()
    play(bench, log_of(150))
    assert LESSONS not in bench.models.rows
    stop(bench)
    assert LESSONS in bench.models.rows
    bench.again()
    bench.worker.flush()
    assert LESSONS in bench.models.rows, "nothing was learned since"
    play(bench, log_of(20, seed=1, begin=150))
    assert LESSONS not in bench.models.rows


def test_lessons_of_another_layout_are_passed_over() -> None:
    bench = bench_of()
    play(bench, log_of(150))
    stop(bench)
    bench.models.upsert([bench.models.rows[LESSONS]._replace(state=b"\x63")])
    bench.again()
    assert bench.worker.learner.offered == (0, [])


def test_where_nothing_is_learned_or_several_learn_no_lessons_are_kept() -> None:
    frozen, pair = bench_of(learning=FROZEN), Pair()
    for bench in (frozen, pair.one):
        play(bench, log_of(150))
        stop(bench)
        assert LESSONS not in bench.models.rows


def test_lessons_carry_no_names() -> None:
    bench = bench_of()
    play(bench, log_of(150, name="somebody-"))
    stop(bench)
    state = zlib.decompress(bench.models.rows[LESSONS].state[1:])
    assert len(state) > 1000
    assert b"somebody" not in state
