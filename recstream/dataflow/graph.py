"""The dataflow graphs: which streams connect which steps. Building one opens nothing.

The graph of the live job and of a replay; in brackets the steps that share the worker, each with the part
that it uses::

    events -> decode -> encode [encoder] ---+---> users [all parts] --+--> recommend [lists] --> lists
                                            |                         |
                                            | items that              +--> count_touches [statistics]
                                            | events carry            |
                                            v                         +--> sessions [catalogue: ids]
    items --> decode -> encode [encoder] ---+---> store_items         |
                                                  [catalogue]         +--> rejects

    rejects of all steps -----------------------------------------------> dead letters

Streams pass messages between workers: an event goes to the worker that owns its user's shard, an item to the
owner of its own, an interaction to the owner of the item's statistics. Beside the streams, the steps of one
worker share its `Worker` through `PerWorker`, which says why. So these effects take no path in the picture:

- An item that an event carries is known to ``users`` before ``store_items`` has it.
- What ``store_items`` and ``count_touches`` change is seen by ``users`` and ``recommend`` at once.
- At a barrier ``users``, ``store_items`` and ``count_touches`` are all asked for a snapshot; the first of
  them takes the checkpoint of the whole worker.
"""

from __future__ import annotations

from dataclasses import replace

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source

from recstream.connectors.base import MessageSink
from recstream.dataflow.decode import decode
from recstream.dataflow.encode import encode_events, encode_items
from recstream.dataflow.items import count_interactions, store_items
from recstream.dataflow.messages import EncodedList, Forgotten
from recstream.dataflow.outputs import (
    Inputs,
    Outputs,
    dead_letters,
    emit,
    list_messages,
    none_of,
    session_messages,
)
from recstream.dataflow.recommend import recommend
from recstream.dataflow.services import DataflowRules, Services
from recstream.dataflow.users import users
from recstream.dataflow.worker import PerWorker, Worker
from recstream.records.reject import Reject
from recstream.records.transport import RawBatch

__all__ = ["catalogue_flow", "final_lists_flow", "recommend_flow", "replay_rules"]


def recommend_flow(
    inputs: Inputs, outputs: Outputs, services: Services, rules: DataflowRules, *, name: str = "recommend"
) -> Dataflow:
    """Events and items in, refreshed lists out: the graph of the live job and of a replay.

    ``name`` is the flow's id, under which positions are kept: ``"recommend"`` live, ``"backfill"`` in a
    replay. Step ids are part of stored positions, so renaming one needs a migration.
    """
    df = Dataflow(name)
    worker = PerWorker(lambda: Worker(services, rules))
    decoding = (rules.user_state.decode, services.meters, services.now, rules.reject_limit)
    encoding = (lambda: worker().encoder, services.meters, rules.reject_limit)

    decoded = decode("decode_events", op.input("events", df, inputs.events), "events", *decoding)
    encoded = encode_events("encode_events", decoded.events, *encoding)
    rejects: list[Stream[Reject]] = [decoded.rejects, none_of("no_items", decoded.items), encoded.rejects]
    # In a log worked off in its order, items enter the catalogue together with their events, in `users`.
    rows = [] if rules.in_order else [encoded.items]
    rejects += [none_of("brought_items", encoded.items)] if rules.in_order else []
    if inputs.items is not None:
        decoded_items = decode("decode_items", op.input("items", df, inputs.items), "items", *decoding)
        encoded_items = encode_items("encode_items", decoded_items.items, *encoding)
        rows.append(encoded_items.rows)
        rejects += [
            decoded_items.rejects,
            none_of("no_item_events", decoded_items.events),
            encoded_items.rejects,
        ]

    if rows:
        stored = store_items("store_items", op.merge("all_items", *rows), worker, rules)
        rejects.append(none_of("no_stored", stored))

    results = users("users", encoded.events, worker, rules)
    counted = count_interactions("count_touches", results.interactions, worker, rules)
    lists = op.merge("all_lists", recommend("recommend", results.due, worker), results.lists)
    emit("lists", list_messages("list_messages", lists), outputs.lists)

    rejects += [results.rejects, none_of("no_counted", counted)]
    rejected = dead_letters("dead_letters", op.merge("all_rejects", *rejects), services.now)
    emit("dead_letter", rejected, outputs.rejects)

    sessions = session_messages("session_messages", results.sessions, worker)
    if outputs.sessions is not None:
        emit("sessions", sessions, outputs.sessions)
    return df


def replay_rules(rules: DataflowRules, refresh: str, *, job: str = "backfill") -> DataflowRules:
    """Give the rules of a replay: the catalogue is loaded, so no event waits for its item.

    ``refresh`` says when lists are made: ``"event"``, after each event; ``"end"``, none; else once for each
    batch as it was read. Lists of idle users are made only with ``"event"``. The log is worked off in its
    order in any case.
    """
    has_idle_refresh = (
        refresh == "event" and rules.idle_refresh is not None and rules.idle_refresh.lists_per_event > 0.0
    )
    return replace(
        rules,
        in_order=True,
        every_event=refresh == "event",
        lists=refresh != "end",
        wait_for_item_s=0.0,
        unfinished=False,
        learning=replace(rules.learning, time_share=None),
        job=job,
        processes=1,
        idle_refresh=rules.idle_refresh if has_idle_refresh else None,
        sessions=False,  # there is no output for them; the live job announces what is still open
    )


def final_lists_flow(lists: Source[EncodedList | Forgotten], sink: MessageSink) -> Dataflow:
    """Last lists of all stored users: the second half of a replay that emits no others."""
    df = Dataflow("backfill-final")
    emit("lists", list_messages("list_messages", op.input("users", df, lists)), sink)
    return df


def catalogue_flow(
    items: Source[RawBatch], rejects: MessageSink, services: Services, rules: DataflowRules
) -> Dataflow:
    """Items in, encoded and stored: a catalogue in bulk."""
    df = Dataflow("catalogue")
    worker = PerWorker(lambda: Worker(services, rules))
    decoded = decode(
        "decode_items",
        op.input("items", df, items),
        "items",
        rules.user_state.decode,
        services.meters,
        services.now,
        rules.reject_limit,
    )
    encoded = encode_items(
        "encode_items", decoded.items, lambda: worker().encoder, services.meters, rules.reject_limit
    )
    stored = store_items("store_items", encoded.rows, worker, rules)
    rejected = op.merge(
        "all_rejects",
        decoded.rejects,
        encoded.rejects,
        none_of("no_events", decoded.events),
        none_of("no_stored", stored),
    )
    emit("dead_letter", dead_letters("dead_letters", rejected, services.now), rejects)
    return df
