"""How much is not read yet of what is held is told again and again, whatever the places answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recstream.config import Settings
from recstream.connectors.base import ConnectorError, PartitionPosition
from recstream.runtime.lag_watch import LagWatch
from recstream.runtime.positions import PositionsError
from recstream.runtime.wiring import Wiring

HALF = PartitionPosition("events/0", 5, 0, 9, 5, None, None)


@pytest.mark.parametrize("fault", [ConnectorError("away"), PositionsError(Path("p"), "locked")])
def test_a_look_without_an_answer_is_followed_by_another(fault: Exception) -> None:
    told, done = [], threading.Event()
    answers: Iterator[Exception | None] = iter([None, fault, fault, None])

    def look() -> list[PartitionPosition]:
        answer = next(answers, None)
        if answer is not None:
            raise answer
        return [HALF]

    def report(position: PartitionPosition) -> None:
        told.append(position)
        if len(told) == 2:
            done.set()

    with LagWatch(look, report, every_s=0.001):
        assert done.wait(20)
    assert told[:2] == [HALF, HALF]


def test_the_share_of_a_partition_is_a_metric(tmp_path: Path) -> None:
    wiring = Wiring(Settings.load(None, {}, {"store.path": str(tmp_path)}))
    wiring.report_position(HALF)
    wiring.report_position(PartitionPosition("items/0", None, 3, 2, None, None, None))
    assert wiring.summary()["lag_share"] == {"events/0": 0.5, "items/0": 0.0}
