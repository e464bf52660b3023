"""Protocol: which events of a log are tests, and which events a scored list may have seen.

The evaluation is prequential and over the whole catalogue. The log is replayed in its order, and each event
of its last part is a test of the list that its user had, or would have been given, just before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from recstream.records.actions import TRAITS, Action
from recstream.records.event import Event

__all__ = ["ListTime", "Plan", "Protocol", "Target", "Ties", "Trial", "When", "plan_of"]

When: TypeAlias = Literal["request", "emitted"]
"""Which list is tested: one made when the user comes, or the one left from the user's last event."""
Ties: TypeAlias = Literal["group", "sequence"]
"""How one user's events of the same time are read: as a group without order, or in the order of the log."""

NOT_POSITIVE: Final = ("not_recommend", "tag")
"""Actions of public logs that are about an item without using it."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is scored and how.

    A *positive* is an event by which a user chose an item. *Tests* are the positives within the
    last ``last_frac`` of them. Positives of one user at one time are a *tie group*: there is no order among
    them, so all are scored by a list made before the first.
    """

    last_frac: float = 0.2
    min_prior: int = 1
    """Positives a user must have before a tie group to be scored by it; 0 scores the first ones too."""
    repeats: bool = False
    """Whether items the user has had before are tested and may be listed."""
    ties: Ties = "group"
    not_target: tuple[str, ...] = ("ask",)
    """Actions that are learned from but not scored (nobody can be recommended their own question)."""
    not_positive: tuple[str, ...] = NOT_POSITIVE
    when: When = "request"

    def __post_init__(self) -> None:
        if not 0.0 < self.last_frac <= 1.0:
            raise ValueError(f"last_frac is {self.last_frac}: wanted a share of the log above 0, at most 1")
        if self.min_prior < 0:
            raise ValueError(f"min_prior is {self.min_prior}: wanted 0 or more")


class Target(NamedTuple):
    """One test: an item that the user chose."""

    item_id: str
    place: int
    """Index of the event in the log."""
    popularity: int
    """Positives of the item before this event."""


class Trial(NamedTuple):
    """One tie group with at least one target."""

    user_id: str
    place: int
    """Index of its first positive in the log. The list must not have seen this event or any later one."""
    ts: float
    prior: int
    """The user's positives before the group."""
    targets: tuple[Target, ...]
    made_at: int
    """Index of the first event that the tested list has not seen; -1: there is no list."""


class ListTime(NamedTuple):
    """When the list of a trial is made."""

    place: int
    """Index of the first event that the list has not seen."""
    trial: int
    """Index in `Plan.trials`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All tests of a log."""

    trials: list[Trial]
    """In the order of the log."""
    positives: list[bool]
    """For each event, whether it is a positive."""
    surely_listed: list[bool]
    """For each event, whether it certainly causes a list where lists are emitted."""

    def list_times(self) -> list[ListTime]:
        """When lists are to be made, in the order of the log."""
        made = [ListTime(trial.made_at, n) for n, trial in enumerate(self.trials) if trial.made_at >= 0]
        return sorted(made)

    @property
    def targets(self) -> int:
        """Number of tests."""
        return sum(len(trial.targets) for trial in self.trials)


@dataclass(slots=True)
class _Group:
    ts: float
    place: int
    prior: int
    made_at: int
    targets: list[Target]


def plan_of(
    events: Sequence[Event], actions: Mapping[str, Action], known: frozenset[str], protocol: Protocol
) -> Plan:
    """Find the tests of a log; ``known`` are the ids of items that lists can hold from the start.

    An item that no record describes is a test too: no list can hold it, so it is missed.
    """
    positives = [_is_positive(event, actions, protocol) for event in events]
    places = [place for place, positive in enumerate(positives) if positive]
    cut = int(len(places) * (1 - protocol.last_frac))
    begin = places[cut] if cut < len(places) else len(events)
    listed = _surely_listed(events, actions, known)
    last_listed: dict[str, int] = {}
    groups: dict[str, _Group] = {}
    seen: dict[str, set[str]] = {}
    prior: dict[str, int] = {}
    popularity: dict[str, int] = {}
    found: list[tuple[str, _Group]] = []
    for place, event in enumerate(events):
        user, item = event.user_id, event.item_id
        if positives[place] and item is not None:
            group = groups.get(user)
            if group is None or group.ts != event.ts or protocol.ties == "sequence":
                made_at = place if protocol.when == "request" else last_listed.get(user, -1)
                group = groups[user] = _Group(event.ts, place, prior.get(user, 0), made_at, [])
                found.append((user, group))
            had = seen.setdefault(user, set())
            if (
                place >= begin
                and event.action not in protocol.not_target
                and group.prior >= protocol.min_prior
                and (protocol.repeats or item not in had)
            ):
                group.targets.append(Target(item, place, popularity.get(item, 0)))
            had.add(item)
            prior[user] = prior.get(user, 0) + 1
            popularity[item] = popularity.get(item, 0) + 1
        if listed[place]:
            last_listed[user] = place + 1
    trials = [
        Trial(user, group.place, group.ts, group.prior, tuple(group.targets), group.made_at)
        for user, group in found
        if group.targets
    ]
    return Plan(trials, positives, listed)


def _is_positive(event: Event, actions: Mapping[str, Action], protocol: Protocol) -> bool:
    return (
        event.item_id is not None
        and TRAITS[actions[event.action].kind].meets_item
        and event.action not in protocol.not_positive
    )


def _surely_listed(
    events: Sequence[Event], actions: Mapping[str, Action], known: frozenset[str]
) -> list[bool]:
    """Whether each event is certainly applied: its item is known by then, and its id is no repeated one."""
    carried: set[str] = set()
    ids: set[tuple[str, str]] = set()
    listed = []
    for event in events:
        asks_for_list = TRAITS[actions[event.action].kind].asks_for_list
        if event.item is not None:
            carried.add(event.item.item_id)
        is_again = event.event_id is not None and (event.user_id, event.event_id) in ids
        if event.event_id is not None:
            ids.add((event.user_id, event.event_id))
        is_known = event.item_id is None or event.item_id in known or event.item_id in carried
        listed.append(asks_for_list and is_known and not is_again)
    return listed
