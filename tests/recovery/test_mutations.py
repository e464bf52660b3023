"""The crash tests fail when a mechanism behind the guarantees is switched off, and say what broke."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.recovery.crash_driver import CrashRun, Kill, seed_of
from tests.recovery.crash_violations import violations

pytestmark = pytest.mark.kafka


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("mutation", "kills", "broken"),
    [
        ("offset_ranges", [Kill("barrier.after")], {"rows"}),
        slow("rows_at_the_barrier", [Kill("random")], {"rows"}),
        slow("recovery", [Kill("barrier.after")], {"rows"}),
        slow("confirmation", [Kill("barrier.after", nth=8)], {"lists"}),
        slow("outbox", [Kill("unsent.list"), Kill("unsent.session")], {"lists", "sessions_lost"}),
        slow("refusals", [Kill("unsent.refusal")], {"rejects_lost"}),
        slow("open_sessions", [Kill("random")], {"sessions_lost"}),
    ],
)
def test_without_a_mechanism_the_crash_driver_finds_what_broke(
    broker: EmbeddedBroker,
    topic: Callable[..., str],
    tmp_path: Path,
    mutation: str,
    kills: list[Kill],
    broken: set[str],
) -> None:
    crash = CrashRun(broker.bootstrap, topic, tmp_path, seed_of(1), mutation=mutation)
    cohorts = len(kills) if mutation == "refusals" else 0
    crash.run(kills, missing_items_until=cohorts, goes_quiet=mutation == "open_sessions")
    found = violations(crash)
    assert broken <= found.keys(), f"{found}\n{crash.report()}"
