"""The commands that make keys, and those that use them."""

import re
import stat
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ..conftest import Service, Start
from .test_client import Shell

pytestmark = pytest.mark.newest

Conn = psycopg.Connection[Any]


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(auth="keys")


@pytest.fixture
def shell(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DATABASE_URL", service.database)
    monkeypatch.delenv("CSV_EXPORT_KEY", raising=False)
    return Shell(service.url, tmp_path)


async def made(shell: Shell, *arguments: str) -> str:
    done = await shell.run("keys", "create", *arguments)
    key = done.out.decode().strip()
    assert re.fullmatch(r"csv_[0-9a-f]{12}_[0-9a-f]{72}", key)
    assert b"cannot be shown again" in done.err
    return key


async def test_a_key_from_its_making_to_its_end(shell: Shell) -> None:
    refused = await shell.run("list", code=1)
    assert b"A key is needed. (hint: log in with 'csv-export login'" in refused.err
    key = await made(shell, "ann", "--label", "nightly\x1b[31m", "--expires", "90d")
    done = await shell.run("login", stdin=key.encode() + b"\n")
    assert done.err == b"logged in as ann\n"
    await shell.run("export", "--query", "select 1 as n", "-o", "-")
    listed = await shell.run("keys", "list")
    [head, line] = listed.out.decode().splitlines()
    assert head.split()[:2] == ["ID", "REQUESTER"]
    assert "ann" in line and "read, export, download" in line
    assert "accepted until" in line and "never" not in line
    assert key not in listed.out.decode()
    id = line.split()[0]
    rotated = await shell.run("keys", "rotate", id, "--overlap", "1h")
    await shell.run("keys", "revoke", id)
    refused = await shell.run("list", code=1)
    assert b"This key is not accepted" in refused.err
    await shell.run("login", stdin=rotated.out)
    await shell.run("list")
    assert (await shell.run("logout")).err == b"logged out\n"
    await shell.run("list", code=1)
    again = await shell.run("logout")
    assert b"no key was kept" in again.err
    for done in (
        await shell.run("keys", "revoke", id, code=1),
        await shell.run("keys", "rotate", id, code=1),
    ):
        assert f"there is no key {id} that is accepted".encode() in done.err


async def test_a_scope_that_lacks_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(shell, "ann", "--scope", "read")
    monkeypatch.setenv("CSV_EXPORT_KEY", key)
    done = await shell.run("export", "--query", "select 1", code=1)
    assert b"it needs the scope 'export'" in done.err
    await shell.run("list")


async def test_the_key_is_kept_for_its_user_alone(shell: Shell) -> None:
    key = await made(shell, "ann")
    await shell.run("login", stdin=key.encode() + b"\n")
    kept = shell.folder / "config" / "csv-export" / "keys.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    watching = await shell.start("watch")
    try:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                shown = process.read_bytes()
            except OSError:
                continue  # it has ended
            assert key.encode() not in shown
    finally:
        watching.terminate()
        await watching.communicate()
    kept.chmod(0o644)
    done = await shell.run("list", code=1)
    assert b"can be read by others" in done.err
    kept.chmod(0o600)
    kept.write_text("{")
    done = await shell.run("list", code=1)
    assert b"is damaged" in done.err


@pytest.mark.parametrize("key", ["", " ", "a b", "\u00e9"])
async def test_what_is_no_key(shell: Shell, key: str) -> None:
    done = await shell.run("login", stdin=key.encode() + b"\n", code=1)
    assert b"this is not a key" in done.err
    assert not (shell.folder / "config").exists()


async def test_a_key_that_is_not_accepted_is_not_kept(shell: Shell) -> None:
    done = await shell.run("login", stdin=b"csv_x\n", code=1)
    assert b"This key is not accepted" in done.err
    assert not (shell.folder / "config").exists()


async def test_no_key_is_kept_where_none_is_wanted(shell: Shell, start: Start) -> None:
    open_to_all = await start(work=False)
    done = await shell.run("login", stdin=b"csv_x\n", url=open_to_all.url, code=1)
    assert b"asks for no keys" in done.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["a b"], "a requester has a plain name"),
        (["ann", "--expires", "soon"], "write 12h, 90d or 4w"),
        (["ann", "--expires", "99999999999w"], "is too long"),
        (["ann", "--scope", "write"], "'write' is not one of"),
        (["ann", "--label", "x" * 101], "a label is short"),
    ],
)
async def test_what_cannot_be_made(
    shell: Shell, conn: Conn, arguments: list[str], words: str
) -> None:
    process = await shell.start("keys", "create", *arguments)
    out, err = await process.communicate()
    assert process.returncode in (1, 2) and words in err.decode() and not out
    assert conn.execute("select from requester_keys").rowcount == 0


async def test_an_operator_hears_that_there_is_no_key_yet(
    service: Service, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    await start(auth="keys", work=False)
    assert "make one: csv-export keys create" in caplog.text
