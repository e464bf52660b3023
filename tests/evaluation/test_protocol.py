"""Which events are tests, held to a naive second reading of the rules."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from recstream.evaluation.protocol import Plan, Protocol, Ties, plan_of
from tests.evaluation.logs import ACTIONS, Record, decoded, log_of

NO_CHOICE = {"impression", "request", "search"}


class Expected(NamedTuple):
    place: int
    item: str
    group: int
    prior: int
    popularity: int


def naive(records: list[Record], protocol: Protocol) -> list[Expected]:
    """The tests of a log by looking, for each event, at everything before it."""
    chosen = [place for place, record in enumerate(records) if record["action"] not in NO_CHOICE]
    begin = chosen[int(len(chosen) * (1 - protocol.last_frac))]
    found = []
    for place in chosen:
        record = records[place]
        mine = [p for p in chosen if p < place and records[p]["user_id"] == record["user_id"]]
        group = place
        if protocol.ties == "group":
            for earlier in reversed(mine):
                if records[earlier]["ts"] != record["ts"]:
                    break
                group = earlier
        prior = sum(p < group for p in mine)
        had = any(records[p]["item_id"] == record["item_id"] for p in mine)
        if (
            place >= begin
            and record["action"] != "ask"
            and prior >= protocol.min_prior
            and (protocol.repeats or not had)
        ):
            count = sum(p < place and records[p]["item_id"] == record["item_id"] for p in chosen)
            found.append(Expected(place, record["item_id"], group, prior, count))
    return found


def planned(plan: Plan) -> list[Expected]:
    return sorted(
        Expected(target.place, target.item_id, trial.place, trial.prior, target.popularity)
        for trial in plan.trials
        for target in trial.targets
    )


def plan(records: list[Record], protocol: Protocol) -> Plan:
    known = frozenset(record["item_id"] for record in records if "item_id" in record)
    return plan_of(decoded(records), ACTIONS, known, protocol)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", ["group", "sequence"])
@pytest.mark.parametrize(
    ("repeats", "min_prior", "last_frac"), [(False, 1, 0.2), (True, 0, 0.5), (False, 3, 1.0)]
)
def test_the_tests_are_those_of_a_naive_reading(
    seed: int, ties: Ties, repeats: bool, min_prior: int, last_frac: float
) -> None:
    records = log_of(300, seed=seed)
    protocol = Protocol(last_frac=last_frac, min_prior=min_prior, repeats=repeats, ties=ties)
    expected = naive(records, protocol)
    assert len(expected) > 10
    assert planned(plan(records, protocol)) == expected


def test_a_tie_group_is_one_trial_whose_list_is_made_before_its_first_event() -> None:
    at = [("a", "1", 1), ("a", "2", 5), ("b", "1", 5), ("a", "3", 5), ("a", "4", 6)]
    records = [{"user_id": u, "item_id": i, "ts": t, "action": "view"} for u, i, t in at]
    trials = plan(records, Protocol(last_frac=1.0)).trials
    assert [(t.place, t.made_at, [target.item_id for target in t.targets]) for t in trials] == [
        (1, 1, ["2", "3"]),
        (4, 4, ["4"]),
    ]


def test_as_emitted_the_list_is_the_one_of_the_users_last_event_that_caused_one() -> None:
    at = [("a", "1", 1, "view"), ("a", "2", 2, "search"), ("b", "1", 3, "view"), ("a", "3", 4, "impression")]
    at += [("a", "4", 5, "view"), ("c", "1", 6, "view")]
    records: list[Record] = [
        {"user_id": u, "item_id": i, "ts": t, "action": what, "text": "sea"} for u, i, t, what in at
    ]
    trials = plan(records, Protocol(last_frac=1.0, min_prior=0, when="emitted")).trials
    assert [(t.user_id, t.place, t.made_at) for t in trials] == [
        ("a", 0, -1),
        ("b", 2, -1),
        ("a", 4, 2),
        ("c", 5, -1),
    ]


def test_an_event_that_is_refused_or_known_already_causes_no_list() -> None:
    at = [("1", "x"), ("2", "y"), ("2", "y"), ("gone", "z"), ("3", "w")]
    records: list[Record] = [
        {"user_id": "a", "item_id": i, "ts": n, "action": "view", "event_id": e}
        for n, (i, e) in enumerate(at)
    ]
    events = decoded(records)
    found = plan_of(events, ACTIONS, frozenset("123"), Protocol(last_frac=1.0, when="emitted"))
    assert found.surely_listed == [True, True, False, False, True]
    assert found.trials[-1].made_at == 2


@pytest.mark.parametrize(("name", "value"), [("last_frac", 0.0), ("last_frac", 1.5), ("min_prior", -1)])
def test_a_protocol_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Protocol(**{name: value})  # type: ignore[arg-type]
