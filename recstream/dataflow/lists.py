"""Lists as they leave: the published record of DESIGN section 2, ready for the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from recstream.items.catalogue import Catalogue
from recstream.ranking.query import Query
from recstream.ranking.recommender import RankedItem
from recstream.records.transport import Message
from recstream.users.sessions import Session

__all__ = ["SCHEMA_VERSION", "EncodedList", "session_message", "tombstone"]

SCHEMA_VERSION: Final = "1"
"""Version of the record's layout, in the header ``recstream-schema``."""


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
        record = {
            "user_id": query.user_id,
            "version": query.version,
            "generated_at": round(now, 6),
            "as_of": {
                "ts": query.as_of.ts,
                "partition": query.as_of.partition,
                "offset": query.as_of.offset,
            },
            "trigger": query.trigger,
            "items": [
                {
                    "item_id": ids[item],
                    "rank": place,
                    "score": round(score, 6),
                    "signals": signals,
                    "because": [ids[cause] for cause in because],
                }
                for place, (item, score, signals, because) in enumerate(ranked, start=1)
            ],
            "model": {"encoder": encoder, "catalogue": catalogue.version},
        }
        return cls(query.user_id, query.version, orjson.dumps(record))

    def message(self) -> Message:
        """The list as a message keyed by its user."""
        headers = (
            ("recstream-version", str(self.version).encode()),
            ("recstream-schema", SCHEMA_VERSION.encode()),
        )
        return Message(self.user_id.encode(), self.value, headers)


def tombstone(user_id: str) -> Message:
    """What follows a ``forget``: a null value under the user's key, so that compaction drops the list."""
    return Message(user_id.encode(), None, (("recstream-schema", SCHEMA_VERSION.encode()),))


def session_message(user_id: str, session: Session, items: list[str]) -> Message:
    """A closed session; its id is the user and its start, so that a repeated announcement is recognisable."""
    record = {
        "user_id": user_id,
        "session_id": f"{user_id}@{session.start:.3f}",
        "start": session.start,
        "end": session.end,
        "events": session.events,
        "actions": session.actions,
        "items": items,
    }
    return Message(user_id.encode(), orjson.dumps(record), (("recstream-schema", SCHEMA_VERSION.encode()),))
