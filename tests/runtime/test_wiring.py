"""What a process is put together of knows whether it lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recstream.config.settings import Settings
from recstream.connectors.base import ConnectorError, PartitionPosition
from recstream.runtime.positions import PositionsError
from recstream.runtime.signals import Stop
from recstream.runtime.wiring import Wiring, health_of


def settings(folder: Path, **more: object) -> Settings:
    chosen = {"store.path": str(folder), "kafka.down_after_s": 100, **more}
    return Settings.load(None, {}, chosen)


def test_each_batch_that_is_asked_for_is_a_turn_and_each_snapshot_an_epoch(tmp_path: Path) -> None:
    wiring = Wiring(settings(tmp_path))
    inputs = wiring.live_inputs()
    assert wiring.health.why_not_ready() == "starting: nothing is read yet"
    for source, stream in ((inputs.events, "events"), (inputs.items, "items")):
        reading: Any = source._reading  # type: ignore[union-attr]  # a Kafka source's
        assert reading.stopping() is False
        reading.on_epoch()
        reading.on_lag(f"{stream}/0", 3)
    assert wiring.health.why_not_ready() == ""
    assert wiring.summary()["kafka_lag"] == {"events/0": 3, "items/0": 3}
    assert wiring.summary()["last_epoch"].keys() == {"events", "items"}
    wiring.stop.ask()
    assert wiring.health.why_not_ready() == "stopping"


def test_sources_and_sinks_say_what_is_away(tmp_path: Path) -> None:
    wiring = Wiring(settings(tmp_path))
    inputs, outputs = wiring.live_inputs(), wiring.live_outputs()
    readers: list[Any] = [inputs.events._reading, inputs.items._reading]  # type: ignore[attr-defined, union-attr]
    for place in [*(reader.on_trouble for reader in readers), outputs.lists._on_trouble]:  # type: ignore[union-attr]
        place("it", "away")
        assert wiring.health.why_not_ready() == "it: away"
        place("it", "")


@pytest.mark.parametrize(
    ("more", "limit_s"),
    [
        ({}, 60.0),
        ({"run.processes": 2}, 60.0 + 200.0),
        ({"encoder.url": "http://localhost:1/v1", "encoder.backend": "openai"}, 60.0 + 6 * 35.0),
        ({"run.stalled_after_s": 5}, 5.0),
    ],
    ids=["alone", "peers wait for Kafka", "a server is tried again", "set"],
)
def test_it_is_given_as_long_as_what_it_waits_for(
    tmp_path: Path, more: dict[str, object], limit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    health = health_of(settings(tmp_path, **more), Stop())
    monkeypatch.setattr(health, "_now", lambda: clock[0])
    monkeypatch.setattr(health, "_cpu", lambda: 0.0)
    health.turned()
    clock[0] += limit_s
    assert not health.why_dead()
    clock[0] += 1.0
    assert health.why_dead()


def test_what_is_not_read_yet_of_what_is_held_is_told_again_and_stands_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = PartitionPosition("events/0", 5, 0, 9, 5, None, None)
    none = PartitionPosition("items/0", None, 3, 2, None, None, None)
    answers: Iterator[Any] = iter(
        [[half, none], ConnectorError("away"), PositionsError(Path("p"), "locked"), [none]]
    )

    def answer(_: Settings, *, in_full: bool) -> Any:
        assert not in_full, "items, of which few are kept, would be read as a whole"
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr("recstream.runtime.wiring.compared_positions", answer)
    wiring = Wiring(settings(tmp_path))
    for _ in range(4):
        wiring.report_positions()
        assert wiring.summary()["lag_share"] == {"events/0": 0.5, "items/0": 0.0}
