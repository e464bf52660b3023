"""One pass over a log: recstream and the baselines, each list made of nothing but what came before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.evaluation.baselines import BASELINES, Baseline, World
from recstream.evaluation.baselines.base import top_of
from recstream.evaluation.log import Log
from recstream.evaluation.protocol import Plan, Protocol, Trial
from recstream.evaluation.recommender import Recommender
from recstream.evaluation.scoring import Board, Scored
from recstream.records.arrays import Matrix

__all__ = ["OWN", "Learned", "Pass", "Targets", "run_pass"]

OWN: Final = "recstream"
"""Name of our own row among the methods."""
_SAMPLES: Final = 40
"""So many times in a log it is noted what the signals are worth."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What was tested, one entry a target in the order of the log."""

    user: npt.NDArray[np.int32]
    """By number."""
    trial: npt.NDArray[np.int32]
    ts: npt.NDArray[np.float64]
    """Unix seconds."""
    prior: npt.NDArray[np.int64]
    """The user's positives before the tie group."""
    popularity: npt.NDArray[np.int64]
    """The item's positives before the event."""

    @classmethod
    def of(cls, plan: Plan, users: dict[str, int]) -> Targets:
        """Lay the targets of a plan out as arrays."""
        rows = [
            (users[trial.user_id], n, trial.ts, trial.prior, target.popularity)
            for n, trial in enumerate(plan.trials)
            for target in trial.targets
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return cls(
            np.array(columns[0], np.int32),
            np.array(columns[1], np.int32),
            np.array(columns[2], np.float64),
            np.array(columns[3], np.int64),
            np.array(columns[4], np.int64),
        )


@dataclass(frozen=True, slots=True)
class Learned:
    """What the ranking learned on the way."""

    effects: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """What each signal is worth (`RankingModel.effect`), by how many events of the log were taken in."""
    examples: int = 0
    """Choices it was learned from, in the end."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What came of a pass."""

    targets: Targets
    methods: dict[str, Scored]
    vectors: Matrix
    """Unit text vectors by item number, zeros for items without any."""
    catalogue: int
    """Items that lists could hold."""
    learned: Learned = field(default_factory=Learned)
    """By our own ranking."""


@dataclass(slots=True)
class _Numbers:
    """Users and items by number."""

    items: dict[str, int]
    users: dict[str, int]
    listable: npt.NDArray[np.bool_]


def run_pass(
    log: Log,
    plan: Plan,
    protocol: Protocol,
    recommender: Recommender | None,
    against: Sequence[str],
    *,
    most: int,
    on_progress: Callable[[float], None],
) -> Pass:
    """Work the log off once; lists are made by the protocol, with at most ``most`` items of baselines."""
    numbers = _numbers(log)
    world = World(len(numbers.users), numbers.listable)
    baselines = {name: BASELINES[name](world) for name in against}
    names = [*([OWN] if recommender is not None else []), *against]
    boards = {name: Board(len(plan.trials), most) for name in names}
    own = None if recommender is None else _Own(recommender, log, protocol, numbers, on_progress)
    made: dict[int, dict[str, _List]] = {}
    learned = 0
    for place, is_use, n in _steps(plan):
        trial = plan.trials[n]
        user = numbers.users[trial.user_id]
        for event, positive in zip(log.events[learned:place], plan.positives[learned:place], strict=True):
            if positive and event.item_id is not None:
                who, item = numbers.users[event.user_id], numbers.items[event.item_id]
                for baseline in baselines.values():
                    baseline.learn(who, item)
                world.learn(who, item)
        learned = place
        if not is_use:
            made_ts = trial.ts if protocol.when == "request" else log.events[place - 1].ts
            made[n] = {
                name: _List(place, made_ts, _listed(baseline, world, user, protocol, most))
                for name, baseline in baselines.items()
            }
            if own is not None:
                own.make(place, trial)
            continue
        lists = made.pop(n, {})
        if own is not None and (listed := own.list_of(place, trial)) is not None:
            lists[OWN] = listed
        seen = {} if protocol.repeats else world.seen[user]
        targets = [numbers.items[target.item_id] for target in trial.targets]
        for name in names:
            listed = lists.get(name)
            if listed is None:
                boards[name].miss(n, targets)
            else:
                kept = [item for item in dict.fromkeys(listed.items) if item not in seen]
                behind, age_s = place - listed.made_at, trial.ts - listed.ts
                boards[name].note(n, kept, targets, world.count, behind=behind, age_s=age_s)
        on_progress(place / len(log.events))
    return Pass(
        Targets.of(plan, numbers.users),
        {name: board.scored() for name, board in boards.items()},
        _vectors(log, numbers.items),
        int(numbers.listable.sum()),
        Learned() if own is None else own.learned(),
    )


class _List(NamedTuple):
    """A list, and before which event it was made."""

    made_at: int
    ts: float
    """Event time it was made at, Unix seconds."""
    items: list[int]


class _Own:
    """Our own lists: asked for when the user comes, or left from the user's last event."""

    def __init__(
        self,
        recommender: Recommender,
        log: Log,
        protocol: Protocol,
        numbers: _Numbers,
        on_progress: Callable[[float], None],
    ) -> None:
        self._recommender = recommender
        self._on_progress = on_progress
        self._log = log
        self._emits = protocol.when == "emitted"
        self._emits_always = self._emits and recommender.drifts
        self._items = numbers.items
        self._fed = 0
        self._latest: dict[str, _List] = {}
        self._effects: list[tuple[int, dict[str, float]]] = []
        self._every = max(len(log.events) // _SAMPLES, 1)
        self._sample()

    def make(self, place: int, trial: Trial) -> None:
        """Make the list of a trial, before the event of this place is taken in."""
        if self._emits:
            self._learn(place - 1)
            self._emit(place)
        else:
            self._learn(place)
            self._keep(trial.user_id, trial.ts, self._recommender.request(trial.user_id, trial.ts))

    def list_of(self, place: int, trial: Trial) -> _List | None:
        """The newest list of a trial's user before the event of this place; None where there is none."""
        if self._emits_always:
            self._emit(place)
        return self._latest.get(trial.user_id)

    def _learn(self, until: int) -> None:
        if self._emits_always:
            self._emit(until)
        while self._fed < until:
            to = min(until, self._effects[-1][0] + self._every)
            self._recommender.learn(self._log.events[self._fed : to])
            self._fed = to
            self._sample()
            self._on_progress(self._fed / len(self._log.events))

    def _emit(self, until: int) -> None:
        for place in range(self._fed, until):
            self._fed = place + 1
            event = self._log.events[place]
            for user_id, listed in self._recommender.emit([event]).items():
                self._keep(user_id, event.ts, listed)
            self._sample()

    def learned(self) -> Learned:
        """What the signals have come to be worth, until now."""
        if self._effects[-1][0] < self._fed:
            self._effects.append((self._fed, self._recommender.effects))
        return Learned(self._effects, self._recommender.examples)

    def _sample(self) -> None:
        if not self._effects or self._fed >= self._effects[-1][0] + self._every:
            self._effects.append((self._fed, self._recommender.effects))

    def _keep(self, user_id: str, ts: float, listed: list[str]) -> None:
        self._latest[user_id] = _List(self._fed, ts, [self._items[item] for item in listed])


def _steps(plan: Plan) -> list[tuple[int, bool, int]]:
    """When lists are made and used: before which event, whether it is the use, and of which trial."""
    made = [(moment.place, False, moment.trial) for moment in plan.moments()]
    return sorted(made + [(trial.place, True, n) for n, trial in enumerate(plan.trials)])


def _listed(baseline: Baseline, world: World, user: int, protocol: Protocol, most: int) -> list[int]:
    scores = np.zeros(world.items)
    baseline.score(user, scores)
    best: list[int] = top_of(scores, world, world.excluded(user, repeats=protocol.repeats), most).tolist()
    return best


def _numbers(log: Log) -> _Numbers:
    items: dict[str, int] = {}
    rows = {row.item_id: row for row in [*log.rows, *log.brought.values()]}
    for item_id in rows:
        items.setdefault(item_id, len(items))
    users: dict[str, int] = {}
    for event in log.events:
        users.setdefault(event.user_id, len(users))
        if event.item_id is not None:
            items.setdefault(event.item_id, len(items))
    listable = np.zeros(len(items), np.bool_)
    for item_id, row in rows.items():
        listable[items[item_id]] = row.available and not row.deleted
    return _Numbers(items, users, listable)


def _vectors(log: Log, items: dict[str, int]) -> Matrix:
    rows = [*log.rows, *log.brought.values()]
    dim = len(rows[0].vector) if rows else 1
    vectors = np.zeros((len(items), dim), np.float32)
    for row in rows:
        vectors[items[row.item_id]] = row.vector
    return vectors
