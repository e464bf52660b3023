"""Inspection of one user in a store: the state, and the list made from it."""

from __future__ import annotations

from typing import Any

import orjson

from recstream.dataflow.worker import Worker
from recstream.ranking.query import query_of
from recstream.records.event import Event
from recstream.records.transport import Partition
from recstream.runtime.wiring import Wiring
from recstream.users.codec import user_state_of
from recstream.users.sessions import NO_ITEM, sessions_of
from recstream.users.state import UserState

__all__ = ["inspect_user"]


def inspect_user(wiring: Wiring, user_id: str, *, search: str | None, now: float) -> dict[str, Any] | None:
    """State, sessions and list of a user, as plain JSON; None when the user is not in the store.

    With ``search``, also the list after that search, made by the code of the live job. Nothing is written.
    While a job runs, the state is that of the last epoch that it has committed.
    """
    row = wiring.database.users.fetch([user_id]).get(user_id)
    if row is None:
        return None
    worker = Worker(wiring.services(), wiring.rules())
    catalogue = worker.replica.catalogue
    user_state = user_state_of(row, catalogue)
    ids = catalogue.ids
    sessions = sessions_of(user_state.recent, worker.rules.session_gap_s)
    found: dict[str, Any] = {
        "user_id": user_id,
        "version": user_state.version,
        "seen": len(user_state.seen),
        "hidden": len(user_state.hidden),
        "waiting": len(user_state.waiting),
        "fence": user_state.offset_ranges,
        "sessions": [
            {
                "start": session.start,
                "end": session.end,
                "events": session.events,
                "actions": session.actions,
                "items": [ids[item] for item in session.items],
            }
            for session in sessions
        ],
        "recent": [
            {
                "ts": entry.ts,
                "action": entry.action,
                "item_id": None if entry.item == NO_ITEM else ids[entry.item],
                "weight": entry.weight,
            }
            for entry in reversed(user_state.recent)
        ],
        "list": _list_of(worker, user_state, now),
        "search": search,
        "after_search": None,
    }
    if search is not None:
        event = Event(
            user_id=user_id,
            ts=max(now, user_state.recent[-1].ts if user_state.recent else now),
            action="search",
            item_id=None,
            text=search,
            rating=None,
            event_id=None,
            item=None,
            rec=None,
            partition=Partition("what-if", "what-if"),
            offset=0,
            raw=b"",
            vector=worker.encoder.encode([search])[0],
        )
        user_state.observe(event, catalogue, worker.rules.user_state, now)
        found["after_search"] = _list_of(worker, user_state, now)
    items = [item for key in ("list", "after_search") if found[key] for item in found[key]["items"]]
    listed = {item["item_id"] for item in items} | {cause for item in items for cause in item["because"]}
    listed |= {entry["item_id"] for entry in found["recent"] if entry["item_id"]}
    found["titles"] = {i: catalogue.titles[catalogue.intern(i)] for i in sorted(listed)}
    return found


def _list_of(worker: Worker, user_state: UserState, now: float) -> Any:
    if user_state.as_of is None:
        return {"user_id": user_state.user_id, "version": 0, "trigger": "event", "as_of": {}, "items": []}
    (listed,) = worker.rank([query_of(user_state, user_state.as_of, "event", now)])
    return orjson.loads(listed.value)
