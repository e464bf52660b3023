"""What the benchmarks share: options, repeated measurements, one JSON line, and on what machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TypeAlias

Figures: TypeAlias = dict[str, float | None]


def options(about: str | None) -> argparse.ArgumentParser:
    """A command line that knows ``--quick``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs (under 20 s)")
    return parser


def is_quick(about: str | None) -> bool:
    """Read the command line, which knows ``--quick`` alone."""
    chosen: bool = options(about).parse_args().quick
    return chosen


def seconds(work: Callable[[], object]) -> float:
    """How long one run takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(rates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Ask each of them for a figure, one after the other, so many rounds, under the same load."""
    found: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(rounds):
        for name, rate in rates.items():
            found[name].append(rate())
    return found


def spread(values: Sequence[float], digits: int | None = None) -> Figures:
    """Median, best (greatest) and worst, for figures of which more is better."""
    return {
        "median": round(statistics.median(values), digits),
        "best": round(max(values), digits),
        "worst": round(min(values), digits),
    }


def ratio(ours: Sequence[float], reference: Sequence[float]) -> Figures:
    """How many times the reference, round by round."""
    return spread([one / other for one, other in zip(ours, reference, strict=True)], 2)


def percentiles(values: Sequence[float]) -> Figures:
    """Nearest-rank p50, p90, p99 and the maximum; None where there is nothing to rank."""
    ordered = sorted(values)

    def at(share: float) -> float | None:
        place = min(len(ordered) - 1, round(share * (len(ordered) - 1)))
        return round(ordered[place], 2) if ordered else None

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)}


def emit(bench: str, figures: Mapping[str, object], *packages: str) -> None:
    """Print the one line: the figures, then the machine, the versions and the load at the end."""
    machine = {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps({"bench": bench, **figures, **machine}))
