"""Dead letters lose nothing."""

from __future__ import annotations

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from recstream.core.rejects import Reject
from recstream.core.source import Partition
from recstream.io.dead_letter import raw_of, reject_record

WHERE = Partition("events/3", "events/3@9f8c2d11")


def test_the_record_has_the_published_fields() -> None:
    record = orjson.loads(reject_record(Reject("not_json", "why", WHERE, 7, b"{"), 1700000000.25))
    assert record == {
        "reason": "not_json",
        "detail": "why",
        "source": {"partition": "events/3", "offset": 7},
        "raw": "{",
        "at": 1700000000.25,
    }


def test_bytes_that_are_not_utf8_are_base64_and_say_so() -> None:
    record = orjson.loads(reject_record(Reject("not_json", "why", WHERE, 7, b"\xff\xfe"), 0.0))
    assert (record["raw"], record["raw_encoding"]) == ("//4=", "base64")


@given(raw=st.binary() | st.text().map(str.encode), detail=st.text())
@example(raw=b"\n\r\xe2\x80\xa8\x00", detail="half a pair: \ud800")
def test_raw_comes_back_and_the_record_is_one_line(raw: bytes, detail: str) -> None:
    record = reject_record(Reject("bad_type", detail, WHERE, 0, raw), 0.0)
    assert raw_of(record) == raw
    assert b"\n" not in record
