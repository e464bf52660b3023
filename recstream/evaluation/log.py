"""Log: a file of items and one of events, read, decoded and encoded as in a backfill."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from recstream.connectors import FILES, scheme_of
from recstream.connectors.files.formats import FileFault
from recstream.connectors.files.source import FileSource
from recstream.dataflow.encode import encoded_events, item_rows
from recstream.dataflow.services import DataflowRules
from recstream.items.codec import ItemRow
from recstream.records.decode import decode_events, decode_items
from recstream.records.event import Event
from recstream.records.reject_limit import RejectLimit
from recstream.records.time_order import TimeOrder, time_of
from recstream.records.transport import RawBatch
from recstream.runtime.wiring import Wiring

__all__ = ["Log", "Stage", "check_files", "read_log"]

Stage = Callable[[str, Callable[[], float] | None], None]
"""Called when a stage begins, with its name and a function that gives the share done (None: not known)."""
_BATCH = 512
"""Records read at once."""


@dataclass
class Log:
    """Items and events to evaluate on, all in memory (about 1 KB an event)."""

    name: str
    read_at: float
    """When it was read, Unix seconds."""
    events: list[Event] = field(default_factory=list)
    """With the vectors of their texts, in the order in which they are replayed."""
    carried_items: dict[int, ItemRow] = field(default_factory=dict)
    """Items carried by events, by the offset of the event."""
    rows: list[ItemRow] = field(default_factory=list)
    """The catalogue as of the file of items."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Counts of rejected records, by reason."""
    late: int = 0
    """Events that are older than one before them by more than ``profile.lateness_s``."""


def check_files(events: str, items: str | None) -> None:
    """Check both files before any long work.

    Raises:
        FileFault: One is missing, unreadable, or not a file of records.
    """
    for where in (items, events):
        if where is not None:
            _source(where, None).check()


def read_log(
    wiring: Wiring,
    rules: DataflowRules,
    events: str,
    items: str | None,
    limit: int,
    stage: Stage,
    *,
    sort: bool = False,
) -> Log:
    """Read both files; texts are encoded through the cache of vectors.

    Events keep the order of the file or, with ``sort``, are read in order of time.

    Raises:
        FileFault: One of the files is missing or unreadable.
        RejectLimitError: Too many of the records were rejected.
        EncoderError: The encoder cannot be opened.
    """
    check_files(events, items)
    log = Log(Path(events).name, time.time())
    if items is not None:
        _read_items(wiring, rules, items, log, stage)
    source = _source(events, limit or None, sort=sort)
    stage("events", source.progress)
    reject_limit = RejectLimit("events", rules.reject_limit)
    decode = rules.user_state.decode
    for raw in _batches(source):
        decoded, rejects = decode_events(raw, rules=decode, now=log.read_at, loads=orjson.loads)
        reject_limit.observe_batch(raw.offsets, rejects)
        log.rejected.update(reject.reason for reject in rejects)
        encoded = encoded_events(decoded, wiring.encoder)
        log.rejected.update(reject.reason for reject in encoded.rejects)
        log.carried_items |= encoded.items
        log.events += [event._replace(raw=b"") for event in encoded.events]
    order = TimeOrder(rules.lateness_s)
    for event in log.events:
        order.note(event.ts)
    log.late = order.late
    return log


def _read_items(wiring: Wiring, rules: DataflowRules, items: str, log: Log, stage: Stage) -> None:
    source = _source(items, None)
    stage("items", source.progress)
    reject_limit = RejectLimit("items", rules.reject_limit)
    newest: dict[str, ItemRow] = {}
    for raw in _batches(source):
        decoded, rejects = decode_items(raw, rules=rules.user_state.decode, loads=orjson.loads)
        reject_limit.observe_batch(raw.offsets, rejects)
        log.rejected.update(f"items/{reject.reason}" for reject in rejects)
        rows, failed = item_rows(decoded, wiring.encoder)
        log.rejected.update("items/unencodable" for _ in failed)
        newest |= {row.item_id: row for row in rows if row is not None}
    log.rows = list(newest.values())


def _source(where: str, limit: int | None, *, sort: bool = False) -> FileSource:
    if scheme_of(where) != FILES:
        raise FileFault(
            "a topic cannot be evaluated",
            where,
            "a topic",
            "a file",
            "write its records to a .jsonl file first",
        )
    return FileSource(Path(where), batch_size=_BATCH, limit=limit, key=time_of if sort else None)


def _batches(source: FileSource) -> Iterator[RawBatch]:
    for name in source.list_parts():
        part = source.build_part("eval", name, None)
        try:
            while True:
                try:
                    batches = part.next_batch()
                except StopIteration:
                    break
                yield from batches
        finally:
            part.close()
