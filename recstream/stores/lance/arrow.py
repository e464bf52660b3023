"""Rows of the ports to Arrow tables and back: column by column, one buffer for all vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recstream.items.codec import ItemRow, StatisticsRow
from recstream.records.arrays import Matrix, Vector
from recstream.stores.base import ModelRow
from recstream.users.codec import UserRow

__all__ = [
    "item_rows",
    "item_schema",
    "items_table",
    "matrix_of",
    "model_rows",
    "model_schema",
    "models_table",
    "statistics_rows",
    "statistics_schema",
    "statistics_table",
    "user_rows",
    "user_schema",
    "users_table",
]

_PRIMARY = {"lance-schema:unenforced-primary-key": "true"}
"""Lets lance see that two processes insert one key at once; it does not reject doubles by itself."""


def _key(name: str) -> Any:
    return pa.field(name, pa.string(), nullable=False, metadata=_PRIMARY)


def user_schema(dim: int) -> Any:
    """Columns of the ``users`` table."""
    return pa.schema(
        [
            _key("user_id"),
            pa.field("shard", pa.int32()),
            pa.field("version", pa.int64()),
            pa.field("events", pa.int64()),
            pa.field("updated_at", pa.float64()),
            pa.field("vector", pa.list_(pa.float32(), dim)),
            pa.field("state", pa.large_binary()),
            pa.field("unfinished", pa.int32()),
        ]
    )


def item_schema(dim: int) -> Any:
    """Columns of the ``items`` table."""
    return pa.schema(
        [
            _key("item_id"),
            pa.field("title", pa.string()),
            pa.field("categories", pa.list_(pa.string())),
            pa.field("tags", pa.list_(pa.string())),
            pa.field("published_at", pa.float64()),
            pa.field("available", pa.bool_()),
            pa.field("deleted", pa.bool_()),
            pa.field("text_hash", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dim)),
            pa.field("seq", pa.int64()),
            pa.field("terms", pa.binary(), nullable=False),
        ]
    )


def statistics_schema() -> Any:
    """Columns of the ``statistics`` table."""
    return pa.schema(
        [
            _key("item_id"),
            pa.field("shard", pa.int32()),
            pa.field("seq", pa.int64()),
            pa.field("tick", pa.float64()),
            pa.field("counts", pa.list_(pa.float64())),
            pa.field("state", pa.large_binary()),
        ]
    )


def model_schema() -> Any:
    """Columns of the ``models`` table."""
    return pa.schema([_key("name"), pa.field("seq", pa.int64()), pa.field("state", pa.large_binary())])


def _vectors(vectors: Sequence[Vector], dim: int) -> Any:
    matrix = np.asarray(vectors, dtype=np.float32)
    if matrix.shape != (len(vectors), dim):
        msg = f"vectors have shape {matrix.shape}, this store holds {(len(vectors), dim)}"
        raise ValueError(msg)
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise ValueError(f"vector of row {row} holds NaN or infinity")
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), dim)


def matrix_of(column: Any, dim: int) -> Matrix:
    """A vector column as one read-only matrix, without a copy when it lies in one chunk."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    if not chunks:
        return np.empty((0, dim), np.float32)
    chunk = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    values: Matrix = chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dim)
    return values


def _build(columns: Sequence[Any], schema: Any) -> Any:
    try:
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        msg = f"half a surrogate pair ({half!r}) is no text: UTF-8 cannot hold it"
        raise ValueError(msg) from error
    return pa.Table.from_arrays(arrays, schema=schema)


def users_table(rows: Sequence[UserRow], schema: Any) -> Any:
    """Rows as one Arrow table, columns in the schema's order.

    Raises:
        ValueError: a vector of another length or not finite; an id that UTF-8 cannot hold.
    """
    ids, shards, versions, events, updated, vectors, states, unfinished = zip(*rows, strict=True)
    packed = _vectors(vectors, schema.field("vector").type.list_size)
    return _build([ids, shards, versions, events, updated, packed, states, unfinished], schema)


def user_rows(table: Any, dim: int) -> list[UserRow]:
    """Rows of an Arrow table. Vectors are read-only views of one buffer: copy what you keep long."""
    plain = [table[name].to_pylist() for name in ("user_id", "shard", "version", "events", "updated_at")]
    vectors = matrix_of(table["vector"], dim)
    states, unfinished = table["state"].to_pylist(), table["unfinished"].to_pylist()
    return [UserRow(*row) for row in zip(*plain, vectors, states, unfinished, strict=True)]


def items_table(rows: Sequence[ItemRow], schema: Any) -> Any:
    """As :func:`users_table`, for items."""
    columns: list[Any] = list(zip(*rows, strict=True))
    place = schema.get_field_index("vector")
    columns[place] = _vectors(columns[place], schema.field("vector").type.list_size)
    return _build(columns, schema)


def item_rows(table: Any, dim: int) -> list[ItemRow]:
    """As :func:`user_rows`, for items."""
    columns = {name: table[name].to_pylist() for name in ItemRow._fields if name != "vector"}
    columns["categories"] = [tuple(words) for words in columns["categories"]]
    columns["tags"] = [tuple(words) for words in columns["tags"]]
    columns["vector"] = matrix_of(table["vector"], dim)
    return [ItemRow(*row) for row in zip(*(columns[name] for name in ItemRow._fields), strict=True)]


def statistics_table(rows: Sequence[StatisticsRow], schema: Any) -> Any:
    """As :func:`users_table`, for statistics."""
    return _build(list(zip(*rows, strict=True)), schema)


def statistics_rows(table: Any) -> list[StatisticsRow]:
    """As :func:`user_rows`, for statistics."""
    columns = {name: table[name].to_pylist() for name in StatisticsRow._fields}
    columns["counts"] = [tuple(counts) for counts in columns["counts"]]
    return [
        StatisticsRow(*row) for row in zip(*(columns[name] for name in StatisticsRow._fields), strict=True)
    ]


def models_table(rows: Sequence[ModelRow], schema: Any) -> Any:
    """As :func:`users_table`, for models."""
    return _build(list(zip(*rows, strict=True)), schema)


def model_rows(table: Any) -> list[ModelRow]:
    """As :func:`user_rows`, for models."""
    columns = [table[name].to_pylist() for name in ModelRow._fields]
    return [ModelRow(*row) for row in zip(*columns, strict=True)]
