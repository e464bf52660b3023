"""An encoder whose cache hits and encoding time show in the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from recstream.encoders.cached import CachedEncoder, CacheStats
from recstream.metrics.base import Meters
from recstream.records.arrays import Matrix

__all__ = ["MeteredEncoder"]


class MeteredEncoder:
    """A `CachedEncoder` that reports what each call added to its statistics."""

    def __init__(self, inner: CachedEncoder, meters: Meters) -> None:
        self._inner = inner
        self._meters = meters
        self._reported = CacheStats()
        self._lock = Lock()

    @property
    def identity(self) -> str:
        """The encoder's own."""
        return self._inner.identity

    @property
    def label(self) -> str:
        """The encoder's own."""
        return self._inner.label

    @property
    def dim(self) -> int:
        """The encoder's own."""
        return self._inner.dim

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Encode the texts, in their order.

        Raises:
            UnencodableError: some texts cannot be encoded.
        """
        try:
            return self._inner.encode(texts)
        finally:
            self._report()

    def warm_up(self) -> None:
        """Have the encoder itself do something, past the caches, so that it is loaded."""
        self._inner.warm_up()

    def close(self) -> None:
        """Close what is inside."""
        self._inner.close()

    def _report(self) -> None:
        with self._lock:
            stats, before = self._inner.stats(), self._reported
            self._reported = stats
        for outcome, amount in (
            ("lru", stats.lru_hits - before.lru_hits + stats.repeats - before.repeats),
            ("disk", stats.disk_hits - before.disk_hits),
            ("encoded", stats.encoded - before.encoded),
        ):
            if amount:
                self._meters.add("encoder_texts", amount, outcome=outcome)
        if stats.encoded > before.encoded:
            self._meters.observe("encode_seconds", stats.encode_seconds - before.encode_seconds)
