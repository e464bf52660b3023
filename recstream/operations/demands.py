"""What a job of given settings asks of the places that it reads and writes."""

from __future__ import annotations

from typing import Final

from recstream.config import Settings
from recstream.connectors.base import Demands
from recstream.ranking.explain import MOST_NAMED
from recstream.ranking.recommender import MOST_CAUSES
from recstream.ranking.signals.table import SIGNALS
from recstream.records.actions import MAX_ID_BYTES
from recstream.records.recommendation import ListedItem, encode_recommendation

__all__ = ["demands_of", "largest_list_bytes"]

_FEWEST_PARTITIONS: Final = 4


def demands_of(settings: Settings) -> Demands:
    """Give the demands of the live job."""
    top_n = settings.ranking.top_n
    why = f"a list of ranking.top_n = {top_n} items, each with ids of {MAX_ID_BYTES} bytes"
    lists = next(name for name, address in settings.live_settings().items() if address == settings.live.lists)
    return Demands(
        partitions=max(settings.run.processes, _FEWEST_PARTITIONS),
        processes=settings.run.processes,
        record_bytes={lists: (largest_list_bytes(top_n), why)},
    )


def largest_list_bytes(top_n: int) -> int:
    """Bytes of the largest record of a list: every id as long as ids may be, every number with all digits.

    >>> 35_000 < largest_list_bytes(20) < 50_000
    True
    """
    longest = "x" * MAX_ID_BYTES
    names = sorted(SIGNALS, key=len)[-MOST_NAMED:]
    signals = dict.fromkeys([*names, "other"], -123.45678901234567)
    item: ListedItem = (longest, -123.456789, signals, [longest] * MOST_CAUSES)
    record = encode_recommendation(
        [item] * top_n,
        user_id=longest,
        generation=10**13,
        version=10**12,
        generated_at=1e10 + 0.123456,
        as_of=(1e10 + 0.123456, longest, 10**15),
        trigger="request",
        encoder=longest,
        catalogue=10**12,
    )
    return len(record)
