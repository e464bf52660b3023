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

from recstream.connectors.files.connector import FileConnector
from recstream.connectors.files.formats import SUFFIXES, FileFault, files_of, suffix_of
from recstream.connectors.files.records import digests, fingerprint
from recstream.connectors.files.source import FileSource, FileState, file_partition
from recstream.records.actions import DecodeRules
from recstream.records.decode import decode_events, decode_items
from recstream.records.foreign import foreign_file
from recstream.records.transport import RawBatch

TEXT = (".jsonl", ".jsonl.gz", ".jsonl.zst")
OTHER = (".ndjson", ".json", ".ndjson.gz", ".json.zst")
lines = st.lists(
    st.binary(min_size=1, max_size=40).filter(
        lambda b: b"\n" not in b and not b.isspace() and not b.startswith(b"\xef") and not b.endswith(b"\r")
    ),
    max_size=30,
).filter(lambda records: foreign_file(b"\n".join([*records, b""])) is None)


def pack(content: bytes, suffix: str, *, pieces: int = 1) -> bytes:
    """Compress content in one or more members."""
    size = max(1, -(-len(content) // pieces))
    parts = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    if suffix.endswith(".gz"):
        return b"".join(gzip.compress(part) for part in parts)
    if suffix.endswith(".zst"):
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


@pytest.mark.parametrize("suffix", [*TEXT, *OTHER])
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
        (broken(lambda p: p.mkdir(), "folder.jsonl"), "a folder without any"),
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


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("events.csv", "convert it to JSON lines or Parquet; another name would not change"),
        ("events.TSV", "convert it to JSON lines or Parquet; another name would not change"),
        ("events.xlsx", "convert it to JSON lines or Parquet; another name would not change"),
        ("events.jsonl.bz2", "unpack it; recstream reads gzip and zstd"),
        ("events", "convert it, or name it .jsonl if it holds one JSON object a line"),
    ],
)
def test_a_name_with_another_ending_is_told_what_helps(name: str, advice: str) -> None:
    with pytest.raises(FileFault, match=advice) as err:
        FileSource(name)
    assert "rename" not in str(err.value)


@given(st.sampled_from(SUFFIXES), st.text("ab.-", max_size=4), st.booleans())
def test_the_ending_of_a_name_is_found_in_letters_of_any_size(suffix: str, stem: str, is_loud: bool) -> None:
    name = f"x{stem}{suffix}"
    assert suffix_of(Path(name.upper() if is_loud else name)) == suffix


INDENTED = orjson.dumps([{"item_id": "i1", "title": "Tea"}] * 2, option=orjson.OPT_INDENT_2)
TABLE = b"user_id,item_id,ts\nu1,i1,5\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (INDENTED, "got a JSON array, wanted one JSON object a line, in UTF-8; .* jq -c '.\\[\\]'"),
        (b'[{"item_id":"i1"},{"item_id":"i2"}]\n', "a JSON array"),
        (b" \n[\n{}]", "a JSON array"),
        (b'\xef\xbb\xbf[\r\n{\r\n"a": 1', "a JSON array"),
        (INDENTED[4:], "JSON objects that go over several lines, .* jq -c \\."),
        ('{"item_id": "i1"}\r\n'.encode("utf-16"), "UTF-16 text, .* iconv -f UTF-16"),
        ('{"item_id": "i1"}'.encode("utf-16-le"), "UTF-16 text"),
        ('{"item_id": "i1"}'.encode("utf-16-be"), "UTF-16 text"),
        ('{"item_id": "i1"}'.encode("utf-32"), "UTF-32 text"),
        (TABLE, "comma-separated values .CSV., .* another name does not change"),
        (TABLE.replace(b",", b"\t"), "tab-separated values"),
        (TABLE.replace(b",", b";"), "a table of values"),
        (gzip.compress(b"{}\n", mtime=0), "gzip"),
        (zstandard.ZstdCompressor().compress(b"{}\n"), "zstd"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"PK\x03\x04\x14", "a ZIP archive or Excel sheet"),
        (b"<?xml version='1.0'?>", "XML"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json.zst"])
def test_a_file_of_something_else_is_refused_at_start_by_its_name(
    tmp_path: Path, suffix: str, content: bytes, told: str
) -> None:
    path = tmp_path / f"items{suffix}"
    path.write_bytes(pack(content, suffix))
    with pytest.raises(FileFault, match=told) as err:
        FileSource(path).check()
    assert str(err.value).startswith(f"not JSON lines: {path}: got ")


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3), min_size=1, max_size=3))
def test_json_lines_are_never_taken_for_something_else(records: list[dict[str, int]]) -> None:
    assert foreign_file(b"\n".join(orjson.dumps(record) for record in records)) is None


@pytest.mark.parametrize("trailing", [b"\r\n", b"\0" * 1000, b"\0\0x", b"garbage", b"\x1f", b"\n" * 20_000])
@pytest.mark.parametrize("members", [1, 3])
def test_what_follows_gzip_content_is_left_out_as_gunzip_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trailing: bytes, members: int
) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(pack(b'{"i":1}\n{"i":2}\n{"i":3}\n', ".gz", pieces=members) + trailing)
    source = FileSource(path)
    assert values(read(source)) == [b'{"i":1}', b'{"i":2}', b'{"i":3}']
    is_told = [
        "log.jsonl.gz what follows the end of its compressed content" in one for one in caplog.messages
    ]
    assert any(is_told) == bool(trailing.strip(b"\0"))


def test_zeros_between_gzip_members_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b"1\n") + b"\0" * 9000 + gzip.compress(b"2\n"))
    assert values(read(FileSource(path))) == [b"1", b"2"]


def test_a_second_member_that_is_damaged_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    damaged = bytearray(gzip.compress(b"2\n" * 100))
    damaged[12] ^= 0xFF
    path.write_bytes(gzip.compress(b"1\n") + damaged)
    with pytest.raises(FileFault, match="cannot read"):
        read(FileSource(path))


def folder_of(folder: Path, names: Sequence[str]) -> list[bytes]:
    """Make a folder of parts, three records each; gives the records in the order of the names."""
    records: list[bytes] = []
    for name in sorted(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        own = [b'{"of":"%s","n":%d}' % (name.encode(), n) for n in range(3)]
        path.write_bytes(pack(b"".join(one + b"\n" for one in own), name))
        records += own
    return records


PARTS = (
    "part-00000-a.json",
    "part-00001-a.jsonl.gz",
    "dt=2024-05-01/part-0.ndjson",
    "dt=2024-05-02/part-0.json",
)


def read_all(source: FileSource, states: dict[str, FileState] | None = None) -> list[RawBatch]:
    """Read all partitions as bytewax does: all are built, and asked in turn."""
    parts = {name: source.build_part("s", name, (states or {}).get(name)) for name in source.list_parts()}
    batches: list[RawBatch] = []
    while parts:
        for name, part in reversed(list(parts.items())):
            try:
                batches += part.next_batch()
            except StopIteration:
                part.close()
                del parts[name]
    return batches


def test_a_folder_of_parts_is_read_as_one_log_in_the_order_of_names(tmp_path: Path) -> None:
    wanted = folder_of(tmp_path / "log.jsonl", PARTS)
    for name in ("_SUCCESS", ".part-00000-a.json.crc", "_temporary/0/part.json"):
        (tmp_path / "log.jsonl" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "log.jsonl" / name).write_bytes(b"?")
    source = FileSource(tmp_path / "log.jsonl", batch_size=2)
    source.check()
    assert values(read_all(source)) == wanted
    assert values(read_all(FileSource(tmp_path / "log.jsonl", limit=4))) == wanted[:4]


def test_a_pattern_and_a_list_are_several_files(tmp_path: Path) -> None:
    wanted = folder_of(tmp_path, ["a-1.jsonl", "a-2.jsonl", "b.jsonl"])
    assert files_of(tmp_path / "a-*.jsonl") == [tmp_path / "a-1.jsonl", tmp_path / "a-2.jsonl"]
    both = f"{tmp_path / 'a-*.jsonl'},{tmp_path / 'b.jsonl'}"
    assert values(read_all(FileSource(both))) == wanted
    (tmp_path / "a,b[1].jsonl").write_bytes(b"{}\n")
    assert files_of(tmp_path / "a,b[1].jsonl") == [tmp_path / "a,b[1].jsonl"]
    with pytest.raises(FileFault, match="nothing that the pattern matches"):
        FileSource(tmp_path / "c-*.jsonl")


def test_a_folder_with_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, ["a.jsonl"])
    (tmp_path / "b.csv").write_bytes(TABLE)
    with pytest.raises(FileFault, match=r"b\.csv"):
        FileSource(tmp_path)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), batch_size=st.integers(1, 4))
def test_a_log_in_parts_is_resumed_anywhere(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, batch_size: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    wanted = folder_of(folder, PARTS)
    source = FileSource(folder, batch_size=batch_size)
    parts = {name: source.build_part("s", name, None) for name in source.list_parts()}
    got: list[bytes] = []
    for name in data.draw(st.lists(st.sampled_from(sorted(parts)), max_size=30)):
        try:
            got += values(list(parts[name].next_batch()))
        except StopIteration:
            continue
    states = {name: part.snapshot() for name, part in parts.items()}
    for part in parts.values():
        part.close()
    assert got == wanted[: len(got)]
    assert got + values(read_all(FileSource(folder, batch_size=batch_size), states)) == wanted


def test_a_place_of_several_files_knows_its_partitions(tmp_path: Path) -> None:
    folder_of(tmp_path / "log", PARTS)
    connector = FileConnector({})
    names = FileSource(tmp_path / "log").list_parts()
    assert all(connector.owns(str(tmp_path / "log"), name) for name in names)
    assert not connector.owns(str(tmp_path / "log"), "part-9.json")
    assert connector.place_of(str(tmp_path / "log"), names[0], 2) == f"{names[0]}, record 3"
    (tmp_path / "log").rename(tmp_path / "moved")
    assert FileConnector({}).position_name(str(tmp_path / "moved")) == connector.position_name(
        str(tmp_path / "log")
    )


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


def spoilt(texts: list[bytes]) -> pa.Array:
    """A column of texts with these bytes, as engines write it that do not check."""
    raw = pa.array(texts, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(texts), raw.buffers())


ITEM_ROWS = 5
BAD = b"C\xd4TE"


def item_columns(field: str) -> dict[str, pa.Array]:
    """Items of which the third has a value that is none of Python's, in one of its columns."""
    titles = [b"Tea"] * ITEM_ROWS
    labels = spoilt([b"a", b"b", BAD if field == "list" else b"c", b"d", b"e"])
    days = [0, 0, 9_000_000 if field == "date" else 0, 0, 0]
    return {
        "item_id": pa.array([f"i{n}" for n in range(ITEM_ROWS)]),
        "title": spoilt([*titles[:2], BAD if field == "text" else titles[2], *titles[3:]]),
        "tags": pa.ListArray.from_arrays(pa.array(range(ITEM_ROWS + 1), pa.int32()), labels),
        "attributes": pa.StructArray.from_arrays(
            [spoilt([b"x", b"x", BAD if field == "struct" else b"x", b"x", b"x"])], names=["note"]
        ),
        "published_at": pa.array(days, pa.int32()).cast(pa.date32()),
    }


@pytest.mark.parametrize("field", ["text", "list", "struct"])
def test_a_row_with_a_text_that_is_no_utf8_is_one_dead_letter(tmp_path: Path, field: str) -> None:
    pq.write_table(pa.table(item_columns(field)), tmp_path / "items.parquet")
    (batch,) = read(FileSource(tmp_path / "items.parquet"))
    items, rejects = decode_items(batch, rules=DecodeRules(), loads=orjson.loads)
    assert [item.item_id for item in items] == ["i0", "i1", "i3", "i4"]
    (reject,) = rejects
    assert (reject.offset, reject.reason) == (2, "not_json")
    assert "0xd4" in reject.detail
    assert BAD in reject.raw


def test_a_row_with_a_day_beyond_the_calendar_costs_no_other_row(tmp_path: Path) -> None:
    pq.write_table(pa.table(item_columns("date")), tmp_path / "items.parquet")
    (batch,) = read(FileSource(tmp_path / "items.parquet"))
    items, rejects = decode_items(batch, rules=DecodeRules(), loads=orjson.loads)
    assert (len(items), rejects) == (ITEM_ROWS, [])
    assert [[one.field for one in item.left_out] for item in items] == [[], [], ["published_at"], [], []]


def test_a_row_with_a_number_beyond_64_bits_costs_no_other_row(tmp_path: Path) -> None:
    ids = pa.array([Decimal(5), Decimal(10**30 + 1), Decimal(7)], pa.decimal128(38, 0))
    pq.write_table(pa.table({"item_id": ids, "title": ["Tea"] * 3}), tmp_path / "items.parquet")
    (batch,) = read(FileSource(tmp_path / "items.parquet"))
    items, rejects = decode_items(batch, rules=DecodeRules(), loads=orjson.loads)
    assert [item.item_id for item in items] == ["5", "7"]
    assert [(one.offset, one.reason) for one in rejects] == [(1, "bad_type")]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_time_without_a_zone_is_refused_as_it_is_in_text(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=None if zone is None else timezone.utc)
    columns = {
        "user_id": ["u1"],
        "action": ["view"],
        "item_id": ["i1"],
        "ts": pa.array([noon], pa.timestamp(unit, zone)),
    }
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    (batch,) = read(FileSource(tmp_path / "events.parquet"))
    events, rejects = decode_events(batch, rules=DecodeRules(), now=2e9, loads=orjson.loads)
    if zone is not None:
        assert [event.ts for event in events] == [1704110400.0]
    else:
        (reject,) = rejects
        assert reject.reason == "bad_timestamp"
        assert "give a column of a Parquet file its time zone" in reject.detail


def test_rows_become_json_without_nulls_and_with_zoned_times_in_utc(tmp_path: Path) -> None:
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
        "ts": "2024-01-01T12:00:00",
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
