"""A log in, lists out: the graph of `flows.recommend` over a file or a topic between two points.

Run: ``python -m bytewax.run flows.backfill`` (settings: ``RECSTREAM_BACKFILL__*``), or
``recstream backfill``, which loads the items first and resumes where it was interrupted.
"""

from __future__ import annotations

import os

from bytewax.dataflow import Dataflow

from recstream.config import Settings
from recstream.dataflow.graph import recommend_flow, replay_rules
from recstream.dataflow.outputs import Inputs
from recstream.runtime.wiring import Wiring


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    settings = Settings.load(None, os.environ)
    wiring = Wiring(settings)
    wiring.stop.on_signals()
    rules = replay_rules(wiring.rules(), settings.backfill.refresh)
    events = Inputs(wiring.events_to_replay())
    return recommend_flow(events, wiring.replay_outputs(), wiring.services(), rules, name="backfill")
