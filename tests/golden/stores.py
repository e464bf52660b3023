"""Unpacks the stores of older releases."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path
from typing import Final

import lancedb
import pyarrow as pa

__all__ = ["FIRST", "LATE", "SETTINGS", "contents", "replace_identities", "unpacked"]

SETTINGS: Final = {
    "RECSTREAM_ENCODER__BACKEND": "hashing",
    "RECSTREAM_ENCODER__DIM": "8",
    "RECSTREAM_CACHE__ENABLED": "false",
    "RECSTREAM_STORE__SHARDS": "4",
    "RECSTREAM_RUN__METRICS_PORT": "0",
}
"""What the stores were made with."""
FIRST: Final = 60
"""Events of the log that both stores have absorbed."""
LATE: Final = 8
"""Those of them that wait for their item in the live store, and were rejected by the backfill."""


def unpacked(folder: Path, layout: int = 1) -> Path:
    """The folder with the stores ``backfill`` and ``live``, and the files they were made of."""
    with tarfile.open(Path(__file__).with_name(f"store_v{layout}.tar.gz")) as archive:
        archive.extractall(folder, filter="data")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace_identities(store: Path, known: dict[bytes, bytes]) -> None:
    """Let a store take topics for those it read: other identities of the same length."""
    positions = sqlite3.connect(store / "positions" / "recommend" / "part-0.sqlite3")
    users = lancedb.connect(str(store)).open_table("users")
    rows = users.to_arrow()
    states = rows["state"].to_pylist()
    snapshots = positions.execute("SELECT rowid, ser_change FROM snaps").fetchall()
    for old, new in known.items():
        assert len(old) == len(new)
        assert any(old in raw for _, raw in snapshots)
        states = [state.replace(old, new) for state in states]
        snapshots = [(row, raw.replace(old, new)) for row, raw in snapshots]
    positions.executemany("UPDATE snaps SET ser_change = ? WHERE rowid = ?", [(r, n) for n, r in snapshots])
    positions.commit()
    positions.close()
    place = rows.schema.get_field_index("state")
    changed = rows.set_column(place, rows.schema.field("state"), pa.array(states, pa.large_binary()))
    users.merge_insert("user_id").when_matched_update_all().execute(changed)
