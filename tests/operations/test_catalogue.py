"""A full export replaces the catalogue: what it leaves out goes, unless it looks like half an export."""

from __future__ import annotations

import pickle
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.operations.catalogue import Export, ExportError
from recstream.records.actions import DecodeRules
from recstream.records.transport import Partition, RawBatch
from recstream.stores import store_module
from tests.support.commands import HASHING, recstream
from tests.support.logs import Record, item, write_lines

FILE = Partition("items.jsonl", "items.jsonl@1")
names = st.sampled_from([f"i{number}" for number in range(12)])


def export_of(*records: Record | bytes) -> Export:
    """An export of these records."""
    raws = [record if isinstance(record, bytes) else orjson.dumps(record) for record in records]
    export = Export()
    export.add(RawBatch(FILE, list(range(len(raws))), raws), DecodeRules())
    return export


@given(st.lists(names, unique=True), st.lists(names))
def test_it_is_refused_exactly_when_more_than_a_tenth_is_gone(known: list[str], named: list[str]) -> None:
    export = export_of(*({"item_id": name, "title": "A"} for name in named))
    gone = [name for name in known if name not in named]
    assert export.left_out(known) == gone
    if 10 * len(gone) > len(known):
        with pytest.raises(ExportError, match=f"{len(gone)} of the {len(known)} items"):
            export.check("items.jsonl", known)
    else:
        export.check("items.jsonl", known)


def test_the_item_of_a_bad_record_is_not_left_out() -> None:
    export = export_of({"item_id": "i1"}, {"item_id": 2, "title": ""}, {"item_id": "i3", "deleted": True})
    assert (export.ids, export.unnamed) == ({"i1", "2", "i3"}, 0)


def test_a_record_without_an_id_may_be_of_any_item() -> None:
    known = [f"i{number}" for number in range(20)]
    sound = [{"item_id": name, "title": "A"} for name in known]
    for bad in (b'{"item_id": "i19", "tit', b"[]", b'{"title": "A"}'):
        export_of(*sound, bad).check("items.jsonl", known)
        with pytest.raises(ExportError, match="1 records whose id cannot be read") as refused:
            export_of(*sound[:19], bad).check("items.jsonl", known)
        assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301 - our own


def stored(state: Path) -> set[str]:
    """Items of a store that are not deleted."""
    module = store_module("lancedb")
    meta = module.inspect_store(state)
    assert meta is not None
    store = module.open_store(
        state, meta, create=False, alone=False, compact_every_s=300.0, keep_versions_s=60.0
    )
    return {row.item_id for row in store.items.changed_since(-1) if not row.deleted}


def test_a_nightly_export_replaces_the_one_before(tmp_path: Path) -> None:
    def load(numbers: list[int], *options: str, code: int = 0) -> str:
        write_lines(tmp_path / "items.jsonl", [item(number) for number in numbers])
        args = ("catalogue", "load", "items.jsonl", "--state", "state", *HASHING, *options)
        done = recstream(*args, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return " ".join(done.stderr.split())

    load([*range(20)])
    load([0, 1, 20])
    assert len(stored(tmp_path / "state")) == 21, "a load deletes nothing"
    told = load([*range(10), 21], "--replace", code=1)
    assert "got no record of 11 of the 21 items in the store" in told
    assert len(stored(tmp_path / "state")) == 21, "nothing was changed"
    assert "deleted 1 items" in load([*range(1, 21), 21], "--replace")
    assert stored(tmp_path / "state") == {f"i{number}" for number in range(1, 22)}
    assert "deleted 18 items" in load([0, 1, 2, 3], "--replace", "--force")
    assert stored(tmp_path / "state") == {"i0", "i1", "i2", "i3"}, "what had gone can come back"


def test_a_topic_is_no_full_export(tmp_path: Path) -> None:
    for args in (("kafka:items", "--replace"), ("items.jsonl", "--force")):
        done = recstream("catalogue", "load", *args, "--state", "state", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
