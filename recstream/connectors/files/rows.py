"""Rows of a Parquet file as JSON records."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from recstream.connectors.files.formats import unreadable

__all__ = ["RowReader"]


class RowReader:
    """Rows as JSON objects without their nulls; times are RFC 3339, to the microsecond.

    Times are in UTC, but those of a column without a time zone, which have no offset: whoever needs one
    refuses them. A row with a text that is no UTF-8 is written with these very bytes, which no JSON parser
    takes; a time beyond the calendar is written as its text.
    """

    byte = None
    """A row cannot be entered by a byte."""
    is_ended = True
    """A row is whole."""

    def __init__(self, path: Path, skip: int = 0) -> None:
        import pyarrow.parquet

        self._path = path
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowException as err:
            raise unreadable(path, err) from err
        self.total: int = self._file.metadata.num_rows
        self._schema = _schema(self._file.schema_arrow)
        self._skip, group = skip, 0
        while (
            group < self._file.num_row_groups and self._skip >= self._file.metadata.row_group(group).num_rows
        ):
            self._skip -= self._file.metadata.row_group(group).num_rows
            group += 1
        self.offset = min(skip, self.total)
        """Number of the next row."""
        self._records = self._all(range(group, self._file.num_row_groups))

    def _all(self, groups: range) -> Iterator[bytes]:
        import pyarrow as pa

        maps = frozenset(f.name for f in self._schema if pa.types.is_map(f.type))
        for batch in self._file.iter_batches(batch_size=1024, row_groups=list(groups)) if groups else ():
            dropped = min(self._skip, len(batch))
            self._skip -= dropped
            table = pa.Table.from_batches([batch.slice(dropped)]).cast(self._schema, safe=False)
            try:
                yield from [_json(row, maps) for row in table.to_pylist()]
            except (ValueError, OverflowError, TypeError):  # of one value, so each row is written by itself
                for at in range(len(table)):
                    yield _odd_json(table.slice(at, 1), maps)

    def read(self, n: int) -> list[bytes]:
        """Give the next ``n`` records, fewer only at the end."""
        import pyarrow as pa

        try:
            records = [record for _, record in zip(range(n), self._records, strict=False)]
        except (pa.ArrowException, OSError, TypeError) as err:  # TypeError: a type JSON has no word for
            raise unreadable(self._path, err) from err
        self.offset += len(records)
        return records

    def progress(self) -> float:
        """Share of the file's rows read so far."""
        return self.offset / self.total if self.total else 1.0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _schema(schema: Any) -> Any:
    """Give the schema with times in microseconds, for plain Python has no finer ones, and zones as UTC."""
    import pyarrow as pa

    return pa.schema([pa.field(f.name, _micros(f.type)) for f in schema])


def _micros(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_dictionary(kind):
        return _micros(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _micros(f.type)) for f in kind])
    if pa.types.is_list(kind):
        return pa.list_(_micros(kind.value_type))
    return kind


def _bytes(kind: Any) -> Any:
    """Give the type with bytes in the place of texts."""
    import pyarrow as pa

    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _bytes(f.type)) for f in kind])
    if pa.types.is_list(kind):
        return pa.list_(_bytes(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_bytes(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(_bytes(kind.key_type), _bytes(kind.item_type))
    return kind


def _json(row: dict[str, Any], maps: Collection[str]) -> bytes:
    for name in maps:
        row[name] = None if row[name] is None else dict(row[name])
    return orjson.dumps(_without_nulls(row), default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _odd_json(row: Any, maps: Collection[str]) -> bytes:
    """Write a table of one row, of which a value may be none of Python's or JSON's."""
    values = {name: _value(column) for name, column in zip(row.column_names, row.columns, strict=True)}
    try:
        return _json(dict(values), maps)
    except TypeError:  # orjson's refusal of half of a surrogate pair, and of integers above 64 bits
        for name in maps:
            values[name] = None if values[name] is None else dict(values[name])
        text = json.dumps(_without_nulls(values), ensure_ascii=False, default=_parsed)
        return text.encode("utf-8", "surrogateescape")


def _value(column: Any) -> Any:
    import pyarrow as pa

    try:
        return column.to_pylist()[0]
    except UnicodeDecodeError:
        return _text(column.cast(_bytes(column.type)).to_pylist()[0])
    except (ValueError, OverflowError):  # a year that Python's calendar has not
        return column.cast(pa.string()).to_pylist()[0]


def _text(value: Any) -> Any:
    """Turn bytes into texts, in which those that are no UTF-8 are halves of surrogate pairs."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (list, tuple)):
        return [_text(one) for one in value]
    if isinstance(value, dict):
        return {name: _text(one) for name, one in value.items()}
    return value


def _parsed(value: object) -> object:
    if isinstance(value, Decimal):
        return _plain(value)
    return orjson.loads(orjson.dumps(value, default=_plain))


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    # a float that is not itself is NaN, which is how data frames write a missing number
    kept = {k: v for k, v in row.items() if v is not None and v == v}  # noqa: PLR0124
    return {k: _without_nulls(v) if isinstance(v, dict) else v for k, v in kept.items()}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    msg = f"JSON has no word for a {type(value).__name__}"
    raise TypeError(msg)
