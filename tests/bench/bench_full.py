"""The whole graph from memory to nowhere: events in, states stored, one list a touched user a batch.

Run: ``python -m tests.bench.bench_full [--quick]``; prints one JSON line.

``statistics`` is the same run without lists; ``product`` is the bare matrix product of the same lists
(one row a list, as many columns as items, in blocks as ranked), on one thread as in the job.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from tests.bench.graph import Timed, in_copy, prepared_store, run_graph
from tests.bench.report import emit, interleaved, is_quick, ratio, seconds, spread
from tests.bench.world import DIM, batches, item_rows, log

BLOCK = 200
"""Lists ranked at once at 10 k items."""


def products(matrix: Any, tastes: Any, lists: int) -> None:
    """The product of each block of lists, and nothing else."""
    with threadpool_limits(1, "blas"):
        for _ in range(0, lists, BLOCK):
            tastes @ matrix.T


def measure(folder: Path, *, events: int, users: int, items: int, rounds: int) -> dict[str, Any]:
    """All figures, interleaved."""
    made = batches(log(events, users=users, items=items))
    prepared = prepared_store(folder / "prepared", items)
    matrix = np.stack([row.vector for row in item_rows(items)])
    tastes = np.random.default_rng(5).standard_normal((BLOCK, DIM)).astype(np.float32)
    runs: list[Timed] = []

    def full() -> float:
        runs.append(in_copy(prepared, folder, lambda store: run_graph(store, made, lists=True)))
        return runs[-1].lists / runs[-1].seconds

    def without_lists() -> float:
        one = in_copy(prepared, folder, lambda store: run_graph(store, made, lists=False))
        return one.events / one.seconds

    found = interleaved(
        {
            "full": full,
            "statistics": without_lists,
            "product": lambda: events / seconds(lambda: products(matrix, tastes, events)),
        },
        rounds,
    )
    return {
        "events": events,
        "users": users,
        "items": items,
        "dim": DIM,
        "rounds": rounds,
        "lists": runs[-1].lists,
        "lists_per_s": spread(found["full"]),
        "events_per_s": {
            "full": spread([one.events / one.seconds for one in runs]),
            "without_lists": spread(found["statistics"]),
        },
        "product_lists_per_s": spread(found["product"]),
        "lists_over_product": ratio(found["full"], found["product"]),
        "flush_share": spread([one.flush_seconds / one.seconds for one in runs], 3),
        "barriers": runs[-1].barriers,
    }


def main() -> None:
    """Print one JSON line."""
    sizes = {"events": 50_000, "users": 20_000, "items": 10_000, "rounds": 3}
    if is_quick(__doc__):
        sizes = {"events": 5_000, "users": 2_000, "items": 2_000, "rounds": 1}
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), **sizes)
    emit("full", figures, "bytewax", "lancedb", "numpy", "numba")


if __name__ == "__main__":
    main()
