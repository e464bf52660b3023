"""Differences between what a killed job left and what the reference job left, which was never killed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec
import orjson

from recstream.metrics.accounting import accounting, merge_summaries
from recstream.records.dead_letter import raw_of
from recstream.runtime.process import summary_path
from recstream.users.codec import UserRow
from tests.recovery.crash_driver import CrashRun, JobTopics
from tests.recovery.crash_log import versions
from tests.support.stored_users import assert_same_users, stored_users

__all__ = ["KINDS", "violations"]

KINDS = ("rows", "lists", "tombstones", "requests", "rejects_lost", "rejects_made_up", "sessions_lost",
         "sessions_made_up", "account", "stop")  # fmt: skip
Violations: TypeAlias = dict[str, list[str]]
_ANNOUNCED, _OUTBOX, _REFUSED = 10, 12, 13


def violations(crash: CrashRun) -> Violations:
    """What the killed job lost or made up, by kind; the reference is checked against the log first."""
    reference, killed = JobOutcome(crash, crash.reference), JobOutcome(crash, crash.killed)
    reference.assert_sound(crash)
    found = {
        "rows": list(_rows(killed, reference)),
        "lists": list(killed.lists_missing(reference.versions)),
        "tombstones": list(killed.tombstones_missing(crash)),
        "requests": list(killed.requests_unanswered()),
        "rejects_lost": sorted(f"{one}" for one in reference.rejects.keys() - killed.rejects.keys()),
        "rejects_made_up": sorted(f"{one}" for one in killed.rejects.keys() - reference.rejects.keys()),
        "sessions_lost": sorted(reference.sessions - killed.sessions),
        "sessions_made_up": sorted(killed.sessions - reference.sessions),
        "account": list(killed.out_of_balance(crash.processes)),
        "stop": [f"exit codes {crash.codes}"] if any(crash.codes) else [],
    }
    return {kind: some for kind, some in found.items() if some}


class JobOutcome:
    """What one job left in its store and its topics."""

    def __init__(self, crash: CrashRun, ran: JobTopics) -> None:
        self.ran = ran
        listener = crash.listener
        self.rows = stored_users(ran.state)
        self.versions = {user: row.version for user, row in self.rows.items()}
        self.outputs: dict[str, list[Any]] = {}
        """By user, in order: lists, and None for a tombstone."""
        for message in listener.read_before(ran.lists):
            value = message.value()
            self.outputs.setdefault(message.key().decode(), []).append(
                None if value is None else orjson.loads(value)
            )
        self.read = {
            (f"{message.topic()}/{message.partition()}", message.offset()): message
            for topic in (crash.events, crash.items)
            for message in listener.read_before(topic)
        }
        self.rejects: dict[tuple[str, int, str], int] = {}
        """How often each (partition, offset, reason) is in the dead letters."""
        for message in listener.read_before(ran.dead_letters):
            dead_letter = orjson.loads(message.value())
            where = dead_letter["source"]["partition"], dead_letter["source"]["offset"]
            assert raw_of(dead_letter) == self.read[where].value(), f"{where}: other bytes than were sent"
            one = *where, dead_letter["reason"]
            self.rejects[one] = self.rejects.get(one, 0) + 1
        self.sessions = {message.value().decode() for message in listener.read_before(ran.sessions)}

    def assert_sound(self, crash: CrashRun) -> None:
        """What was never killed left what the log says, and there was something to lose."""
        assert self.versions == versions(crash.sent), crash.report()
        assert not list(self.lists_missing(self.versions)), crash.report()
        assert not list(self.tombstones_missing(crash)), crash.report()
        assert not list(self.requests_unanswered()), crash.report()
        assert set(self.rejects.values()) == {1}, "the reference sent a dead letter twice"
        self._assert_worth_it(crash)

    def _assert_worth_it(self, crash: CrashRun) -> None:
        reasons = {reason for _, _, reason in self.rejects}
        wanted = {"not_json", "missing_field", "unknown_action"}
        if crash.has_missing_items:
            wanted |= {"unknown_item", "too_many_waiting"}
        assert wanted <= reasons, f"only {reasons} were rejected"
        assert self.sessions
        if not crash.goes_quiet:
            return
        ends = {user: row for user, row in self.rows.items() if _state(row)[_ANNOUNCED] != row.updated_at}
        assert not ends, f"sessions of {sorted(ends)} were not announced by the reference"

    def lists_missing(self, wanted: dict[str, int]) -> Iterable[str]:
        """Users whose consumer is not left with a list of the last version, or with nothing if erased."""
        for user, version in wanted.items():
            newest = max((one["version"] for one in self._after_tombstone(user)), default=-1)
            if newest != version:
                yield f"{user}: newest list has version {newest}, the row {version}"
        for user in self.outputs.keys() - wanted.keys():
            left = [one for one in self._after_tombstone(user) if one["version"] > 0]
            if left:
                yield f"{user}: is erased, and lists follow the last tombstone"

    def tombstones_missing(self, crash: CrashRun) -> Iterable[str]:
        """Forgets that no tombstone followed."""
        for sent in crash.sent:
            if sent.fate == "forget" and None not in self.outputs.get(sent.key, []):
                yield f"{sent.key}: no tombstone"

    def requests_unanswered(self) -> Iterable[str]:
        """Requests that no list of their user's reflects: each user's are in one partition, in order."""
        for (partition, offset), message in self.read.items():
            if b'"request"' in message.value():
                user = message.key().decode()
                lists = [one for one in self.outputs.get(user, []) if one is not None]
                if not any(one["as_of"]["offset"] >= offset for one in lists):
                    yield f"{user}: request at {partition} {offset} unanswered"

    def out_of_balance(self, processes: int) -> Iterable[str]:
        """The account of the last run."""
        paths = [summary_path(self.ran.state, number) for number in range(processes)]
        account = accounting(merge_summaries([orjson.loads(path.read_bytes()) for path in paths]))
        if not account.balanced:
            yield f"{account}"

    def _after_tombstone(self, user: str) -> list[Any]:
        outputs = self.outputs.get(user, [])
        last = max((k for k, one in enumerate(outputs) if one is None), default=-1)
        return outputs[last + 1 :]


def _rows(killed: JobOutcome, reference: JobOutcome) -> Iterable[str]:
    for user in sorted(killed.rows.keys() | reference.rows.keys()):
        if user not in killed.rows or user not in reference.rows:
            yield f"{user}: {'lost' if user in reference.rows else 'made up'}"
            continue
        try:
            assert_same_users(
                {user: _comparable(killed.rows[user])},
                {user: _comparable(reference.rows[user])},
                tolerance=1e-6,
            )
        except AssertionError as error:
            yield f"{user}: {error}"


def _comparable(row: UserRow) -> UserRow:
    """A row without what rightly differs.

    Outbox and refusals: what leaves is kept until two barriers later, whenever these were.
    """
    state = _state(row)
    state[_OUTBOX] = state[_REFUSED] = []
    return row._replace(state=row.state[:1] + msgspec.msgpack.encode(state))


def _state(row: UserRow) -> list[Any]:
    state: list[Any] = msgspec.msgpack.decode(row.state[1:])
    return state
