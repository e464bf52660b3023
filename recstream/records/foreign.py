"""Records as other systems write them. They are not read, but a reject says what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from recstream.records.checks import FieldError

__all__ = ["Foreign", "advice_on", "foreign_bytes", "foreign_file"]

_ALIASES: Final[dict[str, frozenset[str]]] = {
    field: frozenset(names.split())
    for field, names in {
        "user_id": "user uid customer customerid visitor visitorid account accountid member memberid client"
        " clientid profileid distinctid anonymousid",
        "item_id": "item product productid movie movieid article articleid content contentid video videoid"
        " track trackid song songid listing listingid entityid itemno sku asin isbn gtin",
        "ts": "timestamp time eventtime eventts eventtimestamp datetime date createdat occurredat unixtime"
        " tsms timestampms timems",
        "action": "event eventtype eventname type verb interaction interactiontype behavior behaviour"
        " activity",
        "title": "name itemname itemtitle product productname producttitle movietitle headline",
        "text": "query searchquery searchterm q term comment review body description",
        "rating": "score stars rate value",
    }.items()
}
"""What other systems call a field, in small letters and digits only."""
_LOOKED_AT: Final = 64
"""Fields of a record in which something is looked for."""
_NAMED: Final = 40
"""Characters of a field's name that are shown."""


class Foreign(NamedTuple):
    """What bytes that are no JSON are, and how to mend it."""

    what: str
    mend: str


def foreign_file(start: bytes) -> Foreign | None:
    r"""Recognise a file that holds no JSON lines by its beginning; None where it may hold some.

    >>> foreign_file(b'[\n  {\n    "item_id": "i1"')
    Foreign(what='a JSON array', mend="write one JSON object a line: jq -c '.[]' FILE > NEW.jsonl")
    >>> foreign_file(b'user_id,item_id,ts\nu1,i1,5\n').what
    'a table of comma-separated values (CSV)'
    """
    if start.startswith(_UTF_32):
        return Foreign("UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW")
    is_utf_16 = start[:2] in (b"{\x00", b"\x00{", b"[\x00", b"\x00[")
    if start.startswith(_UTF_16):
        first = start[: len(start) // 2 * 2].decode("utf-16", "ignore").strip()[:1]
        is_utf_16 = first.isascii() and first.isprintable() and first != ""
    if is_utf_16:
        mend = "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW (PowerShell: Set-Content -Encoding utf8)"
        return Foreign("UTF-16 text", mend)
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return Foreign(what, "unpack or convert it, and name it for what it is")
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _ARRAY.match(start):
        return Foreign("a JSON array", "write one JSON object a line: jq -c '.[]' FILE > NEW.jsonl")
    if _INDENTED.match(start):
        mend = "write each on one line: jq -c . FILE > NEW.jsonl"
        return Foreign("JSON objects that go over several lines", mend)
    if start[:5].lower() == b"<?xml" or start[:9].lower() == b"<!doctype":
        return Foreign("XML or HTML", "convert it to JSON lines or Parquet")
    header = _HEADER.match(start)
    if header is not None:
        name = {b",": "comma-separated values (CSV)", b"\t": "tab-separated values"}.get(header[1], "values")
        mend = "convert it to JSON lines or Parquet; another name does not change what is in it"
        return Foreign(f"a table of {name}", mend)
    return None


_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_UTF_32: Final = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")
_ARRAY: Final = re.compile(rb"\[\s*\{\s*[\"}]")
_INDENTED: Final = re.compile(rb"\{[ \t]*\r?\n\s*\"")
_HEADER: Final = re.compile(
    rb"\"?[A-Za-z_][\w .-]{0,60}\"?([,;\t|])(?:\"?[\w .-]{1,60}\"?\1){0,200}\"?[\w .-]{1,60}\"?\r?\n"
)
"""First line of a table: names with one sign between them."""


def foreign_bytes(raw: bytes) -> Foreign | None:
    r"""Recognise a record that is no JSON by how it begins; None where it is like nothing known.

    >>> foreign_bytes(b'\x00\x00\x00\x00\x07{"user_id": "u1"}').what
    'a Schema-Registry frame (magic byte 0, schema id 7) before JSON'
    >>> foreign_bytes('{"a": 1}'.encode("utf-16")).what
    'UTF-16 text'
    >>> foreign_bytes(b'{"a": NaN}').mend
    'write null, or leave the field out: JSON has no NaN or Infinity'
    """
    start = raw[:32]
    if start.startswith(_UTF_16) or b"{\x00" in start[:4] or start[:2] == b"\x00{":
        return Foreign("UTF-16 text", "write UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if start[:1] == b"\x00" and len(raw) > 5:
        frame = f"a Schema-Registry frame (magic byte 0, schema id {int.from_bytes(raw[1:5], 'big')})"
        if raw[5:].lstrip()[:1] == b"{":
            return Foreign(
                f"{frame} before JSON",
                "send the JSON alone, without the registry's serializer (5 bytes less)",
            )
        return Foreign(f"{frame} before what is probably Avro or Protobuf", "send JSON, without a frame")
    if len(raw) > 18 and start[0] == 3 and start[1] in (0, 5):
        return Foreign("a frame of the AWS Glue Schema Registry", "send JSON, without a frame")
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return Foreign(what, "send JSON, uncompressed and in UTF-8")
    if start.lstrip()[:1] == b"<":
        return Foreign("XML or HTML", "send JSON")
    if start.lstrip()[:2] == b"{'":
        return Foreign("the text of a Python dictionary", "write it with json.dumps")
    if _NOT_A_NUMBER.search(raw):
        return Foreign(
            "JSON but for NaN or Infinity", "write null, or leave the field out: JSON has no NaN or Infinity"
        )
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        byte = f"0x{raw[error.start]:02x} at byte {error.start}"
        return Foreign(
            f"{byte}, which is no UTF-8", "write UTF-8; it may be Latin-1 or Windows-1252 (iconv -f LATIN1)"
        )
    return None


_MAGIC: Final[dict[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\x82SNAPPY": "Snappy",
    b"Obj\x01": "an Avro file",
    b"PAR1": "Parquet",
    b"PK\x03\x04": "a ZIP archive or Excel sheet",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"SQLite format 3": "an SQLite database",
}
"""What begins so."""
_NOT_A_NUMBER: Final = re.compile(rb"[:,\[]\s*-?(NaN|Infinity)\s*[,}\]]")


def advice_on(record: object, error: FieldError, names: Sequence[str]) -> str:
    """Say, to be appended to the detail of a reject, what a record without a needed field probably is.

    ``names`` are the fields that tell records of its kind, the one that all have first. The text is empty
    where nothing is recognised.

    >>> from recstream.records.checks import missing
    >>> names = ("user_id", "ts", "item_id")
    >>> advice_on({"userId": "u1", "timestamp": 5}, missing("user_id", "a string"), names)
    "; rename 'userId' to 'user_id', 'timestamp' to 'ts'"
    >>> advice_on({"op": "c", "before": None, "after": {"user_id": 1}}, missing("user_id", "a string"), names)
    "; this is a Debezium change event: send what is in 'after' alone"
    """
    if error.reason == "not_an_object" and isinstance(record, str) and record.lstrip().startswith("{"):
        return "; this is JSON inside of a JSON string: serialise it once"
    if error.reason != "missing_field" or not isinstance(record, dict):
        return ""
    path, _, field = error.field.rpartition(".")
    if path:
        record, names = record.get(path), ("item_id", "title")
        if not isinstance(record, dict):
            return ""
    envelope = _envelope(record, names)
    if envelope:
        return f"; this is {envelope}"
    if field in _ALIASES:
        names = list(dict.fromkeys([*names, field]))
    renamed = [f"{_shown(found)} to {field!r}" for field, found in _other_names(record, names)]
    return f"; rename {', '.join(renamed)}" if renamed else ""


def _envelope(record: dict[str, object], names: Sequence[str]) -> str:
    """What a record is around the wanted one, and what to send; empty where it is no envelope."""
    if isinstance(record.get("payload"), dict) and "schema" in record:
        return (
            "a Connect envelope: set schemas.enable=false at its JsonConverter"
            + ", and unwrap the Debezium change event (ExtractNewRecordState)" * _is_change(record["payload"])
        )
    if _is_change(record):
        return "a Debezium change event: send what is in 'after' alone"
    if isinstance(record.get("specversion"), str):
        return "a CloudEvents envelope: send what is in 'data' alone"
    for name, value in list(record.items())[:_LOOKED_AT]:
        if name in ("item", "rec", "attributes", "context"):
            continue
        if isinstance(value, dict) and _is_wanted(value, names):
            return f"an envelope: send what is in {_shown(name)} alone"
        if isinstance(value, list) and value and isinstance(value[0], dict) and _is_wanted(value[0], names):
            return f"a batch: send each object of {_shown(name)} as a record"
        if isinstance(value, str) and value[:1] == "{" and f'"{names[0]}"' in value:
            return f"an envelope: send the JSON in {_shown(name)} alone"
    return ""


def _is_change(record: object) -> bool:
    return isinstance(record, dict) and "op" in record and ("after" in record or "before" in record)


def _is_wanted(record: dict[str, object], names: Sequence[str]) -> bool:
    """Whether this is a record of the kind; items are not told by other names, which brands have, too."""
    return names[0] in record or (names[0] == "user_id" and len(list(_other_names(record, names))) > 1)


def _other_names(record: dict[str, object], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Fields that a record lacks, each with the field that was probably meant for it."""
    plain = {
        name: _PUNCTUATION.sub("", name[:_NAMED]).lower()
        for name, value in list(record.items())[:_LOOKED_AT]
        if isinstance(value, (str, int, float)) and name not in names
    }
    aliases = _ALIASES
    if names[0] == "item_id":  # an event's own id is another one
        aliases = aliases | {"item_id": aliases["item_id"] | {"id"}}
    for field in names:
        if record.get(field) is None:
            own = _PUNCTUATION.sub("", field)
            same = [name for name, other in plain.items() if other == own]
            close = same or [name for name, other in plain.items() if other in aliases[field]]
            if close:
                del plain[close[0]]
                yield field, close[0]


_PUNCTUATION: Final = re.compile("[^0-9A-Za-z]")


def _shown(name: str) -> str:
    return repr(name if len(name) <= _NAMED else name[:_NAMED] + "...")
