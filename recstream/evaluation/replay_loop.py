"""Replay loop: work a log off once, and score every list against what its user chose next.

Each list, of recstream and of the baselines, is made of nothing but the events before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recstream.evaluation.baselines import BASELINES, Baseline, History
from recstream.evaluation.baselines.base import top_of
from recstream.evaluation.log import Log
from recstream.evaluation.metrics import ListScorer, ScoredLists, Targets, figures
from recstream.evaluation.protocol import Plan, Protocol, Trial
from recstream.evaluation.worker_driver import WorkerDriver
from recstream.records.arrays import Matrix

__all__ = ["OWN", "Learned", "ReplayResult", "run_replay_loop"]

OWN: Final = "recstream"
"""Name of recstream's own row among the methods."""
_EFFECT_SAMPLES: Final = 40
"""How often, over a whole log, the effects of the signals are recorded."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What recstream's ranking learned during a replay."""

    effects: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Effect of each signal on the score, with the number of events of the log replayed by then."""
    examples: int = 0
    """Choices that the ranking had learned from at the end."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Scored lists of all methods, and what recstream's ranking learned."""

    targets: Targets
    methods: dict[str, ScoredLists]
    vectors: Matrix
    """Unit text vectors by item number; zeros for items without a text."""
    catalogue: int
    """How many items lists could hold."""
    learned: Learned = field(default_factory=Learned)

    def figures(self, method: str, ks: Sequence[int], *, seed: int = 0) -> dict[str, Any]:
        """All metrics of one method at each length, by name; ``seed`` is that of the confidence intervals."""
        scored = self.methods[method]
        return figures(self.targets, scored, self.vectors, self.catalogue, ks=ks, seed=seed)


@dataclass(slots=True)
class _Numbers:
    """Numbers of users and items, by id."""

    items: dict[str, int]
    users: dict[str, int]
    listable: npt.NDArray[np.bool_]


def run_replay_loop(
    log: Log,
    plan: Plan,
    protocol: Protocol,
    driver: WorkerDriver | None,
    against: Sequence[str],
    *,
    most: int,
    on_progress: Callable[[float], None],
) -> ReplayResult:
    """Replay the log once, and make and score the lists that the plan asks for.

    Lists of baselines have at most ``most`` items. Without a driver recstream makes no lists.
    """
    numbers = _numbers(log)
    history = History(len(numbers.users), numbers.listable)
    baselines = {name: BASELINES[name](history) for name in against}
    names = [*([OWN] if driver is not None else []), *against]
    scorers = {name: ListScorer(len(plan.trials), most) for name in names}
    own = None if driver is None else _OwnLists(driver, log, protocol, numbers, on_progress)
    lists_by_trial: dict[int, dict[str, _TimedList]] = {}
    replayed = 0
    for place, is_use, n in _steps(plan):
        trial = plan.trials[n]
        user = numbers.users[trial.user_id]
        for event, positive in zip(log.events[replayed:place], plan.positives[replayed:place], strict=True):
            if positive and event.item_id is not None:
                who, item = numbers.users[event.user_id], numbers.items[event.item_id]
                for baseline in baselines.values():
                    baseline.learn(who, item)
                history.learn(who, item)
        replayed = place
        if not is_use:
            made_ts = trial.ts if protocol.when == "request" else log.events[place - 1].ts
            lists_by_trial[n] = {
                name: _TimedList(place, made_ts, _listed(baseline, history, user, protocol, most))
                for name, baseline in baselines.items()
            }
            if own is not None:
                own.make(place, trial)
            continue
        lists = lists_by_trial.pop(n, {})
        if own is not None and (listed := own.list_of(place, trial)) is not None:
            lists[OWN] = listed
        seen = {} if protocol.repeats else history.seen[user]
        targets = [numbers.items[target.item_id] for target in trial.targets]
        for name in names:
            listed = lists.get(name)
            if listed is None:
                scorers[name].miss(n, targets)
            else:
                kept = [item for item in dict.fromkeys(listed.items) if item not in seen]
                behind, age_s = place - listed.made_at, trial.ts - listed.ts
                scorers[name].score(n, kept, targets, history.count, behind=behind, age_s=age_s)
        on_progress(place / len(log.events))
    return ReplayResult(
        Targets.of(plan, numbers.users),
        {name: scorer.scored() for name, scorer in scorers.items()},
        _vectors(log, numbers.items),
        int(numbers.listable.sum()),
        Learned() if own is None else own.learned(),
    )


class _TimedList(NamedTuple):
    """A list, and when it was made."""

    made_at: int
    """Index of the first event of the log that it has not seen."""
    ts: float
    """Event time, Unix seconds."""
    items: list[int]


class _OwnLists:
    """Recstream's lists: requested when the user comes, or left from the user's last event."""

    def __init__(
        self,
        driver: WorkerDriver,
        log: Log,
        protocol: Protocol,
        numbers: _Numbers,
        on_progress: Callable[[float], None],
    ) -> None:
        self._driver = driver
        self._on_progress = on_progress
        self._log = log
        self._emits = protocol.when == "emitted"
        self._emits_always = self._emits and driver.refreshes_idle_users
        self._items = numbers.items
        self._replayed = 0
        self._latest: dict[str, _TimedList] = {}
        self._effects: list[tuple[int, dict[str, float]]] = []
        self._sample_every = max(len(log.events) // _EFFECT_SAMPLES, 1)
        self._sample()

    def make(self, place: int, trial: Trial) -> None:
        """Make the list of a trial before the event at ``place`` is replayed."""
        if self._emits:
            self._learn(place - 1)
            self._emit(place)
        else:
            self._learn(place)
            self._keep(trial.user_id, trial.ts, self._driver.request(trial.user_id, trial.ts))

    def list_of(self, place: int, trial: Trial) -> _TimedList | None:
        """Newest list of a trial's user before the event at ``place``; None where there is none."""
        if self._emits_always:
            self._emit(place)
        return self._latest.get(trial.user_id)

    def _learn(self, until: int) -> None:
        if self._emits_always:
            self._emit(until)
        while self._replayed < until:
            to = min(until, self._effects[-1][0] + self._sample_every)
            self._driver.learn(self._log.events[self._replayed : to])
            self._replayed = to
            self._sample()
            self._on_progress(self._replayed / len(self._log.events))

    def _emit(self, until: int) -> None:
        for place in range(self._replayed, until):
            self._replayed = place + 1
            event = self._log.events[place]
            for user_id, listed in self._driver.emit([event]).items():
                self._keep(user_id, event.ts, listed)
            self._sample()

    def learned(self) -> Learned:
        """Effects of the signals so far."""
        if self._effects[-1][0] < self._replayed:
            self._effects.append((self._replayed, self._driver.effects))
        return Learned(self._effects, self._driver.examples)

    def _sample(self) -> None:
        if not self._effects or self._replayed >= self._effects[-1][0] + self._sample_every:
            self._effects.append((self._replayed, self._driver.effects))

    def _keep(self, user_id: str, ts: float, listed: list[str]) -> None:
        self._latest[user_id] = _TimedList(self._replayed, ts, [self._items[item] for item in listed])


def _steps(plan: Plan) -> list[tuple[int, bool, int]]:
    """When lists are made and used: index of the next event, whether it is a use, index of the trial."""
    made = [(time.place, False, time.trial) for time in plan.list_times()]
    return sorted(made + [(trial.place, True, n) for n, trial in enumerate(plan.trials)])


def _listed(baseline: Baseline, history: History, user: int, protocol: Protocol, most: int) -> list[int]:
    scores = np.zeros(history.items)
    baseline.score(user, scores)
    best: list[int] = top_of(scores, history, history.excluded(user, repeats=protocol.repeats), most).tolist()
    return best


def _numbers(log: Log) -> _Numbers:
    items: dict[str, int] = {}
    rows = {row.item_id: row for row in [*log.rows, *log.carried_items.values()]}
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
    rows = [*log.rows, *log.carried_items.values()]
    dim = len(rows[0].vector) if rows else 1
    vectors = np.zeros((len(items), dim), np.float32)
    for row in rows:
        vectors[items[row.item_id]] = row.vector
    return vectors
