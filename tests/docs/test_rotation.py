"""The section "Rotate everything" of docs/security.md, on a server that asks for passwords."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service.postgres import embedded, schema

from ..processes import Process
from .test_console import blocks, missing

SECTION = "## Rotate everything"
DOCUMENT = "docs/security.md"
ID = re.compile(r"\b[0-9a-f]{12}\b")
FORMER = {"csv_service": "of the service", "csv_reader": "of the reader"}


def ask(url: str, key: str, query: str | None = None) -> int:
    """Look at the exports of the key, or submit *query*; return the status."""
    request = urllib.request.Request(
        f"{url}/exports",
        json.dumps({"query": query}).encode() if query else None,
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.newest
def test_everything_is_rotated(scratch: Path, exports_dir: Path) -> None:
    cluster = scratch / f"rotated-{uuid.uuid4().hex}"
    with embedded.Postgres(cluster, settings={"fsync": "off"}) as trusted:
        schema.migrate(trusted)
        with psycopg.connect(trusted, autocommit=True) as conn:
            conn.execute("alter role postgres password 'of the administrator'")
            for role, password in FORMER.items():
                conn.execute(f"alter role {role} password '{password}'".encode())
            conn.execute(
                "insert into reader_login (password) values (%s)",
                [FORMER["csv_reader"]],
            )
            (cluster / "pg_hba.conf").write_text("local all all scram-sha-256\n")
            conn.execute("select pg_reload_conf()")
        admin = make_conninfo(trusted, password="of the administrator")
        service = make_conninfo(
            trusted, user="csv_service", password=FORMER["csv_service"]
        )
        with psycopg.connect(admin, autocommit=True) as conn:
            made = conn.execute(
                "select * from create_key('ann', p_label => 'nightly')"
            ).fetchone()
            assert made
            with Process(service, exports_dir, "serve", auth="keys") as process:
                keys_are_rotated(process.url(), service, *made)
                process.signal(signal.SIGTERM)
                process.end()
            key = conn.execute("select key from create_key('ann')").fetchone()
            assert key
            new = passwords_are_rotated(admin)
            for role, former in FORMER.items():
                with pytest.raises(psycopg.OperationalError, match="password"):
                    psycopg.connect(admin, user=role, password=former)
            service = make_conninfo(service, password=new["csv_service"])
            with Process(service, exports_dir, "serve", auth="keys") as process:
                assert ask(process.url(), key[0], "select 1") == 202
                process.until("completed")
                process.signal(signal.SIGTERM)
                process.end()
            states = "select array_agg(status::text) from exports"
            assert conn.execute(states).fetchone() == (["completed"],)


def keys_are_rotated(url: str, database: str, id: str, former: str) -> None:
    keys = [former]
    ids: dict[str, str] = {}
    for command, expected in blocks(DOCUMENT, "$ ", SECTION):
        ids.setdefault(ID.findall(" ".join([command, *expected]))[0], id)
        for shown, true in ids.items():
            command = command.replace(shown, true)
        done = subprocess.run(
            ["bash", "-c", command],
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "DATABASE_URL": database,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        words = [ID.sub("…", re.sub(r"csv_\w+_…", "csv_…", one)) for one in expected]
        assert done.returncode == 0 and not missing(words, done.stdout), done.stdout
        keys += re.findall(r"^csv_\w+", done.stdout, re.MULTILINE)
        assert [ask(url, key) for key in keys] == (
            [401, 200] if "revoke" in command else [200] * len(keys)
        )
    assert len(keys) == 2


def passwords_are_rotated(admin: str) -> dict[str, str]:
    """Run the statements; return the new passwords."""
    statements = blocks(DOCUMENT, "=> ", SECTION)
    psql = embedded.find_binaries()[max(embedded.find_binaries())] / "psql"
    for wanted in (statements[:4], statements[4:]):
        done = subprocess.run(
            [psql, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", admin],
            input="".join(f"{text}\n" for text, _ in wanted),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        lines = [line for _, expected in wanted for line in expected]
        assert done.returncode == 0 and not missing(lines, done.stdout), done.stdout
    script = "".join(text for text, _ in statements)
    return dict(re.findall(r"alter role (\w+) password '([^']*)'", script))
