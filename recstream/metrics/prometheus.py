"""Metrics of one process: counted, served to Prometheus over HTTP, and totalled for a summary.

The names are `recstream.metrics.names.METRICS`; sums over processes are `recstream.metrics.accounting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from recstream.metrics.accounting import Accounting, Summary, accounting, merge_summaries, quantile
from recstream.metrics.names import BUCKETS_S, METRICS, Kind, Metric, MetricName, label_values

__all__ = [
    "METRICS",
    "Accounting",
    "Metric",
    "MetricName",
    "MetricsServer",
    "PrometheusMeters",
    "accounting",
    "merge_summaries",
    "quantile",
]


def _always() -> bool:
    return True


def _plain(number: float) -> float:
    return int(number) if number.is_integer() else number


class PrometheusMeters:
    """A :class:`~recstream.metrics.base.Meters` over Prometheus collectors in a registry of its own.

    Threads may share it. Counters cannot go down, gauges can be added to.

    >>> meters = PrometheusMeters()
    >>> meters.add("records_read", 3, stream="events")
    >>> meters.add("events_applied", 3)
    >>> meters.snapshot()["records_read"], accounting(meters.snapshot()).balanced
    ({'events': 3}, True)
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        """What `serve` shows; not the global one."""
        self._collectors: dict[str, Any] = {}
        self._children: dict[tuple[object, ...], Any] = {}
        self._lock = Lock()
        for name, known in METRICS.items():
            text = f"{known.help} When high: {known.when_high} Unit: {known.unit}."
            kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
            more = {"buckets": BUCKETS_S} if known.kind == "histogram" else {}
            self._collectors[name] = kinds[known.kind](
                f"recstream_{name}", text, known.labels, registry=self.registry, **more
            )
        self.set("process_start", time.time())

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count ``amount`` more.

        Raises:
            KeyError: no metric has that name (the closest one is named).
            ValueError: it is a histogram, has other labels, or a counter would go down.
        """
        self._child(name, None, labels).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Raises as `add` does."""
        self._child(name, "gauge", labels).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram. Raises as `add` does."""
        self._child(name, "histogram", labels).observe(value)

    def snapshot(self) -> Summary:
        """Totals as plain JSON, as `recstream.metrics.accounting` describes it; unused labels are absent."""
        totals: Summary = {}
        for name, known in METRICS.items():
            samples = next(iter(self._collectors[name].collect())).samples
            if known.kind == "histogram":
                totals[name] = self._histogram(samples)
                continue
            suffix = "_total" if known.kind == "counter" else ""
            found = {
                "/".join(sample.labels[label] for label in known.labels): _plain(float(sample.value))
                for sample in samples
                if sample.name == f"recstream_{name}{suffix}"
            }
            totals[name] = found if known.labels else found.get("", 0)
        return totals

    def serve(self, port: int, *, host: str = "", is_healthy: Callable[[], bool] = _always) -> MetricsServer:
        """Serve ``/metrics`` and ``/healthz`` (200, or 503 when not healthy) from a daemon thread.

        ``port`` 0 takes any free one; ``host`` "" listens on all interfaces, for Prometheus is elsewhere.

        Raises:
            OSError: the port is taken or not ours to take; the message says which and what to set.
        """
        return MetricsServer(self.registry, (host, port), is_healthy)

    def _child(self, name: str, kind: Kind | None, labels: dict[str, str]) -> Any:
        key = (name, kind, *sorted(labels.items())) if labels else (name, kind)
        child = self._children.get(key)
        if child is None:
            values = label_values(name, kind, labels)
            with self._lock:
                collector = self._collectors[name]
                child = self._children[key] = collector.labels(*values) if values else collector
        return child

    @staticmethod
    def _histogram(samples: list[Any]) -> Summary:
        by_suffix: dict[str, float] = {}
        buckets: dict[str, float] = {}
        for sample in samples:
            if sample.name.endswith("_bucket"):
                if sample.labels["le"] != "+Inf":
                    buckets[sample.labels["le"]] = _plain(float(sample.value))
            else:
                by_suffix[sample.name.rpartition("_")[2]] = float(sample.value)
        return {"count": int(by_suffix["count"]), "sum": by_suffix["sum"], "buckets": buckets}


class MetricsServer:
    """A running endpoint; a context manager, closed at the latest with the process."""

    def __init__(
        self, registry: CollectorRegistry, address: tuple[str, int], is_healthy: Callable[[], bool]
    ) -> None:
        try:
            self._server = _Server(address, _Handler)
        except OSError as err:
            mend = "set run.metrics_port to a free port, or to 0 for none"
            text = f"metrics port {address[1]}: {err.strerror}; {mend}"
            raise OSError(err.errno, text) from None
        self._server.registry, self._server.is_healthy = registry, is_healthy
        self.port: int = self._server.server_address[1]
        """The port listened on."""
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; calling it twice is harmless."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    registry: CollectorRegistry
    is_healthy: Callable[[], bool]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, path = cast(_Server, self.server), self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(server.registry))
        elif path == "/healthz":
            healthy = server.is_healthy()
            self._answer(200 if healthy else 503, "text/plain", b"ok\n" if healthy else b"not healthy\n")
        else:
            self._answer(404, "text/plain", b"have: /metrics /healthz\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Scrapes are not worth a line."""
