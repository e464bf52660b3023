"""Killed at random and at chosen moments, a job leaves what one leaves that was never killed.

With ``CRASH_SEED=<seed>`` in the environment a test runs with the seed that a failure named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from tests.recovery.crash_driver import CrashRun, Kill, seed_of
from tests.recovery.crash_violations import violations
from tests.recovery.fault_injection import POINTS

pytestmark = pytest.mark.kafka

SHORT = (
    Kill("unsent.refusal"),
    Kill("users.between"),
    Kill("lists.unconfirmed"),
    Kill("unsent.list"),
    Kill("random", then="supervised"),
    Kill("supervisor"),
)
BY_CHANCE = (
    Kill("random"),
    Kill("starting"),
    Kill("starting"),
    Kill("random", then="supervised"),
    Kill("child"),
    Kill("supervisor", then="supervised"),
    Kill("supervisor"),
)
EVERYWHERE = (*(Kill(at) for at in POINTS if at != "unsent.reject"), Kill("unsent.reject"), *BY_CHANCE)
"""Every point once; the reject of an event that waited too long needs some time to come."""
OF_TWO = (
    Kill("users.between", process=0),
    Kill("barrier.after", process=1),
    Kill("unsent.list"),
    Kill("lists.produced", process=1),
    Kill("unsent.session"),
    Kill("commit.inside", process=1),
    Kill("items.inside"),
    Kill("unsent.reject"),
    Kill("compacting.inside", process=0),
    Kill("random", process=1),
    Kill("starting", process=0),
    Kill("random", process=0, then="supervised"),
    Kill("child", process=1),
    Kill("supervisor"),
)

Started = Callable[..., CrashRun]


@pytest.fixture
def crash(broker: EmbeddedBroker, topic: Callable[..., str], tmp_path: Path) -> Started:
    """``crash(seed, kills, processes=2)`` runs a job through these kills."""

    def run(seed: int, kills: Sequence[Kill], *, missing_items_until: int, **more: Any) -> CrashRun:
        made = CrashRun(broker.bootstrap, topic, tmp_path, seed_of(seed), **more)
        made.run(kills, missing_items_until=missing_items_until)
        return made

    return run


def test_six_kills_leave_no_trace(crash: Started) -> None:
    ran = crash(1, SHORT, missing_items_until=2, wait_s=30.0)
    assert violations(ran) == {}, ran.report()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_at_every_point_and_some_at_random_leave_no_trace(crash: Started) -> None:
    ran = crash(2, EVERYWHERE, missing_items_until=len(EVERYWHERE) - len(BY_CHANCE), wait_s=40.0)
    assert violations(ran) == {}, ran.report()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_of_one_process_of_two_leave_no_trace(crash: Started) -> None:
    ran = crash(3, OF_TWO, processes=2, missing_items_until=8, wait_s=40.0)
    assert violations(ran) == {}, ran.report()
