"""The metrics and the logs in JSON."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..conftest import Service, Start, eventually
from ..processes import Process

pytestmark = pytest.mark.newest


async def scraped(service: Service) -> dict[str, float]:
    async with service.http.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return figures(await answer.text())


def figures(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f" {v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_figures_follow_what_happens(service: Service, conn: Any) -> None:
    await service.ended((await service.export())["jobId"])
    bad = await service.export(query="select 1 / (n - 1) from generate_series(1, 3) n")
    await service.ended(bad["jobId"])
    await service.export(runAt="2999-01-01T00:00:00Z")

    async def counted() -> bool:
        return (await scraped(service)).get("export_attempts_total failed") == 1

    await eventually(counted)
    seen = await scraped(service)
    assert seen["export_attempts_total completed"] == 1
    assert seen["export_rows_total"] == 2_000
    assert seen["export_bytes_total"] > 100_000
    assert seen["export_duration_seconds_count"] == 1
    assert seen["export_claim_latency_seconds_count"] == 2
    assert seen["export_slots"] == 2
    assert seen["export_slots_in_use"] == 0
    assert seen["export_listener_connected"] == 1
    assert seen["exports pending"] == 1
    assert seen["exports processing"] == 0
    assert seen["export_oldest_pending_seconds"] == 0
    assert seen["export_subscribers"] == 0
    async with service.http.get("/events"):
        assert (await scraped(service))["export_subscribers"] == 1


async def test_the_last_attempt_is_not_retried(service: Service) -> None:
    query = "select pg_terminate_backend(pg_backend_pid())"
    ended = await service.ended(
        (await service.export(query=query, maxAttempts=1))["jobId"]
    )
    assert ended["status"] == "failed"

    async def counted() -> bool:
        return (await scraped(service)).get("export_attempts_total failed") == 1

    await eventually(counted)
    assert "export_attempts_total retried" not in await scraped(service)


async def test_a_backlog_shows(start: Start, conn: Any) -> None:
    service = await start(work=False)
    await service.export()
    conn.execute("update exports set run_at = now() - interval '90 s'")
    seen = await scraped(service)
    assert seen["exports pending"] == 1
    assert 90 <= seen["export_oldest_pending_seconds"] < 120


async def test_a_worker_alone_has_figures_and_logs_json(
    database: str, exports_dir: Path, start: Start
) -> None:
    api = await start(work=False)
    with Process(
        database, exports_dir, "worker", metrics_port=0, log_format="json"
    ) as worker:
        ready = json.loads(await asyncio.to_thread(worker.until, "metrics on "))
        url = ready["message"].split()[-1]
        id = (await api.export())["jobId"]
        line = json.loads(await asyncio.to_thread(worker.until, "completed"))

        def fetch(path: str) -> str:
            with urllib.request.urlopen(url + path) as answer:
                return str(answer.read().decode())

        assert json.loads(await asyncio.to_thread(fetch, "/health")) == {"status": "ok"}

        async def counted() -> bool:
            seen = figures(await asyncio.to_thread(fetch, "/metrics"))
            return seen.get("export_attempts_total completed") == 1

        await eventually(counted)
    assert (line["export"], line["attempt"], line["levelname"]) == (id, 1, "INFO")
    assert line["message"] == f"export {id} completed: 2000 rows"
