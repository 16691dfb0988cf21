"""Random statements: the service exports exactly those that psql exports."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from . import regress
from .compare import Kind, Psql, compare, serving
from .scripts import Script

FORTY_TYPES = (Path(__file__).parent / "forty_types.sql").read_bytes()
SEED = 7
STATEMENTS = 500
SAMPLED = re.compile(r"\btablesample\s+\w+\s*\([\d.]+\)")  # has random results


@pytest.mark.newest
async def test_what_sqlsmith_writes(corpus: str, tmp_path: Path) -> None:
    statements = written(corpus)
    assert len(statements) == STATEMENTS
    exports_dir = tmp_path / "exports"
    exports_dir.mkdir()
    with regress.database(corpus, "smith") as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(FORTY_TYPES)
            conn.execute("alter database smith set statement_timeout to '2s'")
        async with serving(url, exports_dir) as service:
            outcomes, _ = await compare(statements, Psql(url, tmp_path), service)
    counts = Counter(one.kind for one in outcomes)
    assert counts[Kind.EQUAL] > STATEMENTS / 4, counts
    faults = [
        f"{one.kind}: {one.note}\n{one.statement}" for one in outcomes if one.fault
    ]
    assert not faults, "\n\n".join([f"{len(faults)} faults", *faults[:10]])


def written(corpus: str) -> list[str]:
    """Return the statements that sqlsmith writes for the tables of `forty_types.sql`."""
    sqlsmith = shutil.which("sqlsmith")
    assert sqlsmith, "install sqlsmith"
    # Not the database of the service, whose own tables change while it works.
    name = "smithy"
    with psycopg.connect(
        make_conninfo(corpus, dbname="postgres"), autocommit=True
    ) as conn:
        conn.execute(f"create database {name}")
        url = make_conninfo(corpus, dbname=name)
        try:
            with psycopg.connect(url, autocommit=True) as other:
                other.execute(FORTY_TYPES)
            command = [sqlsmith, f"--target={url}", "--dry-run", "--exclude-catalog"]
            command += [f"--max-queries={STATEMENTS}", f"--seed={SEED}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        finally:
            conn.execute(f"drop database {name} with (force)")
    return [SAMPLED.sub("", one.text) for one in Script(done.stdout)]
