"""A standby that follows a primary, and can replace it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from service.postgres.embedded import Postgres

LEFT_BEHIND = (".s.PGSQL.5432.lock", "postmaster.pid", "server.log")


PATIENCE = 60.0  # seconds


def either(folders: list[Path], dbname: str) -> str:
    """Return the conninfo of a database on whichever of the servers accepts it."""
    hosts = [str(Postgres(folder).data_dir) for folder in folders]
    return make_conninfo(
        host=",".join(hosts), port="5432,5432", user="postgres", dbname=dbname
    )


def follow(primary: Postgres, folder: Path, **settings: str) -> Postgres:
    """Return a new standby of *primary* in *folder*, which is not started yet."""
    standby = Postgres(folder, settings={**primary.settings, **settings})
    shutil.rmtree(standby.data_dir, ignore_errors=True)
    command: list[str | Path] = [primary._bindir() / "pg_basebackup", "-R"]
    command += ["-D", standby.data_dir]
    command += ["-c", "fast", "-d", primary.conninfo]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    for name in LEFT_BEHIND:  # files of the running primary
        (standby.data_dir / name).unlink(missing_ok=True)
    for path in [standby.data_dir, *standby.data_dir.rglob("*")]:
        if primary.user:
            os.chown(path, primary.user.pw_uid, primary.user.pw_gid)
    return standby


def promote(standby: Postgres) -> None:
    """Promote *standby*; return once it is a primary."""
    with psycopg.connect(standby.conninfo, autocommit=True) as conn:
        assert conn.execute("select pg_promote(true, 60)").fetchone() == (True,)


def wait_for_standby(primary: Postgres) -> None:
    """Make each commit wait for the standby, so that none is lost with the primary."""
    with psycopg.connect(primary.conninfo, autocommit=True) as conn:
        conn.execute("alter system set synchronous_standby_names = '*'")
        conn.execute("select pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE
        while not conn.execute(
            "select from pg_stat_replication where sync_state = 'sync'"
        ).fetchall():
            assert time.monotonic() < deadline, "the standby does not follow"
