"""Requests over HTTP: the rows and the file are exactly those that were asked for."""

import asyncio
import csv
import gzip
import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ..conftest import Service, Start, eventually
from ..processes import COMMAND
from .test_api import problem

pytestmark = pytest.mark.newest


@pytest.fixture
async def api(start: Start) -> Service:
    """The API without a worker: exports stay pending."""
    return await start(work=False)


async def listed(api: Service, **query: str) -> list[str]:
    async with api.http.get("/exports", params=query) as answer:
        assert answer.status == 200, await answer.text()
        return [export["jobId"] for export in (await answer.json())["exports"]]


async def test_rows_columns_and_order_are_those_asked_for(service: Service) -> None:
    export = await service.export(
        source="users",
        columns=["id", "country"],
        filters=[
            {"column": "country", "op": "in", "value": ["DE", "SE"]},
            {"column": "birth_date", "op": "notNull"},
            {"column": "balance", "op": "gte", "value": 0},
        ],
        orderBy=["country", "-id"],
        limit=20,
    )
    export = await service.ended(export["jobId"])
    assert export["select"].startswith("select t.id, t.country from public.users as t")
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        header, *rows = csv.reader(io.StringIO(await answer.text()))
    assert header == ["id", "country"]
    assert len(rows) == 20
    assert rows == sorted(rows, key=lambda row: (row[1], -int(row[0])))
    assert {country for _, country in rows} <= {"DE", "SE"}


async def test_the_receipt_says_what_the_file_is(service: Service) -> None:
    export = await service.export(
        query="select 1 as n, 'a' as t, 2.50::numeric(5,2) as p", timeZone="Asia/Tokyo"
    )
    export = await service.ended(export["jobId"])
    assert export["resultColumns"] == [
        {"name": "n", "type": "integer"},
        {"name": "t", "type": "text"},
        {"name": "p", "type": "numeric(5,2)"},
    ]
    assert export["startedAt"] <= export["snapshotAt"] <= export["finishedAt"]
    assert export["timeZone"] == "Asia/Tokyo"
    assert export["select"] == "select 1 as n, 'a' as t, 2.50::numeric(5,2) as p"
    assert (export["attempt"], export["rows"], export["bytes"]) == (1, 1, 15)


@pytest.mark.parametrize(
    "options, media_type, extension",
    [
        ({}, "text/csv; charset=utf-8; header=present", "csv"),
        ({"header": False}, "text/csv; charset=utf-8; header=absent", "csv"),
        ({"format": "tsv"}, "text/tab-separated-values; charset=utf-8", "tsv"),
        ({"format": "jsonl"}, "application/jsonl; charset=utf-8", "jsonl"),
        ({"compression": "gzip"}, "application/gzip", "csv.gz"),
        ({"format": "jsonl", "compression": "zstd"}, "application/zstd", "jsonl.zst"),
    ],
)
async def test_each_form_has_its_type_and_extension(
    service: Service, options: dict[str, Any], media_type: str, extension: str
) -> None:
    export = await service.export(source="users", columns=["id"], limit=3, **options)
    export = await service.ended(export["jobId"])
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        assert answer.headers["Content-Type"] == media_type
        assert f'.{extension}"' in answer.headers["Content-Disposition"]
        body = await answer.read()
    assert hashlib.sha256(body).hexdigest() == export["sha256"]
    if options.get("compression") == "gzip":
        body = gzip.decompress(body)
    elif "compression" in options:
        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    lines = body.decode().splitlines()
    assert len(lines) == 3 + (
        options.get("format") != "jsonl" and options.get("header", True)
    )


async def test_a_file_name_can_be_asked_for(service: Service) -> None:
    export = await service.export(query="select 1 as n", filename='Größe "1".csv')
    await service.ended(export["jobId"])
    async with service.http.get(f"/exports/{export['jobId']}/download") as answer:
        assert answer.headers["Content-Disposition"] == (
            'attachment; filename="Gr__e _1_.csv";'
            " filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22.csv"
        )


async def test_a_dry_run_shows_everything_and_stores_nothing(api: Service) -> None:
    wanted = {"source": "users", "columns": ["id", "name"], "orderBy": ["id"]}
    async with api.http.post("/exports?dryRun=true", json=wanted) as answer:
        assert answer.status == 200
        shown = await answer.json()
    assert shown["select"] == (
        "select t.id, t.name from public.users as t order by t.id"
    )
    assert shown["columns"] == [
        {"name": "id", "type": "bigint"},
        {"name": "name", "type": "text"},
    ]
    assert shown["estimatedRows"] == 2_000
    assert len(shown["rows"]) == 10
    assert shown["rows"][0] == {"id": 1, "name": 'O\'Brien, "Bob"'}
    for bad, words in [
        ({"query": "select nam from users"}, "nam"),
        ({"query": "select 1/0"}, "division by zero"),
        ({"query": "select 1; select 2"}, "one statement"),
        ({"query": "select nextval('users_id_seq')"}, "permission denied"),
    ]:
        async with api.http.post("/exports?dryRun=true", json=bad) as answer:
            assert words in (await problem(answer, 422))["detail"]
    assert await listed(api) == []


async def test_a_replayed_request_answers_the_original(api: Service) -> None:
    headers = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}

    async def submit(body: dict[str, Any]) -> Any:
        async with api.http.post("/exports", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    both = await asyncio.gather(*[submit({"query": "select 1"}) for _ in range(5)])
    assert {status for status, _ in both} == {202}
    assert len({export["jobId"] for _, export in both}) == 1
    async with api.http.post(
        "/exports", json={"query": "select 2"}, headers=headers
    ) as answer:
        assert (await problem(answer, 422))["type"] == "/docs#key-reused"
    assert len(await listed(api)) == 1
    for key in ("", "a b", "é", "x" * 256):
        async with api.http.post("/exports", headers={"Idempotency-Key": key}) as bad:
            await problem(bad, 422)


async def test_a_deleted_export_is_gone_with_its_file(service: Service) -> None:
    done = await service.ended((await service.export())["jobId"])
    running = await service.export(
        query="select pg_sleep(0.01) from generate_series(1, 100000)"
    )
    waiting = await service.export(runAt="2999-01-01T00:00:00Z")
    for export in (done, running, waiting):
        async with service.http.delete(f"/exports/{export['jobId']}") as answer:
            assert answer.status == 204
        async with service.http.get(f"/exports/{export['jobId']}") as answer:
            await problem(answer, 404)
        async with service.http.delete(f"/exports/{export['jobId']}") as answer:
            await problem(answer, 404)

    async def removed() -> bool:
        return not list(service.settings.exports_dir.iterdir())

    await eventually(removed)
    assert await listed(service) == []


async def test_the_list_is_restricted_by_what_is_asked(api: Service) -> None:
    users = await api.export()
    classes = await api.export(source="pg_class", priority=9)
    query = await api.export(query="select 1")
    await api.http.post(f"/exports/{query['jobId']}/cancel")
    ids = [one["jobId"] for one in (query, classes, users)]
    assert await listed(api) == ids
    assert await listed(api, source="users") == ids[2:]
    assert await listed(api, status="cancelled") == ids[:1]
    assert await listed(api, requestedBy="postgres") == ids
    assert await listed(api, requestedBy="nobody") == []
    assert await listed(api, createdFrom=classes["createdAt"]) == ids[:2]
    assert await listed(api, createdUntil=classes["createdAt"]) == ids[2:]
    assert await listed(api, createdFrom="2020-01-01T00:00:00+02:00") == ids


async def test_sources_are_listed_with_their_size(api: Service, conn: Any) -> None:
    conn.execute(
        "create table parts (n int, at date) partition by range (at);"
        "create table parts_1 partition of parts for values from ('2020-01-01') to ('2021-01-01');"
        "insert into parts select n, '2020-05-05' from generate_series(1, 5000) as n;"
        "analyze parts; grant select on parts to csv_reader; create view mine as select 1 as n;"
        "grant select on mine to csv_reader"
    )
    async with api.http.get("/sources") as answer:
        found = {one["source"]: one for one in (await answer.json())["sources"]}
    assert set(found) == {"users", "parts", "mine"}
    assert found["users"]["estimatedRows"] == 2_000
    assert found["users"]["comment"] == "People who do not exist, to be exported"
    assert found["users"]["columns"][1] == {
        "name": "name",
        "type": "text",
        "nullable": False,
        "comment": None,
    }
    assert found["parts"]["estimatedRows"] == 5_000
    assert found["parts"]["bytes"] > 100_000 < found["users"]["bytes"]
    assert found["mine"]["bytes"] == 0


async def test_a_later_export_waits_and_a_higher_priority_goes_first(
    start: Start,
) -> None:
    service = await start(work=False)
    later = await service.export(query="select 1", runAt="2999-01-01T00:00:00Z")
    low = await service.export(query="select 2", priority=1)
    high = await service.export(query="select 3", priority=8)
    worker = await start(serve=False, worker_slots=1)
    ended = [await service.ended(one["jobId"]) for one in (low, high)]
    assert ended[1]["startedAt"] < ended[0]["startedAt"]
    async with service.http.get(f"/exports/{later['jobId']}") as answer:
        assert (await answer.json())["status"] == "pending"
    assert worker.settings.worker_slots == 1


async def test_curl_wget_and_parallel_ranges_give_the_right_bytes(
    service: Service, tmp_path: Path
) -> None:
    export = await service.export(
        query="select n, md5(n::text) from generate_series(1, 100000) as n"
    )
    export = await service.ended(export["jobId"])
    url = f"{service.url}/exports/{export['jobId']}/download"
    path = service.settings.exports_dir / f"{export['jobId']}-1.csv"
    whole = path.read_bytes()

    async def run(*command: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
        )
        _, told = await process.communicate()
        assert process.returncode == 0, told

    for name, command in {
        "curl": ("curl", "-sS", "-f", "-C", "-", "-o", "curl", url),
        "wget": ("wget", "-q", "-c", "-O", "wget", url),
    }.items():
        (tmp_path / name).write_bytes(whole[:1_234_567])  # the part that arrived before
        await run(*command)
        assert (tmp_path / name).read_bytes() == whole

    async def part(first: int, last: int) -> bytes:
        headers = {"Range": f"bytes={first}-{last}"}
        async with service.http.get(url, headers=headers) as answer:
            assert answer.status == 206
            assert (
                answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"
            )
            return await answer.read()

    step = len(whole) // 7
    edges = [*range(0, len(whole) - step, step), len(whole)]
    parts = await asyncio.gather(
        *[part(first, last - 1) for first, last in zip(edges, edges[1:])]
    )
    assert b"".join(parts) == whole


async def verify(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        COMMAND, "verify", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told.decode()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_verify_tells_what_differs(
    service: Service, tmp_path: Path, compression: str
) -> None:
    export = await service.export(compression=compression)
    export = await service.ended(export["jobId"])
    (path,) = service.settings.exports_dir.iterdir()
    assert await verify(str(path), "--url", service.url) == (
        0,
        f"{path} is what was exported\n",
    )
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(export))
    good = path.read_bytes()
    other = tmp_path / "other"
    for bytes_, words in [
        (good[:-10], "bytes: "),
        (good[:-1] + b"?", "sha256: "),
        (b"", "bytes: "),
    ]:
        other.write_bytes(bytes_)
        code, told = await verify(str(other), "--receipt", str(receipt))
        assert code == 1 and words in told, told
        assert "is not what was exported" in told and "Traceback" not in told
    if compression == "none":
        lines = good.splitlines(keepends=True)
        other.write_bytes(lines[0].replace(b"id", b"di", 1) + b"".join(lines[2:]))
        _, told = await verify(str(other), "--receipt", str(receipt))
        assert "rows: 2,000 were exported, the file has 1,999" in told
        assert "columns: " in told
    code, told = await verify(str(other), "--url", service.url)
    assert code == 1 and "--id" in told
    receipt.write_text("{}")
    code, told = await verify(str(other), "--receipt", str(receipt))
    assert (
        code == 1 and "the receipt is not an export" in told and "Traceback" not in told
    )
