"""De-duplication: the identity of an event, and the ids remembered of a user, so that repeats count once."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from recstream.records.event import Event

__all__ = ["EventIds", "digest_of"]


def digest_of(event: Event) -> int:
    """64-bit identity of an event: of its id, or of its content where it has none.

    The lowest bit is 0. It is 1 in the digest of the event's words among the recent events.
    """
    if event.event_id is not None:
        content = "i" + event.event_id
    else:
        content = f"c{event.ts!r}\0{event.action}\0{event.item_id}\0{event.text}\0{event.rating}"
    digest = int.from_bytes(blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return digest & ~1


class EventIds:
    """Digests of the ids of a user's newest events by event time, 16 bytes each.

    Which are kept does not depend on the order in which they are added.

    >>> ids = EventIds()
    >>> for ts, digest in ((5.0, 55), (3.0, 33), (4.0, 44)):
    ...     ids.add(ts, digest, bound=2)
    >>> list(ids), 44 in ids, 33 in ids
    ([(4.0, 44), (5.0, 55)], True, False)
    """

    __slots__ = ("_digests", "_stamps")

    def __init__(self, ids: Iterable[tuple[float, int]] = ()) -> None:
        pairs = sorted(ids)
        self._stamps = array("d", [ts for ts, _ in pairs])
        self._digests = array("Q", [digest for _, digest in pairs])

    @classmethod
    def from_bytes(cls, stamps: bytes, digests: bytes) -> EventIds:
        """Read what `to_bytes` gave."""
        ids = cls()
        ids._stamps.frombytes(stamps)
        ids._digests.frombytes(digests)
        return ids

    def to_bytes(self) -> tuple[bytes, bytes]:
        """Give event times (float64) and digests (uint64), oldest first."""
        return self._stamps.tobytes(), self._digests.tobytes()

    def __contains__(self, digest: int) -> bool:
        return digest in self._digests

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Event time and digest of each, oldest first."""
        return zip(self._stamps, self._digests, strict=True)

    def __len__(self) -> int:
        return len(self._digests)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventIds) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, ts: float, digest: int, bound: int) -> None:
        """Remember one more id; beyond ``bound`` the oldest is forgotten."""
        at = bisect_left(self._stamps, ts)
        while at < len(self._stamps) and self._stamps[at] == ts and self._digests[at] < digest:
            at += 1
        self._stamps.insert(at, ts)
        self._digests.insert(at, digest)
        if len(self._digests) > bound:
            del self._stamps[0], self._digests[0]
