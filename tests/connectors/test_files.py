"""Record files: what is read is what was written, from any position, in every format."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.connectors.files.formats import FileFault
from recstream.connectors.files.records import digests, fingerprint
from recstream.connectors.files.source import FileSource, FileState, file_partition
from recstream.records.transport import RawBatch

TEXT = (".jsonl", ".jsonl.gz", ".jsonl.zst")
lines = st.lists(
    st.binary(min_size=1, max_size=40).filter(
        lambda b: b"\n" not in b and not b.isspace() and not b.startswith(b"\xef") and not b.endswith(b"\r")
    ),
    max_size=30,
)


def pack(content: bytes, suffix: str, *, pieces: int = 1) -> bytes:
    """Compress content in one or more members."""
    size = max(1, -(-len(content) // pieces))
    parts = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    if suffix == ".jsonl.gz":
        return b"".join(gzip.compress(part) for part in parts)
    if suffix == ".jsonl.zst":
        return b"".join(zstandard.ZstdCompressor().compress(part) for part in parts)
    return content


def write(path: Path, records: Sequence[bytes], *, end: bytes = b"\n", pieces: int = 1) -> Path:
    content = b"".join(record + end for record in records)
    path.write_bytes(pack(content, "".join(path.suffixes), pieces=pieces))
    return path


def read(source: FileSource, part: str | None = None, state: FileState | None = None) -> list[RawBatch]:
    """All batches of a partition."""
    partition = source.build_part("s", part or source.list_parts()[0], state)
    batches: list[RawBatch] = []
    try:
        while True:
            batches.extend(partition.next_batch())
    except StopIteration:
        return batches
    finally:
        partition.close()


def begin(source: FileSource, batches: int) -> tuple[list[RawBatch], FileState]:
    """The first batches of a lone file, and the state after them."""
    with closing(source.build_part("s", source.list_parts()[0], None)) as partition:
        return [batch for _ in range(batches) for batch in partition.next_batch()], partition.snapshot()


def values(batches: list[RawBatch]) -> list[bytes]:
    return [value for batch in batches for value in batch.values]


def offsets(batches: list[RawBatch]) -> list[int]:
    return [offset for batch in batches for offset in batch.offsets]


@pytest.mark.parametrize("suffix", TEXT)
@settings(max_examples=60, deadline=None)
@given(records=lines, batch_size=st.integers(1, 8), pieces=st.integers(1, 4), crlf=st.booleans())
def test_records_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    records: list[bytes],
    batch_size: int,
    pieces: int,
    crlf: bool,
) -> None:
    path = tmp_path_factory.mktemp("f") / f"log{suffix}"
    write(path, records, end=b"\r\n" if crlf else b"\n", pieces=pieces)
    batches = read(FileSource(path, batch_size=batch_size))
    assert values(batches) == records
    assert offsets(batches) == list(range(len(records)))
    assert all(len(batch.values) <= batch_size for batch in batches)


@pytest.mark.parametrize("suffix", [*TEXT, ".parquet"])
@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 30), batch_size=st.integers(1, 7))
def test_resuming_anywhere_gives_the_records_that_were_left(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject, n: int, batch_size: int
) -> None:
    path = tmp_path_factory.mktemp("f") / f"log{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"i": list(range(n))}), path, row_group_size=4)
    else:
        blank = data.draw(st.lists(st.sampled_from([b"", b" "]), max_size=3))
        write(path, [*blank, *(b'{"i":%d}' % i for i in range(n)), *blank], end=b"\r\n")
    source = FileSource(path, batch_size=batch_size)
    whole = read(source)
    _, state = begin(source, data.draw(st.integers(0, len(whole))))
    state = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
    done = state[1]
    rest = read(source, state=state)
    assert values(whole)[done:] == values(rest)
    assert offsets(rest) == list(range(done, n))


def test_a_stopped_source_ends_cleanly_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [b"%d" % i for i in range(10)])
    stop = False
    source = FileSource(path, batch_size=4, stopping=lambda: stop)
    with closing(source.build_part("s", "log.jsonl", None)) as partition:
        first = list(partition.next_batch())
        stop = True
        with pytest.raises(StopIteration):
            partition.next_batch()
        state = partition.snapshot()
    assert offsets(first + read(FileSource(path), state=state)) == list(range(10))


@pytest.mark.parametrize("suffix", TEXT)
@pytest.mark.parametrize("keep", [1, 2, 50])
def test_a_beginning_of_a_log_has_its_identity(tmp_path: Path, suffix: str, keep: int) -> None:
    records = [b'{"event_id":%d}' % i for i in range(50)]
    (tmp_path / "part").mkdir()
    whole = write(tmp_path / f"log{suffix}", records)
    part = write(tmp_path / "part" / f"log{suffix}", records[:keep])
    assert file_partition(part).identity == file_partition(whole).identity
    other = write(tmp_path / "part" / f"log{suffix}", records[1:])
    assert file_partition(other).identity != file_partition(whole).identity


def test_line_ends_and_a_byte_order_mark_do_not_change_the_identity(tmp_path: Path) -> None:
    plain = fingerprint(write(tmp_path / "a.jsonl", [b"{}", b"[]"]))
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf\r\n{}\r\n[]")
    assert fingerprint(tmp_path / "b.jsonl") == plain
    assert fingerprint(write(tmp_path / "c.jsonl", [])) == "empty"


def test_a_byte_order_mark_and_blank_lines_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a":1}\n\n  \t\r\n\r\n{"b":2}')
    assert values(read(FileSource(path))) == [b'{"a":1}', b'{"b":2}']


def test_bytes_that_are_not_utf8_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [b"\xff\xfe\x00", b"{}"])
    assert values(read(FileSource(path))) == [b"\xff\xfe\x00", b"{}"]


def test_limit_holds_over_a_resume(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [b"%d" % i for i in range(10)])
    source = FileSource(path, batch_size=3, limit=5)
    assert offsets(read(source)) == [0, 1, 2, 3, 4]
    assert offsets(read(source, state=(file_partition(path).identity, 3, None))) == [3, 4]
    assert read(FileSource(path, limit=0)) == []


def test_a_log_that_grew_is_read_on(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [b"0", b"1"])
    source = FileSource(path)
    _, state = begin(source, 1)
    write(path, [b"0", b"1", b"2"])
    assert offsets(read(source, state=state)) == [2]


def test_a_last_line_that_was_torn_is_read_again_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"i":0}\n{"i"')
    source = FileSource(path)
    batches, state = begin(source, 1)
    assert values(batches)[1] == b'{"i"'
    path.write_bytes(b'{"i":0}\n{"i":1}\n{"i":2}\n')
    again = read(source, state=state)
    assert (offsets(again), values(again)) == ([1, 2], [b'{"i":1}', b'{"i":2}'])


def test_another_log_under_the_same_name_is_read_from_its_start(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [b"0", b"1", b"2"])
    state = (file_partition(path).identity, 2, None)
    write(path, [b"7", b"8", b"9"])
    assert offsets(read(FileSource(path), state=state)) == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@settings(max_examples=40, deadline=None)
@given(times=st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=12), data=st.data())
def test_a_file_can_be_read_in_order_of_a_key(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, times: list[int | None], data: st.DataObject
) -> None:
    """Records of one key keep their order, one without stays behind the one before it."""
    path = tmp_path_factory.mktemp("f") / f"log{suffix}"
    rows = [{"ts": ts, "n": n} for n, ts in enumerate(times)]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, [orjson.dumps(row) for row in rows])

    def key(raw: bytes) -> float | None:
        ts = orjson.loads(raw).get("ts")
        return None if ts is None else float(ts)

    keyed, newest = [], float("-inf")
    for n, ts in enumerate(times):
        newest = newest if ts is None else float(ts)
        keyed.append((newest, n))
    source = FileSource(path, batch_size=data.draw(st.integers(1, 4)), key=key)
    whole = read(source)
    assert [orjson.loads(value)["n"] for value in values(whole)] == [n for _, n in sorted(keyed)]
    assert offsets(whole) == list(range(len(times)))
    _, state = begin(source, data.draw(st.integers(1, len(whole))))
    assert values(read(source, state=state)) == values(whole)[state[1] :]
    FileSource(path, key=key, positions=[state]).check()
    with pytest.raises(FileFault, match="a log that was read in another order"):
        FileSource(path, positions=[state]).check()
    with pytest.raises(FileFault, match="a log that was read in another order"):
        FileSource(path, key=key, positions=[begin(FileSource(path), 1)[1]]).check()


records_of_a_log = st.lists(st.sampled_from([b"a", b"b", b"c", b"dd"]), min_size=1, max_size=8)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@settings(max_examples=60, deadline=None)
@given(before=records_of_a_log, after=records_of_a_log, data=st.data())
def test_a_log_is_read_on_if_it_begins_as_it_did_and_else_refused(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    before: list[bytes],
    after: list[bytes],
    data: st.DataObject,
) -> None:
    """However far it was read, by whomever: new records between old ones would count as read."""
    path = tmp_path_factory.mktemp("f") / f"log{suffix}"

    def put(records: list[bytes]) -> None:
        if suffix == ".parquet":
            pq.write_table(pa.table({"i": [record.decode() for record in records]}), path)
        else:
            write(path, records)

    put(before)
    source = FileSource(path, batch_size=data.draw(st.integers(1, 4)))
    _, state = begin(source, data.draw(st.integers(1, len(read(source)))))
    state = pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
    put(after)
    done = state[1]
    if after[0] != before[0]:
        assert offsets(read(FileSource(path), state=state)) == list(range(len(after))), "another log"
        FileSource(path, positions=[state]).check()
    elif after[:done] == before[:done]:
        assert offsets(read(FileSource(path), state=state)) == list(range(done, len(after)))
        FileSource(path, positions=[state]).check()
    else:
        for resuming, positions in ((state, []), (None, [state])):
            with pytest.raises(FileFault, match="not the log that was read before"):
                read(FileSource(path, positions=positions), state=resuming)


@pytest.mark.parametrize("end", [b"", b"\n", b"1}\n", b"\n\n{}\n", b"1}\n{}"])
def test_a_record_without_a_line_end_may_still_grow(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"i":0}\n{"i":1}\n{"i":')
    state = begin(FileSource(path), 1)[1]
    path.write_bytes(path.read_bytes() + end)
    source = FileSource(path, positions=[state])
    with closing(source.build_part("s", "log.jsonl", state)) as partition:
        while True:
            try:
                partition.next_batch()
            except StopIteration:
                break
        again = partition.snapshot()
    FileSource(path, positions=[again, state]).check()
    path.write_bytes(b'{"i":0}\n{"i":9}\n{"i":' + end)
    with pytest.raises(FileFault, match="other records among the first 2"):
        FileSource(path, positions=[again, state]).check()


@pytest.mark.parametrize("suffix", TEXT)
def test_a_position_without_a_mark_gets_one(tmp_path: Path, suffix: str) -> None:
    """Those of the release before this one have none."""
    path = write(tmp_path / f"log{suffix}", [b"%d" % i for i in range(9)])
    source = FileSource(path, batch_size=3)
    identity = file_partition(path).identity
    with closing(source.build_part("s", path.name, (identity, 4, None))) as partition:
        partition.next_batch()
        state = partition.snapshot()
    with closing(source.build_part("s", path.name, None)) as partition:
        for _ in range(3):
            partition.next_batch()
        assert state[3:] == ((7, digests(path, {7})[7]),)
        assert partition.snapshot()[3:] == ((9, digests(path, {9})[9]),)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_record_over_the_bound_is_cut_and_the_next_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: bytes
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        b"x" * 100 + b"\n" + b"y" * 101 + b"\n" + b"z" * 1_000_000 + b"\n{}\n" + b"q" * 300 + end
    )
    got = values(read(FileSource(path, max_record=100)))
    assert got == [b"x" * 100, b"y" * 100, b"z" * 100, b"{}", b"q" * 100]
    assert len(caplog.records) == 3


def test_a_compressed_file_that_was_cut_off_is_a_fault(tmp_path: Path) -> None:
    for suffix in (".jsonl.gz", ".jsonl.zst"):
        path = tmp_path / f"log{suffix}"
        whole = pack(b"".join(b'{"i":%d}\n' % (i * i) for i in range(5000)), suffix)
        path.write_bytes(whole[:-20])
        with pytest.raises(FileFault, match="in the midst of compressed content"):
            read(FileSource(path))


def broken(make: Callable[[Path], object], name: str) -> Callable[[Path], Path]:
    def at(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return at


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (broken(lambda p: None, "gone.jsonl"), "no such file"),
        (broken(lambda p: None, "gone.parquet"), "no such file"),
        (broken(lambda p: p.mkdir(), "folder.jsonl"), "IsADirectoryError"),
        (broken(lambda p: p.write_bytes(b"{}\n" * 50), "log.jsonl.gz"), "BadGzipFile"),
        (broken(lambda p: p.write_bytes(b"{}\n" * 50), "log.jsonl.zst"), "ZstdError"),
        (broken(lambda p: p.write_bytes(b"PAR1 not really"), "log.parquet"), "ArrowInvalid"),
    ],
)
def test_an_unreadable_file_is_a_fault_that_says_which_and_why(
    tmp_path: Path, make: Callable[[Path], Path], text: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(FileFault, match=text) as err:
        FileSource(path).check()
    assert str(path) in str(err.value)
    assert str(pickle.loads(pickle.dumps(err.value))) == str(err.value)  # noqa: S301 - our own


def test_a_name_with_another_ending_is_refused_at_once() -> None:
    with pytest.raises(FileFault, match=r"one that ends with \.jsonl, "):
        FileSource("events.csv")
    with pytest.raises(FileFault, match="nothing to read"):
        FileSource([])


def test_one_file_twice_is_refused_by_path_and_by_content(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    one = write(tmp_path / "log.jsonl", [b"1"])
    with pytest.raises(FileFault, match="the same file twice"):
        FileSource([one, one])
    copy = write(tmp_path / "copy" / "log.jsonl", [b"1", b"2"])
    with pytest.raises(FileFault, match="two files are one log"):
        FileSource([one, copy]).check()


def test_several_files_are_partitions_with_names_of_their_own(tmp_path: Path) -> None:
    for folder, record in (("a", b"1"), ("b", b"2")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "log.jsonl", [record])
    source = FileSource([tmp_path / "a" / "log.jsonl", str(tmp_path / "b" / "log.jsonl")])
    assert source.list_parts() == ["a/log.jsonl", "b/log.jsonl"]
    assert [values(read(source, part)) for part in source.list_parts()] == [[b"1"], [b"2"]]
    identities = [batch.partition.identity for part in source.list_parts() for batch in read(source, part)]
    assert [one.partition("@")[0] for one in identities] == ["log.jsonl", "log.jsonl"]


def test_rows_become_json_without_nulls_and_with_times_in_utc(tmp_path: Path) -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
    table = pa.table(
        {
            "user_id": ["u1", None],
            "ts": pa.array([noon.replace(tzinfo=None), None], pa.timestamp("ns")),
            "cet": pa.array([noon, None], pa.timestamp("us", "+01:00")),
            "nested": [{"a": None, "at": noon.astimezone(timezone(timedelta(hours=2)))}, None],
            "rating": [4.5, float("nan")],
            "price": [Decimal("2.50"), Decimal("3.00")],
            "day": [date(2024, 1, 1), None],
            "bytes": [b"text", b"\xff"],
            "attributes": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    first, second = map(orjson.loads, values(read(FileSource(tmp_path / "log.parquet"))))
    utc = "2024-01-01T12:00:00+00:00"
    assert first == {
        "user_id": "u1",
        "ts": utc,
        "cet": utc,
        "nested": {"at": utc},
        "rating": 4.5,
        "price": 2.5,
        "day": "2024-01-01",
        "bytes": "text",
        "attributes": {"k": "v"},
    }
    assert second == {"price": 3, "bytes": {"base64": "/w=="}}


@pytest.mark.parametrize("suffix", [*TEXT, ".parquet"])
def test_progress_ends_at_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    n = 60_000
    if suffix == ".parquet":
        pq.write_table(pa.table({"i": list(range(n))}), path)
    else:
        write(path, [b'{"event_id":%d,"user_id":"u%d"}' % (i, i * 7919 % 997) for i in range(n)])
    source = FileSource(path)
    assert source.progress() == 0
    read(source)
    assert source.progress() == 1
