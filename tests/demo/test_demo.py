"""The demo, as a newcomer runs it: it adds up, encodes once, and leaves nothing running."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import orjson
import pytest

from recstream.demo.fans import user_to_follow
from recstream.demo.folder import DemoFolder, FolderError
from recstream.demo.movielens import (
    FILES,
    DataError,
    Film,
    find_or_fetch,
    parse_films,
    parse_ratings,
    read_wheel,
)
from recstream.demo.producer import with_faulty_records

FILM_LINES = "\n".join(
    (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "1\tHidden Lake, The\t1931\tDrama Film-Noir",
        "2\tOrbit (1999)\tV\tSci-Fi",
        "3\tunkonwn\tunkonwn\tunknown",
        "4\tSummer in Town, A (Verano, El)\t1962\tChildren's Comedy Romance",
        "",
    )
)
RATING_LINES = "u\ti\tr\tt\n7\t2\t5\t300\n8\t1\t3\t100\n7\t1\t2\t300\n9\t4\t4\t200\n"


def test_films_are_read_with_readable_titles() -> None:
    """Articles come first, a year in the title is found, and what is unknown is left out."""
    films = parse_films(FILM_LINES)
    assert [film.label for film in films.values()] == [
        "The Hidden Lake (1931)",
        "Orbit (1999)",
        "(a film without a title)",
        "A Summer in Town (El Verano) (1962)",
    ]
    assert films["1"].record() == {
        "item_id": "1",
        "title": "The Hidden Lake",
        "categories": ["Drama", "Film-Noir"],
        "text": "A drama and film noir film from 1931.",
        "published_at": "1931-01-01T00:00:00Z",
    }
    assert films["3"].record() == {
        "item_id": "3",
        "title": "(a film without a title)",
        "categories": [],
        "text": "A film.",
    }
    assert films["4"].record()["text"] == "A children's, comedy and romance film from 1962."


def test_ratings_come_in_order_of_time_and_ties_in_order_of_the_file() -> None:
    """The id is from the line, so it names the same rating in every run."""
    ratings = parse_ratings(RATING_LINES)
    assert [(r.event_id, r.user_id, r.ts) for r in ratings] == [
        ("ml100k-2", "8", 100),
        ("ml100k-4", "9", 200),
        ("ml100k-1", "7", 300),
        ("ml100k-3", "7", 300),
    ]
    assert ratings[0].record() == {
        "event_id": "ml100k-2",
        "user_id": "8",
        "ts": 100,
        "action": "rate",
        "item_id": "1",
        "rating": 3.0,
    }


def test_seven_faulty_records_are_spread_through_the_log() -> None:
    """They come after the rating they are made from, and the log itself stays whole and in order."""
    ratings = parse_ratings(RATING_LINES) * 10
    records = with_faulty_records(ratings, 1e9)
    assert [record.rating for record in records if record.is_good] == ratings
    assert sum(not record.is_good for record in records) == 7
    assert records[0].is_good
    assert with_faulty_records([], 1e9) == []


def test_somebody_is_followed_even_when_nobody_has_a_clear_taste() -> None:
    """Then it is who rated most."""
    assert user_to_follow(parse_films(FILM_LINES), parse_ratings(RATING_LINES)) == "7"
    assert user_to_follow({"1": Film("1", "A", None, ())}, parse_ratings(RATING_LINES)) == "7"


def test_a_wheel_with_other_data_is_refused(tmp_path: Path) -> None:
    """The digests are pinned."""
    path = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="remove the file"):
        read_wheel(path)
    with zipfile.ZipFile(path, "w") as wheel:
        for member in FILES:
            wheel.writestr(member, FILM_LINES)
    with pytest.raises(DataError, match="SHA-256"):
        read_wheel(path)


def test_a_folder_of_somebody_elses_is_not_emptied(tmp_path: Path) -> None:
    """A store that no demo made stays; the demo's own goes at the next run, its vectors do not."""
    store = tmp_path / "state"
    store.mkdir()
    with pytest.raises(FolderError, match="no demo made"):
        DemoFolder(tmp_path).prepare(fresh=True)
    assert store.is_dir()
    store.rmdir()
    folder = DemoFolder(tmp_path)
    folder.prepare(fresh=False)
    folder.cache.mkdir()
    (folder.state / "old").touch()
    folder.prepare(fresh=False)
    assert not list(folder.state.iterdir())
    assert folder.cache.is_dir()
    folder.prepare(fresh=True)
    assert not folder.cache.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo folder that has the films."""
    path: Path = tmp_path_factory.mktemp("demo")
    find_or_fetch(path / "downloads", lambda: False)
    return path


@pytest.fixture(scope="module")
def first_run(folder: Path) -> str:
    """What the first run prints."""
    return _finished(folder)


def _command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "recstream.cli", "demo", "--plain", "--data", str(folder), *words]


def _finished(folder: Path) -> str:
    done = subprocess.run(
        _command(folder, "--events", "2500"), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in:\n{text}"
    return int(found[1].replace(",", ""))


def _all_gone(said: str) -> None:
    """The processes that the output names are gone, or go within a moment (the kernel ends orphans)."""
    job = _number(r"as process (\d+)", said)
    port = _number(r"runs at 127\.0\.0\.1:(\d+)", said)
    deadline = time.monotonic() + 5.0
    while _runs(job) or _listens(port):
        assert time.monotonic() < deadline, f"job runs: {_runs(job)}, broker listens: {_listens(port)}"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.kafka
@pytest.mark.model
def test_the_demo_adds_up_and_leaves_nothing_running(first_run: str, folder: Path) -> None:
    """Every event sent is applied, a duplicate, or in the dead letters, each with its reason."""
    sent, read, applied, duplicate, absorbed, rejected, waiting = (
        _number(rf"{name} (?:!?= )?([\d,]+)", first_run)
        for name in ("sent", "read", "applied", "duplicate", "already absorbed", "rejected", "waiting")
    )
    assert sent == read == applied + duplicate + absorbed + rejected + waiting == 2508
    assert (applied, duplicate, absorbed, rejected, waiting) == (2501, 1, 0, 6, 0)
    letters = [orjson.loads(line) for line in (folder / "dead-letters.jsonl").read_bytes().splitlines()]
    assert sorted(letter["reason"] for letter in letters) == [
        "bad_type",
        "in_the_future",
        "missing_field",
        "not_json",
        "unknown_action",
        "unknown_item",
    ]
    have, users = re.findall(r"(\d+) of (\d+) users hold", first_run)[0]
    assert have == users
    kept = {orjson.loads(line)["user_id"] for line in (folder / "lists.jsonl").read_bytes().splitlines()}
    assert len(kept) == int(users)
    assert _number(r"encoder +([\d,]+) texts encoded", first_run) > 1600
    assert "GroupLens" in first_run
    _all_gone(first_run)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.model
def test_a_second_run_encodes_nothing_new(first_run: str, folder: Path) -> None:
    """All vectors come from the cache of the first."""
    said = _finished(folder)
    assert re.search(r"nothing new to encode: all 1,683 texts came from the cache", said)
    assert _number(r"read ([\d,]+) =", said) == 2508
    _all_gone(said)


@pytest.mark.kafka
@pytest.mark.model
@pytest.mark.parametrize(
    ("how", "after", "code"),
    [
        (signal.SIGINT, "The catalogue is in", 130),
        (signal.SIGTERM, "Kafka-protocol broker", 130),
        (signal.SIGKILL, "Kafka-protocol broker", -signal.SIGKILL),
    ],
)
def test_however_it_ends_nothing_is_left(
    first_run: str, folder: Path, how: int, after: str, code: int
) -> None:
    """Ctrl-C, SIGTERM, and even a kill end the broker and the dataflow with the demo."""
    demo = subprocess.Popen(_command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = _read_until(demo, after)
    demo.send_signal(how)
    rest, _ = demo.communicate(timeout=30)
    assert demo.returncode == code, said + rest
    _all_gone(said)


def _read_until(demo: subprocess.Popen[str], wanted: str) -> str:
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if wanted in line:
            break
    return said


@pytest.mark.kafka
def test_an_exception_leaves_nothing(folder: Path, first_run: str) -> None:
    """When the dataflow dies the demo says so, shows its log, and ends the broker."""
    demo = subprocess.Popen(_command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = _read_until(demo, "Kafka-protocol broker")
    os.kill(_number(r"as process (\d+)", said), signal.SIGKILL)
    _, complaint = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "the dataflow ended (exit code -9); its log" in complaint
    _all_gone(said)
