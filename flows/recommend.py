"""Events and items in, refreshed top-N lists out: the live job.

Run: ``recstream run``, or ``python -m bytewax.run flows.recommend`` (settings: ``RECSTREAM_*``), which
takes no lock on the store, keeps positions only with ``-r``, and leaves one job a store to you.
"""

from __future__ import annotations

import os

from bytewax.dataflow import Dataflow

from recstream.config import Settings
from recstream.dataflow.graph import recommend_flow
from recstream.runtime.wiring import Wiring


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    wiring = Wiring(Settings.load(None, os.environ))
    wiring.stop.on_signals()
    return recommend_flow(wiring.live_inputs(), wiring.live_outputs(), wiring.services(), wiring.rules())
