"""Texts of events and items get their vectors, each its own."""

from __future__ import annotations

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from recstream.dataflow.encode import encode_events, item_rows
from recstream.dataflow.messages import EventBatch
from recstream.encoders import open_encoder
from recstream.items.terms import pack, text_terms
from recstream.records.item import Item
from tests.support.builders import DIM, encoder_spec, event, unit
from tests.support.meters import MemoryMeters
from tests.support.rules import reject_limit_rules


def test_an_event_brings_its_item_as_it_was_then_and_not_as_a_later_one_of_the_batch_has_it() -> None:
    log = event(1.0).partition
    events = [
        event(float(at), "view", "new", offset=at)._replace(
            item=Item("new", title, None, (), (), None, True, False, None, log, at, b"{}")
        )
        for at, title in ((3, "Space opera"), (4, "Tax law"))
    ]
    done: list[EventBatch] = []
    flow = Dataflow("encode")
    received = op.input("events", flow, TestingSource([EventBatch(0.0, events)]))
    encoder = open_encoder(encoder_spec(backend="hashing", dim=DIM))
    out = encode_events("encode", received, lambda: encoder, MemoryMeters(), reject_limit_rules())
    op.output("done", out.events, TestingSink(done))
    op.output("items", out.items, TestingSink([]))
    op.output("rejects", out.rejects, TestingSink([]))
    run_main(flow)
    assert {at: row.title for at, row in done[0].items.items()} == {3: "Space opera", 4: "Tax law"}


def test_an_items_row_has_the_terms_of_all_its_words_and_a_tombstone_has_none() -> None:
    """Whoever made its vector."""
    log = event(1.0).partition
    item = Item("i", "Tea", "Dark tea.", ("Drinks",), ("hot",), None, True, False, None, log, 0, b"{}")
    items = [item, item._replace(vector=unit("tea")), item._replace(deleted=True, title="", text=None)]
    rows, why = item_rows(items, open_encoder(encoder_spec(backend="hashing", dim=DIM)))
    wanted = pack(text_terms("tea tea dark drinks hot"))
    assert why == {}
    assert [None if row is None else row.terms for row in rows] == [wanted, wanted, b""]
