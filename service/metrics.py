"""Metrics for Prometheus.

Counters belong to this process.  The figures of the queue, which all processes
share, are read from the database at each scrape.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from .model import Depth

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """Count on its attributes; `text` is the answer to a scrape."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.attempts = Counter(
            "export_attempts", "Attempts that ended", ["outcome"], registry=registry
        )
        self.rows = Counter(
            "export_rows", "Rows of completed exports", registry=registry
        )
        self.bytes = Counter(
            "export_bytes", "Bytes of completed exports", registry=registry
        )
        self.duration = Histogram(
            "export_duration_seconds",
            "From claim to completion",
            buckets=SECONDS,
            registry=registry,
        )
        self.claim_latency = Histogram(
            "export_claim_latency_seconds",
            "From due to claimed",
            buckets=SECONDS,
            registry=registry,
        )
        self.rescues = Counter(
            "export_rescues",
            "Leases that ran out, by the status that the export then got",
            ["status"],
            registry=registry,
        )
        self.task_failures = Counter(
            "export_task_failures",
            "Tasks of the process that failed unexpectedly and were started again",
            ["task"],
            registry=registry,
        )
        self.keys_refused = Counter(
            "export_keys_refused",
            "Requests with a key that is not accepted",
            registry=registry,
        )
        self.slots = Gauge(
            "export_slots", "Exports that can run at a time", registry=registry
        )
        self.slots_in_use = Gauge(
            "export_slots_in_use", "Exports that are running", registry=registry
        )
        self.subscribers = Gauge(
            "export_subscribers", "Open event streams", registry=registry
        )
        self.listening = Gauge(
            "export_listener_connected",
            "1 while notifications can be heard",
            registry=registry,
        )
        self._exports = Gauge(
            "exports", "Pending and processing exports", ["status"], registry=registry
        )
        self._oldest = Gauge(
            "export_oldest_pending_seconds",
            "Seconds that the oldest due export has waited",
            registry=registry,
        )

    def text(self, depth: Depth) -> bytes:
        """Return everything, in the text format of Prometheus."""
        self._exports.labels("pending").set(depth.pending)
        self._exports.labels("processing").set(depth.processing)
        self._oldest.set(depth.oldest_seconds)
        return generate_latest(self._registry)
