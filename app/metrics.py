"""What Prometheus is told: requests as this process (or all web processes together) saw them, and the state in Postgres."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHARED_DIR = "PROMETHEUS_MULTIPROC_DIR"
REQUESTS = Histogram(
    "attune_request_seconds",
    "Time from the arrival of a request to the beginning of its answer.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

QUERIES = {
    "attune_rankings": ("Rankings stored, by standing; each revision is one.", "SELECT standing, count(*) FROM ranking GROUP BY 1"),
    "attune_runs": ("Training runs, by state.", "SELECT state, count(*) FROM run GROUP BY 1"),
    "attune_imports": ("Imports, by state.", "SELECT state, count(*) FROM import_job GROUP BY 1"),
    "attune_leases": ("Comparisons in raters' hands.", "SELECT state, count(*) FROM assignment WHERE state IN ('leased', 'reopened') GROUP BY 1"),
    "attune_outbox_unsent": ("Messages that wait to be sent.", "SELECT '', count(*) FROM outbox WHERE sent_at IS NULL"),
    "attune_outbox_age_seconds": (
        "Age of the oldest message that waits to be sent.",
        "SELECT '', coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM outbox WHERE sent_at IS NULL",
    ),
    "attune_oldest_queued_run_seconds": (
        "How long the oldest queued run has waited.",
        "SELECT '', coalesce(extract(epoch FROM now() - min(queued_at)), 0) FROM run WHERE state = 'queued'",
    ),
    "attune_heartbeat_age_seconds": (
        "Longest silence of a running trainer.",
        "SELECT '', coalesce(extract(epoch FROM now() - min(heartbeat_at)), 0) FROM run WHERE state = 'running'",
    ),
}  # fmt: skip
"""Name to (help, query of label and value). Read at each scrape, so that any web process tells the same."""


class Stored(Collector):
    """The gauges of `QUERIES`; none of them while the database is away."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        """One gauge for each query."""
        with self.engine.connect() as link:
            for name, (meaning, query) in QUERIES.items():
                gauge = GaugeMetricFamily(name, meaning, labels=["state"])
                for label, value in link.execute(text(query)):
                    gauge.add_metric([label], float(value))
                yield gauge


def exposition(engine: Engine) -> bytes:
    """Everything, in Prometheus' text format."""
    requests = REGISTRY
    if os.environ.get(SHARED_DIR):
        requests = CollectorRegistry()
        multiprocess.MultiProcessCollector(requests)  # type: ignore[no-untyped-call]
    stored = CollectorRegistry()
    try:
        stored.register(Stored(engine))
        return generate_latest(requests) + generate_latest(stored)
    except SQLAlchemyError:
        return generate_latest(requests)


def share_between_processes(folder: Path) -> None:
    """Let several web processes count together, in an empty folder; before any of them starts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[SHARED_DIR] = str(folder)


class RequestTimes:
    """Notes how long each request took, under the pattern of its route: a path may hold an id or a secret."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                labels = (scope["method"], _pattern(scope), message["status"])
                REQUESTS.labels(*labels).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, send_noted)


def _pattern(scope: Scope) -> str:
    """The route's pattern after the prefix under which its router is included, which holds no parameters."""
    pattern = getattr(scope.get("route"), "path", None)
    if pattern is None:
        return "none"
    num_before = scope["path"].count("/") - pattern.count("/")
    return "/".join(scope["path"].split("/")[: num_before + 1]) + str(pattern)
