"""Dead letters lose nothing."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recstream.records.reject import Reject, raw_of, reject_record
from recstream.records.transport import Partition

WHERE = Partition("events/3", "events/3@9f8c2d11")


def test_the_record_has_the_published_fields() -> None:
    record = reject_record(Reject("not_json", "why", WHERE, 7, b"{"), at=1700000000.25)
    assert record == {
        "reason": "not_json",
        "detail": "why",
        "source": {"partition": "events/3", "offset": 7},
        "raw": "{",
        "at": 1700000000.25,
    }


def test_bytes_that_are_not_utf8_are_base64_and_say_so() -> None:
    record = reject_record(Reject("not_json", "why", WHERE, 7, b"\xff\xfe"), at=0.0)
    assert (record["raw"], record["raw_encoding"]) == ("//4=", "base64")


@given(raw=st.binary() | st.text().map(str.encode), detail=st.text())
@example(raw=b"\n\r\xe2\x80\xa8\x00", detail="half a pair: \ud800")
def test_raw_comes_back_and_the_record_is_one_line(raw: bytes, detail: str) -> None:
    record = orjson.dumps(reject_record(Reject("bad_type", detail, WHERE, 0, raw), at=0.0))
    assert raw_of(orjson.loads(record)) == raw
    assert b"\n" not in record


@pytest.mark.parametrize("piece", [b"x", b"\x00", b"\xff", b'"', "é".encode()])
def test_a_huge_record_fits_a_topic_and_says_how_long_it_was(piece: bytes) -> None:
    raw = piece * (1_000_000 // len(piece))
    record = reject_record(Reject("too_large", "why", WHERE, 0, raw), at=0.0)
    assert len(orjson.dumps(record)) < 1_000_000
    assert record["raw_bytes"] == len(raw)
    assert raw.startswith(raw_of(record)[:1000])
