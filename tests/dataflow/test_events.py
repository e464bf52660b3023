"""The application of events: what is asked once an event, and the order of its effects."""

from __future__ import annotations

import pytest

from recstream.dataflow.messages import EventBatch
from recstream.ranking.recommender import Recommender
from recstream.records.item import Item
from recstream.users import state
from tests.support.builders import WorkerHarness, arrived, event, item_row


def test_offset_ranges_and_digest_are_asked_once_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def watch(name: str) -> None:
        work = getattr(state, name)

        def watched(*of: object) -> object:
            asked.append(name)
            return work(*of)

        monkeypatch.setattr(state, name, watched)

    watch("is_absorbed")
    watch("digest_of")
    harness = WorkerHarness()
    harness.know("i0", "i1")
    choices = [event(float(k), "like", f"i{k % 2}", event_id=f"e{k}") for k in range(4)]
    events = arrived([*choices, event(9.0, "like", "i0", event_id="e0"), event(9.0, "impression", "i1")])
    harness.step(*events)
    assert (asked.count("is_absorbed"), asked.count("digest_of")) == (6, 6)
    asked.clear()
    harness.step(*events)
    assert (asked.count("is_absorbed"), asked.count("digest_of")) == (6, 0)


def test_a_choice_teaches_before_its_item_is_taken_in_and_before_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int | None]] = []

    def learn(self: Recommender, query: object, item: int, *, weight: float) -> bool:
        version = harness.worker.users.get("u1").version
        seen.append((version, harness.worker.replica.catalogue.handle("new")))
        return False

    harness = WorkerHarness()
    harness.know("i0")
    monkeypatch.setattr(Recommender, "learn", learn)
    log_of = event(0.0).partition
    record = Item("new", "New", None, (), (), None, True, False, None, log_of, 1, b"")
    chosen = [event(float(k), "view", "i0") for k in range(2)]
    carrying = event(2.0, "search", text="jazz")._replace(item=record)
    log = arrived([*chosen, carrying, event(3.0, "view", "new"), event(4.0, "view", "i0")])
    log[1] = log[1]._replace(item=record)
    items = {1: item_row("new"), 2: item_row("new")}
    harness.worker.inbox.append(EventBatch(harness.clock(), log, items))
    harness.worker.step()
    assert seen == [(1, None), (3, 1), (4, 1)]


def test_an_erasure_drops_the_list_that_was_due_and_one_read_again_does_not() -> None:
    harness = WorkerHarness()
    harness.know("i0")
    events = arrived([event(1.0, "view", "i0"), event(2.0, "forget"), event(3.0, "view", "i0")])
    assert harness.step(*events[:2]).queries == []
    assert [query.user_id for query in harness.step(events[2]).queries] == ["u1"]
    done = harness.step(*events)
    assert [one.user_id for one in done.forgotten] == ["u1"]
    assert [query.user_id for query in done.queries] == ["u1"]


def test_a_kind_that_changes_no_state_is_not_for_the_state() -> None:
    harness = WorkerHarness()
    harness.step()
    user_state = state.UserState("u1")
    rules, catalogue = harness.rules.user_state, harness.worker.replica.catalogue
    assert user_state.examine(event(1.0, "request")).outcome is None
    with pytest.raises(ValueError, match=r"'request' \(kind 'request'\) changes no state"):
        user_state.observe(event(1.0, "request"), catalogue, rules, 0.0)
