"""The most memory that a replay holds, with few and with many users.

Run: ``python -m tests.bench.bench_memory [--quick] [--users N] [--model]``; prints one JSON line.

A real ``recstream backfill`` in a process of its own over a file in which every user comes twice, the second
time after all others have come once, so that each is evicted and read again. Items bring their vectors along;
with ``--model`` MiniLM is loaded, for one event in a thousand is a search. ``resident_mib`` is VmHWM, with
the parts of files that the kernel counts as the process's own; ``anonymous_mib`` the most without these.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tests.bench.report import emit
from tests.bench.world import DIM, T0, item_rows
from tests.support.commands import command, environment

FEW = 10_000
SEARCHES = ("a love story in Paris", "space opera", "jazz", "garden in winter", "train robbery")


def write_items(path: Path, items: int) -> None:
    """Items with their vectors."""
    with path.open("wb") as file:
        for row in item_rows(items):
            record = {"item_id": row.item_id, "title": row.title, "vector": row.vector.tolist()}
            file.write(orjson.dumps(record) + b"\n")


def events(users: int, items: int) -> Iterator[dict[str, Any]]:
    """Every user once, then every user again."""
    for number in range(2 * users):
        user = number * 7919 % users
        event: dict[str, Any] = {"user_id": f"user-{user}", "ts": T0 + number / 100, "action": "view"}
        if number % 1000 == 999:
            yield event | {"action": "search", "text": SEARCHES[number // 1000 % len(SEARCHES)]}
        else:
            yield event | {"item_id": f"i{number * 31 % items}"}


def memory(pid: int) -> dict[str, float] | None:
    """VmHWM and RssAnon of a process, MiB; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = dict(line.split(":", 1) for line in lines)
    if "VmHWM" not in found:
        return None
    return {name: int(found[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon")}


def replay(folder: Path, *, users: int, items: int, model: bool) -> dict[str, Any]:
    """Replay so many users into a new store."""
    folder.mkdir()
    write_items(folder / "items.jsonl", items)
    with (folder / "events.jsonl").open("wb") as file:
        for event in events(users, items):
            file.write(orjson.dumps(event) + b"\n")
    backend = [] if model else ["--set", "encoder.backend=hashing", "--set", f"encoder.dim={DIM}"]
    words = ["backfill", "--items", str(folder / "items.jsonl"), "--events", str(folder / "events.jsonl")]
    words += ["--refresh", "end", "--state", str(folder / "state"), *backend]
    most = anonymous = 0.0
    started = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command(*words), env=environment(), stdout=log, stderr=log)
        while process.poll() is None:
            now = memory(process.pid)
            if now is not None:
                most, anonymous = max(most, now["VmHWM"]), max(anonymous, now["RssAnon"])
            time.sleep(0.05)
    if process.returncode != 0:
        raise RuntimeError((folder / "log").read_text())
    took = time.monotonic() - started
    return {
        "users": users,
        "resident_mib": round(most),
        "anonymous_mib": round(anonymous),
        "seconds": round(took, 1),
        "events_per_s": round(2 * users / took),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few users, to see that it runs")
    parser.add_argument("--users", type=int, default=1_000_000, help="users of the large replay")
    parser.add_argument("--model", action="store_true", help="with MiniLM loaded")
    chosen = parser.parse_args()
    users, items = (20_000, 1_000) if chosen.quick else (chosen.users, 10_000)
    with tempfile.TemporaryDirectory() as name:
        runs = [
            replay(Path(name) / f"{count}", users=count, items=items, model=chosen.model)
            for count in (FEW, users)
        ]
    figures = {
        "few": runs[0],
        "many": runs[1],
        "many_over_few": round(runs[1]["resident_mib"] / runs[0]["resident_mib"], 2),
        "items": items,
        "dim": DIM,
        "hot_users": 20_000,
        "encoder": "minilm" if chosen.model else "hashing",
        "load_after": round(os.getloadavg()[0], 1),
    }
    emit("memory", figures, "bytewax", "lancedb", *(["torch"] if chosen.model else []))


if __name__ == "__main__":
    main()
