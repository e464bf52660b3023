"""A text that the encoder cannot encode costs its record, and nothing else: the graph on memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson
import pytest
from bytewax.testing import TestingSource

from recstream.dataflow.services import Services
from recstream.records.dead_letter import raw_of
from recstream.records.reject_limit import RejectLimitError
from tests.support.encoders import FussyEncoder
from tests.support.logs import T0, Record, events
from tests.support.memory_jobs import ITEMS, WORKERS, MemoryJob, Run, raw_batches, view
from tests.support.rules import reject_limit_rules
from tests.support.stored_users import assert_same_users

BAD = "unspeakable words"
BAD_ITEM: Record = {"item_id": "bad", "title": "Unspeakable title"}
KINDS = pytest.mark.parametrize(("workers", "every_event"), [(1, False), (2, False), (1, True)])


@dataclass
class FussyJob(MemoryJob):
    """Its encoder cannot encode `BAD`, nor the text of `BAD_ITEM`."""

    def services(self) -> Services:
        inner = super().services()
        encoder = FussyEncoder(inner.encoder(), {BAD, "Unspeakable title."})
        return replace(inner, encoder=lambda: encoder)

    def details(self) -> Iterator[str]:
        return (orjson.loads(message.value or b"")["detail"] for message in self.dead_letters)


def search(user: str, text: str, ts: float = T0) -> Record:
    return {"user_id": user, "ts": ts, "action": "search", "text": text}


def strewn(log: list[Record], bad: Record, every: int) -> tuple[list[Record], list[int]]:
    """The log with a bad record before each so many, and where those are."""
    mixed: list[Record] = []
    places = []
    for number, record in enumerate(log):
        if number % every == 0:
            places.append(len(mixed))
            mixed.append({**bad, "user_id": record["user_id"], "ts": record["ts"]})
        mixed.append(record)
    return mixed, places


@KINDS
@pytest.mark.parametrize(
    "bad",
    [
        {"action": "search", "text": BAD},
        {"action": "comment", "text": BAD, "item_id": "i1"},
        {"action": "like", "item": BAD_ITEM},
        {"action": "comment", "text": BAD, "item": {"item_id": "i99", "title": "A good one"}},
    ],
    ids=["search", "comment", "item", "comment on a good item"],
)
def test_the_others_are_applied_as_if_it_were_not_there(
    run_flow: Run, workers: int, every_event: bool, bad: Record
) -> None:
    log = events(60)
    mixed, places = strewn(log, bad, 6)
    plain, job = MemoryJob(run_flow, workers), FussyJob(run_flow, workers)
    for one, records in ((plain, log), (job, mixed)):
        one.load_items()
        one.absorb(records, in_order=every_event, every_event=every_event)
    assert job.reasons() == {("events/0", place): "unencodable" for place in places}
    assert job.account() == (70, 60, 0, 0, 10, 0, True)
    assert job.meters.snapshot()["records_rejected"] == {"events/unencodable": 10}
    assert {user: row.version for user, row in job.users.rows.items()} == {
        user: row.version for user, row in plain.users.rows.items()
    }
    assert job.items.rows.keys() == plain.items.rows.keys(), "a rejected event brings no item"
    versions = {user: [one["version"] for one in lists] for user, lists in job.lists().items()}
    assert all(made == sorted(set(made)) for made in versions.values())


def test_its_dead_letter_says_which_text_why_and_how_to_mend_it_and_has_the_record(run_flow: Run) -> None:
    job = FussyJob(run_flow)
    record = search("u1", BAD)
    job.absorb([record, search("u1", "jazz")])
    (message,) = job.dead_letters
    dead_letter = orjson.loads(message.value or b"")
    assert raw_of(dead_letter) == orjson.dumps(record)
    assert dead_letter["source"] == {"partition": "events/0", "offset": 0}
    (detail,) = job.details()
    assert detail.startswith(
        "text: got 'unspeakable words', wanted a text that the encoder can encode (told to refuse it)"
    )
    assert "recstream deadletter replay" in detail


@WORKERS
def test_an_event_whose_item_cannot_be_encoded_is_rejected_once_and_does_not_wait(
    run_flow: Run, workers: int
) -> None:
    job = FussyJob(run_flow, workers)
    job.load_items(ITEMS[:3])
    bringing = {"user_id": "u1", "ts": T0, "action": "like", "item": BAD_ITEM}
    both = {**bringing, "action": "comment", "text": BAD}
    job.absorb([bringing, both, view("u1", "i1")])
    assert job.reasons() == {("events/0", 0): "unencodable", ("events/0", 1): "unencodable"}
    assert [detail.split(":")[0] for detail in job.details()] == ["item", "text"]
    assert job.account() == (3, 1, 0, 0, 2, 0, True)
    assert not job.user_state("u1")[0].waiting
    assert "bad" not in job.items.rows


@WORKERS
def test_of_two_records_of_an_item_the_one_that_can_be_encoded_counts(run_flow: Run, workers: int) -> None:
    job = FussyJob(run_flow, workers)
    good = {**BAD_ITEM, "title": "A good title"}
    job.absorb(
        [
            {"user_id": "u1", "ts": T0, "action": "like", "item": BAD_ITEM},
            {"user_id": "u1", "ts": T0 + 1, "action": "view", "item": good},
            {"user_id": "u1", "ts": T0 + 2, "action": "click", "item": BAD_ITEM},
        ]
    )
    assert job.account() == (3, 1, 0, 0, 2, 0, True)
    assert job.items.rows["bad"].title == "A good title"


@WORKERS
def test_an_item_of_the_catalogue_is_rejected_and_events_of_it_wait(run_flow: Run, workers: int) -> None:
    job = FussyJob(run_flow, workers)
    job.load_items([ITEMS[0], BAD_ITEM, ITEMS[1]])
    assert job.reasons() == {("items/0", 1): "unencodable"}
    assert sorted(job.items.rows) == ["i0", "i1"]
    assert job.meters.snapshot()["records_rejected"] == {"items/unencodable": 1}
    event_source, item_source = (
        TestingSource(raw_batches([view("u1", "bad")])),
        TestingSource(raw_batches([BAD_ITEM], "items/0", first=3)),
    )
    run_flow(job.flow(event_source, item_source), workers=workers)
    assert job.reasons() == {("items/0", 1): "unencodable", ("items/0", 3): "unencodable"}
    assert job.account() == (1, 0, 0, 0, 0, 1, True)


def test_an_item_with_a_vector_of_its_own_is_never_refused(run_flow: Run) -> None:
    job = FussyJob(run_flow)
    job.load_items([{**BAD_ITEM, "vector": [1.0] * 64}, {"item_id": "gone", "deleted": True}])
    assert not job.dead_letters
    assert sorted(job.items.rows) == ["bad", "gone"]


def test_read_again_after_a_crash_it_is_rejected_again(run_flow: Run) -> None:
    job = FussyJob(run_flow)
    log = [search("u1", "jazz"), search("u1", BAD, T0 + 1), search("u1", "war", T0 + 2)]
    job.absorb(log)
    rows = dict(job.users.rows)
    job.absorb(log)  # no position was kept: all of it is read again
    assert job.account() == (6, 2, 0, 2, 2, 0, True)
    assert len(job.dead_letters) == 2
    assert_same_users(job.users.rows, rows)


@pytest.mark.parametrize("stream", ["events", "items"])
def test_texts_of_which_most_cannot_be_encoded_stop_the_flow(run_flow: Run, stream: str) -> None:
    job = FussyJob(run_flow)
    job.load_items()
    reject_limit = reject_limit_rules(share=0.5, records=8, run=0)
    many = [view("u1", "i1", T0 + n) for n in range(20)]  # says nothing of the texts
    log: list[Record | bytes] = [*many, *(search("u1", BAD, T0 + 30 + n) for n in range(8))]
    if stream == "events":
        flow = job.flow(TestingSource(raw_batches(log)), reject_limit=reject_limit)
    else:
        bad = [{**BAD_ITEM, "item_id": f"bad{n}"} for n in range(8)]
        flow = job.flow(
            TestingSource(raw_batches(many)),
            TestingSource(raw_batches(bad, "items/0")),
            reject_limit=reject_limit,
        )
    with pytest.raises(RuntimeError) as caught:
        run_flow(flow)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, RejectLimitError):
        cause = cause.__cause__
    assert f"{stream} with a text to encode: 8 of the last 8 records were rejected, 8 as unencodable" in str(
        cause
    )
