"""The embedded server never outlives us, and changes only its own files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from service.postgres import embedded

from ..conftest import VERSIONS

RUN = """
import sys, pathlib
from service.postgres import embedded
with embedded.Postgres(pathlib.Path(sys.argv[1])) as conninfo:
    print(conninfo, flush=True)
    sys.stdin.read()
"""


def modes(folder: Path) -> dict[Path, int]:
    return {place: place.stat().st_mode for place in (folder, *folder.parents)}


@pytest.mark.parametrize("version", VERSIONS)
def test_it_starts_stops_and_starts_again(scratch: Path, version: int) -> None:
    home = scratch / f"with spaces and ünïcode {version}"
    home.mkdir()
    before = modes(home)
    for _ in range(2):
        with embedded.Postgres(home / "data", version=version) as conninfo:
            with psycopg.connect(conninfo) as conn:
                assert conn.info.server_version // 10_000 == version
                conn.execute("create table if not exists kept ()")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo)
    assert modes(home) == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_dies_with_its_parent(scratch: Path, how: signal.Signals) -> None:
    data = scratch / f"orphan-{how.name}"
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin and parent.stdout
    with parent:
        assert "host=" in parent.stdout.readline()
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        descriptor = os.pidfd_open(postmaster)
        parent.send_signal(how)
        parent.stdin.close()
        parent.wait(10)
    assert _ended(descriptor)
    os.close(descriptor)
    assert not (data / "postmaster.pid").exists(), "it was shut down cleanly"


def _ended(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 10)[0])


def test_a_second_process_uses_the_running_one(scratch: Path) -> None:
    with embedded.Postgres(scratch / "shared") as first:
        with embedded.Postgres(scratch / "shared") as second:
            assert second == first
        psycopg.connect(first).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_root_keeps_it_out_of_folders_that_are_private(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = embedded.Postgres(private / "data")
    before = modes(private)
    try:
        with server as conninfo:
            psycopg.connect(conninfo).close()
        assert server.data_dir.is_relative_to(embedded.ROOT_STATE)
        assert modes(private) == before
        assert list(private.iterdir()) == []
    finally:
        subprocess.run(["rm", "-rf", str(server.data_dir)], check=True)


def test_a_version_that_is_not_there_is_named(scratch: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match="needs PostgreSQL 9"):
        embedded.Postgres(scratch / "old", version=9).__enter__()
