"""An encoder behind two caches: vectors in memory, then on disk, then the model."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np

from recstream.encoders import open_encoder
from recstream.encoders.base import Encoder, EncoderSpec, UnencodableError, VectorCache
from recstream.encoders.disk_cache import LmdbVectorCache
from recstream.metrics.base import Meters
from recstream.records.arrays import Matrix

__all__ = ["CacheStats", "CachedEncoder", "open_cached_encoder"]

LONG_TEXT = 96
"""Longer texts are remembered by digest, so that memory does not depend on how long texts are."""


@dataclass(frozen=True)
class CacheStats:
    """Counts since the encoder was made: requested = lru_hits + disk_hits + encoded + repeats."""

    requested: int = 0
    """Texts asked for."""
    lru_hits: int = 0
    """Texts found in memory."""
    disk_hits: int = 0
    """Distinct texts of a batch found on disk."""
    encoded: int = 0
    """Distinct texts of a batch given to the model, those that it could not encode among them."""
    repeats: int = 0
    """Texts answered by the same text earlier in the batch, not in memory before."""
    evictions: int = 0
    """Vectors dropped from memory to make room."""
    encode_seconds: float = 0.0
    """Time inside the model."""


class CachedEncoder:
    """An encoder that encodes each distinct text once, as far as memory reaches.

    A text that cannot be encoded is remembered nowhere, the others of its batch are.
    ``source`` is an encoder, or a function that opens one at the first need of it. Memory holds
    ``lru_size`` vectors; ``cache`` is optional. Returned rows are copies: writing to them is harmless.
    Safe to call from several threads. Closing closes the encoder and the cache. With ``meters`` hits and
    encoding time show in the metrics.

    >>> from recstream.config import Settings
    >>> from recstream.runtime.wiring import encoder_spec
    >>> spec = encoder_spec(Settings.load(None, {}, {"encoder.backend": "hashing"}))
    >>> encoder = CachedEncoder(open_encoder(spec), None, 100)
    >>> rows = encoder.encode(["jazz", "tax law", "jazz"])
    >>> rows = encoder.encode(["jazz"])
    >>> encoder.stats().encoded, encoder.stats().lru_hits, encoder.stats().repeats
    (2, 1, 1)
    """

    def __init__(
        self,
        source: Encoder | Callable[[], Encoder],
        cache: VectorCache | None,
        lru_size: int,
        meters: Meters | None = None,
    ) -> None:
        self._source = source
        self._encoder: Encoder | None = None
        self._cache = cache
        self._meters = meters
        self._size = max(0, lru_size)
        self._slots: OrderedDict[str | bytes, int] = OrderedDict()
        self._slab: Matrix | None = None  # (lru_size, dim): its memory is taken up as rows are written
        self._stats = CacheStats()
        self._lock = Lock()

    @property
    def identity(self) -> str:
        """The encoder's own."""
        return self._opened().identity

    @property
    def label(self) -> str:
        """The encoder's own."""
        return self._opened().label

    @property
    def dim(self) -> int:
        """The encoder's own."""
        return self._opened().dim

    def stats(self) -> CacheStats:
        """The counts so far."""
        return self._stats

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Rows in the order of the texts, from memory, disk or model.

        Raises:
            UnencodableError: some texts cannot be encoded; the others are there, and remembered.
        """
        keys = [_key(text) for text in texts]
        out, missed = self._recall(keys)
        if not missed:
            return out
        places = [rows[0] for rows in missed.values()]
        wanted = [texts[row] for row in places]
        disk = [None] * len(wanted) if self._cache is None else self._cache.get_many(wanted)
        for row, vector in zip(places, disk, strict=True):
            if vector is not None:
                out[row] = vector
        unknown = [place for place, vector in enumerate(disk) if vector is None]
        seconds = 0.0
        failed: dict[int, str] = {}
        if unknown:
            started = time.perf_counter()
            try:
                vectors = self._opened().encode([wanted[place] for place in unknown])
            except UnencodableError as error:
                vectors = error.vectors
                failed = {places[unknown[at]]: reason for at, reason in error.why.items()}
            seconds = time.perf_counter() - started
            out[[places[place] for place in unknown]] = vectors
            good = [at for at, place in enumerate(unknown) if places[place] not in failed]
            if self._cache is not None and good:
                self._cache.put_many([wanted[unknown[at]] for at in good], vectors[good])
        repeats = 0
        for rows in missed.values():
            if len(rows) > 1:
                out[rows[1:]] = out[rows[0]]
                repeats += len(rows) - 1
        known = {key: rows[0] for key, rows in missed.items() if rows[0] not in failed}
        self._remember(list(known), out, list(known.values()))
        self._count(
            disk_hits=len(wanted) - len(unknown), encoded=len(unknown), repeats=repeats, seconds=seconds
        )
        if failed:
            raise UnencodableError(
                {row: failed[rows[0]] for rows in missed.values() if rows[0] in failed for row in rows}, out
            )
        return out

    def warm_up(self) -> None:
        """Have the encoder itself do something, past the caches, so that it is loaded."""
        self._opened().encode(["warm"])

    def close(self) -> None:
        """Close encoder and cache and forget what is in memory."""
        with self._lock:
            self._slots.clear()
            self._slab = None
        if self._encoder is not None or not callable(self._source):
            self._opened().close()
        if self._cache is not None:
            self._cache.close()

    def _opened(self) -> Encoder:
        with self._lock:
            if self._encoder is None:
                self._encoder = self._source() if callable(self._source) else self._source
            return self._encoder

    def _recall(self, keys: Sequence[str | bytes]) -> tuple[Matrix, dict[str | bytes, list[int]]]:
        """Rows known in memory, filled in; and the rows of each other key, in order of first appearance."""
        dim = self.dim
        with self._lock:
            slots = [self._slots.get(key, -1) for key in keys]
            if self._slab is None:
                self._slab = np.empty((self._size, dim), np.float32)
            missed: dict[str | bytes, list[int]] = {}
            if -1 not in slots:
                out: Matrix = self._slab.take(slots, axis=0) if slots else np.empty((0, dim), np.float32)
                for key in keys:
                    self._slots.move_to_end(key)
            else:
                out = np.empty((len(keys), dim), np.float32)
                known = [row for row, slot in enumerate(slots) if slot >= 0]
                out[known] = self._slab[[slots[row] for row in known]]
                for row, (key, slot) in enumerate(zip(keys, slots, strict=True)):
                    if slot >= 0:
                        self._slots.move_to_end(key)
                    else:
                        missed.setdefault(key, []).append(row)
        hits = len(keys) - sum(map(len, missed.values()))
        self._count(requested=len(keys), lru_hits=hits)
        return out, missed

    def _remember(self, keys: Sequence[str | bytes], out: Matrix, places: Sequence[int]) -> None:
        """Put the vectors into memory, the oldest making room; of a batch too large its end is kept."""
        if self._size == 0:
            return
        dropped = 0
        fresh: dict[int, int] = {}
        with self._lock:
            if self._slab is None:  # closed meanwhile
                return
            for key, place in list(zip(keys, places, strict=True))[-self._size :]:
                if key in self._slots:  # another thread was faster
                    continue
                if len(self._slots) >= self._size:
                    slot = self._slots.popitem(last=False)[1]
                    dropped += 1
                else:
                    slot = len(self._slots)
                self._slots[key] = slot
                fresh[slot] = place
            self._slab[list(fresh)] = out[list(fresh.values())]
        self._count(evictions=dropped)

    def _count(
        self,
        *,
        requested: int = 0,
        lru_hits: int = 0,
        disk_hits: int = 0,
        encoded: int = 0,
        repeats: int = 0,
        evictions: int = 0,
        seconds: float = 0.0,
    ) -> None:
        with self._lock:
            old = self._stats
            self._stats = CacheStats(
                old.requested + requested,
                old.lru_hits + lru_hits,
                old.disk_hits + disk_hits,
                old.encoded + encoded,
                old.repeats + repeats,
                old.evictions + evictions,
                old.encode_seconds + seconds,
            )
        if self._meters is None:
            return
        for outcome, amount in (("lru", lru_hits + repeats), ("disk", disk_hits), ("encoded", encoded)):
            if amount:
                self._meters.add("encoder_texts", amount, outcome=outcome)
        if encoded:
            self._meters.observe("encode_seconds", seconds)


def _key(text: str) -> str | bytes:
    """The text itself, or the digest of a long one.

    >>> _key("jazz"), len(_key("jazz" * 1000))
    ('jazz', 16)
    """
    if len(text) <= LONG_TEXT:
        return text
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def open_cached_encoder(
    spec: EncoderSpec, folder: Path | None, *, max_mb: int, lru_size: int, meters: Meters | None = None
) -> CachedEncoder:
    """Open the encoder of ``spec`` behind both caches; no folder means none on disk.

    Raises:
        EncoderError: as for :func:`~recstream.encoders.open_encoder`.
    """
    encoder = open_encoder(spec)
    cache = None if folder is None else LmdbVectorCache(folder, encoder.identity, encoder.dim, max_mb=max_mb)
    return CachedEncoder(encoder, cache, lru_size, meters)
