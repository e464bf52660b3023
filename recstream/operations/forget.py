"""Erasure of a user: from a store without a job, or by an event that asks the running job."""

from __future__ import annotations

import time

import orjson

from recstream.config import Settings
from recstream.connectors import connector_for
from recstream.dataflow.model_state.replay_buffer import REPLAY_BUFFER
from recstream.dataflow.model_state.session_index import row_of_user, without_user
from recstream.records.transport import Message
from recstream.runtime.locks import job_lock
from recstream.runtime.wiring import Wiring
from recstream.stores.base import ModelStore

__all__ = ["erase_user", "request_erasure"]


def erase_user(settings: Settings, user_id: str) -> bool:
    """Erase a user's state and sessions from the store; gives whether there were any.

    Training examples are erased altogether: some may be of this user.

    Raises:
        StoreBusyError: A job is running on the store.
        StoreError: There is no store, or it cannot be written.
    """
    with job_lock(settings.store_dir, "forget", backend=settings.store.backend):
        database = Wiring(settings, create=False, alone=True).database
        is_known = bool(database.users.fetch([user_id]))
        database.users.delete([user_id])
        database.models.delete([REPLAY_BUFFER])
        return _erase_sessions(database.models, user_id, settings.store.shards) or is_known


def request_erasure(settings: Settings, user_id: str) -> str:
    """Send the event that makes the running job erase a user; gives the name of the topic.

    Raises:
        ConnectorError: The event could not be sent.
    """
    event = {"user_id": user_id, "ts": time.time(), "action": "forget"}
    connector = connector_for(settings.live.events, settings.options_of)
    writer = connector.writer(settings.live.events)
    writer.write([Message(user_id.encode(), orjson.dumps(event))])
    writer.close()
    return connector.name_of(settings.live.events)


def _erase_sessions(models: ModelStore, user_id: str, shards: int) -> bool:
    for row in models.fetch([row_of_user(user_id, shards)]).values():
        rest = without_user(row, user_id)
        if rest is not None:
            models.upsert([rest._replace(seq=max(time.time_ns(), row.seq + 1))])
            return True
    return False
