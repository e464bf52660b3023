"""Output that no event of its epoch will bring back leaves again after a crash, and only then."""

from __future__ import annotations

from typing import Any

from recstream.dataflow.messages import BatchResult
from recstream.dataflow.outbox import Commits
from recstream.metrics.accounting import accounting
from recstream.records.event import Event
from recstream.records.transport import shard_of
from tests.support.builders import WorkerHarness, event

SHARD = shard_of("u1", 32)


class Life:
    """A job in epochs, of which the last may not have committed when it is killed."""

    def __init__(self, **rules: Any) -> None:
        self.harness = WorkerHarness(**rules)
        self.committed: int | None = None
        self.barrier: int | None = None

    def epoch(self, *events: Event) -> BatchResult:
        """One micro-batch and the barrier after it; the epoch before has then committed."""
        step = self.harness.step(*events)
        self.harness.flush()
        self.committed, self.barrier = self.barrier, self.harness.worker.commits.close()
        self.harness.clock.now += 1.0
        return step

    def killed(self, *, committed: bool) -> BatchResult:
        """The job is started again after a kill, its last epoch committed or not; gives its first step."""
        resumed = self.barrier if committed else self.committed
        self.harness.again()
        self.harness.worker.own_shard(SHARD, resumed)
        self.committed = self.barrier = resumed
        return self.epoch()


def waited() -> Life:
    """An event waited for its item, and counted in the last epoch."""
    life = Life()
    life.epoch(event(1.0, "view", "new", offset=1))
    life.harness.know("new")
    assert [query.version for query in life.epoch().queries] == [1]
    return life


def test_the_list_of_an_event_that_waited_is_made_again_when_its_epoch_did_not_commit() -> None:
    life = waited()
    assert [(query.user_id, query.version) for query in life.killed(committed=False).queries] == [("u1", 1)]
    assert life.harness.meters.values["outputs_resent", "list"] == 1


def test_it_is_not_made_again_when_its_epoch_committed() -> None:
    assert waited().killed(committed=True).queries == []


def test_it_survives_a_second_crash() -> None:
    life = waited()
    life.killed(committed=False)
    assert [query.version for query in life.killed(committed=False).queries] == [1]


def given_up() -> Life:
    """An event waited too long for its item."""
    life = Life(wait_for_item_s=5.0)
    life.epoch(event(1.0, "view", "never", offset=1))
    life.harness.clock.now += 60.0
    assert [reject.reason for reject in life.epoch().rejects] == ["unknown_item"]
    return life


def test_the_reject_of_an_event_that_waited_too_long_leaves_again_with_its_bytes() -> None:
    (reject,) = given_up().killed(committed=False).rejects
    assert (reject.reason, reject.offset, reject.raw) == ("unknown_item", 1, b"u1 1.0 view never")


def test_a_reject_that_leaves_again_is_no_record_of_this_run() -> None:
    life = given_up()
    life.killed(committed=False)
    assert accounting(life.harness.meters.snapshot()) == (0, 0, 0, 0, 0, 0, True)


def test_a_reject_whose_epoch_committed_does_not_leave_again() -> None:
    assert given_up().killed(committed=True).rejects == []


def test_a_closed_session_leaves_again_with_its_items() -> None:
    life = Life(sessions=True, session_gap_s=10.0, lateness_s=0.0)
    life.harness.know("a", "b")
    life.epoch(event(1.0, "view", "a", offset=1), event(3.0, "view", "b", offset=2))
    life.harness.clock.now += 60.0
    (closed,) = life.epoch().sessions
    (again,) = life.killed(committed=False).sessions
    ids = life.harness.worker.replica.catalogue.ids
    assert again.session._replace(items=()) == closed.session._replace(items=())
    assert [ids[item] for item in again.session.items] == ["a", "b"]
    assert life.killed(committed=True).sessions == []


def test_a_session_open_at_a_restart_is_announced_although_its_user_stays_away() -> None:
    life = Life(sessions=True, session_gap_s=10.0, lateness_s=0.0)
    life.harness.know("a")
    life.epoch(event(1.0, "view", "a", offset=1))
    assert life.killed(committed=True).sessions == []
    look = life.harness.worker.next_step()
    assert look is not None
    life.harness.clock.now = look
    (closed,) = life.epoch().sessions
    assert (closed.user_id, closed.session.start) == ("u1", 1.0)


def refused(**rules: Any) -> tuple[Life, Event]:
    life = Life(**rules)
    life.harness.know("a")
    one = event(1.0, "view", "never", offset=1)
    assert len(life.epoch(one, event(2.0, "view", "a", offset=2)).rejects) == 1
    return life, one


def test_an_event_refused_in_an_epoch_that_did_not_commit_is_refused_again() -> None:
    for rules in ({"wait_for_item_s": 0.0}, {"wait_for_item_s": 0.0, "in_order": True, "every_event": True}):
        life, one = refused(**rules)
        life.killed(committed=False)
        (reject,) = life.epoch(one).rejects
        assert (reject.reason, reject.offset) == ("unknown_item", 1)
        assert accounting(life.harness.meters.snapshot()) == (1, 0, 0, 0, 1, 0, True)


def test_an_event_refused_in_an_epoch_that_committed_is_absorbed() -> None:
    life, one = refused(wait_for_item_s=0.0)
    life.killed(committed=True)
    assert life.epoch(one).rejects == []
    assert accounting(life.harness.meters.snapshot()) == (1, 0, 0, 1, 0, 0, True)


def test_output_is_let_go_once_its_epoch_has_surely_committed() -> None:
    life = waited()
    assert life.harness.users.rows["u1"].unfinished != 0
    life.epoch(event(2.0, "request", user="u2", offset=5))
    life.epoch(event(3.0, "request", user="u2", offset=6))
    assert life.harness.users.rows["u1"].unfinished == 0


def test_users_with_unconfirmed_output_stay_in_memory() -> None:
    life = Life(hot_users=1)
    life.epoch(event(1.0, "view", "new", offset=1))
    life.harness.know("new")
    life.epoch(*(event(2.0, "view", "new", user=f"v{k}", offset=k) for k in range(4)))
    assert life.harness.worker.users.find("u1") is not None


def replay_beside(life: Life) -> Life:
    """A replay into the same store."""
    replay = Life(wait_for_item_s=0.0, unfinished=False, job="backfill-batch")
    replay.harness.users = life.harness.users
    replay.harness.items = life.harness.items
    replay.harness.clock = life.harness.clock
    replay.killed(committed=False)
    return replay


def test_a_replay_leaves_what_the_live_job_did_not_confirm_to_it() -> None:
    life = waited()
    replay = replay_beside(life)
    for at in (3, 4, 5):  # interrupted and resumed in between: its barriers say nothing of the live job's
        replay.epoch(event(float(at), "view", "new", offset=at, partition="old.jsonl"))
        replay.epoch(event(float(at), "request", offset=99, partition="old.jsonl"))
        replay.killed(committed=True)
    assert [query.version for query in life.killed(committed=False).queries] == [4]


def test_a_live_job_leaves_what_a_replay_refused_to_it() -> None:
    life = Life()
    life.harness.know("a")
    life.epoch(event(1.0, "view", "a", offset=1))
    replay = replay_beside(life)
    one = event(2.0, "view", "never", offset=1, partition="old.jsonl")
    assert len(replay.epoch(one).rejects) == 1
    for at in (2, 3, 4):
        life.epoch(event(float(at), "view", "a", offset=at))
    life.killed(committed=True)
    life.epoch(event(9.0, "view", "a", offset=9))
    replay.killed(committed=False)
    assert [reject.offset for reject in replay.epoch(one).rejects] == [1]


def test_barriers_keep_growing_when_the_clock_was_set_back() -> None:
    commits = Commits(now=lambda: 5.0)
    later = 10**12
    commits.resume(3, later)
    assert commits.is_confirmed(later, shard=3)
    number = commits.open()
    assert number > later
    assert not commits.is_confirmed(number, shard=3)


def test_a_barrier_of_a_shard_says_nothing_of_another() -> None:
    commits = Commits(now=lambda: 5.0)
    commits.resume(3, 100)
    assert [commits.is_confirmed(100, shard=shard) for shard in (3, 4)] == [True, False]
    commits.resume(None, 100)  # a log worked off under one key
    assert commits.is_confirmed(100, shard=4)
