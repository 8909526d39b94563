"""What Prometheus reads at `/metrics`: requests, and what waits and runs. Ray is never asked."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

from fastapi import Depends, Request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.records.counts import WorkCounts
from service.schemas import Garbage

LATENCIES_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUEUED: Final = "QUEUED"
DeliveryOutcome = Literal["delivered", "failed", "given_up", "gone"]
"""`failed` is sent again; `gone`: the receiver wants nothing any more."""


class RequestMetrics:
    """Counts the requests of one app.

    Routes are told by their templates, and unknown paths and methods have one name each: whoever invents some adds no
    series. Owners are no label, either.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("method", "route", "status")
        self._requests = Counter("archprior_requests", "Requests answered", labels, registry=self.registry)
        self._latency = Histogram(
            "archprior_request_duration_seconds",
            "Seconds until an answer began",
            labels,
            buckets=LATENCIES_S,
            registry=self.registry,
        )

    def note(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request."""
        labels = (method if method in METHODS else "other", route, str(status))
        self._requests.labels(*labels).inc()
        self._latency.labels(*labels).observe(duration_s)


class DeliveryMetrics:
    """Counts what became of each try to send an event to a webhook, by this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name, what = "archprior_webhook_deliveries", "Tries to send an event to a webhook"
        self._tries = Counter(name, what, ("outcome",), registry=self.registry)
        for outcome in get_args(DeliveryOutcome):
            self._tries.labels(outcome)

    def note(self, outcome: DeliveryOutcome) -> None:
        """Count one try."""
        self._tries.labels(outcome).inc()


class GcMetrics:
    """Counts what housekeeping has removed, in this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        things, num_bytes = "Objects and rows that housekeeping has removed", "Bytes that it has removed"
        self._things = Counter("archprior_gc_removed", things, ("kind",), registry=self.registry)
        self._bytes = Counter("archprior_gc_removed_bytes", num_bytes, ("kind",), registry=self.registry)
        for kind in get_args(Garbage):
            self.note(kind, 0, 0)

    def note(self, kind: Garbage, num_things: int, num_bytes: int) -> None:
        """Count what is gone."""
        self._things.labels(kind).inc(num_things)
        self._bytes.labels(kind).inc(num_bytes)


class MeasuredRequests:
    """Measures each request until its answer begins: a stream of events lasts as long as its reader likes."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, answered = time.perf_counter(), False

        def note(status: int) -> None:
            nonlocal answered
            if not answered:
                answered = True
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.note(scope["method"], route, status, time.perf_counter() - began_s)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                note(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            note(500)  # an unexpected error is answered outside of this


@dataclass(frozen=True, eq=False)  # a registry tells its collectors apart by identity
class WorkCollector(Collector):
    """Gauges of what is not finished, from one count of the records."""

    counts: Mapping[str, WorkCounts]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges: work by kind and state, and jobs by kind."""
        work = GaugeMetricFamily("archprior_work", "Work that has not ended", labels=("kind", "state"))
        jobs = GaugeMetricFamily("archprior_jobs_running", "Work of which a job runs", labels=("kind",))
        for kind, counts in self.counts.items():
            for state, number in counts.items():
                work.add_metric((kind, state), number)
            jobs.add_metric((kind,), sum(number for state, number in counts.items() if state != QUEUED))
        yield work
        yield jobs


def metrics_of(request: Request) -> RequestMetrics:
    """Return the metrics of the app that got this request."""
    metrics: RequestMetrics = request.app.state.metrics
    return metrics


MetricsDependency = Annotated[RequestMetrics, Depends(metrics_of)]


def exposition(
    requests: RequestMetrics, deliveries: DeliveryMetrics, gc: GcMetrics, work: Mapping[str, WorkCounts]
) -> bytes:
    """Return all metrics in Prometheus' text format.

    Args:
        requests: Of the app.
        deliveries: To webhooks.
        gc: Of housekeeping.
        work: How much is in each unfinished state, by kind of work.
    """
    registry = CollectorRegistry()
    registry.register(WorkCollector(work))
    return b"".join(map(generate_latest, (requests.registry, deliveries.registry, gc.registry, registry)))
