"""A store of many users for the benchmarks: rows as the engine writes them, under other ids."""

from __future__ import annotations

import time
from pathlib import Path

import orjson

from recstream.items.catalogue import Catalogue
from recstream.records.decode import decode_events
from recstream.records.transport import shard_of
from recstream.runtime.wiring import Wiring
from recstream.stores.lance.maintenance import Maintenance, Upkeep
from recstream.stores.lance.tables import LanceItemStore, LanceUserStore
from recstream.users.codec import UserRow, user_row
from recstream.users.state import UserState
from tests.bench.graph import settings_of
from tests.bench.world import batches, item_rows, log

TEMPLATES = 200
CHUNK = 20_000


def template_rows(wiring: Wiring, *, items: int, history: int) -> list[UserRow]:
    """Rows of some users after so many events each."""
    rules = wiring.rules()
    catalogue = Catalogue(wiring.encoder.dim)
    for row in item_rows(items):
        catalogue.put(row.item_id, row.vector)
    user_states: dict[str, UserState] = {}
    lines = log(TEMPLATES * history, users=TEMPLATES, items=items, seed=5)
    for batch in batches(lines, "earlier/0"):
        for event in decode_events(batch, rules=rules.user_state.decode, now=time.time(), loads=orjson.loads)[
            0
        ]:
            user_state = user_states.setdefault(event.user_id, UserState(event.user_id))
            user_state.observe(event, catalogue, rules.user_state, 0.0)
    return [user_row(user_state, catalogue, rules.shards) for user_state in user_states.values()]


def populated_store(folder: Path, *, users: int, items: int, history: int = 40) -> int:
    """A store with these items and users, compact; gives the bytes of a user's state.

    One that is there already, from an earlier run, is left as it is.
    """
    wiring = Wiring(settings_of(folder))
    templates = template_rows(wiring, items=items, history=history)
    state_bytes = sum(len(row.state) for row in templates) // len(templates)
    if wiring.database.users.count() == users:
        wiring.close()
        return state_bytes
    wiring.database.items.upsert(item_rows(items))
    shards = wiring.settings.store.shards
    store = wiring.database.users
    for first in range(0, users, CHUNK):
        names = [f"user-{number}" for number in range(first, min(first + CHUNK, users))]
        store.upsert(
            [
                templates[place % len(templates)]._replace(user_id=name, shard=shard_of(name, shards))
                for place, name in enumerate(names)
            ]
        )
    for kept in (store, wiring.database.items):
        assert isinstance(kept, LanceUserStore | LanceItemStore)
        upkeep = Maintenance(kept._table, Upkeep(every_s=300.0, keep_s=0.0))
        while upkeep.run() and upkeep.run_when_due():
            pass
    wiring.close()
    return state_bytes
