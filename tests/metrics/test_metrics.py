"""Metrics: the same contract for the real and the fake; sums that prove nothing was lost."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from recstream.metrics.accounting import accounting, merge_summaries, quantile
from recstream.metrics.base import Meters
from recstream.metrics.names import METRICS
from recstream.metrics.prometheus import PrometheusMeters
from tests.support.meters import MemoryMeters, MetersContract


class TestMemoryMeters(MetersContract):
    def make(self) -> Meters:
        return MemoryMeters()


class TestPrometheusMeters(MetersContract):
    def make(self) -> Meters:
        return PrometheusMeters()

    def test_untouched_metrics_are_zero(self) -> None:
        """The start of the process is the only thing known from the start."""
        started = PrometheusMeters().snapshot()["process_start"]
        assert started > 1.6e9
        super().test_untouched_metrics_are_zero()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Status, headers and body; of the headers not when it was answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        headers = {name: value for name, value in answer.getheaders() if name != "Date"}
        return answer.status, headers, answer.read().decode()
    finally:
        connection.close()


def get(port: int, path: str) -> tuple[int, str]:
    status, _, body = ask(port, path)
    return status, body


def test_prometheus_reads_every_metric_with_what_to_do_when_it_is_high() -> None:
    meters = PrometheusMeters()
    meters.add("records_read", 3, stream="events")
    with meters.serve(0, host="127.0.0.1") as server:
        status, text = get(server.port, "/metrics?x=1")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert status == 200
    for name, known in METRICS.items():
        assert known.when_high in families[f"recstream_{name}"].documentation
    assert 'recstream_records_read_total{stream="events"} 3.0' in text


@pytest.mark.parametrize(("path", "probe"), [("/healthz", "why_dead"), ("/readyz", "why_not_ready")])
def test_a_probe_is_told_what_is_wrong_until_nothing_is(path: str, probe: str) -> None:
    wrong = ["away: für immer"]
    asked = {probe: lambda: "".join(wrong)}
    with PrometheusMeters().serve(0, host="127.0.0.1", **asked) as server:
        assert get(server.port, path) == (503, "away: für immer\n")
        wrong.clear()
        assert get(server.port, path) == (200, "ok\n")
        assert get(server.port, "/") == (404, "have: /metrics /healthz /readyz\n")


def test_nothing_is_printed_of_a_client_that_hangs_up(capfd: pytest.CaptureFixture[str]) -> None:
    """Before it has asked, while it asks, and before the answer; by a reset, so that the server notices."""
    begun = [b"", b"GET /met", b"GET /metrics HTTP/1.0\r\n\r\n", b"NOTHING\r\n\r\n"]
    before = set(threading.enumerate())
    with PrometheusMeters().serve(0, host="127.0.0.1") as server:
        serving = set(threading.enumerate())
        for words in begun * 5:
            client = socket.create_connection(("127.0.0.1", server.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(words)
            client.close()
        assert get(server.port, "/healthz") == (200, "ok\n")
        for answering in set(threading.enumerate()) - serving:
            answering.join(10)
    assert set(threading.enumerate()) <= before
    assert capfd.readouterr() == ("", "")


def test_what_goes_wrong_while_the_server_answers_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise ValueError("broken probe")

    with PrometheusMeters().serve(0, host="127.0.0.1", why_dead=fails) as server:
        assert get(server.port, "/healthz")[0] == 500
    assert "broken probe" in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/none"])
def test_head_is_answered_as_get_is_without_the_body(path: str) -> None:
    with PrometheusMeters().serve(0, host="127.0.0.1", why_not_ready=lambda: "starting") as server:
        status, headers, body = ask(server.port, path)
        assert ask(server.port, path, "HEAD") == (status, headers, "")
    assert int(headers["Content-Length"]) == len(body.encode()) > 0


def test_a_taken_port_is_an_error_that_names_the_setting() -> None:
    meters = PrometheusMeters()
    with (
        meters.serve(0, host="127.0.0.1") as server,
        pytest.raises(OSError, match=rf"metrics port {server.port}: .*run\.metrics_port"),
    ):
        meters.serve(server.port, host="127.0.0.1")


def test_two_meters_in_one_process_do_not_meet() -> None:
    one, other = PrometheusMeters(), PrometheusMeters()
    one.add("epochs")
    assert (one.snapshot()["epochs"], other.snapshot()["epochs"]) == (1, 0)


def test_threads_lose_no_count() -> None:
    meters = PrometheusMeters()

    def count() -> None:
        for _ in range(1000):
            meters.add("events_applied")
            meters.add("records_rejected", reason="not_json")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals = meters.snapshot()
    assert (totals["events_applied"], totals["records_rejected"]) == (4000, {"events/not_json": 4000})


counts = st.integers(0, 1000)


@given(applied=counts, duplicate=counts, absorbed=counts, rejected=counts, waiting=counts, lost=counts)
def test_an_account_balances_exactly_when_nothing_is_lost(
    applied: int, duplicate: int, absorbed: int, rejected: int, waiting: int, lost: int
) -> None:
    meters = MemoryMeters()
    meters.add("records_read", applied + duplicate + absorbed + rejected + waiting + lost, stream="events")
    meters.add("records_rejected", 7, reason="bad_type", stream="items")
    meters.add("events_applied", applied)
    meters.add("events_duplicate", duplicate)
    meters.add("events_absorbed", absorbed)
    meters.add("records_rejected", rejected, reason="bad_type")
    meters.add("events_waiting", waiting + 5)
    meters.add("events_waiting_at_start", 5)
    told = accounting(meters.snapshot())
    assert told[1:6] == (applied, duplicate, absorbed, rejected, waiting)
    assert told.balanced == (lost == 0)
    assert ("!=" in str(told)) == (lost > 0)


def filled(meters: Any, amounts: list[int]) -> dict[str, Any]:
    for index, amount in enumerate(amounts):
        meters.add("records_read", amount, stream="events" if index % 2 else "items")
        meters.add("epochs")
        meters.set("catalogue_items", amount)
        meters.observe("encode_seconds", amount / 100)
    snapshot: dict[str, Any] = meters.snapshot()
    return snapshot


@given(st.lists(st.integers(0, 1000), max_size=6), st.lists(st.integers(0, 1000), max_size=6))
def test_merged_summaries_are_the_summary_of_one_process(one: list[int], other: list[int]) -> None:
    merged = merge_summaries([filled(MemoryMeters(), one), filled(MemoryMeters(), other)])
    # the same work counted in one process; labels are told apart by place, so each part starts anew
    whole = MemoryMeters()
    filled(whole, one)
    expected = filled(whole, other)
    expected["catalogue_items"] = max(*one[-1:], *other[-1:], 0, 0)
    told, wanted = merged.pop("encode_seconds"), expected.pop("encode_seconds")
    assert merged == expected
    assert (told["count"], told["buckets"]) == (wanted["count"], wanted["buckets"])
    assert told["sum"] == pytest.approx(wanted["sum"])


def test_summaries_survive_json() -> None:
    summary = filled(PrometheusMeters(), [1, 2, 3])
    again = json.loads(json.dumps(summary))
    assert again == summary
    assert merge_summaries([again]) == summary
    assert merge_summaries([]) == {}


def test_the_earliest_start_and_the_greatest_lag_win() -> None:
    merged = merge_summaries(
        [
            {"process_start": 5.0, "kafka_lag": {"e/0": 3}},
            {"process_start": 4.0, "kafka_lag": {"e/0": 9, "e/1": 1}},
        ]
    )
    assert merged == {"process_start": 4.0, "kafka_lag": {"e/0": 9, "e/1": 1}}


@given(st.lists(st.floats(0, 59), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], share: float) -> None:
    meters = MemoryMeters()
    for value in values:
        meters.observe("flush_seconds", value)
    histogram = meters.snapshot()["flush_seconds"]
    told = quantile(histogram, share)
    rank = next(n for n in range(1, len(values) + 1) if n >= share * len(values))
    exact = sorted(values)[rank - 1]
    bounds = [0.0, *(float(bound) for bound in histogram["buckets"])]
    high = next(bound for bound in bounds[1:] if exact <= bound)
    low = bounds[bounds.index(high) - 1]
    assert told is not None
    assert low <= told <= high


def test_no_observations_have_no_quantile() -> None:
    assert quantile(MemoryMeters().snapshot()["flush_seconds"], 0.5) is None
