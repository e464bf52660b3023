"""Commands of Kafka's own programs, as doctor prints and pages show them, run on a broker of the tests."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Final

from recstream.connectors.base import Finding
from tests.support.apache_kafka import ApacheKafka

__all__ = ["carry_out", "carry_out_mends"]

_TOOLS: Final = {"kafka-acls.sh": "acls", "kafka-configs.sh": "configs", "kafka-topics.sh": "topics"}


def carry_out(kafka: ApacheKafka, line: str) -> str:
    """Run a command, whatever server it names, as somebody who may do everything; gives what it printed."""
    program, *words = shlex.split(line)
    at = words.index("--bootstrap-server")
    return kafka.tool(_TOOLS[program], *words[:at], *words[at + 2 :])


def carry_out_mends(kafka: ApacheKafka, findings: Iterable[Finding]) -> int:
    """Run every command in what is to be mended; gives how many there were."""
    lines = [
        line[line.index("kafka-") :]
        for finding in findings
        if not finding.ok or finding.is_warning
        for line in finding.mend.split(" ; ")
        if "kafka-" in line
    ]
    for line in lines:
        carry_out(kafka, line)
    return len(lines)
