"""Lists a second by batch size, beside the bare matrix product, and where the time goes.

Run: ``python -m tests.bench.bench_ranking [--quick]``; prints one JSON line.

``rank`` is `Recommender.rank` with all default signals, weights learned; ``emitted`` adds the record's JSON;
``examples_per_s`` is training examples a second. ``product`` is the matrix product of the encoder's vectors
with as many tastes; ``argpartition`` the same product and numpy's top-n of its rows: no signals, nothing left
out, no explanations. All on one BLAS thread, as the job runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from recstream.dataflow import lists as list_building
from recstream.items.catalogue import Catalogue
from recstream.items.statistics import Interaction, ItemStatistics
from recstream.items.terms import pack, text_terms
from recstream.ranking import features
from recstream.ranking import recommender as ranking
from recstream.ranking.kernels import features as kernels
from recstream.ranking.models.shallow_network import ShallowNetwork
from recstream.ranking.query import Query, query_of
from recstream.ranking.recommender import Recommender
from recstream.records.actions import DecodeRules
from recstream.records.arrays import Matrix, Vector
from recstream.records.event import Event
from recstream.records.transport import Partition
from recstream.users.state import AsOf, UserState
from tests.bench.report import Figures, emit, interleaved, is_quick, ratio, seconds, spread
from tests.bench.world import DIM, T0
from tests.support.rules import ranking_rules, user_state_rules

SIZES = (1, 64, 256)
TOP = 20
NEIGHBOURS = 200
PREVIOUS = 20
HISTORY = 40
GROUPS = 40
ACTIONS = ("view", "view", "view", "click", "like", "rate", "purchase", "dislike", "skip")
LOG = Partition("events/0", "events/0@bench")


class World(NamedTuple):
    """A recommender that has worked off a stream, and users who ask it."""

    recommender: Recommender
    queries: list[Query]
    chosen: list[int]
    """What each of them chooses next."""


def catalogue_of(random: np.random.Generator, groups: list[int]) -> Catalogue:
    """Items whose vectors, words and categories resemble each other within a group."""
    centres = random.standard_normal((GROUPS, DIM))
    vectors = centres[groups] + random.standard_normal((len(groups), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    share = 1.0 / np.arange(1, 5001)
    common = random.choice(5000, (len(groups), 15), p=share / share.sum())
    catalogue = Catalogue(DIM)
    for n, (group, vector) in enumerate(zip(groups, vectors.astype(np.float32), strict=True)):
        words = [f"g{group}w{word}" for word in random.integers(0, 200, 15)] + [f"w{k}" for k in common[n]]
        catalogue.put(
            f"i{n}",
            vector,
            title=f"item {n}",
            categories=(f"c{group % 25}", f"c{n % 25}"),
            published_at=T0 - 86400.0 * int(random.integers(0, 3000)),
            terms=pack(text_terms(" ".join(words))),
        )
    return catalogue


class People:
    """Who chooses what: mostly items of three groups of their own, popular ones more."""

    def __init__(self, random: np.random.Generator, groups: list[int], users: int) -> None:
        self._random = random
        members = [np.flatnonzero(np.array(groups) == group) for group in range(GROUPS)]
        self._members = [(rows, 1.0 / np.arange(1, len(rows) + 1)) for rows in members]
        self._tastes = random.integers(0, GROUPS, (users, 3))

    def interactions(self, user: int, count: int) -> list[int]:
        """Handles of what the user chooses in turn."""
        random, found = self._random, []
        for group in random.choice(self._tastes[user], count):
            rows, share = self._members[group if random.random() < 0.8 else random.integers(0, GROUPS)]
            found.append(int(random.choice(rows, p=share / share.sum())))
        return found


def world(*, items: int, users: int, interactions: int, examples: int) -> World:
    """A stream of so many interactions by a thousand people, then ``users`` with a history each."""
    random = np.random.default_rng(1)
    groups = random.integers(0, GROUPS, items).tolist()
    catalogue, statistics = catalogue_of(random, groups), ItemStatistics(NEIGHBOURS)
    recommender = Recommender(catalogue, statistics, ranking_rules(top_n=TOP))
    people = People(random, groups, 1000 + users)
    last: dict[int, tuple[int, ...]] = {}
    batch: list[Interaction] = []
    for user in random.integers(0, 1000, interactions // 5).tolist():
        for item in people.interactions(user, 5):
            before = tuple(other for other in last.get(user, ()) if other != item)[:PREVIOUS]
            batch.append(Interaction(item, before))
            last[user] = (item, *before)
            recommender.sessions.add(f"u{user}", item, statistics.tick + len(batch))
        if len(batch) >= 1000:
            statistics.count(batch)
            batch = []
    statistics.count(batch)
    found = [_asked(random, people.interactions(1000 + k, HISTORY + 1), catalogue, k) for k in range(users)]
    queries, chosen = [query for query, _ in found], [item for _, item in found]
    for k in range(examples):
        recommender.learn(queries[k % users], chosen[k % users])
    return World(recommender, queries, chosen)


def _asked(
    random: np.random.Generator, items: list[int], catalogue: Catalogue, number: int
) -> tuple[Query, int]:
    """A user with a history, some with words, lists shown and dislikes; and what they choose next."""
    user_state, rules = UserState(f"user-{number}"), user_state_rules(DecodeRules())
    *history, following = items
    for at, item in enumerate(history):
        action = ACTIONS[int(random.integers(0, len(ACTIONS)))]
        rating = 4.0 if action == "rate" else None
        did: list[tuple[str, str | None, float | None, Vector | None]] = [(action, f"i{item}", rating, None)]
        if at % 4 == 0:
            did.insert(0, ("impression", f"i{item}", None, None))
        if number % 4 == 0 and at == HISTORY - 3:
            did.insert(0, ("search", None, None, catalogue.vector(following)))
        for name, about, stars, vector in did:
            offset = 3 * at + len(name) % 3
            moment = T0 + 60.0 * at
            one = Event(
                user_state.user_id,
                moment,
                name,
                about,
                None,
                stars,
                None,
                None,
                None,
                LOG,
                offset,
                b"",
                vector,
            )
            user_state.observe(one, catalogue, rules, 0.0)
    asked = query_of(user_state, AsOf(T0 + 60.0 * HISTORY, LOG.name, 10**6), "event", 0.0)
    return asked, following


STAGES: dict[str, tuple[Any, str]] = {
    "directions": (features, "text_directions"),
    "products": (Catalogue, "likeness"),
    "features": (kernels, "extract_features"),
    "score": (ShallowNetwork, "score"),
    "select": (Recommender, "_best"),
    "explain": (ranking, "explain"),
    "json": (list_building, "encoded_list"),
}
"""Functions whose time is told apart; the rest is what is done in Python."""


@contextmanager
def stopwatches(spent: dict[str, float]) -> Iterator[None]:
    """Add up what each stage takes (which costs about a tenth of a microsecond a call)."""

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            started = time.perf_counter()
            result = work(*args)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
            return result

        return timed

    kept = {name: owner.__dict__[attribute] for name, (owner, attribute) in STAGES.items()}
    for name, (owner, attribute) in STAGES.items():
        work = watched(name, getattr(owner, attribute))
        setattr(owner, attribute, work)
    try:
        yield
    finally:
        for name, (owner, attribute) in STAGES.items():
            setattr(owner, attribute, kept[name])


def breakdown(work: Callable[[], object], lists: int) -> Figures:
    """Microseconds a list of each stage."""
    spent: dict[str, float] = {}
    with stopwatches(spent):
        whole = seconds(work)
    spent["rest"] = whole - sum(spent.values())
    return {name: round(took / lists * 1e6, 1) for name, took in spent.items()}


def measure(*, items: int, users: int, interactions: int, least: int, rounds: int) -> dict[str, Any]:
    """All figures; ``least`` lists are made a measurement."""
    recommender, queries, chosen = world(
        items=items, users=users, interactions=interactions, examples=2 * users
    )
    catalogue = recommender.catalogue
    matrix: Matrix = np.array([catalogue.vector(row) for row in range(items)])
    found: dict[str, Any] = {}
    for size in SIZES:
        some, times = queries[:size], max(1, least // size)
        tastes = np.random.default_rng(5).standard_normal((size, DIM)).astype(np.float32)

        def ranked(some: list[Query] = some, times: int = times) -> None:
            for _ in range(times):
                recommender.rank(some)

        def emitted(some: list[Query] = some, times: int = times) -> None:
            for _ in range(times):
                for query, made in zip(some, recommender.rank(some), strict=True):
                    list_building.encoded_list(query, made, catalogue, "encoder", 0, 0.0)

        def product(tastes: Matrix = tastes, times: int = times) -> None:
            for _ in range(times):
                tastes @ matrix.T

        def argpartition(tastes: Matrix = tastes, times: int = times) -> None:
            for _ in range(times):
                scores = tastes @ matrix.T
                top = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
                np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1), axis=1)

        lists = size * times
        ways: dict[str, Callable[..., None]] = {
            "rank": ranked,
            "emitted": emitted,
            "product": product,
            "argpartition": argpartition,
        }
        for way in ways.values():
            way(times=1)
        rates = interleaved(
            {name: lambda way=way, lists=lists: lists / seconds(way) for name, way in ways.items()},  # type: ignore[misc]  # mypy cannot infer a lambda's default
            rounds,
        )
        found[str(size)] = {
            "lists_per_s": {name: spread(values) for name, values in rates.items()},
            "rank_over_product": ratio(rates["rank"], rates["product"]),
            "emitted_over_argpartition": ratio(rates["emitted"], rates["argpartition"]),
            "us_a_list": breakdown(emitted, lists),
        }

    def learned() -> None:
        for query, item in zip(queries, chosen, strict=True):
            recommender.learn(query, item)

    return {
        "items": items,
        "dim": DIM,
        "top_n": TOP,
        "interactions": interactions,
        "candidates": round(sum(len(one.items) for one in recommender.extractor.extract(queries)) / users),
        "rounds": rounds,
        "by_batch": found,
        "examples_per_s": spread([users / seconds(learned) for _ in range(rounds)]),
    }


def main() -> None:
    """Print one JSON line."""
    sizes = {"items": 10_000, "users": 256, "interactions": 50_000, "least": 1024, "rounds": 5}
    if is_quick(__doc__):
        sizes = {"items": 2000, "users": 256, "interactions": 5000, "least": 256, "rounds": 1}
    with threadpool_limits(1, "blas"):
        figures = measure(**sizes)
    emit("ranking", figures, "numpy", "numba")


if __name__ == "__main__":
    main()
