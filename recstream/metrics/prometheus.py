"""Metrics of one process: counted, served to Prometheus over HTTP, and totalled for a summary.

The names are `recstream.metrics.names.METRICS`; sums over processes are `recstream.metrics.accounting`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from recstream.metrics.accounting import Summary
from recstream.metrics.names import BUCKETS_S, METRICS, Kind, label_values

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["MetricsServer", "PrometheusMeters"]


Probe = Callable[[], str]
"""Gives what is wrong; empty when nothing is."""


def _well() -> str:
    return ""


def _plain(number: float) -> float:
    return int(number) if number.is_integer() else number


class PrometheusMeters:
    """A :class:`~recstream.metrics.base.Meters` over Prometheus collectors in a registry of its own.

    Threads may share it. Counters cannot go down, gauges can be added to.

    >>> meters = PrometheusMeters()
    >>> meters.add("records_read", 3, stream="events")
    >>> meters.add("events_applied", 3)
    >>> meters.snapshot()["records_read"], meters.snapshot()["events_applied"]
    ({'events': 3}, 3)
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

    def serve(
        self, port: int, *, host: str = "", why_dead: Probe = _well, why_not_ready: Probe = _well
    ) -> MetricsServer:
        """Serve ``/metrics``, ``/healthz`` and ``/readyz`` from a daemon thread.

        The latter two answer 200, or 503 with what ``why_dead`` and ``why_not_ready`` give. ``port`` 0 takes
        any free one; ``host`` "" listens on all interfaces, for Prometheus is elsewhere.

        Raises:
            OSError: the port is taken or not ours to take; the message says which and what to set.
        """
        return MetricsServer(self.registry, (host, port), {"/healthz": why_dead, "/readyz": why_not_ready})

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
    """A running endpoint; a context manager, closed at the latest with the process.

    ``prometheus_client.start_http_server`` answers every path with the metrics, so a probe of ``/healthz``
    would get all of them and could never fail. Hence its parts are put together here: its application, which
    speaks both formats of Prometheus and compresses, and its threading server. ``probes`` are other paths.
    """

    def __init__(
        self, registry: CollectorRegistry, address: tuple[str, int], probes: Mapping[str, Probe]
    ) -> None:
        try:
            self._server = make_server(*address, _application(registry, probes), _QuietServer, _QuietHandler)
        except OSError as err:
            mend = "set run.metrics_port to a free port, or to 0 for none"
            text = f"metrics port {address[1]}: {err.strerror}; {mend}"
            raise OSError(err.errno, text) from None
        self.port: int = self._server.server_port
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


def _application(registry: CollectorRegistry, probes: Mapping[str, Probe]) -> WSGIApplication:
    pages: dict[str, Callable[..., Iterable[bytes]]] = {"/metrics": make_wsgi_app(registry)}
    pages.update((path, _page(probe)) for path, probe in probes.items())
    not_found = _page(lambda: f"have: {' '.join(pages)}", "404 Not Found")

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Give the page of the path; to HEAD what GET would get, without the body."""
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        if is_head:
            environ = {**environ, "REQUEST_METHOD": "GET"}
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        page = pages.get(environ["PATH_INFO"], not_found)
        body = b"".join(page(environ, lambda status, headers: begun.append((status, headers))))
        ((status, headers),) = begun
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if is_head else [body]

    return answer


def _page(probe: Probe, otherwise: str = "503 Service Unavailable") -> Callable[..., Iterable[bytes]]:
    """What a probe says: 200, or ``otherwise`` with what is wrong."""

    def page(_: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
        wrong = probe()
        start_response(otherwise if wrong else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{wrong or 'ok'}\n".encode()]

    return page


class _QuietServer(ThreadingWSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong with a request, but for a client that hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Scrapes are not worth a line."""
