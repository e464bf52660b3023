"""Rows of a Parquet file as JSON records."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from recstream.connectors.files.formats import unreadable

__all__ = ["RowReader"]


class RowReader:
    """Rows as JSON objects without their nulls; times are RFC 3339 in UTC, to the microsecond."""

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

        maps = [f.name for f in self._schema if pa.types.is_map(f.type)]
        for batch in self._file.iter_batches(batch_size=1024, row_groups=list(groups)) if groups else ():
            dropped = min(self._skip, len(batch))
            self._skip -= dropped
            table = pa.Table.from_batches([batch.slice(dropped)]).cast(self._schema, safe=False)
            for row in table.to_pylist():
                for name in maps:
                    row[name] = None if row[name] is None else dict(row[name])
                yield orjson.dumps(_without_nulls(row), default=_plain, option=orjson.OPT_NON_STR_KEYS)

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
    """Give the schema with times in UTC microseconds: plain Python has no finer ones."""
    import pyarrow as pa

    return pa.schema([pa.field(f.name, _micros(f.type)) for f in schema])


def _micros(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC")
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _micros(f.type)) for f in kind])
    if pa.types.is_list(kind):
        return pa.list_(_micros(kind.value_type))
    return kind


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
