"""Lists a second by batch size, beside the bare matrix product, and where the time goes.

Run: ``python -m tests.bench.bench_ranking [--quick]``; prints one JSON line.

``rank`` is `recstream.core.ranking.rank`; ``worker`` is `Worker.rank`, which adds the record's JSON.
``product`` is the matrix product of the same shapes; ``argpartition`` the same product and numpy's top-n of
its rows: no signals, nothing left out, no reasons. All on one BLAS thread, as the job runs.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from threadpoolctl import threadpool_limits

from recstream.core import kernels, ranking, signals
from recstream.core.decoding import decode_events
from recstream.core.profile import AsOf, Profile, ProfileRules
from recstream.core.rules import DecodeRules
from recstream.core.signals import Query, query_of
from recstream.core.statistics import Touch
from recstream.engine import lists as engine_lists
from recstream.engine.worker import Worker
from recstream.wiring import Wiring
from tests.bench.graph import prepared_store, settings_of
from tests.bench.report import Figures, emit, interleaved, is_quick, ratio, seconds, spread
from tests.bench.world import DIM, T0, batches, item_numbers, log

SIZES = (1, 16, 64, 256)
TOP = 20
RECENT = 20


def profiles_of(worker: Worker, users: int, items: int) -> list[Profile]:
    """Users with a taste, twenty recent items and what they have seen."""
    rules = ProfileRules(DecodeRules())
    lines = log(RECENT * users, users=users, items=items)
    profiles: dict[str, Profile] = {}
    for batch in batches(lines):
        for event in decode_events(batch, rules=rules.decode, now=T0 * 2.0, loads=orjson.loads)[0]:
            profile = profiles.setdefault(event.user_id, Profile(event.user_id))
            profile.observe(event, worker.replica.catalogue, rules, 0.0)
    return list(profiles.values())


def learn(worker: Worker, touches: int, items: int) -> None:
    """Statistics of a stream in which users stay within some neighbourhood."""
    rng = random.Random(3)
    handles = [worker.replica.catalogue.handle(f"i{n}") for n in item_numbers(touches, items, 4)]
    last: dict[int, tuple[int, ...]] = {}
    batch = []
    for handle in handles:
        assert handle is not None
        user = rng.randrange(max(1, touches // 30))
        before = tuple(other for other in last.get(user, ()) if other != handle)[:RECENT]
        batch.append(Touch(handle, before))
        last[user] = (handle, *before)
    for at in range(0, len(batch), 1000):
        worker.replica.statistics.count(batch[at : at + 1000])


def queries_of(profiles: list[Profile], size: int) -> list[Query]:
    """The users' views, the first of which are asked for."""
    found = []
    for profile in profiles[:size]:
        assert profile.as_of is not None
        found.append(query_of(profile, AsOf(profile.as_of.ts, "events/0", 1), "event", time.time()))
    return found


STAGES: dict[str, tuple[Any, str]] = {
    "world": (ranking._World, "of"),
    "tastes": (signals, "text_tastes"),
    "neighbours": (kernels, "score_row"),
    "select": (kernels, "select_top"),
    "explain": (ranking, "_explain"),
    "json": (engine_lists.Listed, "of"),
}
"""Functions whose time is told apart; the rest is the product, the sum with the base, and the loop."""


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
        setattr(owner, attribute, watched(name, getattr(owner, attribute)))
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
    spent["product_and_rest"] = whole - sum(spent.values())
    return {name: round(took / lists * 1e6, 1) for name, took in spent.items()}


def measure(folder: Path, *, items: int, users: int, touches: int, least: int, rounds: int) -> dict[str, Any]:
    """All figures; ``least`` lists are made a measurement."""
    wiring = Wiring(settings_of(prepared_store(folder / "store", items)))
    worker = Worker(wiring.services(), wiring.rules())
    learn(worker, touches, items)
    profiles = profiles_of(worker, users, items)
    catalogue, statistics, rules = worker.replica.catalogue, worker.replica.statistics, worker.rules.ranking
    matrix = catalogue.centred()
    found: dict[str, Any] = {}
    for size in SIZES:
        queries = queries_of(profiles, size)
        times = max(1, least // size)
        tastes = np.random.default_rng(5).standard_normal((size, DIM)).astype(np.float32)

        def ranked(queries: list[Query] = queries, times: int = times) -> None:
            for _ in range(times):
                ranking.rank(queries, catalogue, statistics, rules)

        def emitted(queries: list[Query] = queries, times: int = times) -> None:
            for _ in range(times):
                worker.rank(queries)

        def product(tastes: Any = tastes, times: int = times) -> None:
            for _ in range(times):
                tastes @ matrix.T

        def argpartition(tastes: Any = tastes, times: int = times) -> None:
            for _ in range(times):
                scores = tastes @ matrix.T
                top = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
                np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1), axis=1)

        lists = size * times
        ways = {"rank": ranked, "worker": emitted, "product": product, "argpartition": argpartition}
        for way in ways.values():
            way(times=1)
        rates = interleaved(
            {name: lambda way=way, lists=lists: lists / seconds(way) for name, way in ways.items()},  # type: ignore[misc]  # mypy cannot infer a lambda's default
            rounds,
        )
        found[str(size)] = {
            "lists_per_s": {name: spread(values) for name, values in rates.items()},
            "rank_over_product": ratio(rates["rank"], rates["product"]),
            "worker_over_argpartition": ratio(rates["worker"], rates["argpartition"]),
            "worker_us_a_list": breakdown(emitted, lists),
        }
    wiring.close()
    return {
        "items": items,
        "dim": DIM,
        "top_n": TOP,
        "touches": touches,
        "rounds": rounds,
        "by_batch": found,
    }


def main() -> None:
    """Print one JSON line."""
    sizes = {"items": 10_000, "users": 256, "touches": 100_000, "least": 1024, "rounds": 5}
    if is_quick(__doc__):
        sizes = {"items": 10_000, "users": 256, "touches": 10_000, "least": 128, "rounds": 1}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1, "blas"):
        figures = measure(Path(folder), **sizes)
    emit("ranking", figures, "numpy", "numba", "orjson")


if __name__ == "__main__":
    main()
