"""The command line, as a new user meets it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ..processes import COMMAND


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["", "up", "serve", "worker", "export"])
def test_help(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    "environment, words",
    [
        ({"PORT": "eighty"}, "PORT:"),
        ({"PORT": "70000"}, "PORT:"),
        ({"WORKER_SLOTS": "0"}, "WORKER_SLOTS:"),
        ({"POLL_INTERVAL": "-1"}, "POLL_INTERVAL:"),
        ({"LEASE": "nan"}, "LEASE:"),
        ({"LEASE": "3", "HEARTBEAT": "2"}, "HEARTBEAT:"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "cannot be used"),
    ],
)
def test_settings_that_make_no_sense_end_the_start_with_one_line(
    environment: dict[str, str], words: str
) -> None:
    done = run("serve", **environment)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    "environment, words",
    [
        ({"PORT": "eighty"}, "PORT:"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "cannot be used"),
        ({"EXPORTS_DIR": "/dev/null/exports"}, "cannot create EXPORTS_DIR"),
        ({"HOST": "no such host", "AUTH": "none"}, "cannot listen"),
        ({"HOST": "0.0.0.0"}, "say who may ask"),
        ({"AUTH": "key"}, "AUTH:"),
        ({"AUTH": "proxy"}, "AUTH_PROXIES:"),
        ({"AUTH": "proxy", "AUTH_PROXIES": "proxy"}, "AUTH_PROXIES:"),
    ],
)
def test_in_json_every_line_is_an_object(
    database: str, environment: dict[str, str], words: str
) -> None:
    settings = {"DATABASE_URL": database, "LOG_FORMAT": "json"} | environment
    done = run("serve", **settings)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert words in lines[-1]["message"]
    assert lines[-1]["levelname"] == "CRITICAL"


def test_a_port_in_use_is_named(database: str, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", DATABASE_URL=database, PORT=port, EXPORTS_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.newest
def test_everything_at_once(server: str, scratch: Path, tmp_path: Path) -> None:
    """A smaller `make demo ONCE=1`, run twice; the second run adds no users."""
    settings = {
        "EMBEDDED_DIR": str(scratch / "demo"),
        "EXPORTS_DIR": str(tmp_path),
        "SEED_ROWS": "3000",
        "PORT": "0",
        "DATABASE_URL": "",
    }
    digests = set()
    for _ in range(2):
        done = run("up", "--export", "--once", **settings)
        assert done.returncode == 0, done.stderr
        told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert told["rows"] == "3,000"
        assert Path(told["file"]).stat().st_size == int(told["bytes"].replace(",", ""))
        digests.add(told["sha256"])
    assert len(digests) == 1
