"""Events and items in, refreshed top-N lists out: the live job.

Run: ``recstream run``, or ``python -m bytewax.run flows.recommend`` (settings: ``RECSTREAM_*``), which
takes no lock on the store, keeps positions only with ``-r``, and leaves one job a store to you.
"""

from __future__ import annotations

import os

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from recstream.core.rejects import Reject
from recstream.engine.decode import decode
from recstream.engine.encode import encode_events, encode_items
from recstream.engine.endpoints import Inputs, Outputs
from recstream.engine.items import count_touches, store_items
from recstream.engine.outputs import (
    dead_letters,
    emit,
    list_messages,
    none_of,
    session_messages,
)
from recstream.engine.recommend import recommend
from recstream.engine.services import EngineRules, PerWorker, Services
from recstream.engine.users import users
from recstream.engine.worker import Worker

__all__ = ["Inputs", "Outputs", "build", "flow"]


def build(
    inputs: Inputs, outputs: Outputs, services: Services, rules: EngineRules, *, name: str = "recommend"
) -> Dataflow:
    """Wire the graph of DESIGN section 4. Opens nothing, reads no environment: tests call this."""
    df = Dataflow(name)
    worker = PerWorker(lambda: Worker(services, rules))
    decoding = (rules.profile.decode, services.meters, services.now, rules.fuse)
    encoding = (lambda: worker().encoder, services.meters, rules.fuse)

    heard = decode("decode_events", op.input("events", df, inputs.events), "events", *decoding)
    spoken = encode_events("encode_events", heard.events, *encoding)
    rejects: list[Stream[Reject]] = [heard.rejects, none_of("no_items", heard.items), spoken.rejects]
    # Worked off event by event, a log's items come in with their events: see Worker.
    rows = [] if rules.every_event else [spoken.items]
    rejects += [none_of("brought_items", spoken.items)] if rules.every_event else []
    if inputs.items is not None:
        listed = decode("decode_items", op.input("items", df, inputs.items), "items", *decoding)
        encoded = encode_items("encode_items", listed.items, *encoding)
        rows.append(encoded.rows)
        rejects += [listed.rejects, none_of("no_item_events", listed.events), encoded.rejects]

    if rows:
        stored = store_items("store_items", op.merge("all_items", *rows), worker, rules)
        rejects.append(none_of("no_stored", stored))

    done = users("users", spoken.events, worker, rules)
    counted = count_touches("count_touches", done.touches, worker, rules)
    lists = op.merge("all_lists", recommend("recommend", done.due, worker), done.lists)
    messages = list_messages("list_messages", lists)
    emit("lists", messages, outputs.lists)

    rejects += [done.rejects, none_of("no_counted", counted)]
    letters = dead_letters("dead_letters", op.merge("all_rejects", *rejects), services.now)
    emit("dead_letter", letters, outputs.rejects)

    sessions = session_messages("session_messages", done.sessions, worker)
    if outputs.sessions is not None:
        emit("sessions", sessions, outputs.sessions)
    return df


def flow() -> Dataflow:
    """What ``bytewax.run`` calls; reads the environment and nothing else does."""
    from recstream.config import Settings
    from recstream.wiring import Wiring

    wiring = Wiring(Settings.load(None, os.environ))
    wiring.stop.on_signals()
    return build(wiring.live_inputs(), wiring.live_outputs(), wiring.services(), wiring.rules())
