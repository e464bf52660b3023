"""Bounded (guarantee G5): whatever is sent, no part of a user's state outgrows its limit."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.records.actions import MAX_ID_BYTES, DecodeRules
from recstream.records.event import Event
from recstream.records.transport import Partition
from recstream.users.codec import UNCONFIRMED, WAITING, UserRow, user_row, user_state_of
from recstream.users.offset_ranges import MAX_PARTITIONS, MAX_RANGES
from recstream.users.state import UserState, UserStateRules
from tests.support.builders import WorkerHarness, catalogue_of, event, unit
from tests.support.rules import user_state_rules
from tests.support.stored_users import assert_same_users

SMALL = user_state_rules(DecodeRules(), recent=4, history=3, max_waiting=2, dedup=3)
USERS = ("u1", "u2", "u3", "u4", "u5")
KNOWN = [f"i{number}" for number in range(8)]
UNKNOWN = [f"new{number}" for number in range(4)]
SAID = ("view", "rate", "search", "comment", "hide", "dislike", "impression", "request", "forget")


@st.composite
def batches(draw: st.DrawFn) -> list[list[Event]]:
    """Micro-batches of a few users on three logs: known and unknown items, words, ids that repeat."""
    offsets = {f"log/{number}": 0 for number in range(3)}
    made = []
    for _ in range(draw(st.integers(1, 8))):
        batch = []
        for _ in range(draw(st.integers(0, 10))):
            log, action = draw(st.sampled_from(sorted(offsets))), draw(st.sampled_from(SAID))
            offsets[log] += draw(st.integers(1, 3))
            has_item = action not in ("search", "request", "forget")
            batch.append(
                event(
                    draw(st.integers(1, 50)),
                    action,
                    draw(st.sampled_from(KNOWN + UNKNOWN)) if has_item else None,
                    user=draw(st.sampled_from(USERS)),
                    text=draw(st.sampled_from("abcdefgh")) if action in ("search", "comment") else None,
                    rating=draw(st.integers(1, 5)) if action == "rate" else None,
                    event_id=draw(st.none() | st.integers(0, 20).map(str)),
                    partition=log,
                    offset=offsets[log],
                )
            )
        made.append(batch)
    return made


def harness(hot_users: int) -> WorkerHarness:
    """A worker that holds so many users, and one item that comes late."""
    made = WorkerHarness(user_state=SMALL, hot_users=hot_users, wait_for_item_s=5.0, sessions=True)
    made.know(*KNOWN)
    barrier(made)
    return made


def barrier(worked: WorkerHarness) -> None:
    """As bytewax has it reached: written, then numbered."""
    worked.flush()
    worked.worker.commits.close()
    worked.clock.now += 1.0


def assert_within(user_state: UserState, rules: UserStateRules) -> None:
    """Every growing thing of a profile is within its bound."""
    assert len(user_state.recent) <= rules.recent
    assert len(user_state.words) <= rules.recent
    for items in (user_state.seen, user_state.earlier, user_state.hidden, user_state.shown):
        assert len(items) <= rules.history
    assert len(user_state.waiting) <= rules.max_waiting
    assert len(user_state.ids) <= rules.dedup
    assert len(user_state.offset_ranges) <= MAX_PARTITIONS
    assert all(len(ranges) <= 2 * MAX_RANGES for ranges in user_state.offset_ranges.values())


@settings(max_examples=60)
@given(batches())
def test_no_part_of_a_state_outgrows_its_bound(log: list[list[Event]]) -> None:
    """In memory after every micro-batch, and in the stored row."""
    worked = harness(100)
    for at, batch in enumerate(log):
        worked.step(*batch)
        if at == len(log) // 2:
            worked.know(UNKNOWN[0])
        for user in USERS:
            held = worked.worker.users.find(user)
            if held is not None:
                assert_within(held, SMALL)
        barrier(worked)
        for row in worked.users.rows.values():
            assert_within(user_state_of(row, worked.worker.replica.catalogue), SMALL)
    for _ in range(3):  # what waited is given up, what left is confirmed
        worked.clock.now += 5.0
        worked.step()
        barrier(worked)
    for row in worked.users.rows.values():
        state = user_state_of(row, worked.worker.replica.catalogue)
        assert (state.waiting, state.outbox, state.refused) == ([], [], {})
    assert not worked.worker.timers.waiting


@settings(max_examples=60)
@given(batches(), st.integers(1, 3))
def test_any_hot_set_gives_the_rows_and_the_lists_of_an_unbounded_one(
    log: list[list[Event]], hot_users: int
) -> None:
    """Users come back after they were let go, with events that wait, words, hidden items and erasure."""
    small, large = harness(hot_users), harness(10**6)
    for at, batch in enumerate(log):
        lists = []
        for worked in (small, large):
            if at == len(log) // 2:
                worked.know(UNKNOWN[0])
                barrier(worked)
            step = worked.step(*batch)
            made = [one.value for one in worked.worker.rank(step.queries)]
            lists.append((made, step.rejects, step.sessions, step.forgotten))
            barrier(worked)
        assert lists[0] == lists[1]
        unfinished = [row for row in small.users.rows.values() if row.unfinished & (WAITING | UNCONFIRMED)]
        assert len(small.worker.users) <= max(hot_users, len(unfinished))
    # The fence of an erased user is kept in memory alone.
    erased = {one.user_id for batch in log for one in batch if one.action == "forget"}
    rows = [
        {user: without_fence(row) if user in erased else row for user, row in worked.users.rows.items()}
        for worked in (small, large)
    ]
    assert_same_users(*rows, tolerance=0.0)


def without_fence(row: UserRow) -> UserRow:
    """The row with a fence that absorbed nothing."""
    state = msgspec.msgpack.decode(row.state[1:])
    state[7] = {}
    return row._replace(state=row.state[:1] + msgspec.msgpack.encode(state))


def test_a_topic_made_anew_every_day_leaves_a_bounded_fence() -> None:
    user_state, catalogue = UserState("u1"), catalogue_of(KNOWN)
    for day in range(MAX_PARTITIONS + 100):
        one = event(day, "view", "i0", offset=day)
        log = Partition("events/0", f"events/0@{day:032x}")
        user_state.observe(one._replace(partition=log), catalogue, SMALL, 0.0)
    assert len(user_state.offset_ranges) == MAX_PARTITIONS
    assert next(iter(user_state.offset_ranges)).endswith(f"{100:032x}"), "the oldest went"
    assert user_state.version == MAX_PARTITIONS + 100


def test_a_log_read_in_any_number_of_pieces_leaves_a_bounded_fence() -> None:
    user_state, catalogue = UserState("u1"), catalogue_of(KNOWN)
    for piece in reversed(range(3 * MAX_RANGES)):
        one = event(piece, "view", "i0", offset=100 * piece)
        log = one.partition._replace(since=100 * piece)
        user_state.observe(one._replace(partition=log), catalogue, SMALL, 0.0)
    assert_within(user_state, SMALL)


def test_items_that_nobody_knows_leave_nothing_behind() -> None:
    """Neither in the catalogue, whose rows are never given back, nor on the agenda."""
    worked = WorkerHarness(wait_for_item_s=5.0)
    worked.know(*KNOWN)
    known = len(worked.worker.replica.catalogue)
    for at in range(30):
        worked.step(
            *(
                event(10 * at + k, "view", f"never-{at}-{k}", user=f"u{k}", offset=10 * at + k)
                for k in range(9)
            )
        )
        worked.step(
            *(
                event(10 * at + k, "view", "i1", user=f"u{k}", partition="o/0", offset=10 * at + k)
                for k in range(9)
            )
        )
        barrier(worked)
    worked.clock.now += 60.0
    worked.step()
    barrier(worked)
    timers = worked.worker.timers
    assert (len(timers.waiting), len(timers.deadlines)) == (0, 0)
    assert len(worked.worker.replica.catalogue) == known


def largest(*, waiting: int, dim: int = 384) -> tuple[UserState, int]:
    """A user with everything at its limit and as long as may be; gives its row's state in bytes too."""
    rules = user_state_rules(DecodeRules(), dedup=256)
    catalogue = catalogue_of([f"{number:x>{MAX_ID_BYTES}}" for number in range(rules.history)], dim=dim)
    ids = catalogue.ids
    user_state = UserState("u" * MAX_ID_BYTES)
    offset = 0

    def send(action: str, item: str | None, *, text: str | None = None, raw: int = 0) -> None:
        nonlocal offset
        offset += 1
        one = event(
            1e9 + offset, action, item, text=text, event_id=f"{offset:e>{MAX_ID_BYTES}}", offset=offset
        )
        vector = unit(text, dim) if text is not None else None
        user_state.observe(one._replace(vector=vector, raw=b"x" * raw), catalogue, rules, 1e9)

    for item in ids:
        for action in ("view", "hide", "impression"):
            send(action, item)
    for number in range(rules.recent):
        send("comment", ids[number], text=f"{number}" + "w" * 8000)
    for number in range(waiting):
        text = "w" * rules.decode.max_text_bytes
        send("comment", f"{number:?>{MAX_ID_BYTES}}", text=text, raw=rules.decode.max_record_bytes)
    for number in range(MAX_PARTITIONS - 1):
        log = f"{number:p>249}/0@{number:032x}"
        user_state.offset_ranges.setdefault(log, [0, 2**40])
    assert_within(user_state, rules)
    return user_state, len(user_row(user_state, catalogue, 32).state)


@pytest.mark.parametrize(
    ("waiting", "most"), [(0, 2_000_000), (50, 16_000_000)], ids=["nothing waits", "fifty events wait"]
)
def test_a_stored_user_has_a_largest_size(waiting: int, most: int) -> None:
    """With the default settings and 384 numbers a vector: 2 MB, and 280 KB for each event that waits."""
    _, size = largest(waiting=waiting)
    assert size <= most
    assert size > most * 0.8, "the bound is no idle one"


def test_a_usual_user_takes_a_few_kilobytes() -> None:
    """Forty events on items with short ids: as `bench_restart` stores them."""
    catalogue = catalogue_of([f"i{number}" for number in range(100)], dim=384)
    user_state = UserState("u1")
    for number in range(40):
        user_state.observe(
            event(number, "view", f"i{number}", offset=number),
            catalogue,
            replace(SMALL, recent=64, history=1000),
            0.0,
        )
    size = len(user_row(user_state, catalogue, 32).state)
    assert 4_000 < size < 10_000
    for number in range(40):
        one = event(90_000.0 * number, "view", f"i{number % 10}", offset=40 + number)
        user_state.observe(one, catalogue, replace(SMALL, recent=64, history=1000), 0.0)
    again = len(user_row(user_state, catalogue, 32).state)
    assert again - size < 3_000, "of forty events with known items, 24 fit the newest 64"
