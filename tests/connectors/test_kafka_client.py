"""Which errors of Kafka pass by themselves, and so are waited for, and which do not."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from recstream.connectors.kafka.client import NoAnswerFault, passes, unreachable

PASS = {
    "BROKER_NOT_AVAILABLE",
    "COORDINATOR_LOAD_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "ELIGIBLE_LEADERS_NOT_AVAILABLE",
    "FENCED_LEADER_EPOCH",
    "KAFKA_STORAGE_ERROR",
    "LEADER_NOT_AVAILABLE",
    "NETWORK_EXCEPTION",
    "NOT_CONTROLLER",
    "NOT_COORDINATOR",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "NOT_LEADER_FOR_PARTITION",
    "OFFSET_NOT_AVAILABLE",
    "PREFERRED_LEADER_NOT_AVAILABLE",
    "REPLICA_NOT_AVAILABLE",
    "REQUEST_TIMED_OUT",
    "THROTTLING_QUOTA_EXCEEDED",
    "UNKNOWN_LEADER_EPOCH",
    "UNSTABLE_OFFSET_COMMIT",
}
"""Of those that a broker answers with. The rest, such as a topic or a right that lacks, does not."""
PASS_WITHOUT_AN_ANSWER = {
    "_ALL_BROKERS_DOWN",
    "_NODE_UPDATE",
    "_RESOLVE",
    "_TIMED_OUT",
    "_TIMED_OUT_QUEUE",
    "_TRANSPORT",
    "_UNKNOWN_BROKER",
    "_WAIT_COORD",
}
CODES = {name: code for name, code in vars(KafkaError).items() if name.isupper() and isinstance(code, int)}


def test_what_passes_by_itself_is_waited_for_and_nothing_else_is() -> None:
    """Of all that the client library knows."""
    assert {"TOPIC_AUTHORIZATION_FAILED", "UNKNOWN_TOPIC_OR_PART", "_AUTHENTICATION", "_SSL"} < CODES.keys()
    assert {name for name, code in CODES.items() if passes(KafkaError(code))} == PASS | PASS_WITHOUT_AN_ANSWER


def test_what_the_client_library_knows_to_be_retriable_is_waited_for() -> None:
    assert passes(KafkaError(CODES["INVALID_CONFIG"], "later", False, True))


@pytest.mark.parametrize("name", [*sorted(PASS), "INVALID_CONFIG", "TOPIC_AUTHORIZATION_FAILED"])
def test_who_asks_says_whether_to_wait(name: str) -> None:
    """No answer is waited for when a job starts; with any other fault it ends."""
    fault = unreachable("k:9092", KafkaException(KafkaError(CODES[name])), None)
    assert isinstance(fault, NoAnswerFault) is (name in PASS)
