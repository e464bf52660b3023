"""Looking into a store without disturbing it: one user's state, and the list that follows from it."""

from __future__ import annotations

from typing import Any

import orjson

from recstream.core.events import Event
from recstream.core.profile import Profile
from recstream.core.recent import NO_ITEM
from recstream.core.sessions import sessions_of
from recstream.core.signals import query_of
from recstream.core.source import Partition
from recstream.engine.rows import profile_of
from recstream.engine.worker import Worker
from recstream.wiring import Wiring

__all__ = ["inspect_user"]


def inspect_user(wiring: Wiring, user_id: str, *, search: str | None, now: float) -> dict[str, Any] | None:
    """What the store knows of a user, as plain JSON; None when it knows nothing.

    With ``search``, also the list as it would be after that search, by the code of the live job;
    nothing is written, but for rows that a job which died has left in its journal.
    """
    row = wiring.database.users.fetch([user_id]).get(user_id)
    if row is None:
        return None
    worker = Worker(wiring.services(), wiring.rules())
    catalogue = worker.replica.catalogue
    profile = profile_of(row, catalogue)
    ids = catalogue.ids
    sessions = sessions_of(profile.recent, worker.rules.session_gap_s)
    seen: dict[str, Any] = {
        "user_id": user_id,
        "version": profile.version,
        "seen": len(profile.seen),
        "hidden": len(profile.hidden),
        "waiting": len(profile.waiting),
        "fence": profile.fence,
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
            for entry in reversed(profile.recent)
        ],
        "list": _list_of(worker, profile, now),
        "search": search,
        "after_search": None,
    }
    if search is not None:
        event = Event(
            user_id=user_id,
            ts=max(now, profile.recent[-1].ts if profile.recent else now),
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
        profile.observe(event, catalogue, worker.rules.profile, now)
        seen["after_search"] = _list_of(worker, profile, now)
    shown = {item["item_id"] for key in ("list", "after_search") if seen[key] for item in seen[key]["items"]}
    shown |= {
        cause
        for key in ("list", "after_search")
        if seen[key]
        for i in seen[key]["items"]
        for cause in i["because"]
    }
    shown |= {entry["item_id"] for entry in seen["recent"] if entry["item_id"]}
    seen["titles"] = {i: catalogue.titles[catalogue.intern(i)] for i in sorted(shown)}
    return seen


def _list_of(worker: Worker, profile: Profile, now: float) -> Any:
    if profile.as_of is None:
        return {"user_id": profile.user_id, "version": 0, "trigger": "event", "as_of": {}, "items": []}
    (listed,) = worker.rank([query_of(profile, profile.as_of, "event", now)])
    return orjson.loads(listed.value)
