"""The log of a crash test: everything that can go wrong, in cohorts of users who come and go.

The outcome is the same whenever records are read, in whatever batches, with whatever pauses (a few
seconds): that is what makes two runs comparable.

* Every user ends in the cohort of their beginning, but for the veterans: so at each moment some users have
  had their last event, and nothing later makes up for a list of theirs that is lost.
* An item that comes late comes long before events that wait for it are given up; some are never sent.
* An event that may wait has the time of the event before it, so that sessions begin and end with others.
* A user is forgotten within their first session, so that none was closed before.
* Too many wait only of users whose items never come.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import orjson

from tests.support.logs import T0, WORDS, Record, item

__all__ = ["GAP_S", "ITEMS", "LATENESS_S", "MAX_WAITING", "Cohort", "CrashLog", "SentRecord", "versions"]

ITEMS = 40
"""Items that are there from the beginning."""
MAX_WAITING = 3
GAP_S = 2.0
"""Event time between two sessions."""
LATENESS_S = 3600.0
"""Event time after which a session is closed; a jump of `_JUMP_S` goes beyond it."""
_JUMP_S = 5000.0
_VETERANS = 3
_ACTIONS = ("view", "view", "like", "purchase", "rate", "dislike", "skip", "hide", "search", "comment")


class SentRecord(NamedTuple):
    """A record, and what is to become of it."""

    topic: str
    """``events`` or ``items``."""
    key: str
    value: bytes
    fate: str
    """``applied``, ``late`` (applied once its item is there), ``forget``, or ``other`` (changes no row)."""


class Cohort(NamedTuple):
    """What is sent in one go, and the items that come after it."""

    now: list[SentRecord]
    later: list[SentRecord]


class CrashLog:
    """Makes cohorts, each from a seed of its own; user ids say what their users go through."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._clock: dict[str, float] = {}
        self._count = 0

    def cohort(self, number: int, *, items_missing: bool = True) -> Cohort:
        """The records of one cohort; with ``items_missing`` some events wait for items that never come."""
        rng = random.Random(f"trouble {self._seed} {number}")
        later = [
            SentRecord("items", f"late{number}-{k}", _item(f"late{number}-{k}"), "other") for k in range(4)
        ]
        late = [f"late{number}-{k}" for k in range(4)]
        scripts = [
            self._plain(f"plain{number}", rng),
            self._asker(f"asker{number}", rng),
            [*self._plain(f"last{number}", rng), self._wait(f"last{number}", late[0], "late")],
            self._doubled(f"doubled{number}", late[1], rng),
            self._gone(f"gone{number}", late[2], rng),
            self._back(f"back{number}", late[3], rng),
            self._sitting(f"sitting{number}", rng),
            self._bringer(f"bringer{number}", f"brought{number}", rng),
            [
                *self._plain(f"borrower{number}", rng),
                self._wait(f"borrower{number}", f"brought{number}", "late"),
            ],
            *(self._veteran(f"veteran{k}", rng) for k in range(_VETERANS)),
            _malformed(number),
        ]
        if items_missing:
            scripts.append(self._disappointed(f"never{number}", number, rng))
            scripts.append(self._overfull(f"overfull{number}", number, rng))
        return Cohort(_interleaved(scripts, rng), [*later, *_malformed_items(number)])

    def beat(self, user: str) -> SentRecord:
        """One ordinary event of a user who does nothing else."""
        return self._event(user, 0.5, action="view", item_id=f"i{self._count % ITEMS}")

    def _event(self, user: str, after_s: float, *, fate: str = "applied", **fields: object) -> SentRecord:
        ts = self._clock[user] = self._clock.get(user, T0) + after_s
        self._count += 1
        record: Record = {"user_id": user, "ts": ts, **fields}
        if self._count % 2:
            record["event_id"] = f"{user}-{self._count}"
        return SentRecord("events", user, orjson.dumps(record), fate)

    def _usual(self, user: str, rng: random.Random, after_s: float | None = None) -> SentRecord:
        action = rng.choice(_ACTIONS)
        fields: Record = {"action": action}
        if action != "search":
            fields["item_id"] = f"i{rng.randrange(ITEMS)}"
        if action == "rate":
            fields["rating"] = rng.randrange(1, 6)
        if action in ("search", "comment"):
            fields["text"] = f"{' '.join(rng.sample(WORDS, 2))} {self._count}"
        step_s = rng.choice((-0.25, 0.0, 0.25, 0.5, 1.0, 3.0)) if after_s is None else after_s
        return self._event(user, step_s, **fields)

    def _wait(self, user: str, item_id: str, fate: str) -> SentRecord:
        return self._event(user, 0.0, fate=fate, action="view", item_id=item_id)

    def _plain(self, user: str, rng: random.Random) -> list[SentRecord]:
        shown = self._event(user, 0.25, action="impression", item_id=f"i{rng.randrange(ITEMS)}")
        first = [self._usual(user, rng, 1.0), self._usual(user, rng), shown]
        return [*first, *(self._usual(user, rng) for _ in range(rng.randrange(1, 5)))]

    def _asker(self, user: str, rng: random.Random) -> list[SentRecord]:
        def asked() -> SentRecord:
            return self._event(user, 0.25, fate="other", action="request")

        return [asked(), self._usual(user, rng), asked(), self._usual(user, rng, 0.5), asked()]

    def _doubled(self, user: str, late: str, rng: random.Random) -> list[SentRecord]:
        script: list[SentRecord] = []
        while len(script) < 6:
            sent = self._usual(user, rng, 0.5)
            script += [sent, sent._replace(fate="other")] if b"event_id" in sent.value else [sent]
        waits = self._wait(user, late, "late")
        if b"event_id" not in waits.value:
            record = orjson.loads(waits.value)
            waits = waits._replace(value=orjson.dumps({**record, "event_id": f"{user}-late"}))
        return [*script, waits, waits._replace(fate="other"), self._usual(user, rng, 0.5)]

    def _gone(self, user: str, late: str, rng: random.Random) -> list[SentRecord]:
        stays = [self._usual(user, rng, 0.5) for _ in range(3)]
        return [*stays, self._wait(user, late, "late"), self._forget(user)]

    def _back(self, user: str, late: str, rng: random.Random) -> list[SentRecord]:
        before = [self._usual(user, rng, 0.5) for _ in range(2)]
        after = [self._usual(user, rng, 1.0), self._usual(user, rng)]
        return [*before, self._forget(user), *after, self._wait(user, late, "late")]

    def _forget(self, user: str) -> SentRecord:
        return self._event(user, 0.25, fate="forget", action="forget")

    def _sitting(self, user: str, rng: random.Random) -> list[SentRecord]:
        return [
            self._usual(user, rng, after_s)
            for after_s in (1.0, 0.5, 3.0, _JUMP_S, 0.5, _JUMP_S, 0.25, 3.0, _JUMP_S)
        ]

    def _bringer(self, user: str, item_id: str, rng: random.Random) -> list[SentRecord]:
        whole = {**item(self._count), "item_id": item_id}
        brings = self._event(user, 0.5, action="like", item_id=item_id, item=whole)
        return [self._usual(user, rng, 0.5), brings, self._usual(user, rng, 0.5)]

    def _veteran(self, user: str, rng: random.Random) -> list[SentRecord]:
        return [self._usual(user, rng, _JUMP_S), self._usual(user, rng), self._usual(user, rng, 0.5)]

    def _disappointed(self, user: str, number: int, rng: random.Random) -> list[SentRecord]:
        first = self._usual(user, rng, 0.5)
        return [first, self._wait(user, f"never{number}", "other"), self._usual(user, rng, 0.5)]

    def _overfull(self, user: str, number: int, rng: random.Random) -> list[SentRecord]:
        first = self._usual(user, rng, 0.5)
        return [first, *(self._wait(user, f"never{number}-{k}", "other") for k in range(MAX_WAITING + 2))]


def versions(sent: list[SentRecord]) -> dict[str, int]:
    """The version of every user whom these events leave behind."""
    counts: dict[str, int] = {}
    for one in sent:
        if one.fate in ("applied", "late"):
            counts[one.key] = counts.get(one.key, 0) + 1
        elif one.fate == "forget":
            counts.pop(one.key, None)
    return counts


def _item(item_id: str) -> bytes:
    return orjson.dumps({**item(sum(map(ord, item_id))), "item_id": item_id})


def _malformed(number: int) -> list[SentRecord]:
    user = f"wrong{number}"
    return [
        SentRecord("events", user, value, "other")
        for value in (
            b"{not json",
            b"\xff\xfe",
            orjson.dumps({"user_id": user, "ts": T0}),
            orjson.dumps({"user_id": user, "ts": T0, "action": "veiw", "item_id": "i1"}),
        )
    ]


def _malformed_items(number: int) -> list[SentRecord]:
    return [SentRecord("items", f"wrong{number}", b'{"item_id": 1.5}', "other")]


def _interleaved(scripts: list[list[SentRecord]], rng: random.Random) -> list[SentRecord]:
    turns = [k for k, script in enumerate(scripts) for _ in script]
    rng.shuffle(turns)
    steps = [iter(script) for script in scripts]
    return [next(steps[k]) for k in turns]
