"""Lines of a file: nothing doubled, torn or lost by a crash."""

from __future__ import annotations

import gzip
import json
import pickle
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
import zstandard
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.connectors.files.formats import FileFault
from recstream.connectors.files.sink import JsonLinesSink
from recstream.connectors.files.source import FileSource
from recstream.records.transport import Message, RawBatch

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def content(path: Path) -> bytes:
    """What any ordinary reader of the format sees."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(raw)
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
            return reader.read()
    return raw


def message(i: int) -> Message:
    return Message(b"u%d" % i, b'{"i":%d}' % i)


def run(df: Dataflow, every_batch: bool = True, store: Path | None = None) -> None:
    epoch = timedelta(0) if every_batch else timedelta(seconds=10)
    recovery = None if store is None else RecoveryConfig(str(store))
    run_main(df, epoch_interval=epoch, recovery_config=recovery)


def flow(items: list[Any], path: Path) -> Dataflow:
    df = Dataflow("out")
    numbers = op.input("in", df, TestingSource(items, batch_size=2))
    keyed = op.map("key", numbers, lambda i: (str(i), message(i)))
    op.output("write", keyed, JsonLinesSink(path))
    return df


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 12), data=st.data(), every_batch=st.booleans())
def test_a_crash_anywhere_leaves_the_file_of_a_run_without_it(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, n: int, data: st.DataObject, every_batch: bool
) -> None:
    folder = tmp_path_factory.mktemp("sink")
    path, store = folder / f"lists{suffix}", folder / "recovery"
    store.mkdir()
    init_db_dir(store, 1)
    cut = data.draw(st.integers(0, n))
    items: list[Any] = [*range(cut), TestingSource.ABORT(), *range(cut, n)]
    df = flow(items, path)
    run(df, every_batch, store)
    with path.open("ab") as torn:
        torn.write(b'{"i":99')  # what a killed process may leave beyond its last commit
    run(df, every_batch, store)
    assert content(path) == b"".join(b'{"i":%d}\n' % i for i in range(n))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_by_our_own_source(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lists{suffix}"
    run(flow([*range(100)], path))
    source = FileSource(path)
    with closing(source.build_part("s", path.name, None)) as part:
        [batch] = part.next_batch()
    assert batch.values == [message(i).value for i in range(100)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_snapshot_is_a_whole_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lists{suffix}"
    with closing(JsonLinesSink(path).build_part("s", path.name, None)) as part:
        part.write_batch([message(0), message(1)])
        size = part.snapshot()
        assert path.stat().st_size == size
        assert content(path) == b'{"i":0}\n{"i":1}\n'
        assert part.snapshot() == size, "nothing written adds nothing"
        part.write_batch([message(2)])
    assert content(path) == b'{"i":0}\n{"i":1}\n{"i":2}\n'


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_flow_from_file_to_file_that_is_stopped_goes_on_exactly(
    tmp_path: Path, suffix: str, batches: int
) -> None:
    log, path, store = tmp_path / f"log{suffix}", tmp_path / f"lists{suffix}", tmp_path / "recovery"
    run(flow([*range(20)], log))
    store.mkdir()
    init_db_dir(store, 1)
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked == batches + 1

    def messages(batch: RawBatch) -> list[tuple[str, Message]]:
        return [(str(i), Message(None, value)) for i, value in zip(batch.offsets, batch.values, strict=True)]

    df = Dataflow("copy")
    read = op.input("in", df, FileSource(log, batch_size=4, stopping=stopping))
    op.output("out", op.flat_map("each", read, messages), JsonLinesSink(path))
    run(df, store=store)
    part = content(path) if path.exists() else b""
    assert part.count(b"\n") == 4 * batches
    run(df, store=store)
    assert content(path) == content(log)


def test_a_run_without_state_begins_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_bytes(b"of an earlier run\n")
    run(flow([1], path))
    assert path.read_bytes() == b'{"i":1}\n'


def test_a_tombstone_is_a_line_that_says_whose_list_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    with closing(JsonLinesSink(path).build_part("s", path.name, None)) as part:
        part.write_batch(
            [Message("ü".encode(), None), Message(None, b"{}", (("h", b"v"),)), Message(b"u", None)]
        )
    gone, other, again = path.read_bytes().splitlines()
    assert json.loads(gone) == {"user_id": "ü", "deleted": True}
    assert (other, json.loads(again)["user_id"]) == (b"{}", "u")


def test_a_record_of_two_lines_is_refused_before_any_is_written(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    with closing(JsonLinesSink(path).build_part("s", path.name, None)) as part:
        with pytest.raises(FileFault, match="a line break at byte 1, wanted none"):
            part.write_batch([message(1), Message(None, b"{\n}")])
        assert part.snapshot() == 0


def test_an_output_that_lost_committed_lines_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(FileFault, match="got 3 bytes, wanted at least 300") as err:
        JsonLinesSink(path).build_part("s", path.name, 300)
    assert str(pickle.loads(pickle.dumps(err.value))) == str(err.value)  # noqa: S301 - our own
    assert path.read_bytes() == b"{}\n"


def test_a_folder_that_is_not_there_is_a_fault_of_the_flow_too(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "lists.jsonl"
    with pytest.raises(FileFault, match="No such file or directory"):
        JsonLinesSink(path).build_part("s", path.name, None)
    with pytest.raises(BytewaxRuntimeError) as err:
        run(flow([1], path))
    assert isinstance(err.value.__cause__, FileFault)


def test_a_name_that_is_not_lines_is_refused() -> None:
    for name in ("lists.parquet", "lists.txt"):
        with pytest.raises(FileFault):
            JsonLinesSink(name)
