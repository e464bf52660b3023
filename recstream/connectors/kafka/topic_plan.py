"""What the topics of a job should be like, how far those that exist differ, and the commands that mend it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = [
    "DEAD_LETTER",
    "EVENTS",
    "ITEMS",
    "LISTS",
    "REPLICAS",
    "SESSIONS",
    "TopicConfig",
    "TopicDifference",
    "days",
    "differences",
    "keeps_s",
    "wanted_config",
    "wanted_replicas",
]

EVENTS: Final = "kafka.events_topic"
ITEMS: Final = "kafka.items_topic"
LISTS: Final = "kafka.lists_topic"
DEAD_LETTER: Final = "kafka.dead_letter_topic"
SESSIONS: Final = "kafka.sessions_topic"
NEWEST_OF_A_KEY: Final = (LISTS, ITEMS)
"""Topics of which every reader wants the newest record of each key, however old it is."""
REPLICAS: Final = 3
"""Copies of a topic, where there are as many brokers."""
_IN_SYNC: Final = 2
"""Copies, of three, that must have a record before it counts as written."""
_KEEPS_MS: Final = {EVENTS: 604_800_000, SESSIONS: 604_800_000, DEAD_LETTER: 2_592_000_000}
"""How long records are kept: a week, and those to be mended by hand a month."""
_MAX_BYTES: Final = 1_048_588
"""``max.message.bytes`` of a topic for which nobody has said it."""

TopicConfig: TypeAlias = Mapping[str, str]
"""A topic's settings by Kafka's names, as far as the cluster tells them."""


class TopicDifference(NamedTuple):
    """One thing that an existing topic should be otherwise."""

    detail: str
    mend: str
    kind: Literal["fault", "loss", "other"] = "other"
    """``fault``: the job loses records; ``loss``: it may lose or refuse some; ``other``: not as advised."""


def wanted_replicas(brokers: int) -> int:
    """Give the copies to advise in a cluster of so many brokers.

    >>> wanted_replicas(1), wanted_replicas(5)
    (1, 3)
    """
    return max(1, min(brokers, REPLICAS))


def wanted_config(setting: str, replicas: int, record_bytes: int = 0) -> dict[str, str]:
    """Give the settings of the topic that a setting names.

    >>> wanted_config("kafka.lists_topic", 1)
    {'cleanup.policy': 'compact'}
    >>> wanted_config("kafka.events_topic", 3)
    {'cleanup.policy': 'delete', 'retention.ms': '604800000', 'min.insync.replicas': '2'}
    """
    wanted = {"cleanup.policy": "compact"}
    if setting not in NEWEST_OF_A_KEY:
        wanted = {"cleanup.policy": "delete", "retention.ms": str(_KEEPS_MS[setting])}
    if replicas >= REPLICAS:
        wanted["min.insync.replicas"] = str(_IN_SYNC)
    if record_bytes > _MAX_BYTES:
        wanted["max.message.bytes"] = str(record_bytes)
    return wanted


def keeps_s(config: TopicConfig) -> float | None:
    """Give the seconds after which records may go; None: never, or it is not told.

    >>> keeps_s({"cleanup.policy": "delete", "retention.ms": "604800000"})
    604800.0
    >>> keeps_s({"cleanup.policy": "compact", "retention.ms": "604800000"})
    """
    ms = int(config.get("retention.ms") or -1)
    return ms / 1000 if "delete" in _policies(config) and ms >= 0 else None


def _policies(config: TopicConfig) -> list[str]:
    return config.get("cleanup.policy", "").replace(" ", "").split(",")


def days(ms: float) -> str:
    """Say a duration in days.

    >>> days(604_800_000), days(3_600_000)
    ('7 days', '0.0417 days')
    """
    return f"{ms / 86_400_000:.3g} days"


def create_command(
    bootstrap: str, topic: str, partitions: int, replicas: int, config: Mapping[str, str]
) -> str:
    """Give the command that makes a topic."""
    words = ["kafka-topics.sh", "--bootstrap-server", bootstrap, "--create", "--topic", topic]
    words += ["--partitions", str(partitions), "--replication-factor", str(replicas)]
    return shlex.join([*words, *(word for pair in config.items() for word in ("--config", "=".join(pair)))])


def alter_command(bootstrap: str, topic: str, **config: str) -> str:
    """Give the command that sets a topic's settings, whose names are written with ``_`` for ``.``."""
    words = ["kafka-configs.sh", "--bootstrap-server", bootstrap, "--alter", "--entity-type", "topics"]
    values = ",".join(f"{name.replace('_', '.')}={value}" for name, value in config.items())
    return shlex.join([*words, "--entity-name", topic, "--add-config", values])


def partitions_command(bootstrap: str, topic: str, partitions: int) -> str:
    """Give the command that adds partitions to a topic."""
    words = ["kafka-topics.sh", "--bootstrap-server", bootstrap, "--alter", "--topic", topic]
    return shlex.join([*words, "--partitions", str(partitions)])


def differences(
    bootstrap: str,
    setting: str,
    topic: str,
    config: TopicConfig,
    *,
    brokers: int,
    replicas: int,
    record_bytes: tuple[int, str] = (0, ""),
) -> Iterator[TopicDifference]:
    """Say what should be otherwise about an existing topic, as far as ``config`` tells it.

    ``replicas`` 0: not known.
    """
    policies = _policies(config)
    kept_s = keeps_s(config)
    if setting in NEWEST_OF_A_KEY and kept_s is not None:
        what = "lists" if setting == LISTS else "items"
        detail = f"keeps {what} for {days(kept_s * 1000)} only: who reads it later misses some"
        yield TopicDifference(
            f"{detail}; wanted the newest of each key for ever",
            alter_command(bootstrap, topic, cleanup_policy="compact"),
            "loss",
        )
    if setting not in NEWEST_OF_A_KEY and "compact" in policies:
        kind: Literal["fault", "loss"] = "fault" if setting == EVENTS else "loss"
        detail = "is compacted: of the records of a user only the newest are kept"
        kept = {"cleanup_policy": "delete", "retention_ms": str(_KEEPS_MS[setting])}
        yield TopicDifference(detail, alter_command(bootstrap, topic, **kept), kind)
    elif (advised := _KEEPS_MS.get(setting)) is not None and "delete" in policies:
        ms = int(config.get("retention.ms", advised))
        if ms != advised:
            kept_for = f"for {days(ms)}" if ms >= 0 else "for ever"
            detail = f"keeps records {kept_for}, advised {days(advised)}"
            yield TopicDifference(detail, alter_command(bootstrap, topic, retention_ms=str(advised)))
    limit, (largest, why) = config.get("max.message.bytes"), record_bytes
    if limit is not None and int(limit) < largest:
        detail = f"takes records of {int(limit):,} bytes at most, and one may have {largest:,} ({why})"
        yield TopicDifference(detail, alter_command(bootstrap, topic, max_message_bytes=str(largest)), "loss")
    if 0 < replicas < (copies := wanted_replicas(brokers)):
        detail = f"has {replicas} of {copies} copies, and there are {brokers} brokers"
        yield TopicDifference(
            detail, "add copies by kafka-reassign-partitions.sh, or make the topic again", "loss"
        )
    in_sync = config.get("min.insync.replicas")
    if in_sync is not None and brokers >= REPLICAS and int(in_sync) < _IN_SYNC:
        detail = f"has min.insync.replicas={in_sync}: what one broker alone has confirmed may be lost with it"
        mend = alter_command(bootstrap, topic, min_insync_replicas=str(_IN_SYNC))
        yield TopicDifference(detail, mend if replicas >= _IN_SYNC else f"once it has copies: {mend}", "loss")
