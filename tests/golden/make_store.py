"""How the golden stores were made: those of a backfill and of a live job, one archive a layout.

Run with the code of the last commit that wrote the layout, from its folder::

    PYTHONPATH=$PWD python .../tests/golden/make_store.py .../tests/golden/store_v1.tar.gz

That was d8c8b02 for layout 1, f064aa2 for layout 2 and f5eb3b1 for layout 3. An archive is never made again:
it stands for the stores that are out there. It holds

* ``events.jsonl``, ``items.jsonl``, ``late.jsonl``: the log, the items known from the start, those that
  came later (which is why events wait in the live store; a replay rejects them);
* ``backfill``: the store after the first ``FIRST`` events of the log, as a replay of them left it;
* ``live``: the store that a live job left when it was stopped, after the same events from topic
  ``golden-events``;
* of layout 3 ``expected.json`` as well: what that release itself made of copies of them. That is
  ``show --json`` of each user of ``live`` and of its model, and the lists of ``backfill --refresh event``
  over the whole log into ``backfill``.
"""

from __future__ import annotations

import random
import sys
import tarfile
import tempfile
from pathlib import Path

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.support.commands import recstream
from tests.support.live_jobs import live_job, wait_until
from tests.support.logs import Record, item, write_lines
from tests.support.topics import Reader, produce

FIRST = 60
KNOWN, LATE = 12, 4
USERS = ("plain", "words", "waits", "hides", "o'neil ü")
SETTINGS = {
    "encoder.backend": "hashing",
    "encoder.dim": "8",
    "cache.enabled": "false",
    "store.shards": "4",
}
TOPICS = {"events": 2, "items": 1, "lists": 1, "dead_letter": 1}


def log_of(count: int) -> list[Record]:
    """Events of a few users, each with their own habits; every fourth one has an id."""
    rng = random.Random("golden")
    made: list[Record] = []
    for number in range(count):
        user = USERS[number % len(USERS)]
        record: Record = {"user_id": user, "ts": 1_700_000_000 + 700 * number + number / 1024}
        record["action"] = rng.choice(("view", "like", "purchase", "dislike"))
        record["item_id"] = f"i{rng.randrange(KNOWN)}"
        if user == "words" and number % 2:
            record = {**record, "action": "search", "text": f"space zebra {number}"}
            del record["item_id"]
        elif user == "words":
            record |= {"action": "comment", "text": f"great jazz {number}", "rating": 5}
        elif user == "hides":
            record["action"] = rng.choice(("hide", "impression", "like"))
        elif user == "waits" and number % 3:
            record["item_id"] = f"i{KNOWN + rng.randrange(LATE)}"
        if number % 4 == 0:
            record["event_id"] = f"e{number}"
        made.append(record)
    made[FIRST - 1] = made[FIRST - 1 - 3 * 5]  # a repeated record
    return made


def backfilled(folder: Path) -> None:
    """Replay the first events into ``folder/backfill``."""
    options = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    done = recstream(
        *(
            "backfill",
            "--events",
            "events.jsonl",
            "--items",
            "items.jsonl",
            "--limit",
            str(FIRST),
            "--max-rejects",
            "99",
        ),
        *("--state", "backfill", *options),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    print(done.stderr)


def lived(folder: Path, log: list[Record], items: list[Record]) -> None:
    """Run a live job over them, and stop it when all is listed."""
    names = {f"RECSTREAM_{name.upper().replace('.', '__')}": value for name, value in SETTINGS.items()}
    names |= {f"RECSTREAM_KAFKA__{kind.upper()}_TOPIC": f"golden-{kind}" for kind in TOPICS}
    names |= {"RECSTREAM_STORE__PATH": str(folder / "live"), "RECSTREAM_RUN__METRICS_PORT": "0"}
    with EmbeddedBroker() as broker:
        ensure_topics(broker.bootstrap, {f"golden-{kind}": parts for kind, parts in TOPICS.items()})
        produce(broker.bootstrap, "golden-items", items)
        names["RECSTREAM_KAFKA__BOOTSTRAP"] = broker.bootstrap
        lists = Reader(broker.bootstrap, "golden-lists")
        with live_job(folder / "job.log", names) as job:
            probe = {"user_id": "probe", "ts": 1_700_000_000, "action": "view", "item_id": "i0"}
            produce(broker.bootstrap, "golden-events", [probe])
            wait_until(lambda: lists.versions().get("probe") == 1, job.text)
            produce(broker.bootstrap, "golden-events", [*log, {**probe, "ts": 1_700_100_000}])
            wait_until(lambda: lists.versions().get("probe") == 2, job.text)
            wait_until(lambda: lists.versions().get("plain", 0) >= FIRST // len(USERS), job.text)
            assert job.stop() == 0, job.text()
            print(job.text())
        lists.close()


def main(archive: Path) -> None:
    """Make both stores and pack them."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        log, items = log_of(2 * FIRST), [item(number) for number in range(KNOWN)]
        write_lines(folder / "events.jsonl", log)
        write_lines(folder / "items.jsonl", items)
        write_lines(folder / "late.jsonl", [item(number) for number in range(KNOWN, KNOWN + LATE)])
        backfilled(folder)
        lived(folder, log[:FIRST], items)
        (folder / "job.log").unlink()
        with tarfile.open(archive, "w:gz") as packed:
            for path in sorted(folder.iterdir()):
                packed.add(path, path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
