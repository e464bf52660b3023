"""Events and items in, refreshed top-N lists out: the live job.

Run: ``python -m bytewax.run flows.recommend`` (settings: ``RECSTREAM_*``), or ``recstream run``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.outputs import Sink

from recstream.core.messages import Message
from recstream.core.rejects import Reject
from recstream.core.source import RawBatch
from recstream.engine.decode import decode
from recstream.engine.encode import encode_events, encode_items
from recstream.engine.items import count_touches, store_items
from recstream.engine.outputs import (
    dead_letters,
    list_messages,
    none_of,
    session_messages,
    tombstones,
)
from recstream.engine.recommend import recommend
from recstream.engine.services import EngineRules, PerWorker, Services
from recstream.engine.users import users
from recstream.engine.worker import Worker

__all__ = ["Inputs", "Outputs", "build", "flow"]


@dataclass(frozen=True)
class Inputs:
    """Where records come from."""

    events: Source[RawBatch]
    items: Source[RawBatch] | None = None


@dataclass(frozen=True)
class Outputs:
    """Where results go; each sink takes ``(key, message)`` pairs, so that any bytewax sink will do."""

    lists: Sink[tuple[str, Message]]
    rejects: Sink[tuple[str, Message]]
    sessions: Sink[tuple[str, Message]] | None = None


def build(
    inputs: Inputs, outputs: Outputs, services: Services, rules: EngineRules, *, name: str = "recommend"
) -> Dataflow:
    """Wire the graph of DESIGN section 4. Opens nothing, reads no environment: tests call this."""
    df = Dataflow(name)
    worker = PerWorker(lambda: Worker(services, rules))
    decoding = (rules.profile.decode, services.meters, services.now)

    heard = decode("decode_events", op.input("events", df, inputs.events), "events", *decoding)
    item_records = [heard.items]
    rejects: list[Stream[Reject]] = [heard.rejects]
    if inputs.items is not None:
        listed = decode("decode_items", op.input("items", df, inputs.items), "items", *decoding)
        item_records.append(listed.items)
        rejects += [listed.rejects, none_of("no_item_events", listed.events)]

    rows = encode_items("encode_items", op.merge("all_items", *item_records), lambda: worker().encoder)
    stored = store_items("store_items", rows, worker, rules)

    spoken = encode_events("encode_events", heard.events, lambda: worker().encoder)
    done = users("users", spoken, worker, rules)
    counted = count_touches("count_touches", done.touches, worker, rules)
    lists = op.merge("all_lists", recommend("recommend", done.queries, worker), done.lists)
    messages = op.merge(
        "all_messages",
        list_messages("list_messages", lists),
        tombstones("tombstones", done.forgotten),
    )
    op.output("lists", messages, outputs.lists)

    rejects += [done.rejects, none_of("no_stored", stored), none_of("no_counted", counted)]
    letters = dead_letters("dead_letters", op.merge("all_rejects", *rejects), services.now)
    op.output("dead_letter", letters, outputs.rejects)

    sessions = session_messages("session_messages", done.sessions, worker)
    if outputs.sessions is not None:
        op.output("sessions", sessions, outputs.sessions)
    return df


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    from recstream.wiring import Wiring

    from recstream.config import Settings

    wiring = Wiring(Settings.load(None, os.environ), os.environ)
    return build(wiring.live_inputs(), wiring.live_outputs(), wiring.services(), wiring.rules())
