"""What lists of idle users lose by going stale, and what refreshing them in the background wins back.

Run: ``python -m tests.bench.bench_drift [--quick] [--items F --events F] [--drift N ...]``; prints one line.

The log is replayed by ``recstream backfill --refresh event`` as it is (each user keeps the list left by
their last event), with so many drift lists an event (``drift``), and with a request before each scored
event. Scored are the last 20 % of the events, of users with an earlier event, whose item is new to the user:
whether it was among the first 10 of the newest list that had seen neither this event nor one of the same
user and second. ``won_back`` is the share of the way from stale to requested that drift lists go, ``spent``
their number (made, written or not) an event. Without ``--events``, the log is that of `tests.bench.trends`.
"""

from __future__ import annotations

import argparse
import bisect
import gzip
import math
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson

from tests.bench import trends
from tests.bench.report import emit
from tests.support.commands import HASHING, command, environment
from tests.support.logs import write_lines

Record = dict[str, Any]
AT = 10
KEPT = 50
UNSCORED = {"impression", "request", "forget", "search", "hide", "dislike", "skip"}


def read(path: Path) -> list[Record]:
    """The records of a JSONL file, packed or not."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [orjson.loads(line) for line in content.splitlines()]


def score(log: list[Record], lists: list[Record], last: float = 0.2) -> dict[str, float]:
    """HR and NDCG at 10 of the newest list of a user before each scored event."""
    left: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for number, one in enumerate(lists):
        left[one["user_id"]].append((one["as_of"]["offset"], one["version"], number))
    for made in left.values():
        made.sort()
    positive = [at for at, one in enumerate(log) if one["action"] not in UNSCORED]
    first = positive[int(len(positive) * (1.0 - last))]
    seen: dict[str, set[str]] = defaultdict(set)
    group: dict[str, tuple[float, int]] = {}
    hits, gains, scored = 0, 0.0, 0
    before: dict[str, set[str]] = {}
    for at in positive:
        user, item, ts = log[at]["user_id"], log[at]["item_id"], log[at]["ts"]
        if group.get(user, (None, 0))[0] != ts:
            group[user], before[user] = (ts, at), set(seen[user])
        if at >= first and before[user] and item not in before[user]:
            scored += 1
            made = left[user]
            place = bisect.bisect_left(made, (group[user][1],)) - 1
            ids = [] if place < 0 else [one["item_id"] for one in lists[made[place][2]]["items"]]
            shown = [one for one in ids if one not in before[user]][:AT]
            if item in shown:
                hits += 1
                gains += 1.0 / math.log2(shown.index(item) + 2)
        seen[user].add(item)
    return {"scored": scored, "hr": round(hits / scored, 4), "ndcg": round(gains / scored, 4)}


def replayed(
    items: Path, log: list[Record], idle_refresh: float, encoder: tuple[str, ...]
) -> tuple[Any, ...]:
    """Replay a log; gives its score, the drift lists written an event, and how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        events, out = write_lines(Path(folder) / "events.jsonl", log), Path(folder) / "lists.jsonl"
        begin = time.perf_counter()
        args: tuple[str | Path, ...] = (
            *("backfill", "--items", items, "--events", events, "--out", out, "--refresh", "event"),
            *(
                "--state",
                Path(folder) / "state",
                "--top-n",
                str(KEPT),
                "--set",
                f"backfill.drift={idle_refresh}",
            ),
            *encoder,
        )
        done = subprocess.run(command(*args), env=environment(), capture_output=True, text=True, check=False)
        took = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(done.stderr)
        lists = read(out)
    written = sum(one["trigger"] == "drift" for one in lists)
    return score(log, lists), round(written / len(log), 3), round(took, 1)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--items", type=Path)
    parser.add_argument("--events", type=Path)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--model", action="store_true", help="the default encoder in place of hashing")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--drift", type=float, nargs="+", default=[0.25, 1.0, 4.0])
    chosen = parser.parse_args()
    encoder = () if chosen.model else HASHING
    if chosen.cache is not None:
        encoder = (*encoder, "--set", f"cache.path={chosen.cache}")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.events is None:
            count, users, known = (3000, 150, 300) if chosen.quick else (20_000, 1000, 1000)
            items = write_lines(Path(folder) / "items.jsonl", trends.items(known))
            log = trends.events(count, users=users, items=known)
        else:
            items, log = chosen.items, read(chosen.events)
            log = log[: chosen.limit] if chosen.limit else log
        stale, _, took = replayed(items, log, 0.0, encoder)
        asked = trends.with_requests(log)
        requested, _, _ = replayed(items, asked, 0.0, encoder)
        figures: dict[str, Any] = {
            "events": len(log),
            "stale": {**stale, "seconds": took},
            "requested": requested,
        }
        for idle_refresh in chosen.idle_refresh:
            fresh, written, took = replayed(items, log, idle_refresh, encoder)
            won = {
                f"won_back_{name}": round((fresh[name] - stale[name]) / (requested[name] - stale[name]), 3)
                for name in ("hr", "ndcg")
                if requested[name] > stale[name]
            }
            figures[f"drift_{idle_refresh:g}"] = {
                **fresh,
                **won,
                "written_an_event": written,
                "seconds": took,
            }
    emit("drift", figures, "bytewax", "lancedb")


if __name__ == "__main__":
    main()
