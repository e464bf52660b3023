"""Checks of single fields, shared by events and items. Each error says how to mend the field."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Final

from recstream.records.actions import MAX_ID_BYTES
from recstream.records.reject import Reason
from recstream.records.text import clean

__all__ = [
    "FLAGS",
    "MAX_SECONDS",
    "FieldError",
    "describe",
    "digits",
    "flag",
    "identifier",
    "missing",
    "publication",
    "text_within",
    "timestamp",
    "too_large",
    "utf8_bytes",
    "whole",
]

MAX_SECONDS: Final = 1e11
"""Greatest numeric timestamp in Unix seconds (the year 5138). Anything above is surely in other units."""
EARLIEST: Final = -62135596800.0
"""Earliest date of publication, 0001-01-01, in Unix seconds."""
_SHOWN: Final = 40
"""Characters of a text that are shown in an error."""
_EXACT: Final = 2.0**53
"""Bound of the whole numbers that a float holds digit by digit."""


class FieldError(Exception):
    """A field is not acceptable. Decoders turn it into a `Reject`."""

    def __init__(self, reason: Reason, field: str, got: str, wanted: str, mend: str) -> None:
        super().__init__(reason, field, got, wanted, mend)
        self.reason: Reason = reason
        self.field = field
        self.detail = f"{field}: got {got}, wanted {wanted}; {mend}"


def describe(value: object) -> str:
    r"""Name a JSON value in a few words, on one line, however large or deep it is.

    >>> describe("a\nb"), describe(True), describe([1, 2]), describe({}), describe(None), describe(1.5)
    ("'a\\nb'", 'true', 'a list of 2', 'an object of 0 fields', 'null', '1.5')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}... ({len(value)} characters)"
    if isinstance(value, int):
        bits = value.bit_length()
        return str(value) if bits <= 128 else f"an integer of {bits} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    return f"a {type(value).__name__}"


def missing(field: str, wanted: str) -> FieldError:
    """Give the error of a record that lacks a field."""
    return FieldError("missing_field", field, "nothing", wanted, f"add {field!r} to the record")


def too_large(field: str, got: int, most: int, unit: str = "bytes") -> FieldError:
    """Give the error of a field beyond its bound."""
    return FieldError("too_large", field, f"{got} {unit}", f"at most {most}", "shorten it at the producer")


def utf8_bytes(text: str) -> int:
    """Length in UTF-8; a lone surrogate counts three bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def whole(value: object) -> int | None:
    """Give a whole number, also one that has become a float on its way; None for anything else.

    Data frames turn a column of integers into floats once a value is missing. Beyond 2**53 a float is no
    longer sure of its last digit.

    >>> whole(17), whole(17.0), whole(17.5), whole(True), whole(1e17)
    (17, 17, None, None, None)
    """
    if type(value) is int:
        return value
    if type(value) is float and abs(value) < _EXACT and value.is_integer():
        return int(value)
    return None


def digits(value: object) -> object:
    """Give a number as text, as `whole` or else as it is written; anything but a number as it is.

    >>> digits(1338), digits(14.0), digits(0.5), digits("14.0"), digits(True)
    ('1338', '14', '0.5', '14.0', True)
    """
    number = whole(value)
    if number is not None:
        return str(number) if abs(number) < 10**MAX_ID_BYTES else value
    return repr(value) if type(value) is float and math.isfinite(value) else value


def identifier(value: object, field: str) -> str:
    """Check an id: a non-empty string of at most 512 bytes; a `whole` number is taken as its digits.

    >>> identifier(17, "user_id"), identifier(17.0, "user_id"), identifier("o'Neil", "user_id")
    ('17', '17', "o'Neil")
    """
    if value is None:
        raise missing(field, "a string")
    number = whole(value)
    if number is not None:
        if abs(number) >= 10**MAX_ID_BYTES:
            raise FieldError(
                "too_large", field, describe(value), f"at most {MAX_ID_BYTES} digits", "send a shorter id"
            )
        return str(number)
    if not isinstance(value, str):
        raise FieldError(
            "bad_type",
            field,
            describe(value),
            "a string or a whole number",
            "as a float it has lost its last digits: send it as it is at its source, an integer or a string"
            if isinstance(value, float) and value.is_integer()
            else "send the id as it is at its source, an integer or a string",
        )
    if not value:
        raise FieldError(
            "bad_value", field, "an empty string", "an id", "leave optional ids out, and fill required ones"
        )
    size = utf8_bytes(value)
    if size > MAX_ID_BYTES:
        raise too_large(field, size, MAX_ID_BYTES)
    if not value.isascii() and not _is_unicode(value):
        raise FieldError(
            "bad_value", field, describe(value), "Unicode text", "send paired surrogates, or none at all"
        )
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_within(value: object, field: str, most_bytes: int) -> str | None:
    """Check and clean an optional text; None when it is absent or nothing legible is left of it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise FieldError("bad_type", field, describe(value), "a string", "send the text in quotes")
    size = utf8_bytes(value)
    if size > most_bytes:
        raise too_large(field, size, most_bytes)
    cleaned = clean(value)
    return cleaned if cleaned else None


FLAGS: Final[dict[str, bool]] = {
    spelling: word in ("true", "yes", "t", "y", "1")
    for word in ("true", "yes", "t", "y", "1", "false", "no", "f", "n", "0")
    for spelling in (word, word.title(), word.upper())
}
"""What databases and spreadsheets write for true and false."""


def flag(value: object, field: str, *, absent: bool) -> bool:
    """Check an optional boolean: a JSON one, 0 or 1, or one of `FLAGS`; a blank text is like none.

    >>> flag("No", "available", absent=True), flag(1, "available", absent=False)
    (False, True)
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return absent
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value in FLAGS:
        return FLAGS[value]
    raise FieldError("bad_type", field, describe(value), "true or false", "send a JSON boolean, unquoted")


_ISO_8601: Final = re.compile(
    r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})"
    r"(?:[Tt ]([0-9]{2})(?:(:?)([0-9]{2})(?:\6([0-9]{2})([.,][0-9]{1,12})?)?)?"
    r"(?: ?([Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?))?(?:\[[!-Z^-~]{1,40}\])?)?"
)
"""Dates and times of ISO 8601, basic or extended, of RFC 3339 and RFC 9557, and as databases write them:
seconds may lack, the zone may stand after a blank, be ``UTC``, or have seconds; its name may follow."""
_WANTED: Final = "Unix seconds or RFC 3339 with an offset"
_EXAMPLE: Final = 'send it like "2024-05-01T12:00:00Z" or 1714564800'
_SCALES: Final = ((1e20, 1e9, "nanoseconds"), (1e17, 1e6, "microseconds"), (1e14, 1e3, "milliseconds"))


def timestamp(value: object, field: str, *, earliest: float = 0.0, dates: bool = False) -> float:
    """Check a time and give it in Unix seconds. With ``dates`` a bare date is accepted as its midnight UTC.

    >>> timestamp("1970-01-02T00:00:00.5+01:00", "ts"), timestamp(3, "ts")
    (82800.5, 3.0)
    >>> timestamp("1970-01-01T01:30Z", "ts"), timestamp("1970-01-01 01:30:00 UTC", "ts")
    (5400.0, 5400.0)
    >>> timestamp("1969-12-31", "published_at", earliest=EARLIEST, dates=True)
    -86400.0
    """
    if value is None:
        raise missing(field, _WANTED)
    if isinstance(value, str):
        seconds = _parsed(value, field, dates=dates)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError("bad_type", field, describe(value), _WANTED, _EXAMPLE)
    else:
        size = abs(value)
        if not size <= MAX_SECONDS:
            raise FieldError("bad_timestamp", field, describe(value), _WANTED, _scale(size))
        seconds = float(value)
    if seconds < earliest:
        since = "1970" if earliest == 0.0 else "year 1"
        raise FieldError("bad_timestamp", field, describe(value), f"a time since {since}", _EXAMPLE)
    return seconds


_PARTIAL: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-00)?)?")


def publication(value: object, field: str) -> float | None:
    """Check a date of publication: as `timestamp` with dates, or one of the partial dates of catalogues.

    Absent, blank and all-zero dates are None. A year, a month, and SQL's dates with zeros for what is not
    known stand for their beginning.

    >>> publication("2001-00-00", "published_at") == publication("2001", "published_at") == 978307200.0
    True
    >>> publication("2001-02", "published_at"), publication(" ", "published_at")
    (980985600.0, None)
    >>> publication("0000-00-00", "published_at") is None
    True
    """
    if value is None or (isinstance(value, str) and (not value.strip() or value.startswith("0000-00"))):
        return None
    if isinstance(value, str):
        partial = _PARTIAL.fullmatch(value)
        if partial is not None:
            month = partial[2] if partial[2] not in (None, "00") else "01"
            value = f"{partial[1]}-{month}-01"
    return timestamp(value, field, earliest=EARLIEST, dates=True)


def _scale(size: int | float) -> str:
    """Say how to mend a number that is too great for seconds."""
    if isinstance(size, float) and not math.isfinite(size):  # isfinite overflows on huge integers
        return "send a finite number"
    name, divisor = "", 0.0
    for bound, factor, unit in _SCALES:
        if size < bound:
            name, divisor = unit, factor
    return f"looks like {name}: divide by {divisor:.0f}" if name else _EXAMPLE


def _parsed(value: str, field: str, *, dates: bool) -> float:
    match = _ISO_8601.fullmatch(value) if len(value) <= 64 else None
    if match is None:
        raise FieldError("bad_timestamp", field, describe(value), _WANTED, _EXAMPLE)
    year, _, month, day, hour, _, minute, second, fraction, offset = match.groups()
    try:
        seconds = (date(int(year), int(month), int(day)).toordinal() - 719163) * 86400.0
    except ValueError:
        raise FieldError("bad_timestamp", field, describe(value), "a day of the calendar", _EXAMPLE) from None
    if hour is None:
        if not dates:
            raise FieldError("bad_timestamp", field, describe(value), _WANTED, "add the time and its offset")
        return seconds
    if offset is None:
        raise FieldError(
            "bad_timestamp",
            field,
            describe(value),
            _WANTED,
            'say which time zone: append "Z" if it is UTC, and give a column of a Parquet file its time zone',
        )
    of_day = _seconds(hour, minute, second, most=60)
    ahead = 0 if offset[0] not in "+-" else _seconds(*re.findall("[0-9]{2}", offset), most=59)
    if of_day is None or ahead is None:
        raise FieldError("bad_timestamp", field, describe(value), "a time of the day", _EXAMPLE)
    seconds += of_day - (-ahead if offset[0] == "-" else ahead)
    return seconds + float(fraction.replace(",", ".")) if fraction else seconds


def _seconds(hour: str, minute: str | None = None, second: str | None = None, *, most: int) -> int | None:
    """Seconds of a time of the day or of an offset; None where there is no such time."""
    h, m, s = int(hour), int(minute or 0), int(second or 0)
    return h * 3600 + m * 60 + s if h <= 23 and m <= 59 and s <= most else None
