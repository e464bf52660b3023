"""Every record is accounted for, and every refused one can be mended and sent again (guarantee G4).

A log is corrupted in every way for which there is a reason, and worked off by a backfill and by the live job.
What was refused is in the dead letters, once each, with its bytes. Mended and replayed, it leaves the rows of
the log that was never corrupted.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import orjson
import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.items.catalogue import Catalogue
from recstream.metrics.accounting import accounting
from recstream.records.dead_letter import MAX_RAW_BYTES, raw_of
from recstream.records.reject import REASONS
from recstream.stores.lance import LanceDatabase
from recstream.users.codec import user_state_of
from recstream.users.state_diff import differences
from tests.support.commands import command, environment, recstream
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import T0, Record, events, item, read_lines, write_lines
from tests.support.stores import open_lance
from tests.support.topics import Reader, produce

DIM = 16
ITEMS = [item(number) for number in range(40)]
REFUSED_TEXT = "no server can encode this"
FUTURE = 4_000_000_000
CROWD = [
    {"user_id": "crowd", "ts": T0 + n, "action": "like", "item_id": f"i{n}", "event_id": f"c{n}"}
    for n in range(6)
]
"""One user's events whose items are not known, in the corrupted log: more than may wait."""
ANONYMOUS = {"user_id": "anon", "ts": T0, "action": "view", "item_id": "i1"}
"""An event without an id."""
Corrupted = tuple[str, bytes, bytes]
"""The reason, the bytes that are sent, and the bytes that should have been."""


class _Embeddings(BaseHTTPRequestHandler):
    """An embeddings server with vectors that depend on the text alone; one text it refuses."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        status, answer = 200, {"data": [{"index": n, "embedding": _vector(t)} for n, t in enumerate(texts)]}
        if any(REFUSED_TEXT in text for text in texts):
            status, answer = 413, {"data": []}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Stay quiet."""


def _vector(text: str) -> list[float]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return [float(x) for x in np.random.default_rng(seed).standard_normal(DIM)]


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """Settings of an encoder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Embeddings) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield {
            "RECSTREAM_ENCODER__BACKEND": "openai",
            "RECSTREAM_ENCODER__MODEL": "test",
            "RECSTREAM_ENCODER__URL": f"http://127.0.0.1:{http.server_address[1]}",
            "RECSTREAM_ENCODER__DIM": str(DIM),
        }
        http.shutdown()
        thread.join()


def without(record: Record, name: str) -> Record:
    return {key: value for key, value in record.items() if key != name}


CORRUPTIONS: dict[str, list[Callable[[Record], Record | bytes]]] = {
    "not_json": [
        lambda r: orjson.dumps(r)[:-3],
        lambda r: b"\xff" + orjson.dumps(r),
        lambda r: orjson.dumps(r).replace(b'"ts"', b"'ts'"),
        lambda r: json.dumps({**r, "context": float("nan")}).encode(),
        lambda r: orjson.dumps(r).replace(b'"u', b'"\xed\xa0\x80u'),
    ],
    "not_an_object": [lambda r: b"[" + orjson.dumps(r) + b"]", lambda r: json.dumps(json.dumps(r)).encode()],
    "missing_field": [
        lambda r: without(r, "user_id"),
        lambda r: without(r, "ts"),
        lambda r: without(r, "action"),
    ],
    "bad_type": [lambda r: {**r, "ts": [r["ts"]]}, lambda r: {**r, "user_id": {"id": r["user_id"]}}],
    "bad_value": [
        lambda r: {**r, "user_id": ""},
        lambda r: {**r, "action": "rate", "item_id": "i1", "rating": 9},
    ],
    "unknown_action": [lambda r: {**r, "action": "teleport"}],
    "bad_timestamp": [lambda r: {**r, "ts": r["ts"] * 1000}, lambda r: {**r, "ts": "2023-02-30T00:00:00Z"}],
    "in_the_future": [lambda r: {**r, "ts": r["ts"] + FUTURE}],
    "empty_text": [lambda r: {**r, "action": "search", "text": "<br>\u200b"}],
    "too_large": [
        lambda r: {**r, "padding": "x" * 300_000},
        lambda r: {**r, "action": "search", "text": "word " * 2000},
        lambda r: {**r, "event_id": "e" * 513 + r["event_id"]},
    ],
    "unknown_item": [lambda r: {**r, "action": "like", "item_id": "missing " + r["event_id"]}],
    "bad_vector": [
        lambda r: {**r, "item_id": "i1", "action": "like", "item": {**ITEMS[1], "vector": [1.0, 2.0]}},
        lambda r: {**r, "item_id": "i1", "action": "like", "item": {**ITEMS[1], "vector": [0] * DIM}},
    ],
    "unencodable": [lambda r: {**r, "action": "search", "text": f"{REFUSED_TEXT} {r['event_id']}"}],
}
"""What can go wrong with an event, by the reason it must meet; all that a mend needs to know is the event."""
EACH = 6
"""Events of the log that each reason is met by."""


def test_every_reason_is_met() -> None:
    assert {*CORRUPTIONS, "too_many_waiting"} == set(REASONS), "a new reason: how does a record meet it?"


def corrupted(log: Sequence[Record], seed: int) -> list[Record | Corrupted]:
    """The log with some of its events corrupted, each in its place, and those of the crowd among them."""
    dice = random.Random(seed)
    reasons = [reason for reason in CORRUPTIONS for _ in range(EACH)]
    found: list[Record | Corrupted] = list(log)
    alone: set[str] = set()
    for place in dice.sample(range(len(log)), len(log)):
        if not reasons:
            break
        reason = reasons[-1]
        if reason == "unknown_item":  # so that it may wait
            if log[place]["user_id"] in alone:
                continue
            alone.add(log[place]["user_id"])
        ways = CORRUPTIONS[reasons.pop()]
        bad = ways[len(reasons) % len(ways)](log[place])
        raw = bad if isinstance(bad, bytes) else orjson.dumps(bad)
        found[place] = (reason, raw, orjson.dumps(log[place]))
    assert not reasons
    crowd: list[Record | Corrupted] = [
        ("unknown_item", orjson.dumps({**one, "item_id": f"missing {n}"}), orjson.dumps(one))
        for n, one in enumerate(CROWD)
    ]
    return [*found[: len(found) // 2], *crowd, *found[len(found) // 2 :]]


def mended(letters: Sequence[Record], bad: Sequence[Corrupted]) -> bytes:
    """What somebody does with a script: in each letter the right record for the wrong one, as JSON lines."""
    right = {raw[:MAX_RAW_BYTES]: whole for _, raw, whole in bad}
    lines = []
    for number, letter in enumerate(letters):
        fixed: Record = without(without(letter, "raw_bytes"), "raw_encoding")
        whole = right[raw_of(letter)]
        fixed["raw"] = whole.decode() if number % 2 else orjson.loads(whole)
        lines.append(orjson.dumps(fixed))
    return b"\n".join(lines)


def assert_each_once(letters: Sequence[Record], bad: Sequence[Corrupted], crowded: int) -> None:
    """Each refused record is in the letters, once, with its reason and its bytes."""
    sources = {(one["source"]["partition"], one["source"]["offset"]) for one in letters}
    assert len(sources) == len(letters)
    for one in letters:
        assert one.get("raw_bytes", len(raw_of(one))) in {len(raw) for _, raw, _ in bad}
    got = Counter(one["reason"] for one in letters)
    assert got.pop("too_many_waiting", 0) == crowded
    wanted = Counter(reason for reason, _, _ in bad)
    wanted["unknown_item"] -= crowded
    assert got == wanted
    state = ("unknown_item", "too_many_waiting")
    pairs = sorted((raw_of(one), one["reason"] in state or one["reason"]) for one in letters)
    assert pairs == sorted((raw[:MAX_RAW_BYTES], reason in state or reason) for reason, raw, _ in bad)


def assert_same_states(one: Path, other: Path, also: dict[str, int] | None = None) -> None:
    """Every user's state is the same, but for where and in which order it was read.

    ``also`` are users of the first store alone, with the events that count for them.
    """
    states = []
    for store in (one, other):
        meta = LanceDatabase.inspect(store)
        assert meta is not None
        users, catalogue = open_lance(store, meta, create=False).users, Catalogue(DIM)
        rows = users.fetch(users.ids())
        states.append(({user: user_state_of(row, catalogue) for user, row in rows.items()}, catalogue.ids))
    (mine, ids), (theirs, other_ids) = states
    for user, version in (also or {}).items():
        assert mine.pop(user).version == version
    assert sorted(mine) == sorted(theirs)
    for user, profile in mine.items():
        assert differences(profile, theirs[user], ids, other_ids) == [], user


def told(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def replay(*args: str | Path, env: dict[str, str], stdin: bytes) -> str:
    done = subprocess.run(
        command("deadletter", "replay", "-", *args),
        env=environment(env),
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    return " ".join(done.stderr.decode().split())


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, server: dict[str, str]) -> tuple[list[Record], Path]:
    """A log and the store that it makes."""
    folder = tmp_path_factory.mktemp("clean")
    log = events(500, items=40, ids=True)
    write_lines(folder / "items.jsonl", ITEMS)
    write_lines(folder / "events.jsonl", [*log, *CROWD])
    done = recstream(
        *("backfill", "--items", "items.jsonl", "--events", "events.jsonl", "--state", "state"),
        env=server,
        cwd=folder,
    )
    assert "read 506 = applied 506 + duplicate 0 + already absorbed 0 + rejected 0" in told(done)
    return log, folder / "state"


def test_a_backfill_accounts_for_all_and_mended_letters_make_up_for_it(
    clean: tuple[list[Record], Path], server: dict[str, str], tmp_path: Path
) -> None:
    log, reference = clean
    mixed = corrupted(log, seed=1)
    bad = [one for one in mixed if isinstance(one, tuple)]
    write_lines(tmp_path / "items.jsonl", ITEMS)
    write_lines(tmp_path / "events.jsonl", [one[1] if isinstance(one, tuple) else one for one in mixed])
    backfill = ("backfill", "--state", "state", "--events")
    done = recstream(*backfill, "events.jsonl", "--items", "items.jsonl", env=server, cwd=tmp_path)
    account = (
        f"read 506 = applied {506 - len(bad)} + duplicate 0 + already absorbed 0 + rejected {len(bad)} +"
    )
    assert account in told(done, 3)
    letters = read_lines(tmp_path / "state" / "dead-letter.jsonl")
    assert_each_once(letters, bad, crowded=0)
    for one in letters:
        reason, raw, _ = mixed[one["source"]["offset"]]
        assert (one["reason"], raw_of(one)) == (reason, raw[:MAX_RAW_BYTES]), "at its place in the log"

    lines = mended(letters, bad)
    said = replay("--to", tmp_path / "mended.jsonl", env=server, stdin=lines)
    assert said == f"{len(bad)} dead letters: {len(bad)} sent to {tmp_path}/mended.jsonl"
    done = recstream(*backfill, "mended.jsonl", env=server, cwd=tmp_path)
    assert f"read {len(bad)} = applied {len(bad)} + duplicate 0" in told(done)
    assert_same_states(tmp_path / "state", reference)


@pytest.mark.kafka
@pytest.mark.slow
def test_the_live_job_accounts_for_all_and_mended_letters_make_up_for_it(
    clean: tuple[list[Record], Path],
    server: dict[str, str],
    broker: EmbeddedBroker,
    topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    log, reference = clean
    mixed = corrupted(log, seed=2)
    bad = [one for one in mixed if isinstance(one, tuple)]
    bad.append(("missing_field", orjson.dumps(without(ANONYMOUS, "ts")), orjson.dumps(ANONYMOUS)))
    bad_item = ("missing_field", orjson.dumps({"item_id": "i40"}), orjson.dumps(item(40)))
    topics = {name: topic(name) for name in ("events", "items", "lists", "dead_letter")}
    env = {
        **{f"RECSTREAM_KAFKA__{name.upper()}_TOPIC": made for name, made in topics.items()},
        **server,
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_STORE__PATH": str(tmp_path / "state"),
        "RECSTREAM_EVENTS__WAIT_FOR_ITEM_S": "2",
        "RECSTREAM_EVENTS__MAX_WAITING": "2",
        "RECSTREAM_RUN__EPOCH_S": "0.2",
        "RECSTREAM_RUN__METRICS_PORT": "0",
    }
    produce(broker.bootstrap, topics["items"], [*ITEMS, bad_item[1]])
    produce(broker.bootstrap, topics["events"], [one[1] if isinstance(one, tuple) else one for one in mixed])
    produce(broker.bootstrap, topics["events"], [bad[-1][1]])
    refused, good = len(bad) + 1, 507 - len(bad)
    with (
        closing(Reader(broker.bootstrap, topics["lists"])) as lists,
        closing(Reader(broker.bootstrap, topics["dead_letter"])) as sink,
        live_job(tmp_path / "job.log", env) as job,
    ):
        wait_until(
            lambda: len(sink.poll()) >= refused and sum(lists.versions().values()) >= good,
            lambda: f"{len(sink.messages)} of {refused} letters, {lists.versions()}\n{job.text()}",
        )
        done = recstream("deadletter", "list", "--json", env=env)
        told(done)
        letters = [orjson.loads(line) for line in done.stdout.splitlines()]
        assert_each_once(letters, [*bad, bad_item], crowded=4)

        lines = mended(letters, [*bad, bad_item])
        said = replay(env=env, stdin=lines)
        for part in (
            f"{refused} dead letters: ",
            f"{len(bad)} sent to {topics['events']}",
            f"1 sent to {topics['items']}",
        ):
            assert part in said
        wait_until(lambda: sum(lists.versions().values()) >= 507, job.text)
        replay(env=env, stdin=lines)
        produce(broker.bootstrap, topics["events"], [{"user_id": "last", "ts": T0, "action": "request"}])
        wait_until(lambda: "last" in lists.versions(), job.text)
        assert job.stop() == 0, job.text()
        assert len(sink.poll()) == refused, "nothing was refused again"
    summary = orjson.loads((tmp_path / "state" / "summaries" / "0.json").read_bytes())
    read = good + 3 * len(bad) + 1
    assert accounting(summary) == (read, 508, len(bad), 0, len(bad), 0, True)
    assert summary["records_read"]["items"] == 40 + 1 + 2
    assert summary["catalogue_items"] == 41
    assert_same_states(tmp_path / "state", reference, also={"anon": 1})
