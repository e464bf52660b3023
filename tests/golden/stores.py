"""Unpacks the stores of older releases."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Final

__all__ = ["FIRST", "LATE", "SETTINGS", "contents", "unpacked"]

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
