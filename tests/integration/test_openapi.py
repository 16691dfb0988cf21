"""The description is true: what is served does what it says, whatever is sent."""

import asyncio
import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ..conftest import Start
from ..processes import Process

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.newest
@pytest.mark.timeout(300)
def test_schemathesis_finds_no_failure(
    database: str, exports_dir: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"min_free_disk": 0, "drain_timeout": 0}
    with Process(database, exports_dir, "serve", **settings) as process:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                f"--config-file={CONFIG}",
                "run",
                f"{process.url()}/openapi.json",
                "--checks=all",
                "--max-examples=10",
                "--generation-deterministic",
                "--no-color",
                # How fast this machine makes up requests says nothing of the service.
                "--suppress-health-check=too_slow",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert "ERROR service" not in process.log
    shown = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, shown
    assert re.search(r"Tested: (\d+)\n", done.stdout), shown


GENERATED = """
from uuid import UUID

from generated.client import AuthenticatedClient, Client
from generated.api.default import download_export, list_exports, show_export, submit_export
from generated.models import ExportRequest, ProblemDetails


def run(url, key=None):
    with (
        AuthenticatedClient(base_url=url, token=key) if key else Client(base_url=url)
    ) as client:
        wanted = ExportRequest.from_dict({"query": "select 7 as n"})
        export = submit_export.sync(client=client, body=wanted)
        while export.status != "completed":
            export = show_export.sync(export.job_id, client=client)
        file = download_export.sync(export.job_id, client=client)
        listed = list_exports.sync(client=client)
        missing = show_export.sync(UUID(int=0), client=client)
        wrong = ExportRequest.from_dict({"query": "select nam"})
        refused = submit_export.sync(client=client, body=wrong)
    assert isinstance(missing, ProblemDetails) and isinstance(refused, ProblemDetails)
    return file.payload.read(), len(listed.exports), missing.status, refused.type_
"""


@pytest.mark.newest
@pytest.mark.parametrize("auth", ["none", "keys"])
async def test_a_generated_client_works(
    auth: str,
    start: Start,
    conn: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = await start(auth=auth)
    key = None
    if auth == "keys":
        row = conn.execute("select key from create_key('ann')").fetchone()
        assert row
        key = row[0]
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\npackage_name_override: generated\n")
    generate: list[str | Path] = [
        *(Path(sys.executable).with_name("openapi-python-client"), "generate"),
        *("--url", f"{service.url}/openapi.json", "--meta", "none"),
        *("--config", config, "--output-path", tmp_path / "generated"),
    ]
    done = await asyncio.to_thread(
        lambda: subprocess.run(generate, capture_output=True, text=True)
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout.upper(), done.stdout
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "use_it.py").write_text(GENERATED)
    for name in [name for name in sys.modules if name.split(".")[0] == "generated"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "use_it", raising=False)
    use_it = importlib.import_module("use_it")
    answer = await asyncio.to_thread(use_it.run, service.url, key)
    assert answer == (b"n\n7\n", 1, 404, "/docs#refused")
