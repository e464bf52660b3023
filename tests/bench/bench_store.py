"""What the LanceDB store costs, beside plain ``table.add`` and sqlite3 on the same rows.

Run: ``python -m tests.bench.bench_store [--quick]``; prints one JSON line. Times are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from recstream.items.codec import ItemRow
from recstream.runtime.wiring import SCHEMA
from recstream.stores.base import StoreMeta
from recstream.stores.lance import LanceDatabase, Upkeep
from recstream.stores.lance.arrow import user_schema, users_table
from recstream.stores.lance.maintenance import disk_bytes
from recstream.users.codec import UserRow
from tests.support.stores import open_lance

DIM = 384
STATE = 4096
BATCH = 10_000
MANUAL = Upkeep(every_s=0, keep_s=0, look_s=0, rest=0, index_from=1)
PLAIN = Upkeep(every_s=0, keep_s=0, look_s=0, rest=0, index_from=10**12)
POOL = np.random.default_rng(0).standard_normal((BATCH, DIM)).astype(np.float32)
NOISE = np.random.default_rng(1).bytes(STATE + BATCH)


def user_rows(numbers: list[int], version: int) -> list[UserRow]:
    """Rows whose vectors and states do not compress."""
    return [
        UserRow(f"user-{n}", n % 32, version, version, 1.7e9, POOL[n % BATCH], NOISE[n % BATCH :][:STATE])
        for n in numbers
    ]


def median_ms(step: Callable[[int], Any], repeats: int) -> float:
    """Median time of a step, which is told how often it ran before."""
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e3, 3)


def rate(rows: int, ms: float) -> int:
    """Rows a second."""
    return round(rows / ms * 1e3)


class Sqlite:
    """The reference store: one table, WAL, the same columns."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path)
        self.db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE users (user_id TEXT PRIMARY KEY, shard INT, version INT, events INT,"
            " updated_at REAL, vector BLOB, state BLOB)"
        )

    def upsert(self, rows: list[UserRow]) -> None:
        """Replace the rows in one transaction."""
        packed = [(*row[:5], row.vector.tobytes(), row.state) for row in rows]
        with self.db:
            self.db.executemany("INSERT OR REPLACE INTO users VALUES (?,?,?,?,?,?,?)", packed)

    def fetch(self, ids: list[str]) -> dict[str, UserRow]:
        """Rows by id."""
        marks = ",".join("?" * len(ids))
        found = self.db.execute(f"SELECT * FROM users WHERE user_id IN ({marks})", ids)  # noqa: S608 -- marks only
        rows = (
            UserRow(key, shard, version, events, at, np.frombuffer(vector, np.float32), state)
            for key, shard, version, events, at, vector, state in found
        )
        return {row.user_id: row for row in rows}


def upserts(store: Any, users: int, repeats: int) -> dict[str, dict[str, int]]:
    """Rows a second for users already stored (random ones) and for new ones."""
    random = np.random.default_rng(2)
    result: dict[str, dict[str, int]] = {}
    for size in (1_000, BATCH):
        known = [user_rows(random.choice(users, size, replace=False).tolist(), 2) for _ in range(repeats)]
        fresh = [user_rows(list(range(10**9 + k * size, 10**9 + (k + 1) * size)), 1) for k in range(repeats)]
        result[str(size)] = {
            "replace": rate(size, median_ms(lambda k, rows=known: store.upsert(rows[k]), repeats)),  # type: ignore[misc]  # mypy cannot infer a lambda's default
            "insert": rate(size, median_ms(lambda k, rows=fresh: store.upsert(rows[k]), repeats)),  # type: ignore[misc]  # as above
        }
    return result


def fetches(fetch: Callable[[list[str]], dict[str, UserRow]], users: int, repeats: int) -> dict[str, float]:
    """Milliseconds to fetch 1 and 1,000 random users."""
    random = np.random.default_rng(3)
    result = {}
    for size in (1, 1_000):
        asked = [[f"user-{n}" for n in random.choice(users, size, replace=False)] for _ in range(repeats)]
        fetch(asked[0])
        result[str(size)] = median_ms(lambda k, ids=asked: fetch(ids[k]), repeats)  # type: ignore[misc]  # as above
    return result


def changes(database: LanceDatabase, items: int, repeats: int) -> dict[str, float]:
    """What a catalogue replica asks for."""
    rows = [
        ItemRow(f"i{n}", "a title", ("c",), ("t",), 1.7e9, True, False, "hash", POOL[n % BATCH], n)
        for n in range(items)
    ]
    for first in range(0, items, BATCH):
        database.items.upsert(rows[first : first + BATCH])
    database.items.maintain()
    return {
        "version_ms": median_ms(lambda _: database.items.version(), 50),
        "changed_since_all_ms": median_ms(lambda _: database.items.changed_since(-1), repeats),
        "changed_since_100_ms": median_ms(lambda _: database.items.changed_since(items - 101), repeats),
        "changed_since_none_ms": median_ms(lambda _: database.items.changed_since(items), repeats),
    }


def measure(folder: Path, *, users: int, repeats: int) -> dict[str, Any]:
    """All figures of one run."""
    meta = StoreMeta(SCHEMA, "bench", DIM, 32, "{}")
    database = open_lance(folder / "store", meta, upkeep=PLAIN)
    sqlite = Sqlite(folder / "users.db")
    for first in range(0, users, BATCH):
        rows = user_rows(list(range(first, first + BATCH)), 1)
        database.users.upsert(rows)
        sqlite.upsert(rows)
    result: dict[str, Any] = {"fetch_ms": {}, "upsert_rows_per_s": {}}
    for label, upkeep in (("plain", PLAIN), ("indexed", MANUAL)):
        store = open_lance(folder / "store", meta, upkeep=upkeep).users
        store.maintain()
        result["fetch_ms"][label] = fetches(store.fetch, users, 3 * repeats)
        result["upsert_rows_per_s"][label] = upserts(store, users, repeats)
    store.upsert(user_rows(list(range(0, users, 7)), 3))
    start = time.perf_counter()
    store.maintain()
    result["maintain_s"] = round(time.perf_counter() - start, 3)
    store.maintain()
    store.maintain()
    result["disk_over_raw"] = round(
        disk_bytes(folder / "store" / "users.lance") / (store.count() * (STATE + 4 * DIM)), 2
    )
    result["fetch_ms"]["sqlite"] = fetches(sqlite.fetch, users, 3 * repeats)
    result["upsert_rows_per_s"]["sqlite"] = upserts(sqlite, users, repeats)
    rows = user_rows(list(range(BATCH)), 1)
    schema = user_schema(DIM)
    result["to_arrow_rows_per_s"] = rate(BATCH, median_ms(lambda _: users_table(rows, schema), repeats))
    packed = users_table(rows, schema)
    table = lancedb.connect(str(folder / "plain")).create_table("users", schema=schema)
    result["plain_add_rows_per_s"] = rate(BATCH, median_ms(lambda _: table.add(packed), repeats))
    return result | changes(database, users, repeats)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 k users instead of 100 k, fewer repeats")
    quick = parser.parse_args().quick
    users, repeats = (10_000, 3) if quick else (100_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), users=users, repeats=repeats)
    about = {
        "bench": "store",
        "users": users,
        "dim": DIM,
        "state_bytes": STATE,
        "repeats": repeats,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "lancedb": lancedb.__version__,
        "pyarrow": pa.__version__,
        "sqlite": sqlite3.sqlite_version,
    }
    print(json.dumps(about | figures))


if __name__ == "__main__":
    main()
