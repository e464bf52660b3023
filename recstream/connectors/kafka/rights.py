"""What we may do on a cluster with ACLs: which rights lack, and the commands that grant them.

A broker tells it of a topic or of a group that it describes. Of a topic that we may not even describe it says
just that, whether the topic exists or not. One without ACLs says that all is allowed, or nothing; what a
broker does not tell is not judged.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from confluent_kafka import KafkaError, KafkaException

from recstream.connectors.kafka.client import KafkaSettingsFault, admin_client, passes, unreachable

__all__ = [
    "Operation",
    "Operations",
    "Right",
    "RightsFault",
    "grants",
    "group_operations",
    "lacks",
    "operations_of",
    "principal",
    "rights_fault",
]

Operation: TypeAlias = Literal["Read", "Write"]
"""What a command does with a topic or a group. Each includes Describe."""
Operations: TypeAlias = frozenset[str] | None
"""What we may do with one topic or group, by Kafka's names (``"DescribeConfigs"``); None: nobody told."""


class RightsFault(KafkaSettingsFault):
    """We have no right to do what is asked for."""


_ASK_AGAIN_S: Final = 0.2
"""Pause before a coordinator that is not there yet is asked again."""
_UNKNOWN: Final = "User:PRINCIPAL"
"""Stands for our principal where the settings do not tell it: with certificates and with tokens."""


class Right(NamedTuple):
    """A right that an ACL grants."""

    operation: str
    """``"Read"``, ``"Write"``, ``"Create"``, ..."""
    resource: Literal["topic", "group"]
    name: str

    def __str__(self) -> str:
        """Name it for people.

        >>> str(Right("Write", "topic", "recommendations"))
        "Write on topic 'recommendations'"
        """
        return f"{self.operation} on {self.resource} {self.name!r}"


def operations_of(described: Any) -> Operations:
    """What a description says that we may do; None where it says nothing."""
    told = described.authorized_operations
    if not told:  # who describes it may do that at least: an empty set says nothing
        return None
    return frozenset(one.name.title().replace("_", "") for one in told)


def lacks(may: Operations, operation: str) -> bool:
    """Whether a broker has told that an operation is not allowed.

    >>> lacks(frozenset({"Describe"}), "Write"), lacks(None, "Write")
    (True, False)
    """
    return may is not None and operation not in may


def principal(client: Mapping[str, str] | None) -> str:
    """Give the name that ACLs have for us, as far as client settings tell it.

    >>> principal({"sasl.username": "rec"}), principal({})
    ('User:rec', 'User:PRINCIPAL')
    """
    name = (client or {}).get("sasl.username")
    return f"User:{name}" if name else _UNKNOWN


def grants(bootstrap: str, lacking: Iterable[Right], client: Mapping[str, str] | None) -> list[str]:
    """Give the commands that grant rights, one for each operation.

    >>> rights = [Right("Read", "topic", "events"), Right("Read", "group", "g")]
    >>> (command,) = grants("k:9092", rights, {"sasl.username": "rec"})
    >>> command.partition(" --add ")[2]
    '--allow-principal User:rec --operation Read --topic events --group g'
    """
    by_operation: dict[str, list[Right]] = {}
    for right in lacking:
        by_operation.setdefault(right.operation, []).append(right)
    begin = [
        "kafka-acls.sh",
        "--bootstrap-server",
        bootstrap,
        "--add",
        "--allow-principal",
        principal(client),
    ]
    return [
        shlex.join(
            [*begin, "--operation", operation, *(w for r in rights for w in (f"--{r.resource}", r.name))]
        )
        for operation, rights in by_operation.items()
    ]


def rights_fault(bootstrap: str, lacking: Iterable[Right], client: Mapping[str, str] | None) -> RightsFault:
    """Make the fault for rights that lack, with the commands that grant them."""
    rights = list(lacking)
    msg = (
        f"Kafka at {bootstrap} does not let us ({principal(client)}) do what is needed: no right "
        f"{', '.join(map(str, rights))}; somebody who may has to grant it: "
        f"{' ; '.join(grants(bootstrap, rights, client))}"
    )
    return RightsFault(msg)


def group_operations(
    bootstrap: str, group: str, *, client: Mapping[str, str] | None = None, timeout_s: float = 5.0
) -> Operations:
    """Ask what we may do with a consumer group, which need not exist; an empty set: not even see it.

    Raises:
        NoAnswerFault: no broker answers.
    """
    deadline = time.monotonic() + timeout_s
    with admin_client(bootstrap, client) as admin:
        while True:
            (future,) = admin.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=timeout_s
            ).values()
            try:
                return operations_of(admin.result_of(future, deadline))
            except KafkaException as err:
                error = err.args[0]
                if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    return frozenset()
                if not passes(error):
                    return None
                if time.monotonic() + _ASK_AGAIN_S >= deadline:
                    raise unreachable(bootstrap, err, client, what=f"describing group {group!r}") from None
            time.sleep(_ASK_AGAIN_S)  # the coordinator of a cluster's first group is a moment in coming
