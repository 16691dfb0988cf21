"""A foreign implementation of EventSource follows our streams, also through proxies."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ..processes import Process

pytestmark = [pytest.mark.newest, pytest.mark.xdist_group("npm")]

CLIENT = Path(__file__).with_name("eventsource")
SLOW = "select n, pg_sleep(0.002)::text from generate_series(1, {}) as n"
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass {upstream}; }}
    }}
}}
"""

Watch = Callable[[str], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eventsource")
    shutil.copytree(CLIENT, folder, dirs_exist_ok=True)
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=folder,
        check=True,
    )
    return folder


@pytest.fixture
def watch(client: Path) -> Iterator[Watch]:
    running = []

    def start(url: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["node", "watch.js", url], cwd=client, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout
    for line in process.stdout:
        yield json.loads(line)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def submit(conn: psycopg.Connection[Any], query: str) -> str:
    row = conn.execute(
        "insert into exports (query) values (%s) returning id::text", [query]
    ).fetchone()
    assert row
    return str(row[0])


def test_it_comes_back_until_it_is_told_to_stop(
    database: str, exports_dir: Path, conn: psycopg.Connection[Any], watch: Watch
) -> None:
    port = free_port()
    with Process(database, exports_dir, "worker"):
        id = submit(conn, SLOW.format(2_000))
        with Process(database, exports_dir, "serve", "--slots", "0", port=port) as api:
            api.url()
            seen = lines(watch(f"http://127.0.0.1:{port}/exports/{id}/events"))
            assert next(line for line in seen if line.get("rows"))
        assert next(line for line in seen if line["kind"] == "error")
        with Process(database, exports_dir, "serve", "--slots", "0", port=port) as api:
            rest = []
            for line in seen:
                rest.append(line)
                if line["kind"] == "closed":
                    break
    assert rest[-1]["kind"] == "closed"
    assert [line["status"] for line in rest if line["kind"] == "status"][-1:] == [
        "completed"
    ]
    ids = [int(line["id"].partition("-")[0]) for line in rest if "id" in line]
    assert ids == sorted(set(ids))


def test_events_arrive_live_behind_nginx(
    database: str,
    exports_dir: Path,
    conn: psycopg.Connection[Any],
    watch: Watch,
    tmp_path: Path,
) -> None:
    """With nginx's default buffering, and HTTP/1.0 between nginx and us."""
    port = free_port()
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with Process(database, exports_dir, "serve") as service:
        config = tmp_path / "nginx.conf"
        config.write_text(
            NGINX.format(folder=tmp_path, port=port, upstream=service.url())
        )
        with subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(config)]) as proxy:
            try:
                _follow(conn, watch, f"http://127.0.0.1:{port}")
            finally:
                proxy.terminate()


def _follow(conn: psycopg.Connection[Any], watch: Watch, url: str) -> None:
    seen = lines(watch(f"{url}/events"))
    assert next(line for line in seen if line["kind"] == "open")
    began = time.time() * 1000
    id = submit(conn, SLOW.format(800))
    mine = []
    for line in seen:
        if line.get("jobId") == id:
            mine.append(line)
            if line["status"] == "completed":
                break
    took = mine[-1]["at"] - began
    progress = [line["at"] - began for line in mine if line["kind"] == "progress"]
    assert len(progress) >= 4
    assert progress[0] < took / 2, "not all at the end"
