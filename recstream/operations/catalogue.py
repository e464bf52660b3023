"""Loading a catalogue in bulk, and replacing it by a full export: what the export leaves out is deleted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from recstream.config import Settings
from recstream.connectors.base import ConnectorError, RecordSource
from recstream.dataflow.encode import item_rows
from recstream.items.codec import ItemRow
from recstream.records.actions import DecodeRules
from recstream.records.checks import FieldError, identifier
from recstream.records.decode import decode_items
from recstream.records.transport import Partition, RawBatch
from recstream.runtime.locks import job_lock
from recstream.runtime.replay import Stage, check_inputs, load_items
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring

__all__ = ["MOST_GONE", "Export", "ExportError", "Loaded", "load_catalogue"]

MOST_GONE: Final = 0.1
"""Share of the stored items that an export may leave out before it is taken for half an export."""


class ExportError(ConnectorError):
    """A file of items does not look like a full export, so it replaces nothing."""

    def __init__(self, where: str, got: str, wanted: str) -> None:
        super().__init__(where, got, wanted)
        self.where, self.got, self.wanted = where, got, wanted

    def __str__(self) -> str:
        return (
            f"{self.where} does not replace the catalogue: got {self.got}, wanted {self.wanted}; look at the "
            "export. Nothing was changed. If it is right as it is, give --force, too"
        )


@dataclass
class Export:
    """Which items a full export names."""

    ids: set[str] = field(default_factory=set)
    """Ids of all its records, rejected ones too: a bad record is no reason to delete its item."""
    unnamed: int = 0
    """Records of which not even the id can be read."""

    def add(self, batch: RawBatch, rules: DecodeRules) -> None:
        """Note the items of these records."""
        items, rejects = decode_items(batch, rules=rules, loads=orjson.loads)
        self.ids.update(item.item_id for item in items)
        for reject in rejects:
            item_id = _id_of(reject.raw)
            if item_id is None:
                self.unnamed += 1
            else:
                self.ids.add(item_id)

    def left_out(self, known: Iterable[str]) -> list[str]:
        """Give those of the known items that it does not name, in their order.

        >>> Export({"i1", "i4"}).left_out(["i3", "i1", "i2"])
        ['i3', 'i2']
        """
        return [item_id for item_id in known if item_id not in self.ids]

    def check(self, where: str, known: list[str]) -> None:
        """Refuse an export that looks like half of one.

        Raises:
            ExportError: it leaves out more than `MOST_GONE` of the known items, or has records without an id.
        """
        gone = len(self.left_out(known))
        if gone > MOST_GONE * len(known):
            raise ExportError(
                where,
                f"no record of {gone:,} of the {len(known):,} items in the store",
                f"at most {MOST_GONE:.0%} of them left out",
            )
        if gone and self.unnamed:
            raise ExportError(
                where,
                f"{self.unnamed:,} records whose id cannot be read, and none of {gone:,} items in the store",
                "records that name their items",
            )


@dataclass(frozen=True)
class Loaded:
    """What a load did."""

    summary: dict[str, Any]
    deleted: int
    """Items that were deleted because a full export leaves them out."""


def load_catalogue(
    settings: Settings, stop: Stop, on_stage: Stage, *, replace: bool = False, force: bool = False
) -> Loaded:
    """Encode and store the items of ``backfill.items``; those that did not change are left as they are.

    With ``replace`` the file is a full export: stored items that it leaves out are deleted once it is loaded.
    With ``force`` that is done however many they are. An interrupted load deletes nothing.

    Raises:
        StoreBusyError: a job is running on the store; send the items to its topic instead.
        ExportError: it does not look like a full export.
        ConnectorError, StoreError, EncoderError: what the settings name is not there, or does not fit.
    """
    wiring = Wiring(settings, stop=stop)
    check_inputs(wiring)
    with job_lock(settings.store_dir, "catalogue load"):
        try:
            wiring.database  # noqa: B018 - a store that does not fit is refused before anything is read
            if not replace:
                load_items(wiring, on_stage)
                return Loaded(wiring.summary(), 0)
            where = settings.backfill.items
            on_stage("ids", None)
            export = _export(wiring.items_to_load(), wiring.rules().user_state.decode, stop)
            if not force and not stop.asked():
                export.check(where, [row.item_id for row in _known(wiring)])
            load_items(wiring, on_stage)
            deleted = 0 if stop.asked() else _delete_left_out(wiring, export)
            return Loaded(wiring.summary(), deleted)
        finally:
            wiring.close()


def _export(source: RecordSource[Any], rules: DecodeRules, stop: Stop) -> Export:
    export = Export()
    for name in source.list_parts():
        partition = source.build_part("ids", name, None)
        try:
            while not stop.asked():
                for batch in partition.next_batch():
                    export.add(batch, rules)
        except StopIteration:
            continue
        finally:
            partition.close()
    return export


def _known(wiring: Wiring) -> list[ItemRow]:
    """Stored items that are not deleted."""
    return [row for row in wiring.database.items.changed_since(-1) if not row.deleted]


def _delete_left_out(wiring: Wiring, export: Export) -> int:
    known = _known(wiring)
    gone = export.left_out(row.item_id for row in known)
    if gone:
        keys: dict[int, bytes | None] = {at: item_id.encode() for at, item_id in enumerate(gone)}
        batch = RawBatch(Partition("export", "export"), list(keys), [b""] * len(gone), keys)
        items, _ = decode_items(batch, rules=wiring.rules().user_state.decode, loads=orjson.loads)
        rows, _ = item_rows(items, wiring.encoder)
        seq = max(time.time_ns(), *(row.seq + 1 for row in known))
        wiring.database.items.upsert([row._replace(seq=seq) for row in rows if row is not None])
    return len(gone)


def _id_of(raw: bytes) -> str | None:
    """Id in a record that is rejected, as far as it can be read."""
    try:
        record = orjson.loads(raw)
        return identifier(record.get("item_id") if isinstance(record, dict) else None, "item_id")
    except (ValueError, FieldError):
        return None
