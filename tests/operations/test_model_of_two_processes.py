"""The model of a job of several processes: each learns, all use the mean, and a fit reaches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recstream.connectors.kafka.broker import EmbeddedBroker
from recstream.operations.model import inspect_model
from recstream.runtime.wiring import Wiring
from tests.support.commands import HASHING, recstream
from tests.support.live_jobs import wait_until
from tests.support.scenarios import Scenario, rich_log, spread


def model(scenario: Scenario) -> dict[str, Any]:
    """What the store holds of it."""
    wiring = Wiring(scenario.settings("store"), maintains=False, create=False)
    try:
        return inspect_model(wiring)
    finally:
        wiring.close()


@pytest.mark.slow
def test_processes_share_what_they_learn_and_take_up_a_fit_while_they_run(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    scenario = Scenario(broker.bootstrap, tmp_path)
    log = rich_log(1600, users=40)
    topic = scenario.events(spread(log[:1200], 2), partitions=2)
    with scenario.live("store", topic, processes=2) as live:
        live.until(log[:1200])
        fitted = recstream(
            "catalogue", "fit", "--store", str(scenario.store("store")), *HASHING, cwd=tmp_path
        )
        assert fitted.returncode == 0, fitted.stderr
        version = model(scenario)["transform"]["version"]
        told = f"texts are compared by transform {version} now"
        wait_until(lambda: live.job.text().count(told) == 2, live.job.text)
        live.stop()
    learned = model(scenario)
    assert learned["workers"] == 2
    assert learned["examples"] > 40
    assert learned["transform"]["version"] == version
    with scenario.live(
        "store", topic, processes=2
    ) as live:  # nobody comes: nothing is learned, nothing is lost
        wait_until(lambda: live.job.text().count("process=1 recovery=") == 2, live.job.text)
        assert live.job.stop() == 0, live.job.text()
    unchanged = model(scenario)
    assert unchanged["examples"] == learned["examples"]
    assert [one["worth"] for one in unchanged["signals"]] == pytest.approx(
        [one["worth"] for one in learned["signals"]]
    )
    scenario.send(topic, spread(log[1200:], 2))
    with scenario.live("store", topic, processes=1) as live:  # one goes on from what both have learned
        live.until(log)
        live.stop()
    after = model(scenario)
    assert after["workers"] == 1
    assert learned["examples"] < after["examples"] < learned["examples"] + 400
