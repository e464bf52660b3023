"""Items in, encoded once and stored: the catalogue in bulk, before any event.

Run: ``python -m bytewax.run flows.catalogue`` (settings: ``RECSTREAM_BACKFILL__ITEMS``), or
``recstream catalogue load``.
"""

from __future__ import annotations

import os

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from recstream.core.source import RawBatch
from recstream.engine.decode import decode
from recstream.engine.encode import encode_items
from recstream.engine.items import store_items
from recstream.engine.outputs import MessageSink, dead_letters, emit, none_of
from recstream.engine.services import EngineRules, PerWorker, Services
from recstream.engine.worker import Worker

__all__ = ["build", "flow"]


def build(items: Source[RawBatch], rejects: MessageSink, services: Services, rules: EngineRules) -> Dataflow:
    """Wire it. Opens nothing, reads no environment."""
    df = Dataflow("catalogue")
    worker = PerWorker(lambda: Worker(services, rules))
    listed = decode(
        "decode_items",
        op.input("items", df, items),
        "items",
        rules.profile.decode,
        services.meters,
        services.now,
        rules.fuse,
    )
    encoded = encode_items(
        "encode_items", listed.items, lambda: worker().encoder, services.meters, rules.fuse
    )
    stored = store_items("store_items", encoded.rows, worker, rules)
    refused = op.merge(
        "all_rejects",
        listed.rejects,
        encoded.rejects,
        none_of("no_events", listed.events),
        none_of("no_stored", stored),
    )
    emit("dead_letter", dead_letters("dead_letters", refused, services.now), rejects)
    return df


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    from recstream.config import Settings
    from recstream.wiring import Wiring

    settings = Settings.load(None, os.environ)
    wiring = Wiring(settings)
    wiring.stop.on_signals()
    return build(
        wiring.replay_source(settings.backfill.items),
        wiring.item_rejects(),
        wiring.services(),
        wiring.rules(),
    )
