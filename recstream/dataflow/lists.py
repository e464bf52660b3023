"""Lists as they leave: catalogue handles become ids, and the record is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recstream.items.catalogue import Catalogue
from recstream.ranking.query import Query
from recstream.ranking.recommender import RankedItem
from recstream.records.recommendation import encode_recommendation, recommendation_message
from recstream.records.transport import Message

__all__ = ["EncodedList"]


class EncodedList(NamedTuple):
    """One user's list, encoded."""

    user_id: str
    version: int
    value: bytes

    @classmethod
    def of(
        cls, query: Query, ranked: Sequence[RankedItem], catalogue: Catalogue, encoder: str, now: float
    ) -> EncodedList:
        """Encode a ranked list; ``now`` (Unix seconds) becomes ``generated_at``."""
        ids = catalogue.ids
        value = encode_recommendation(
            [
                (ids[item], score, signals, [ids[cause] for cause in because])
                for item, score, signals, because in ranked
            ],
            user_id=query.user_id,
            version=query.version,
            generated_at=now,
            as_of=query.as_of,
            trigger=query.trigger,
            encoder=encoder,
            catalogue=catalogue.version,
        )
        return cls(query.user_id, query.version, value)

    def message(self) -> Message:
        """The list as a message keyed by its user."""
        return recommendation_message(self.user_id, self.version, self.value)
