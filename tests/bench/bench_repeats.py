"""How well lists foresee what users come back to, beside the users' own counts.

Run: ``python -m tests.bench.bench_repeats [--quick] [--items F --events F] [--set A=B]``; prints one line.

The log is that of `tests.bench.shop` unless another is named: 31 % of its events are with items that the user
has had before. As ``recstream eval --repeats``: every purchase of the last fifth is scored, new or not, by a
list made when the user comes. ``owncounts`` lists the items that the user has had most often.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from recstream.config import Settings
from recstream.evaluation.protocol import Protocol
from recstream.evaluation.runs import EvaluationRun, evaluate
from tests.bench import shop
from tests.bench.report import emit
from tests.support.logs import write_lines

AGAINST = ("owncounts", "recent", "itemknn", "sessionknn")


def measured(
    folder: Path, items: Path, events: Path, *, against: tuple[str, ...] = AGAINST, **named: object
) -> dict[str, dict[str, Any]]:
    """HR and NDCG at 10 of recstream's lists and of the baselines, by method."""
    chosen: dict[str, object] = {
        "encoder.backend": "hashing",
        "store.path": str(folder / "state"),
        "ranking.repeats": "always",
        **named,
    }
    run = EvaluationRun(
        Settings.load(None, {}, chosen),
        str(events),
        str(items),
        protocol=Protocol(repeats=True),
        against=against,
        ks=(10,),
    )
    methods = evaluate(run, lambda *_: None).methods
    return {
        name: {metric: round(row[metric], 4) for metric in ("tests", "hr@10", "ndcg@10")}
        for name, row in methods.items()
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--items", type=Path)
    parser.add_argument("--events", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    chosen = parser.parse_args()
    named = dict(one.split("=", 1) for one in chosen.set)
    count, users, known = (3000, 60, 300) if chosen.quick else (40_000, 500, 1200)
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        figures: dict[str, Any] = {}
        items, events = chosen.items, chosen.events
        if events is None:
            log = shop.events(count, users=users, items=known, seed=chosen.seed)
            figures = {"events": len(log), "repeats": round(shop.share_of_repeats(log), 3)}
            items = write_lines(folder / "items.jsonl", shop.items(known, seed=chosen.seed))
            events = write_lines(folder / "events.jsonl", log)
        figures |= measured(folder, items, events, **named)
    emit("repeats", figures)


if __name__ == "__main__":
    main()
