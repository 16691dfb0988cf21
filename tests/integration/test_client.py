"""The client commands: their output, their files, and their exit codes."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ..conftest import DAMMED, PATIENCE, Service, Start, dam, eventually
from ..processes import COMMAND, Process

pytestmark = pytest.mark.newest

MANY = "select n, md5(n::text) from generate_series(1, 100000) as n"
SIZE = 3_888_901  # bytes
SLOW = "select n, pg_sleep(0.002)::text from generate_series(1, 100000) as n"
FAILING = ("export", "--query", "select 1/(n-3) as n from generate_series(1, 5) n")
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass
class Done:
    code: int
    out: bytes
    err: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """Run commands in a folder, against a server."""

    url: str
    folder: Path

    async def start(
        self, *arguments: object, url: str | None = None, **options: Any
    ) -> asyncio.subprocess.Process:
        environment = {**os.environ, "CSV_EXPORT_URL": url or self.url}
        environment.pop("FORCE_COLOR", None)
        pipes = dict.fromkeys(("stdout", "stderr"), asyncio.subprocess.PIPE)
        return await asyncio.create_subprocess_exec(
            *(COMMAND, *map(str, arguments)),
            **{"cwd": self.folder, "env": environment, **pipes, **options},
        )

    async def run(
        self, *arguments: object, code: int = 0, stdin: bytes = b"", **options: Any
    ) -> Done:
        """Run a command to its end; check that it prints text, and why it failed."""
        process = await self.start(*arguments, stdin=asyncio.subprocess.PIPE, **options)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin)
        assert process.returncode == code, (out, err)
        assert b"\x1b" not in out + err
        assert b"Traceback" not in err
        return Done(process.returncode, out, err)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"exports"}


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Shell:
    return Shell(service.url, tmp_path)


@pytest.fixture
async def waiting(start: Start, tmp_path: Path) -> Shell:
    """A shell whose server has no worker: exports stay pending."""
    return Shell((await start(work=False)).url, tmp_path)


@dataclass
class Proxy:
    """A proxy before the server, which breaks connections when told to."""

    url: str
    break_after: int | None = None  # bytes of an answer
    flip: bool = False  # change the last byte before the break
    hide: bytes = b""  # text that is overwritten with x in requests
    sent: list[int] = field(default_factory=list)  # bytes of each connection


@pytest.fixture
async def proxy(service: Service) -> AsyncIterator[Proxy]:
    between = Proxy("")
    host, port = service.url.removeprefix("http://").split(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, requests = await asyncio.open_connection(host, int(port))
        number = len(between.sent)
        between.sent.append(0)

        async def ask() -> None:
            while some := await reader.read(65536):
                if between.hide:
                    some = some.replace(between.hide, b"x" * len(between.hide))
                requests.write(some)
                await requests.drain()
            requests.close()

        async def answer() -> None:
            while some := await upstream.read(4096):
                if between.flip and len(some) == 4096:
                    some = some[:-1] + bytes([some[-1] ^ 1])
                writer.write(some)
                await writer.drain()
                between.sent[number] += len(some)
                if between.break_after and between.sent[number] > between.break_after:
                    writer.transport.abort()
                    return
            writer.close()

        asking = asyncio.create_task(ask())
        with contextlib.suppress(ConnectionError):
            await answer()
        asking.cancel()
        requests.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        between.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield between


async def test_from_nothing_to_a_verified_file(shell: Shell) -> None:
    done = await shell.run("export", "--where", "country=DE", "--columns", "id,email")
    assert done.err == b""
    told = dict(line.split(maxsplit=1) for line in done.out.decode().splitlines())
    name = told["file"]
    assert name.startswith("users-20") and name.endswith(".csv")
    lines = (shell.folder / name).read_text().splitlines()
    assert lines[0] == "id,email"
    assert len(lines) == int(told["rows"].replace(",", "")) + 1
    assert shell.files() == {name}

    (listed,) = (await shell.run("list", "--json")).json
    id = listed["jobId"]
    assert id.encode() in (await shell.run("list", "--status", "completed")).out
    assert (await shell.run("list", "--status", "failed", "--json")).json == []
    shown = (await shell.run("show", id)).out
    assert told["sha256"].encode() in shown and b"'DE'" in shown
    assert (await shell.run("show", id, "--json")).json == listed
    checked = await shell.run("verify", name, "--id", id)
    assert checked.out.decode() == f"{name} is what was exported\n"
    (shell.folder / name).write_bytes(b"?")
    checked = await shell.run("verify", name, "--id", id, "--json", code=1)
    assert checked.json["verified"] is False and checked.json["differences"]

    other = name.replace(".csv", "-2.csv")
    assert (await shell.run("download", id, "--json")).json["file"] == other
    await shell.run("download", id, "-o", name)
    assert shell.files() == {name, other}
    await shell.run("verify", name, "--id", id)
    await shell.run("delete", id)
    assert b"no export" in (await shell.run("show", id, code=1)).err


async def test_sources_and_their_columns(waiting: Shell) -> None:
    assert b"users  table" in (await waiting.run("sources")).out
    assert b"signup_at" in (await waiting.run("sources", "users")).out
    (users,) = (await waiting.run("sources", "--json")).json
    assert users["source"] == "users"
    assert (await waiting.run("sources", "users", "--json")).json == users
    assert b"nobody cannot" in (await waiting.run("sources", "nobody", code=1)).err


async def test_every_option_reaches_the_server(waiting: Shell) -> None:
    done = await waiting.run(
        *("export", "--detach", "--json", "--source", "users"),
        *("--columns", 'id,"name"', "--order-by", "country,-id", "--limit", 7),
        *("--where", "country in DE,SE", "--where", "email is not null"),
        *("--format", "csv", "--compression", "gzip", "--delimiter", "tab"),
        *("--no-header", "--null-text", "-", "--quote-all", "--line-ending", "crlf"),
        *("--no-bom", "--formula-guard", "--time-zone", "Asia/Tokyo"),
        *("--encoding", "latin1", "--force-quote", "id", "--decimal-comma"),
        *("--line-break-text", " / ", "--digits-as-text", "--search-path", "public"),
        *("--filename", "ü.csv", "--priority", 8, "--run-at", "2999-01-01T00:00:00Z"),
        *("--max-attempts", 2, "--idempotency-key", "one"),
    )
    assert (
        done.json.items()
        >= {
            "source": "users",
            "columns": ["id", "name"],
            "orderBy": ["country", "-id"],
            "limit": 7,
            "filters": [
                {"column": "country", "op": "in", "value": ["DE", "SE"]},
                {"column": "email", "op": "notNull"},
            ],
            "format": "csv",
            "compression": "gzip",
            "delimiter": "\t",
            "header": False,
            "nullText": "-",
            "quoteAll": True,
            "lineEnding": "crlf",
            "bom": False,
            "encoding": "LATIN1",
            "forceQuote": ["id"],
            "decimalComma": True,
            "lineBreakText": " / ",
            "digitsAsText": True,
            "searchPath": "public",
            "formulaGuard": True,
            "timeZone": "Asia/Tokyo",
            "filename": "ü.csv",
            "priority": 8,
            "runAt": "2999-01-01T00:00:00Z",
            "maxAttempts": 2,
        }.items()
    )
    same = ("--detach", "--query", "-", "--idempotency-key", "two")
    first = await waiting.run("export", *same, stdin=b"select 1")
    # Some editors begin a file with a byte order mark.
    (waiting.folder / "query.sql").write_text("select 1", encoding="utf-8-sig")
    same = ("--detach", "--query", "@query.sql", "--idempotency-key", "two")
    assert (await waiting.run("export", *same)).out == first.out
    await waiting.run("show", first.out.decode().strip())
    assert len((await waiting.run("list", "--json", "--limit", 1)).json) == 1
    seen = await waiting.run("export", "--dry-run", "--columns", "id", "--json")
    assert seen.json["select"] == "select t.id from public.users as t"
    seen = await waiting.run("export", "--dry-run", "--columns", "id")
    assert seen.out.split()[-10:] == [b"%d" % n for n in range(1, 11)]


async def test_an_error_is_shown_where_it_is(waiting: Shell) -> None:
    query = "select id,\n  '日本', nam\nfrom users"
    refused = await waiting.run("export", "--detach", "--query", query, code=1)
    assert refused.err.decode().splitlines()[1:] == [
        "LINE 2:   '日本', nam",
        "                  ^",
    ]


async def test_the_file_goes_where_it_is_wanted(shell: Shell) -> None:
    query = ("export", "--query", "select 1 as n", "--filename", "../.e\tv il.csv")
    refused = await shell.run(*query, code=1)
    assert b"filename" in refused.err
    query = ("export", "--query", "select 1 as n", "--filename", ".pro file.tar.csv")
    done = await shell.run(*query, "-o", "-")
    assert done.out == b"n\n1\n" and b"sha256" in done.err
    await shell.run(*query, "-o", "here.csv")
    (shell.folder / "sub").mkdir()
    await shell.run(*query, "-o", "sub")
    await shell.run(*query, "-o", "sub")
    assert {path.name for path in (shell.folder / "sub").iterdir()} == {
        "pro file.tar.csv",
        "pro file.tar-2.csv",
    }
    (shell.folder / "link.csv").symlink_to("sub/target.csv")
    await shell.run(*query, "-o", "link.csv")
    assert (shell.folder / "link.csv").is_symlink()
    assert (shell.folder / "sub/target.csv").read_bytes() == b"n\n1\n"
    await shell.run(*query, "-o", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode), "a device stays one"
    done = await shell.run(*query, "--no-download")
    assert f"{shell.url}/exports/".encode() in done.out
    missing = await shell.run(*query, "-o", "no/such/folder/x.csv", code=1)
    assert b"No such file or directory" in missing.err
    await shell.run(*query, "-o", "-", "--json", code=2)
    empty = ("export", "--format", "jsonl", "--where", "id<0", "-o", "empty.jsonl")
    await shell.run(*empty)
    assert (shell.folder / "empty.jsonl").read_bytes() == b""
    assert shell.files() == {"here.csv", "sub", "link.csv", "empty.jsonl"}


@pytest.mark.parametrize("output", ["file.csv", "-"])
async def test_a_broken_connection_is_resumed(
    shell: Shell, proxy: Proxy, output: str
) -> None:
    proxy.break_after = 1_500_000
    done = await shell.run("export", "--query", MANY, "-o", output, url=proxy.url)
    got = done.out if output == "-" else (shell.folder / output).read_bytes()
    assert len(got) == SIZE
    assert sum(sent > proxy.break_after for sent in proxy.sent) == 2
    assert sum(proxy.sent) < 4_500_000, "nothing is sent twice"


async def test_an_interrupted_download_goes_on_later(
    shell: Shell, proxy: Proxy, service: Service
) -> None:
    done = await shell.run("export", "--query", MANY, "--no-download", "--json")
    id = done.json["jobId"]
    proxy.break_after = 20_000
    process = await shell.start("download", id, "-o", "x.csv", url=proxy.url)

    async def partial() -> bool:
        return any(name.endswith(".partial") for name in shell.files())

    await eventually(partial)
    await eventually(lambda: asyncio.sleep(0, len(proxy.sent) > 2))
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert f"download {id}".encode() in err
    (name,) = shell.files()
    before = (shell.folder / name).stat().st_size
    assert before > 0
    proxy.break_after, proxy.sent[:] = None, []
    await shell.run("download", id, "-o", "x.csv", url=proxy.url)
    assert sum(proxy.sent) < SIZE - before + 10_000
    assert shell.files() == {"x.csv"}
    await shell.run("verify", "x.csv", "--id", id)


async def test_wrong_bytes_are_no_file(shell: Shell, proxy: Proxy) -> None:
    done = await shell.run("export", "--query", MANY, "--no-download", "--json")
    id = done.json["jobId"]
    proxy.flip = True
    done = await shell.run("download", id, "-o", "x.csv", url=proxy.url, code=1)
    assert b"not what was exported" in done.err
    assert shell.files() == set()
    # A corrupt partial file only costs a second download.
    sha256 = (await shell.run("show", id, "--json")).json["sha256"]
    (shell.folder / f".x.csv.{sha256[:12]}.partial").write_bytes(b"wrong" * 1000)
    await shell.run("download", id, "-o", "x.csv")
    await shell.run("verify", "x.csv", "--id", id)


async def test_ctrl_c_cancels_at_the_server(shell: Shell) -> None:
    process = await shell.start("export", "--query", SLOW, "--json")

    async def running() -> Any:
        listed = (await shell.run("list", "--status", "processing", "--json")).json
        return listed and listed[0]["jobId"]

    id = await eventually(running)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode() == f"export {id} is cancelled at the server\n"
    assert out == b"" and shell.files() == set()
    assert (await shell.run("show", id, "--json")).json["status"] == "cancelled"
    again = await shell.run("cancel", id, UNKNOWN, "--json", code=1)
    assert [export["jobId"] for export in again.json] == [id]
    assert f"Error: {UNKNOWN}: There is no export".encode() in again.err
    retried = await shell.run("retry", id)
    assert retried.out.decode() == f"{id} pending\n"
    await shell.run("retry", id, code=1)
    await shell.run("delete", id)


@contextlib.contextmanager
def terminal(columns: int = 80) -> Any:
    """Yield a terminal, and a function that reads what it was sent."""
    mine, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    os.set_blocking(mine, False)
    shown = bytearray()

    def read() -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while some := os.read(mine, 65536):
                shown.extend(some)
        return shown.decode(errors="replace")

    yield theirs, read
    os.close(mine)
    os.close(theirs)


async def test_a_terminal_gets_a_live_bar(shell: Shell) -> None:
    query = SLOW.replace("100000", "500")
    with terminal() as (screen, read):
        process = await shell.start("export", "--query", query, stderr=screen)
        out, _ = await process.communicate()
        shown = read()
    assert process.returncode == 0
    assert b"\x1b" not in out and b"rows      500" in out
    percents = {word for word in shown.split() if word.endswith("%")}
    assert "100%" in percents and len(percents) >= 3, "it moves"
    assert "ETA" in shown and "download" in shown and "/s" in shown


async def test_the_screen_of_all_ends_by_ctrl_c(shell: Shell) -> None:
    with terminal() as (screen, read):
        process = await shell.start("watch", stderr=screen, stdout=screen)
        await eventually(lambda: asyncio.sleep(0, "nothing is running" in read()))
        await shell.run("export", "--query", "select 1 as n", "-o", "one.csv")
        await shell.run(*FAILING, code=1)
        await eventually(lambda: asyncio.sleep(0, "division by zero" in read()))
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        assert "completed" in read()


async def lines_of(process: asyncio.subprocess.Process) -> AsyncIterator[Any]:
    assert process.stdout
    async with asyncio.timeout(PATIENCE):
        async for line in process.stdout:
            yield json.loads(line)


@pytest.mark.parametrize("hidden", [b"", b"events"])
async def test_a_script_watches_lines_of_json(
    shell: Shell, proxy: Proxy, database: str, hidden: bytes
) -> None:
    """With the stream of events, and behind a proxy that hides the stream."""
    proxy.hide = hidden
    all_of_them = await shell.start("watch", "--json", url=proxy.url)
    seen = []
    with dam(database):
        done = await shell.run("export", "--detach", "--query", DAMMED)
        id = done.out.decode().strip()
        one = await shell.start("watch", id, "--json", url=proxy.url)
        lines = lines_of(one)
        async for export in lines:
            seen.append(export)
            if export["rows"]:
                break
    assert export["status"] == "processing", "and how far it is meanwhile"
    seen += [export async for export in lines]
    assert await one.wait() == 0
    assert [export["jobId"] for export in seen] == [id] * len(seen)
    assert seen[-1]["status"] == "completed"
    rows = seen[-1]["rows"]
    assert rows > export["rows"]
    async for export in lines_of(all_of_them):
        if export["jobId"] == id and export["status"] == "completed":
            break
    all_of_them.send_signal(signal.SIGINT)
    assert await all_of_them.wait() == 0
    plain = (await shell.run("watch", id)).out.decode()
    assert plain.startswith(f"{id}  query  100%  {rows:,} rows")


async def test_what_fails_says_so(shell: Shell) -> None:
    failed = await shell.run(*FAILING, code=1)
    assert b"division by zero" in failed.err and failed.out == b""
    failed = await shell.run(*FAILING, "--json", code=1)
    id = failed.json["jobId"]
    assert failed.json["status"] == "failed"
    await shell.run("watch", id, code=1)
    assert b"division by zero" in (await shell.run("show", id)).out
    assert b"there is no file" in (await shell.run("download", id, code=1)).err


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (f"download {UNKNOWN} --output nowhere/", 2, "there is no folder nowhere/"),
        ("show 8d546eed", 2, "'8d546eed' is not a valid UUID"),
        (f"show {UNKNOWN}", 1, f"There is no export {UNKNOWN}"),
        ("export --source nobody", 1, "nobody"),
        ("export --columns id,nam", 1, "(hint: Its columns are id, name,"),
        ("export --columns id --where id=x", 1, "invalid input syntax"),
        ("export --where id", 2, "is not a condition; write for example"),
        ("export --query @none.sql", 2, "No such file"),
        ("export --query select+'\x1b[31m'::int", 1, r"\x1b[31m"),
        ("export --priority 10", 2, "0<=x<=9"),
        ("export --idempotency-key é", 1, ""),
        ("list --url 127.0.0.1:8080", 2, "is not a server's URL; write http://"),
        ("list --url http://127.0.0.1:1", 3, "cannot be reached: connection refused"),
        ("verify x.csv", 2, "x.csv"),
        ("watch --jsn", 2, "--json"),
    ],
)
async def test_a_mistake_is_one_clear_line(
    waiting: Shell, arguments: str, code: int, words: str
) -> None:
    given = [one.replace("+", " ") for one in arguments.split(" ")]
    done = await waiting.run(*given, code=code)
    assert done.out == b""
    assert words in done.err.decode()
    told, *place = done.err.decode().split("\nLINE 1: ")
    assert told.splitlines()[-1].startswith("Error: ")
    assert code == 2 or told.rstrip("\n").count("\n") == 0
    # If PostgreSQL reports a position, the line is shown with a caret below it.
    assert all(
        one.isprintable() and one.count("^") <= 1 for one in "".join(place).splitlines()
    )


async def test_what_is_no_such_service_is_said(waiting: Shell) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        for body, code, words in [
            (b"200 OK\r\nContent-Type: text/html\r\n\r\n<p>", 3, b"not a CSV Export"),
            (
                b"200 OK\r\nContent-Type: application/json\r\n\r\n[1",
                3,
                b"not a CSV Exp",
            ),
            (
                b"200 OK\r\nContent-Type: application/json\r\n\r\n{}",
                3,
                b"not a CSV Exp",
            ),
            (b"502 Bad Gateway\r\n\r\n", 3, b"is not ready: 502 Bad Gateway"),
            (b"401 Unauthorized\r\n\r\n", 1, b"401 Unauthorized"),
            (b"204 No Content\r\n\r\n", 3, b""),
            (b"nonsense", 3, b"cannot be reached"),
        ]:
            answer = b"HTTP/1.1 " + body
            done = await waiting.run("show", UNKNOWN, url=url, code=code)
            assert words in done.err


async def test_a_reader_that_has_seen_enough_ends_it_quietly(shell: Shell) -> None:
    process = await shell.start("export", "--query", MANY, "-o", "-")
    assert process.stdout and process.stderr
    assert await process.stdout.readline() == b"n,md5\n"
    process.stdout._transport.close()  # type: ignore[attr-defined]
    err = await process.stderr.read()
    assert await process.wait() == 1
    assert b"Traceback" not in err


def test_an_export_is_followed_through_a_crash_of_the_server(
    database: str, exports_dir: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {"port": port, "lease": 2, "heartbeat": 0.5, "poll_interval": 1}

    async def is_processing() -> bool:
        with psycopg.connect(database) as conn:
            found = conn.execute("select from exports where status = 'processing'")
            return found.rowcount == 1

    async def follow() -> None:
        shell = Shell(f"http://127.0.0.1:{port}", tmp_path)
        with dam(database):
            process = await shell.start("export", "--query", DAMMED, "-o", "x.csv")
            await eventually(is_processing)
            server.kill()
        with Process(database, exports_dir, "serve", **settings) as again:
            again.url()
            out, err = await process.communicate()
            assert process.returncode == 0, err
            assert b"rows      2,000" in out

    with Process(database, exports_dir, "serve", **settings) as server:
        server.url()
        asyncio.run(follow())
