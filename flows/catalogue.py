"""Items in, encoded once and stored: the catalogue in bulk, before any event.

Run: ``python -m bytewax.run flows.catalogue`` (settings: ``RECSTREAM_BACKFILL__ITEMS``), or
``recstream catalogue load``.
"""

from __future__ import annotations

import os

from bytewax.dataflow import Dataflow

from recstream.config import Settings
from recstream.dataflow.graph import catalogue_flow
from recstream.runtime.wiring import Wiring


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    settings = Settings.load(None, os.environ)
    wiring = Wiring(settings)
    wiring.stop.on_signals()
    return catalogue_flow(wiring.items_to_load(), wiring.item_rejects(), wiring.services(), wiring.rules())
