"""The whole way: broker, ``recstream run`` with the real model, lists read by an ordinary consumer."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jsonschema
import orjson
import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.metrics.accounting import accounting
from recstream.records.dead_letter import raw_of
from recstream.records.schema import all_schemas
from tests.support.live_jobs import LiveJob, live_job, wait_until
from tests.support.logs import Record
from tests.support.topics import Reader, produce

pytestmark = [pytest.mark.kafka, pytest.mark.model]
NOW = time.time()
FILMS = {
    "alien": ("Alien", "A crew in space is hunted by a monster aboard their ship"),
    "apollo": ("Apollo 13", "Astronauts must bring a damaged space ship back from the moon"),
    "solaris": ("Solaris", "A psychologist on a space station above a strange planet"),
    "sunshine": ("Sunshine", "A space mission flies to reignite the dying sun"),
    "emma": ("Emma", "A young lady in rural England plays matchmaker in love"),
    "pride": ("Pride and Prejudice", "Sisters look for love and marriage in the English countryside"),
    "notting": ("Notting Hill", "A bookseller falls in love with a film star"),
    "chef": ("Chef", "A cook opens a food truck and finds joy in cooking"),
    "tampopo": ("Tampopo", "A widow learns to cook the perfect noodle soup"),
    "gravity": ("Gravity", "Two astronauts are adrift in space after their ship is destroyed"),
}
LATE = ("solaris", "gravity")
"""Films that come when users are there already."""


def item(item_id: str) -> Record:
    title, text = FILMS[item_id]
    return {"item_id": item_id, "title": title, "text": text}


def event(user: str, action: str, item_id: str | None = None, **more: Any) -> Record:
    made: Record = {"user_id": user, "ts": NOW - 100, "action": action, **more}
    return {**made, "item_id": item_id} if item_id is not None else made


GOOD = [
    event("ada", "search", text="monster in space"),
    event("ada", "like", "alien"),
    event("ada", "like", "apollo", ts=NOW - 90),
    event("ben", "purchase", "emma"),
    event("ben", "like", "pride", ts=NOW - 80),
    event("cat", "search", text="cooking noodles and soup"),
    event("dan", "comment", "chef", text="Delicious, I loved it!", ts=NOW - 70),
    event("eve", "request"),
    event("fay", "like", item={"item_id": "ran", "title": "Ran", "text": "Samurai at war"}),
    event("gus", "view", "alien", event_id="once"),
    event("hal", "view", "solaris"),
]
DUPLICATES = [event("gus", "view", "alien", event_id="once")] * 2
BAD_EVENTS: list[tuple[Record | bytes, str]] = [
    (b"not json", "not_json"),
    (b'{"user_id": "ada", "ts": 1, "act', "not_json"),
    (b'{"user_id": "\xc3\x28", "ts": 1}', "not_json"),
    (b"\xff\xfe\x00\x80", "not_json"),
    (b'["ada"]', "not_an_object"),
    (b"null", "not_an_object"),
    ({"ts": NOW, "action": "view", "item_id": "alien"}, "missing_field"),
    ({"user_id": "ada", "ts": NOW, "item_id": "alien"}, "missing_field"),
    (event("ada", "view"), "missing_field"),
    (event("ada", "view", "alien", ts=[]), "bad_type"),
    ({"user_id": {}, "ts": NOW, "action": "view", "item_id": "alien"}, "bad_type"),
    (event("ada", "rate", "alien", rating=11), "bad_value"),
    (event("ada", "teleport", "alien"), "unknown_action"),
    (event("ada", "view", "alien", ts=NOW + 86_400), "in_the_future"),
    (event("ada", "view", "alien", ts="next week"), "bad_timestamp"),
    (event("ada", "view", "alien", ts=-1), "bad_timestamp"),
    (event("ada", "view", "alien", ts=1e300), "bad_timestamp"),
    (event("ada", "view", "alien", ts="2024-13-45T00:00:00Z"), "bad_timestamp"),
    (event("ada", "search", text=""), "empty_text"),
    (event("ada", "search", text="<br>  \u200b"), "empty_text"),
    (event("ada", "search", text="space " * 5000), "too_large"),
    (b'{"pad": "' + b"x" * 400_000 + b'"}', "too_large"),
    (event("ada", "like", "no-such-film"), "unknown_item"),
]
BAD_ITEMS: list[tuple[Record | bytes, str]] = [
    (b"{]", "not_json"),
    ({"item_id": "x"}, "missing_field"),
    ({"item_id": "x", "title": [7]}, "bad_type"),
    ({"item_id": "x", "title": " "}, "empty_text"),
]


@dataclass
class Ran:
    """What a run left."""

    lists: list[Any]
    letters: list[Any]
    summary: dict[str, Any]
    produced: list[Record | bytes]
    code: int
    topics: dict[str, str]
    log: str

    def last(self, user: str) -> Record:
        values = [one.value() for one in self.lists if one.key() == user.encode() and one.value() is not None]
        record: Record = orjson.loads(values[-1])
        return record


@pytest.fixture(scope="module")
def ran(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All records go through one job; the tests look at what came out."""
    from recstream.connectors.kafka.admin import ensure_topics

    folder = tmp_path_factory.mktemp("live")
    names = ("events", "items", "lists", "dead-letters", "sessions")
    topics = {name: f"live-{name}-{folder.name}" for name in names}
    ensure_topics(broker.bootstrap, {topics[name]: 2 if name == "events" else 1 for name in names})
    settings = {
        "RECSTREAM_KAFKA__BOOTSTRAP": broker.bootstrap,
        "RECSTREAM_KAFKA__EVENTS_TOPIC": topics["events"],
        "RECSTREAM_KAFKA__ITEMS_TOPIC": topics["items"],
        "RECSTREAM_KAFKA__LISTS_TOPIC": topics["lists"],
        "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": topics["dead-letters"],
        "RECSTREAM_KAFKA__GROUP": topics["events"],
        "RECSTREAM_STORE__PATH": str(folder / "state"),
        "RECSTREAM_RANKING__TOP_N": "5",
        # among nine films what is popular would drown what is meant
        "RECSTREAM_RANKING__WEIGHTS": '{"popular": 0, "rising": 0, "trending": 0}',
        "RECSTREAM_EVENTS__WAIT_FOR_ITEM_S": "5",
        "RECSTREAM_RUN__EPOCH_S": "0.2",
        "RECSTREAM_RUN__METRICS_PORT": "0",
    }
    items = [item(name) for name in FILMS if name not in LATE]
    produce(broker.bootstrap, topics["items"], [*items, *(bad for bad, _ in BAD_ITEMS)])
    produced: list[Record | bytes] = [*GOOD, *(bad for bad, _ in BAD_EVENTS), *DUPLICATES]
    with (
        closing(Reader(broker.bootstrap, topics["lists"])) as lists,
        closing(Reader(broker.bootstrap, topics["dead-letters"])) as letters,
        live_job(folder / "job.log", settings) as job,
    ):
        wanted = {one["user_id"] for one in GOOD} - {"hal"}
        produce(broker.bootstrap, topics["events"], GOOD[:1])  # the model is loaded for its item
        _await(lists, {"ada"}, job)
        produce(broker.bootstrap, topics["events"], produced[1:])
        _await(lists, wanted, job)
        # hal's film comes after hal's event; everything else has been worked off by then
        produce(broker.bootstrap, topics["items"], [item("solaris")])
        _await(lists, {"hal"}, job)
        bad = len(BAD_EVENTS) + len(BAD_ITEMS)
        wait_until(
            lambda: len(letters.poll()) >= bad, lambda: f"{len(letters.messages)} letters\n{job.text()}"
        )
        later: list[Record | bytes] = [
            event("ada", "search", text="romantic love story in England", ts=NOW - 5),
            event("eve", "request", ts=NOW - 4),
            event("ben", "forget", ts=NOW - 3),
        ]
        produce(broker.bootstrap, topics["events"], later)
        wait_until(
            lambda: (
                any(one.key() == b"ben" and one.value() is None for one in lists.poll())
                and lists.versions()["ada"] == 4
            ),
            job.text,
        )
        produce(broker.bootstrap, topics["items"], [item("gravity")])
        wait_until(lambda: "gus" in _reached(lists.poll(), "gravity"), job.text)
        code = job.stop(within_s=5.0)
        return Ran(
            lists.poll(),
            letters.poll(),
            orjson.loads((folder / "state" / "summaries" / "0.json").read_bytes()),
            produced + later,
            code,
            topics,
            job.text(),
        )


def _await(lists: Reader, users: set[str], job: LiveJob) -> None:
    wait_until(lambda: users <= lists.versions().keys(), lambda: f"lists of {users}; the job:\n{job.text()}")


def _reached(lists: list[Any], item_id: str) -> set[str]:
    """Users of whom nothing came, and whose list was made again with this item in it."""
    records = [orjson.loads(one.value()) for one in lists if one.value() is not None]
    return {
        record["user_id"]
        for record in records
        if record["trigger"] == "drift" and item_id in [entry["item_id"] for entry in record["items"]]
    }


def test_a_new_film_reaches_idle_users_whom_it_fits_and_no_others(ran: Ran) -> None:
    """Found by a search of the user vectors in LanceDB; of the stream nothing came but the film."""
    reached = _reached(ran.lists, "gravity")
    assert "gus" in reached, "viewed Alien"
    assert reached.isdisjoint({"cat", "dan", "eve", "ben"}), "cooking, cooking, nothing, erased"
    fresh = ran.last("gus")
    assert (fresh["trigger"], fresh["version"]) == ("drift", 1)


def test_a_signal_stops_the_job_with_exit_code_0(ran: Ran) -> None:
    assert ran.code == 0
    assert "Traceback" not in ran.log


def test_every_list_keeps_the_published_contract(ran: Ran) -> None:
    schema = all_schemas()["recommendation"]
    for message in ran.lists:
        headers = dict(message.headers())
        assert headers["recstream-schema"] == b"1"
        if message.value() is None:
            continue
        record = orjson.loads(message.value())
        jsonschema.validate(record, schema)
        assert message.key() == record["user_id"].encode()
        assert headers["recstream-version"] == str(record["version"]).encode()
        assert record["model"]["encoder"].startswith("minilm-l6-v2@53aa5117")


def test_the_real_model_gives_lists_that_make_sense(ran: Ran) -> None:
    ada = [orjson.loads(one.value()) for one in ran.lists if one.key() == b"ada"]
    before = [one for one in ada if one["version"] == 3][-1]
    assert before["items"][0]["item_id"] in ("solaris", "sunshine")
    assert ran.last("cat")["items"][0]["item_id"] == "tampopo"
    assert {"emma", "pride", "notting"} & {entry["item_id"] for entry in ran.last("ada")["items"][:2]}
    assert "alien" not in [entry["item_id"] for entry in ran.last("ada")["items"]]
    assert ran.last("hal")["version"] == 1
    assert ran.last("eve")["trigger"] == "request"
    assert len(ran.last("eve")["items"]) == 5


def test_a_forgotten_user_ends_in_a_tombstone(ran: Ran) -> None:
    assert [one.value() for one in ran.lists if one.key() == b"ben"][-1] is None


def test_every_bad_record_is_in_the_dead_letter_topic_and_whole(ran: Ran) -> None:
    schema = all_schemas()["reject"]
    letters = [orjson.loads(one.value()) for one in ran.letters]
    for letter in letters:
        jsonschema.validate(letter, schema)
        assert letter["detail"]
    for topic, bad in ((ran.topics["events"], BAD_EVENTS), (ran.topics["items"], BAD_ITEMS)):
        found = [one for one in letters if one["source"]["partition"].rpartition("/")[0] == topic]
        got = sorted((raw_of(one), one["reason"]) for one in found)
        sent = [(one if isinstance(one, bytes) else orjson.dumps(one), reason) for one, reason in bad]
        assert got == sorted((raw[:262_144], reason) for raw, reason in sent)
        assert len({(one["source"]["partition"], one["source"]["offset"]) for one in found}) == len(bad)


def test_every_record_is_in_the_account(ran: Ran) -> None:
    account = accounting(ran.summary)
    assert account.balanced, account
    assert account.read == len(ran.produced)
    assert (account.rejected, account.duplicate) == (len(BAD_EVENTS), len(DUPLICATES))
    assert (account.applied, account.absorbed, account.waiting) == (len(GOOD) + 3, 0, 0)
    assert ran.summary["records_read"]["items"] == len(FILMS) + len(BAD_ITEMS)
    assert str(account) in " ".join(ran.log.split()), "the job says so at its end"
