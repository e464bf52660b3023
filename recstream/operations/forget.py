"""Erasure of a user: from a store without a job, or by an event that asks the running job; what is left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from recstream.config import Settings
from recstream.connectors import FILES, connector_for, scheme_of
from recstream.dataflow.model_state.replay_buffer import REPLAY_BUFFER
from recstream.dataflow.model_state.session_index import row_of_user, without_user
from recstream.records.dead_letter import raw_of
from recstream.records.transport import Message
from recstream.runtime.locks import job_lock
from recstream.runtime.wiring import Wiring
from recstream.stores.base import ModelStore

__all__ = [
    "Erasure",
    "Rejected",
    "erase_user",
    "purge_rejected",
    "rejected_of",
    "request_erasure",
    "topics_of",
]

_COMPRESSED: Final = (".gz", ".zst")
_ITEMS: Final = "dead-letter-items"
"""File of rejected items, which are of no user."""


class Erasure(NamedTuple):
    """What an erasure did."""

    was_known: bool
    """Whether there was anything of the user."""
    is_gone: bool
    """Whether no bytes of it are on the disk any more, as `recstream.stores.base.Store.purge` says."""


class Rejected(NamedTuple):
    """Rejected records of a user in a file of dead letters."""

    file: Path
    records: int

    @property
    def can_be_purged(self) -> bool:
        """Whether `purge_rejected` works on the file: not within a compressed one."""
        return self.file.suffix not in _COMPRESSED


def erase_user(settings: Settings, user_id: str) -> Erasure:
    """Erase a user's state and sessions from the store, and from the older versions of its tables.

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
        was_known = _erase_sessions(database.models, user_id, settings.store.shards) or is_known
        return Erasure(was_known, database.purge())


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


def topics_of(settings: Settings) -> list[str]:
    """Names of the places of the live job that may hold something of a user: all but the items."""
    live = settings.live
    places = (live.events, live.lists, live.dead_letter, live.sessions)
    return [connector_for(place, settings.options_of).name_of(place) for place in places if place]


def rejected_of(settings: Settings, user_id: str) -> list[Rejected]:
    """Rejected records of a user in the files that replays into the store have left.

    Raises:
        ConnectorError: A file cannot be read.
    """
    chosen = settings.backfill.dead_letter
    files = {
        path for path in settings.store_dir.glob("dead-letter*") if path.name.partition(".")[0] != _ITEMS
    }
    if chosen and scheme_of(chosen) == FILES:
        files.add(Path(chosen))
    found = []
    for file in sorted(path for path in files if path.is_file()):
        count = sum(_is_of(line, user_id) for line in _lines(file, settings))
        if count:
            found.append(Rejected(file, count))
    return found


def _lines(file: Path, settings: Settings) -> Iterator[bytes]:
    if file.suffix in _COMPRESSED:
        records = connector_for(str(file), settings.options_of).records(str(file))
        yield from (record.value for record in records if record.value is not None)
    else:
        with open(file, "rb") as lines:
            yield from lines


def purge_rejected(file: Path, user_id: str) -> int:
    """Make empty lines of a user's rejected records; gives their number.

    The file keeps its length, by which a replay that goes on knows how far it had come.
    """
    with open(file, "r+b") as lines:
        found = list(_places(lines, user_id))
        for at, length in found:
            lines.seek(at)
            lines.write(b"\n" * length)
        lines.flush()
        os.fsync(lines.fileno())
    return len(found)


def _places(lines: Iterable[bytes], user_id: str) -> Iterator[tuple[int, int]]:
    """Begin and length of each whole line with a rejected record of the user."""
    at = 0
    for line in lines:
        if line.endswith(b"\n") and _is_of(line, user_id):
            yield at, len(line)
        at += len(line)


def _is_of(line: bytes, user_id: str) -> bool:
    """Whether a dead letter is a user's: their event, or a record without a readable user that names them."""
    try:
        raw = raw_of(orjson.loads(line))
    except (ValueError, KeyError, TypeError):
        raw = line
    try:
        event = orjson.loads(raw)
    except ValueError:
        event = None
    owner = event.get("user_id") if isinstance(event, dict) else None
    if isinstance(owner, str | int):
        return str(owner) == user_id
    quoted = {json.dumps(user_id), json.dumps(user_id, ensure_ascii=False)}
    return any(name.encode("utf-8", "surrogatepass") in raw for name in quoted)


def _erase_sessions(models: ModelStore, user_id: str, shards: int) -> bool:
    for row in models.fetch([row_of_user(user_id, shards)]).values():
        rest = without_user(row, user_id)
        if rest is not None:
            models.upsert([rest._replace(seq=max(time.time_ns(), row.seq + 1))])
            return True
    return False
