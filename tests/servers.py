"""Servers for tests: a standby that can replace its primary, and one with TLS."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from service.postgres.embedded import Postgres

LEFT_BEHIND = (".s.PGSQL.5432.lock", "postmaster.pid", "server.log")


PATIENCE = 60.0  # seconds
NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


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


@contextmanager
def encrypted(folder: Path) -> Iterator[tuple[Postgres, str]]:
    """Run a server with TLS, Debian's, because that of the wheels has none.

    Yield it, and its conninfo.  It trusts certificates that its own has signed; see
    `certificate`.
    """
    postgres = Postgres(folder, version=15)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with postgres:
        pass  # this creates the folder
    key, cert = postgres.data_dir / "server.key", postgres.data_dir / "server.crt"
    _openssl("req", "-x509", *NEW_KEY, "-subj", "/CN=x", "-keyout", key, "-out", cert)
    for file in (key, cert):
        if postgres.user:
            os.chown(file, postgres.user.pw_uid, postgres.user.pw_gid)
        file.chmod(0o600)
    postgres.settings |= {
        "ssl": "on",
        "ssl_ca_file": "server.crt",
        "listen_addresses": "127.0.0.1",
        "port": str(port),
    }
    postgres.start()
    conninfo = make_conninfo(
        host="127.0.0.1",
        port=port,
        user="postgres",
        dbname="postgres",
        sslmode="require",
    )
    try:
        yield postgres, conninfo
    finally:
        postgres.stop()


def certificate(server: Postgres, folder: Path, name: str) -> dict[str, str]:
    """Return parameters of a connection that shows a certificate for *name*."""
    key, request, cert = (folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
    ours = server.data_dir
    _openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
    _openssl(
        *("x509", "-req", "-in", request, "-out", cert, "-set_serial", "1"),
        *("-CA", ours / "server.crt", "-CAkey", ours / "server.key"),
    )
    key.chmod(0o600)
    return {"sslcert": str(cert), "sslkey": str(key)}


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
