"""A log in, lists out: the graph of `flows.recommend` over a file or a topic between two points.

Run: ``python -m bytewax.run flows.backfill`` (settings: ``RECSTREAM_BACKFILL__*``), or
``recstream backfill``, which loads the items first and resumes where it was interrupted.
"""

from __future__ import annotations

import os
from dataclasses import replace

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from flows.recommend import build as build_recommend
from recstream.core.source import RawBatch
from recstream.engine.endpoints import Inputs, Outputs
from recstream.engine.lists import Listed
from recstream.engine.outputs import MessageSink, emit, list_messages
from recstream.engine.services import EngineRules, Services
from recstream.engine.step import Forgotten

__all__ = ["build", "build_final", "flow", "replay_rules"]


def replay_rules(rules: EngineRules, refresh: str, *, job: str = "backfill") -> EngineRules:
    """The engine's rules for a replay: the catalogue is loaded, so no event waits for its item.

    Lists of idle users are made again only where a log is worked off event by event.
    """
    has_drift = refresh == "event" and rules.drift is not None and rules.drift.lists_per_event > 0.0
    return replace(
        rules,
        every_event=refresh == "event",
        lists=refresh != "end",
        wait_for_item_s=0.0,
        unfinished=False,
        learning=replace(rules.learning, time_share=None),
        job=job,
        processes=1,
        drift=rules.drift if has_drift else None,
        sessions=False,  # there is no output for them; the live job announces what is still open
    )


def build(events: Source[RawBatch], outputs: Outputs, services: Services, rules: EngineRules) -> Dataflow:
    """Wire it; ``rules`` are those of `replay_rules`."""
    return build_recommend(Inputs(events), outputs, services, rules, name="backfill")


def build_final(lists: Source[Listed | Forgotten], sink: MessageSink) -> Dataflow:
    """The second half of a backfill that emits only the last list of each user."""
    df = Dataflow("backfill-final")
    emit("lists", list_messages("list_messages", op.input("users", df, lists)), sink)
    return df


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    from recstream.config import Settings
    from recstream.wiring import Wiring

    settings = Settings.load(None, os.environ)
    wiring = Wiring(settings)
    wiring.stop.on_signals()
    return build(
        wiring.replay_source(settings.backfill.events, limit=settings.backfill.limit),
        wiring.replay_outputs(),
        wiring.services(),
        replay_rules(wiring.rules(), settings.backfill.refresh),
    )
