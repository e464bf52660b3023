"""The sections of the settings that say how jobs run: live, in a replay, and in the background."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from recstream.config_sections import PositiveSeconds
from recstream.config_values import Section, parse_bound

__all__ = ["Backfill", "Drift", "Run"]


class Run(Section):
    """The running job."""

    epoch_s: PositiveSeconds = Field(
        default=1.0, description="Seconds between commits of state and positions."
    )
    processes: int = Field(default=1, ge=1, le=1024, description="Worker processes on this machine.")
    metrics_port: int = Field(
        default=9108, ge=0, le=65_535, description="Port of /metrics and /healthz; 0: off."
    )
    stop_timeout_s: PositiveSeconds = Field(default=10.0, description="Seconds a clean stop may take.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )
    restarts: int = Field(
        default=5, ge=0, description="Times the job is started again after a crash in a row."
    )


class Drift(Section):
    """Lists of idle users, made again as the world moves; a restart leaves only users heard since to it."""

    enabled: bool = Field(default=True, description="Refresh lists of idle users (see also backfill.drift).")
    active_s: PositiveSeconds = Field(
        default=2_592_000.0, description="Seconds since a user's last event after which they are left alone."
    )
    after_events: float = Field(
        default=20.0, ge=1, description="Events of the whole stream after which a list may be made again."
    )
    lists_per_s: float = Field(
        default=50.0, gt=0, le=1e6, description="run: most such lists made a second, by each process."
    )
    items_per_s: int = Field(
        default=20,
        ge=0,
        le=10_000,
        description="run: most new items a second, the newest, that reach the users they fit; 0: off.",
    )
    item_users: int = Field(default=50, ge=1, le=10_000, description="run: users searched for a new item.")


class Backfill(Section):
    """What a replay reads and writes (the command line's options set these)."""

    events: str = Field(
        default="",
        description="Event log: a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file, or kafka:TOPIC.",
    )
    items: str = Field(default="", description="Items to load first: a file as above, or kafka:TOPIC.")
    out: str = Field(default="", description="Where lists go: a .jsonl file (or .gz, .zst), or kafka:TOPIC.")
    dead_letter: str = Field(
        default="",
        description="Where rejects go: a .jsonl file or kafka:TOPIC; empty: <store.path>/dead-letter.jsonl.",
    )
    refresh: Literal["event", "batch", "end"] = Field(
        default="batch",
        description="Lists after each event in log order, once a micro-batch, or only at the end.",
    )
    drift: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="refresh=event: lists of idle users made again for each event of the log; 0: none.",
    )
    limit: int = Field(default=0, ge=0, description="Read only the first so many events; 0: all.")
    stop: str = Field(
        default="end",
        description="kafka: where to stop, end, ts=... or offsets={...} (kafka.start: where to begin).",
    )

    @field_validator("stop")
    @classmethod
    def _stop_is_known(cls, value: str) -> str:
        parse_bound(value, ("end",))
        return value

    @property
    def stop_at(self) -> str | dict[str, int]:
        """``stop`` as the source wants it: offsets as a mapping, all else as it is."""
        return parse_bound(self.stop, ("end",))

    epoch_s: PositiveSeconds = Field(
        default=5.0,
        description="Seconds between commits of a replay: each writes every user touched since the last.",
    )
    max_rejects: int = Field(
        default=0, ge=0, description="Exit with an error when more records than this are rejected."
    )
