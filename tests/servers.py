"""A second server that follows a first one."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg

from service.embedded import Postgres

LEFT_BEHIND = (".s.PGSQL.5432.lock", "postmaster.pid", "server.log")


def follow(primary: Postgres, folder: Path, **settings: str) -> Postgres:
    """Return a standby of *primary* on *folder*, made anew; it is not started."""
    standby = Postgres(folder, settings={**primary.settings, **settings})
    shutil.rmtree(standby.data_dir, ignore_errors=True)
    command = [primary._bindir() / "pg_basebackup", "-D", standby.data_dir, "-R"]
    subprocess.run([*command, "-c", "fast", "-d", primary.conninfo], check=True)
    for name in LEFT_BEHIND:  # they are the primary's own
        (standby.data_dir / name).unlink(missing_ok=True)
    for path in [standby.data_dir, *standby.data_dir.rglob("*")]:
        if primary.user:
            os.chown(path, primary.user.pw_uid, primary.user.pw_gid)
    return standby


def promote(standby: Postgres) -> None:
    """Make it a primary; return once it is one."""
    with psycopg.connect(standby.conninfo, autocommit=True) as conn:
        assert conn.execute("select pg_promote(true, 60)").fetchone() == (True,)
