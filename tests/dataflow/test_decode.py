"""The decode step: what items lack because it could not be read is counted, and told once."""

from __future__ import annotations

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from recstream.config import Settings
from recstream.dataflow.decode import decode
from recstream.records.actions import DecodeRules
from recstream.records.item import Item
from recstream.records.transport import Partition, RawBatch
from recstream.runtime.wiring import decode_rules
from tests.support.meters import MemoryMeters
from tests.support.rules import reject_limit_rules


@pytest.mark.parametrize("kind", ["items", "events"])
def test_what_is_left_out_of_items_is_counted_and_the_first_of_each_kind_is_logged(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ['"published_at":"soon"', '"published_at":"later"', '"tags":{}', '"tags":["a",[]]']
    values = [b'{"item_id":"i","title":"t",%s}' % field.encode() for field in odd]
    if kind == "events":
        values = [b'{"user_id":"u","ts":1,"action":"view","item":%s}' % item for item in values]
    meters, items = MemoryMeters(), list[list[Item]]()
    flow = Dataflow("decode")
    raw = op.input("raw", flow, TestingSource([RawBatch(Partition("log.jsonl", "x"), [4, 5, 6, 7], values)]))
    out = decode("decode", raw, kind, DecodeRules(), meters, lambda: 9.0, reject_limit_rules())
    op.output("items", out.items, TestingSink(items))
    op.output("events", out.events, TestingSink([]))
    op.output("rejects", out.rejects, TestingSink([]))
    run_main(flow)
    assert meters.snapshot()["fields_left_out"] == {"published_at/bad_timestamp": 2, "tags/bad_type": 2}
    assert meters.snapshot()["records_rejected"] == {}
    assert [line.split(": got ")[0] for line in caplog.messages] == [
        f"log.jsonl:{offset}: {'item.' * (kind == 'events')}{field}"
        for offset, field in ((4, "published_at"), (6, "tags"))
    ]


def test_the_text_of_an_item_may_be_as_long_as_the_setting_says() -> None:
    """And no shorter than it was before the setting held for it."""
    raised = Settings.model_validate({"events": {"max_text_bytes": 200_000}})
    assert decode_rules(raised, 3).max_item_text_bytes == 200_000
    assert decode_rules(Settings(), 3).max_item_text_bytes == 65_536
    lowered = Settings.model_validate({"events": {"max_text_bytes": 100}})
    assert (decode_rules(lowered, 3).max_text_bytes, decode_rules(lowered, 3).max_item_text_bytes) == (
        100,
        65_536,
    )
