"""Every metric recstream exports: its kind, unit, labels, meaning, and what to do when it is high.

A metric is one row of `METRICS`; whoever counts it names it: ``meters.add("epochs")``. A name without a row
is a programming error. Prometheus shows each as ``recstream_<name>``, counters with ``_total`` at the end.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

__all__ = ["BUCKETS_S", "METRICS", "Kind", "Metric", "label_values", "metric"]

Kind = Literal["counter", "gauge", "histogram"]
BUCKETS_S: Final = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0),
)
"""Upper bounds of the histograms' buckets, seconds."""


class Metric(NamedTuple):
    """One exported metric."""

    kind: Kind
    unit: str
    help: str
    """What it counts."""
    when_high: str
    """What an operator does about it."""
    labels: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    """Labels that a caller may leave out, and their values then."""
    merge: Literal["sum", "max", "min"] = "sum"
    """How the values of a job's processes become one."""


METRICS: Final[dict[str, Metric]] = {
    "records_read": Metric(
        "counter",
        "records",
        "Records read, by stream (events, items).",
        "Nothing: it is the load.",
        ("stream",),
    ),
    "events_applied": Metric(
        "counter", "events", "Events folded into a user's state.", "Nothing: it is the work done."
    ),
    "events_duplicate": Metric(
        "counter",
        "events",
        "Events whose event_id was applied before.",
        "A producer sends twice: turn on its idempotence, or look for a loop.",
    ),
    "events_absorbed": Metric(
        "counter",
        "events",
        "Events that the user's stored state has absorbed before (read again after a crash or by a replay).",
        "Expected after a crash or replay; otherwise two jobs read into one store.",
    ),
    "events_late": Metric(
        "counter",
        "events",
        "Replayed event by event: events older than one before them by more than profile.lateness_s.",
        "The log is not in order of time: sort it, for lists are to be made of what came before.",
    ),
    "events_tombstone": Metric(
        "counter",
        "events",
        "Null values on the topic of events, left out: they say nothing, and erase nobody.",
        "A producer deletes events from the topic: to erase a user, send a forget event.",
    ),
    "events_waiting": Metric(
        "gauge",
        "events",
        "Events that wait for an item which is not known yet.",
        "The items topic is late or incomplete: check its lag and its dead letters.",
    ),
    "events_waiting_at_start": Metric(
        "gauge",
        "events",
        "Of the waiting events met in this run, those that an earlier run read and counted.",
        "Nothing: it balances the accounting of a resumed run.",
    ),
    "records_rejected": Metric(
        "counter",
        "records",
        "Records not applied, by stream and reason; each is in the dead-letter output.",
        "Read the dead letters: `detail` says what was wrong and how to mend it.",
        ("stream", "reason"),
        (("stream", "events"),),
    ),
    "fields_left_out": Metric(
        "counter",
        "fields",
        "Optional fields of items, or parts of them, left out or cut because they could not be read.",
        "The log names the first of each field and reason: mend the export, and load the items again.",
        ("field", "reason"),
    ),
    "lists_emitted": Metric(
        "counter", "lists", "Lists written, by trigger (event, request, drift).", "Nothing.", ("trigger",)
    ),
    "drift_lists": Metric(
        "counter",
        "lists",
        "Lists of idle users refreshed, by outcome: emitted, or unchanged (not written).",
        "unchanged far above emitted: raise drift.after_events, or lower drift.lists_per_s.",
        ("outcome",),
    ),
    "drift_items_skipped": Metric(
        "counter",
        "items",
        "New items whose users were not searched for: more came at once than drift.items_per_s.",
        "Nothing after a bulk load; otherwise raise drift.items_per_s.",
    ),
    "drift_search_seconds": Metric(
        "histogram",
        "seconds",
        "Time of one search for the users whom a new item fits.",
        "Events wait for it: lower drift.items_per_s, or set it to 0.",
    ),
    "model_examples": Metric(
        "gauge",
        "lists",
        "Lists that the weights were learned from, as of the last write.",
        "Nothing; standing still while events come: see ranking.learn.",
        merge="max",
    ),
    "model_weight": Metric(
        "gauge",
        "score",
        "Weight of each signal: the score of an item with the full value of this feature and no other.",
        "Jumping: look at what users do (a campaign, a robot); recstream model reset starts anew.",
        ("signal",),
        merge="max",
    ),
    "outputs_resent": Metric(
        "counter",
        "outputs",
        "Outputs (list, reject, session) of an epoch that did not commit before a crash, sent again.",
        "Nothing: it is how a crash loses none.",
        ("kind",),
    ),
    "sessions_closed": Metric("counter", "sessions", "Sessions announced as closed.", "Nothing."),
    "users_hot": Metric(
        "gauge",
        "users",
        "Users held in memory.",
        "At store.hot_users the user cache is full; see users_loaded.",
    ),
    "users_loaded": Metric(
        "counter",
        "users",
        "Users fetched from the store because they were not in memory.",
        "Near the event rate: raise store.hot_users.",
    ),
    "flush_seconds": Metric(
        "histogram",
        "seconds",
        "Time that events wait at the end of an epoch for its writes.",
        "Above run.epoch_s: slow disk, or too many users an epoch; raise run.epoch_s.",
    ),
    "flushed_rows": Metric(
        "counter",
        "rows",
        "Rows written, by table (users, items, item_stats, models).",
        "Nothing.",
        ("table",),
    ),
    "encoder_texts": Metric(
        "counter",
        "texts",
        "Texts asked for, by outcome: lru (in memory), disk (in the cache), encoded (by the model).",
        "encoded high on known texts: check cache.path and cache.max_mb.",
        ("outcome",),
    ),
    "encode_seconds": Metric(
        "histogram",
        "seconds",
        "Time of one call of the model.",
        "Lower encoder.max_tokens, use a smaller model or a device, or raise encoder.threads.",
    ),
    "catalogue_items": Metric(
        "gauge",
        "items",
        "Items known.",
        "Memory grows with it: each process holds the whole catalogue.",
        merge="max",
    ),
    "catalogue_version": Metric("gauge", "version", "Version of the catalogue.", "Nothing.", merge="max"),
    "kafka_lag": Metric(
        "gauge",
        "records",
        "Records of events and items not read yet, by partition.",
        "Growing: raise run.processes (up to the partitions), or look at flush_seconds.",
        ("partition",),
        merge="max",
    ),
    "lag_share": Metric(
        "gauge",
        "share",
        "Share of the records that a partition holds which are not read yet, by partition.",
        "Above .5 and not falling: records may be deleted unread; `recstream positions` says when.",
        ("partition",),
        merge="max",
    ),
    "offsets_lost": Metric(
        "counter",
        "offsets",
        "Offsets passed over because their records are gone, by partition.",
        "Let the topic keep records for longer; what was lost can be read from a copy by `backfill`.",
        ("partition",),
    ),
    "throttled_seconds": Metric(
        "counter",
        "seconds",
        "Time for which writers were held back, by place (a topic): they wrote more than a quota allows.",
        "Growing as fast as time: lists wait, and the lag grows. Raise the quota (producer_byte_rate), or "
        "lower ranking.top_n.",
        ("place",),
    ),
    "event_to_list_seconds": Metric(
        "histogram",
        "seconds",
        "From an event being read to its list being made.",
        "Look at kafka_lag, encode_seconds and flush_seconds, in this order.",
    ),
    "epochs": Metric(
        "counter",
        "epochs",
        "Epochs that wrote something.",
        "Nothing; it stands still while nothing comes: see last_epoch.",
    ),
    "last_epoch": Metric(
        "gauge",
        "Unix seconds",
        "When an epoch was last closed, with or without events, by stream read.",
        "Growing is well. Old, by time() - recstream_last_epoch: the job waits or hangs; /readyz says why.",
        ("stream",),
        merge="min",
    ),
    "process_start": Metric(
        "gauge",
        "Unix seconds",
        "When the process started.",
        "Changing often: it crashes; read its log.",
        merge="min",
    ),
}


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        KeyError: there is none; the message has the closest one.

    >>> metric("epoch")
    Traceback (most recent call last):
    ...
    KeyError: "'epoch' is no metric; did you mean 'epochs'?"
    """
    found = METRICS.get(name)
    if found is None:
        close = get_close_matches(name, list(METRICS), n=1, cutoff=0.0)
        raise KeyError(f"{name!r} is no metric; did you mean {close[0]!r}?")
    return found


def label_values(name: str, kind: Kind | None, labels: dict[str, str]) -> tuple[str, ...]:
    """Values of a metric's labels, in their order, once name, kind and labels are checked.

    ``kind`` None takes a counter or a gauge, which both can be added to.

    Raises:
        KeyError: no such metric.
        ValueError: it is of another kind or has other labels.

    >>> label_values("records_rejected", None, {"reason": "not_json"})
    ('events', 'not_json')
    """
    known = metric(name)
    if known.kind != kind if kind else known.kind == "histogram":
        raise ValueError(f"metric {name!r} is a {known.kind}, wanted a {kind or 'counter or gauge'}")
    given = {**dict(known.defaults), **labels} if known.defaults else labels
    if given.keys() != set(known.labels):
        raise ValueError(f"metric {name!r} got labels {sorted(labels)}, wanted {list(known.labels)}")
    return tuple(given[label] for label in known.labels)
