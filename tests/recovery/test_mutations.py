"""The crash tests can fail: without one of the mechanisms behind the guarantees they do, and say how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.recovery.driver import Crash, Kill, seed_of
from tests.recovery.verdict import violations

pytestmark = pytest.mark.kafka


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("mutation", "kills", "broken"),
    [
        ("fence", [Kill("barrier.after")], {"rows"}),
        slow("barrier", [Kill("random")], {"rows"}),
        slow("recovery", [Kill("barrier.after")], {"rows"}),
        slow("confirmation", [Kill("barrier.after", nth=8)], {"lists"}),
        slow("outbox", [Kill("unsent.list"), Kill("unsent.session")], {"lists", "sessions_lost"}),
        slow("refusals", [Kill("unsent.refusal")], {"rejects_lost"}),
        slow("open_sessions", [Kill("random")], {"sessions_lost"}),
    ],
)
def test_without_a_mechanism_the_driver_finds_what_broke(
    broker: EmbeddedBroker,
    topic: Callable[..., str],
    tmp_path: Path,
    mutation: str,
    kills: list[Kill],
    broken: set[str],
) -> None:
    crash = Crash(broker.bootstrap, topic, tmp_path, seed_of(1), mutation=mutation)
    never = len(kills) if mutation == "refusals" else 0
    crash.run(kills, never_until=never, goes_quiet=mutation == "open_sessions")
    found = violations(crash)
    assert broken <= found.keys(), f"{found}\n{crash.report()}"
