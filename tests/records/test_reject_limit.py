"""The reject limit stops a stream at its share and at its run, and only then."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.records.reject import Reason, Reject
from recstream.records.reject_limit import RejectLimit, RejectLimitError, RejectLimitRules
from recstream.records.transport import Partition
from tests.support.rules import reject_limit_rules

LOG = Partition("events/3", "events/3@1")
_FEW: list[Reason | None] = [None, None, "not_json", "bad_type"]
VERDICTS = st.lists(st.sampled_from(_FEW), max_size=60)
RULES = st.builds(
    RejectLimitRules,
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]),
    records=st.integers(1, 12),
    run=st.integers(0, 8),
)


def reject(reason: Reason = "not_json", offset: int = 7, detail: str = "why") -> Reject:
    return Reject(reason, detail, LOG, offset, b"")


def stops_at(rules: RejectLimitRules, verdicts: list[Reason | None]) -> int | None:
    """The definition, one verdict at a time."""
    for end in range(1, len(verdicts) + 1):
        seen, window = verdicts[:end], verdicts[max(0, end - rules.records) : end]
        if seen[-1] is None:
            continue
        bad = sum(one is not None for one in window)
        run = next((k for k, one in enumerate(reversed(seen)) if one is None), end)
        if (len(window) == rules.records and bad > rules.share * rules.records) or 0 < rules.run <= run:
            return end
    return None


@given(RULES, VERDICTS)
def test_it_stops_at_the_very_record_that_the_rules_say(
    rules: RejectLimitRules, verdicts: list[Reason | None]
) -> None:
    reject_limit, stopped = RejectLimit("events", rules), None
    for number, verdict in enumerate(verdicts, 1):
        try:
            reject_limit.observe(
                good=int(verdict is None), rejects=[] if verdict is None else [reject(verdict, number)]
            )
        except RejectLimitError:
            stopped = number
            break
    assert stopped == stops_at(rules, verdicts)


@given(RULES, st.lists(VERDICTS, max_size=5), st.integers(1, 3))
def test_batches_count_like_their_records_one_by_one(
    rules: RejectLimitRules, batches: list[list[Reason | None]], step: int
) -> None:
    reject_limit, at, stopped = RejectLimit("events", rules), 0, None
    for number, batch in enumerate(batches):
        offsets = list(range(at, at + step * len(batch), step))  # offsets of a topic may have gaps
        at += step * len(batch)
        bad = [reject(r, o) for r, o in zip(batch, offsets, strict=True) if r is not None]
        try:
            reject_limit.observe_batch(offsets, bad)
        except RejectLimitError:
            stopped = number
            break
    end = stops_at(rules, [verdict for batch in batches for verdict in batch])
    sizes = [sum(map(len, batches[: number + 1])) for number in range(len(batches))]
    assert stopped == (None if end is None else next(k for k, size in enumerate(sizes) if size >= end))


@given(VERDICTS, st.integers(1, 12))
def test_switched_off_it_never_stops(verdicts: list[Reason | None], records: int) -> None:
    reject_limit = RejectLimit("events", reject_limit_rules(share=1.0, records=records, run=0))
    for verdict in verdicts:
        reject_limit.observe(good=int(verdict is None), rejects=[] if verdict is None else [reject(verdict)])


def test_a_few_records_are_no_share() -> None:
    RejectLimit("events", reject_limit_rules(share=0.5, records=1000)).observe(rejects=[reject()] * 999)


def test_the_message_says_how_many_why_mostly_and_how_to_go_on() -> None:
    reject_limit = RejectLimit("events", reject_limit_rules(share=0.5, records=10, run=0))
    reject_limit.observe(good=4, rejects=[reject("bad_type")])
    with pytest.raises(RejectLimitError) as caught:
        reject_limit.observe(rejects=[reject("not_json", 9917, "got nonsense")] * 5)
    text = str(caught.value)
    assert text.startswith("events: 6 of the last 10 records were rejected, 5 as not_json, ")
    for part in ("events/3:9917: got nonsense", "deadletter list", "--set events.fuse_share=1", "fuse_run=0"):
        assert part in text


def test_a_run_names_the_reasons_of_the_run() -> None:
    reject_limit = RejectLimit("items", reject_limit_rules(share=1.0, records=5, run=3))
    reject_limit.observe(rejects=[reject("bad_type")] * 2)
    reject_limit.observe(good=1)
    with pytest.raises(RejectLimitError, match=r"items: 3 records in a row were rejected, 3 as not_json"):
        reject_limit.observe(rejects=[reject("not_json")] * 3)


def test_what_lacks_its_items_is_told_in_the_first_line_to_load_them() -> None:
    for reason in ("unknown_item", "not_json"):
        reject_limit = RejectLimit("events", reject_limit_rules(run=5))
        with pytest.raises(RejectLimitError) as caught:
            reject_limit.observe(rejects=[*[reject(reason)] * 3, *[reject("bad_type")] * 2])
        first, rest = str(caught.value).split("\n", 1)
        assert ("load the items first" in first) == (reason == "unknown_item")
        assert "load the items" not in rest


def test_the_error_survives_pickling() -> None:
    reject_limit = RejectLimit("events", reject_limit_rules(run=1))
    with pytest.raises(RejectLimitError) as caught:
        reject_limit.observe(rejects=[reject()])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"share": -0.1}, {"records": 0}, {"run": -1}])
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wanted a share"):
        reject_limit_rules(**wrong)
