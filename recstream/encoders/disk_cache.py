"""Vectors on disk, shared by the processes of a machine: an LMDB file keyed by encoder identity and text."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from zlib import crc32

import lmdb
import numpy as np

from recstream.encoders.lmdb_environment import SharedEnvironment, lease
from recstream.records.arrays import Matrix, Vector

__all__ = ["LmdbVectorCache"]

T = TypeVar("T")
KEY_BYTES = 16
CHECKSUM_BYTES = 4
FILL_LIMIT = 0.8
"""Share of the map in use above which entries are evicted; the rest is room for LMDB's copy-on-write."""
EVICT_SHARE = 0.1
EVICT_STEP = 256
"""Entries dropped in one transaction: a transaction may not outgrow the spare room."""
PUT_STEP = 1024
PUT_SHARE = 0.04
"""Entries written in one transaction, and the share of the map they and the pages they touch may take."""
PAGE_BYTES = 4096

_log = logging.getLogger(__name__)


class LmdbVectorCache:
    """A vector cache in a folder; any number of processes may use it at once.

    Keys are digests of identity and text, so that one folder serves many encoders; each value carries a
    checksum, and one that fails it is a miss. When the map is nearly full, entries are dropped at random.
    The file is opened by the first call, so the object may be sent to another process before that.
    Anything that goes wrong is logged once and makes misses.
    """

    def __init__(self, folder: str | Path, identity: str, dim: int, *, max_mb: int) -> None:
        self._folder = Path(folder)
        self._dim = dim
        self._max_mb = max_mb
        self._identity = identity
        self._warned: set[str] = set()
        self._is_off = False
        self._environment: SharedEnvironment | None = None
        self._lock = Lock()
        self._salt = blake2b(f"{len(identity)}:{identity}".encode(), digest_size=KEY_BYTES)

    def get_many(self, texts: Sequence[str]) -> list[Vector | None]:
        """One vector or None per text, in order. Rows of one call share memory."""
        found: list[Vector | None] | None = None
        with self._guard("read"):
            found = self._with_environment(lambda held: self._read(held, texts))
        return [None] * len(texts) if found is None else found

    def put_many(self, texts: Sequence[str], vectors: Matrix) -> None:
        """Write the vectors, up to a thousand a transaction; skipped when another writer holds on too long.

        Raises:
            ValueError: ``vectors`` is not shaped ``(len(texts), dim)``.
        """
        if vectors.shape != (len(texts), self._dim):
            msg = f"vectors have shape {vectors.shape}, wanted {(len(texts), self._dim)}"
            raise ValueError(msg)
        entries = [
            (key, _checksum(key, value) + value)
            for key, value in (
                (self._key(text), row.tobytes())
                for text, row in zip(texts, np.ascontiguousarray(vectors, "<f4"), strict=True)
            )
        ]
        with self._guard("write"):
            room = int((self._max_mb << 20) * PUT_SHARE) // (4 * self._dim + PAGE_BYTES)
            size = max(1, min(PUT_STEP, room))
            for start in range(0, len(entries), size):
                step = entries[start : start + size]
                self._with_environment(lambda held, step=step: self._write(held, step))  # type: ignore[misc]  # mypy cannot infer a default

    def close(self) -> None:
        """Release the file; the last user in the process closes it."""
        with self._lock:
            held, self._environment, self._is_off = self._environment, None, True
        if held is not None:
            held.release()

    def _key(self, text: str) -> bytes:
        digest = self._salt.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def _with_environment(self, work: Callable[[SharedEnvironment], T]) -> T | None:
        with self._lock:
            if self._is_off:
                return None
            if self._environment is None or not self._environment.is_mine:
                self._environment = lease(self._folder, self._max_mb)
            held = self._environment
        try:
            return work(held)
        except lmdb.MapResizedError:  # another process was given a larger map
            held.adopt_size()
            return work(held)

    def _read(self, held: SharedEnvironment, texts: Sequence[str]) -> list[Vector | None]:
        rows = np.empty((len(texts), self._dim), np.float32)
        found: list[Vector | None] = []
        size = CHECKSUM_BYTES + 4 * self._dim
        damaged = 0
        with held.reading() as txn:
            for row, text in zip(rows, texts, strict=True):
                key = self._key(text)
                value = txn.get(key)
                if value is None:
                    found.append(None)
                elif len(value) == size and _checksum(key, value[CHECKSUM_BYTES:]) == value[:CHECKSUM_BYTES]:
                    row[:] = np.frombuffer(value, "<f4", offset=CHECKSUM_BYTES)
                    found.append(row)
                else:
                    damaged += 1
                    found.append(None)
        if damaged:
            self._warn("damage", f"{damaged} entries failed their checksum and count as misses")
        return found

    def _write(self, held: SharedEnvironment, entries: list[tuple[bytes, bytes]]) -> None:
        if not held.can_write:
            self._warn("write", "the file is read-only; nothing new will be remembered")
            return
        with held.writing() as is_mine:
            if not is_mine:
                self._warn("lock", "another process keeps the write lock; some vectors are not remembered")
                return
            if held.fill() > FILL_LIMIT:
                self._make_room(held)
            try:
                held.put(entries)
            except lmdb.MapFullError:
                self._make_room(held)
                held.put(entries)

    def _make_room(self, held: SharedEnvironment) -> None:
        held.evict(EVICT_SHARE, EVICT_STEP, secrets.token_bytes(KEY_BYTES))

    @contextmanager
    def _guard(self, doing: str) -> Iterator[None]:
        """Turn every fault of the store into one warning; a fault on opening or reading ends its use."""
        try:
            yield
        except (lmdb.MapFullError, lmdb.TxnFullError, lmdb.ReadersFullError) as exc:
            self._warn("full", f"{exc}; set a larger size, or delete the folder")
        except (lmdb.Error, OSError) as exc:
            if doing == "read" or self._environment is None:
                self._is_off = True
            self._warn(doing, f"{exc}; going on without it. Delete the folder if it is damaged")

    def _warn(self, kind: str, problem: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            _log.warning("vector cache folder=%s: %s", self._folder, problem)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self._folder, "identity": self._identity, "dim": self._dim, "max_mb": self._max_mb}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["identity"], state["dim"], max_mb=state["max_mb"])  # type: ignore[misc]  # pickled plain, opened anew


def _checksum(key: bytes, value: bytes | memoryview) -> bytes:
    return crc32(value, crc32(key)).to_bytes(CHECKSUM_BYTES, "little")
