"""The commands that use a running service, given by its URL."""

import asyncio
import csv
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import click
from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from rich.cells import cell_len
from yarl import URL

from . import credentials
from . import download as downloads
from . import live, output, where
from .http import Away, Client, Export, Refused
from .receipt import differences

EXIT_CODES = """\b
Exit codes:
  0    done
  1    failed or refused, or the file is not what was exported
  2    the command line is invalid
  3    the server cannot be reached
  130  interrupted by Ctrl-C
"""
FORMAT = click.Choice(["csv", "tsv", "jsonl"])
COMPRESSION = click.Choice(["none", "gzip", "zstd"])
AROUND = 60  # characters that are shown on each side of an error's position
STATUS = click.Choice(list(live.STYLES))
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class Failure(click.ClickException):
    """A one-line message, perhaps with an excerpt of the query, and an exit code."""

    def __init__(self, message: str, excerpt: str = "") -> None:
        super().__init__(live.line(message) + excerpt)


class Unreachable(Failure):
    exit_code = 3


@contextmanager
def failing(query: str | None = None) -> Iterator[None]:
    """Turn errors of the server and of files into a `Failure`.

    Its excerpt shows the position in *query* that the server reports.
    """
    try:
        yield
    except Refused as error:
        hint = f" (hint: {error.hint})" if error.hint else ""
        raise Failure(f"{error}{hint}", excerpt(query, error)) from error
    except credentials.Unusable as error:
        raise Failure(str(error)) from error
    except Away as error:
        raise Unreachable(f"{error} (use --url for another server)") from error
    except BrokenPipeError:
        raise  # the reader has closed the pipe; click exits quietly
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{name}{error.strerror or error}") from error


def excerpt(query: str | None, error: Refused) -> str:
    """Return the line of *query* with the error, and a caret below it, as psql does."""
    if not (query and error.line and error.column):
        return ""
    text = query.split("\n")[error.line - 1]
    text = "".join(one if one.isprintable() else " " for one in text)
    # Of a long line, show only the part around the error.
    begin = max(0, error.column - 1 - AROUND)
    shown = text[begin : error.column - 1 + AROUND].rstrip()
    before = text[begin : error.column - 1]
    label = f"LINE {error.line}: {'...' if begin else ''}"
    return f"\n{label}{shown}\n{' ' * (len(label) + cell_len(before))}^"


def read_by(parse: Callable[[str], Any]) -> Callable[..., Any]:
    """Return an option's callback that parses its text; `ValueError` is a usage error."""

    def read(_ctx: click.Context, _param: click.Parameter, given: Any) -> Any:
        try:
            if isinstance(given, tuple):
                return [parse(one) for one in given]
            return None if given is None else parse(given)
        except (ValueError, OSError) as error:
            raise click.BadParameter(live.line(error)) from error

    return read


def server(text: str) -> URL:
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{text!r} is not a server's URL; write http://127.0.0.1:8080")
    return url


def names(text: str) -> list[str]:
    """Read `id,email` or `id,"a, b"`."""
    return next(csv.reader([text], skipinitialspace=True), [])


def sql(text: str) -> str:
    """Return *text*, the content of FILE for `@FILE`, or standard input for `-`.

    A byte order mark, which some editors write at the beginning, is removed.
    """
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    return text.removeprefix("\ufeff")


def duration(text: str) -> timedelta:
    """Read `12h`, `90d` or `4w`."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isascii() or not number.isdigit():
        raise ValueError(f"{text!r} is not a duration; write 12h, 90d or 4w")
    try:
        return timedelta(**{UNITS[unit]: int(number)})
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


def delimiter(text: str) -> str:
    return "\t" if text in ("tab", r"\t") else text


the_server = click.option(
    "--url",
    callback=read_by(server),
    metavar="URL",
    envvar="CSV_EXPORT_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    show_envvar=True,
    help="the server",
)


def asking(
    name: str | None = None,
) -> Callable[[Callable[..., Awaitable[None]]], click.Command]:
    """Return a decorator that makes a command of a coroutine function.

    The function gets a `Client` as its first argument.
    """

    def decorate(work: Callable[..., Awaitable[None]]) -> click.Command:
        @functools.wraps(work)
        def command(url: URL, **options: Any) -> None:
            async def ask() -> None:
                async with Client(url, credentials.find(url)) as client:
                    await work(client, **options)

            try:
                with failing(options.get("query")):
                    asyncio.run(ask())
            except KeyboardInterrupt:
                raise click.exceptions.Exit(130) from None

        return click.command(name, epilog=EXIT_CODES)(the_server(command))

    return decorate


as_json = click.option(
    "--json", "as_json", is_flag=True, help="print JSON, for programs"
)
how_many = click.option(
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="how many, at most",
)
one_id = click.argument("id", type=click.UUID)
many_ids = click.argument("ids", type=click.UUID, nargs=-1, required=True)


def folder_that_exists(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> str | None:
    """Refuse a folder that does not exist; otherwise the file would get its name."""
    if given and given.endswith(os.sep) and not os.path.isdir(given):
        raise click.BadParameter(f"there is no folder {given}")
    return given


to_output = click.option(
    "-o",
    "--output",
    "to",
    callback=folder_that_exists,
    metavar="FILE",
    help="a file, a folder, or - for standard output; in a folder, the server names"
    " the file, and no file is overwritten  [default: the current folder]",
)


@asking()
@click.option("--source", metavar="RELATION", help="a table or view; see `sources`")
@click.option(
    "--columns",
    callback=read_by(names),
    metavar="A,B",
    help="export only these columns: id,email",
)
@click.option(
    "--where",
    "filters",
    callback=read_by(where.parse),
    metavar="CONDITION",
    multiple=True,
    help="export only these rows; may be repeated, then all conditions must hold",
)
@click.option(
    "--order-by",
    callback=read_by(names),
    metavar="A,-B",
    help="sort by these columns, descending after -: country,-id",
)
@click.option("--limit", type=click.IntRange(0), help="export at most this many rows")
@click.option(
    "--query",
    callback=read_by(sql),
    metavar="SQL",
    help="export a SELECT instead; @FILE reads it from a file, - from stdin",
)
@click.option("--format", type=FORMAT, help="the format of the file  [default: csv]")
@click.option("--compression", type=COMPRESSION, help="compress the file")
@click.option(
    "--profile", type=click.Choice(["excel"]), help="write what this program expects"
)
@click.option(
    "--delimiter",
    callback=read_by(delimiter),
    metavar="CHARACTER",
    help="what separates values, such as ; or tab",
)
@click.option("--header/--no-header", default=None, help="begin with the column names")
@click.option("--null-text", metavar="TEXT", help="the text that stands for NULL")
@click.option("--quote-all/--no-quote-all", default=None, help="quote every value")
@click.option("--line-ending", type=click.Choice(["lf", "crlf"]), help="how lines end")
@click.option("--bom/--no-bom", default=None, help="begin with a byte order mark")
@click.option(
    "--formula-guard/--no-formula-guard",
    default=None,
    help="put an apostrophe before what would be a formula",
)
@click.option(
    "--encoding", metavar="NAME", help="WIN1252, UTF-16LE, ...  [default: UTF8]"
)
@click.option(
    "--force-quote",
    callback=read_by(names),
    metavar="A,B",
    help="columns whose values are always quoted",
)
@click.option(
    "--decimal-comma/--no-decimal-comma", default=None, help="write 1,5 for 1.5"
)
@click.option(
    "--line-break-text", metavar="TEXT", help="what replaces line breaks in values"
)
@click.option(
    "--digits-as-text/--no-digits-as-text",
    default=None,
    help="make spreadsheets keep leading zeros and long numbers",
)
@click.option(
    "--search-path", metavar="A,B", help="the schemas in which names are looked up"
)
@click.option(
    "--time-zone", metavar="NAME", help="the time zone of values  [default: UTC]"
)
@click.option("--filename", metavar="NAME", help="the name that downloads suggest")
@click.option(
    "--priority", type=click.IntRange(0, 9), help="higher ones run first  [default: 5]"
)
@click.option(
    "--run-at", metavar="INSTANT", help="do not run it before 2026-01-31T12:00:00Z"
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 100),
    help="attempts until it fails for good  [default: 5]",
)
@click.option(
    "--idempotency-key",
    "key",
    metavar="KEY",
    help="using the same key again returns the same export",
)
@to_output
@click.option("--dry-run", is_flag=True, help="show the SELECT and its first rows")
@click.option("--detach", is_flag=True, help="print the id, and do not wait")
@click.option("--no-download", is_flag=True, help="wait, and print the file's URL")
@as_json
async def export(
    client: Client,
    to: str | None,
    key: str | None,
    dry_run: bool,
    detach: bool,
    no_download: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Export a table or a query, and download the file.

    With neither --source nor --query, the server's default source is exported.  A
    terminal shows the progress.  Ctrl-C cancels the export on the server.

    \b
    A CONDITION has one of these forms; its values may be 'quoted':
      country=DE                  also with  !=  <  <=  >  >=
      'name like A%'              'name ilike a%'
      'country in DE,SE'          'country not in DE,SE'
      'id between 10 and 20'
      'email is null'             'email is not null'
    """
    if to == "-" and as_json:
        raise click.UsageError("--json and --output - both write to standard output")
    given = {name: value for name, value in options.items() if value not in (None, [])}
    wanted = {to_camel(name): value for name, value in given.items()}
    if dry_run:
        preview = await client.preview(wanted)
        return output.put_json(preview) if as_json else output.put_preview(preview)
    if detach:
        export = await client.submit(wanted, key)
        return output.put_json(export.shown) if as_json else print(export.id)
    with live.Bar() as bar:
        export = await _submit(client, wanted, key, bar)
        file = str(client.download_url(export.id))
        if export.status == "completed" and not no_download:
            file = await _download(client, export, to, bar)
    if as_json:
        output.put_json(_result(export, file))
    elif export.status == "completed":
        output.put_result(export, file)
    raise_unless_completed(export)


@asking()
@one_id
@to_output
@as_json
async def download(client: Client, id: UUID, to: str | None, as_json: bool) -> None:
    """Download the file of a finished export.

    Resumes an interrupted download to the same place, and checks the sha256.
    """
    if to == "-" and as_json:
        raise click.UsageError("--json and --output - both write to standard output")
    export = await client.get(id)
    if export.sha256 is None:
        await client.suggested_name(export)  # raises `Refused` with the reason
    with live.Bar() as bar:
        file = await _download(client, export, to, bar)
    if as_json:
        output.put_json(_result(export, file))
    else:
        output.put_result(export, file)


@asking("list")
@click.option("--status", type=STATUS, help="only those with this status")
@click.option("--source", metavar="RELATION", help="only those of this relation")
@how_many
@as_json
async def list_(
    client: Client, status: str | None, source: str | None, limit: int, as_json: bool
) -> None:
    """List exports, the newest first."""
    found = await client.page(limit, status=status, source=source)
    if as_json:
        return output.put_json([export.shown for export in found])
    output.put_exports(found)


@asking()
@one_id
@as_json
async def show(client: Client, id: UUID, as_json: bool) -> None:
    """Show one export."""
    export = await client.get(id)
    if as_json:
        output.put_json(export.shown)
    else:
        output.put_export(export, client.download_url(id))


@asking()
@click.argument("id", type=click.UUID, required=False)
@as_json
async def watch(client: Client, id: UUID | None, as_json: bool) -> None:
    """Watch all running exports until Ctrl-C, or one until it has ended.

    On a terminal, the progress is shown live.  Elsewhere, a line is printed for
    each change of a status; with --json, a line of JSON for each change.  With an
    ID, the exit code is 0 only if the export completes.
    """
    if id is None:
        try:
            return await _watch_all(client, as_json)
        except asyncio.CancelledError:
            return  # Ctrl-C is the normal end
    export = await client.get(id)
    lines = output.Lines(as_json)
    with live.Bar(hidden=as_json) as bar:
        async for now in client.watch(id):
            if now is None:
                bar.show_away()
            else:
                export = now
                bar.show(export)
                lines.tell(export)
    raise_unless_completed(export)


@asking()
@many_ids
@as_json
async def cancel(client: Client, ids: tuple[UUID, ...], as_json: bool) -> None:
    """Cancel exports that have not ended."""
    await _each(ids, client.cancel, "cancelled", as_json)


@asking()
@many_ids
@as_json
async def retry(client: Client, ids: tuple[UUID, ...], as_json: bool) -> None:
    """Run failed or cancelled exports again."""
    await _each(ids, client.retry, "pending", as_json)


@asking()
@many_ids
async def delete(client: Client, ids: tuple[UUID, ...]) -> None:
    """Delete exports and their files; running ones are cancelled."""
    await _each(ids, client.delete, "deleted", False)


@asking()
@one_id
@click.option(
    "--expires",
    metavar="DURATION",
    callback=read_by(duration),
    help="such as 12h, 7d or 4w, at most 30d  [default: 1d]",
)
@as_json
async def link(
    client: Client, id: UUID, expires: timedelta | None, as_json: bool
) -> None:
    """Make a link to the file of a finished export, and print its URL.

    Whoever has the URL can download this one file without a key, until it expires.
    It ends with the file, and when the key that made it is revoked.
    """
    made = await client.link(id, int(expires.total_seconds()) if expires else None)
    if as_json:
        return output.put_json(made)
    print(live.line(made["url"]))


@asking()
@click.argument("id", type=click.UUID, required=False)
@click.option("--action", metavar="ACTION", help="only this, such as downloaded")
@click.option("--requester", metavar="NAME", help="only of this requester")
@how_many
@as_json
async def activity(
    client: Client,
    id: UUID | None,
    action: str | None,
    requester: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was done with your exports, or with one, the newest first.

    It shows who submitted, cancelled, retried, deleted and downloaded exports, made
    and revoked keys and links, when, and from which address.
    """
    found = await client.activity(
        limit, export=str(id) if id else None, action=action, requester=requester
    )
    if as_json:
        return output.put_json(found)
    output.put_activity(found)


@asking()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", help="id of the export  [default: taken from the file's name]")
@click.option(
    "--receipt",
    type=click.File("rb"),
    help="file with the export's JSON, instead of asking the server",
)
@as_json
async def verify(
    client: Client, file: Path, id: str | None, receipt: BinaryIO | None, as_json: bool
) -> None:
    """Check a downloaded FILE against the receipt of its export."""
    export = _read(receipt) if receipt else await client.get(_id_of(file, id))
    differs = differences(file, export)
    if as_json:
        output.put_json(
            {"file": str(file), "verified": not differs, "differences": differs}
        )
    else:
        for one in differs:
            print(live.line(one))
    if differs:
        raise Failure(f"{file} is not what was exported")
    if not as_json:
        print(f"{file} is what was exported")


@asking()
@click.argument("relation", required=False)
@as_json
async def sources(client: Client, relation: str | None, as_json: bool) -> None:
    """List what can be exported, or the columns of one RELATION."""
    found = await client.sources()
    if relation is not None:
        found = [one for one in found if one["source"] == relation]
        if not found:
            raise Failure(f"{relation} cannot be exported; `sources` lists what can")
    if as_json:
        output.put_json(found if relation is None else found[0])
    elif relation is None:
        output.put_sources(found)
    else:
        output.put_columns(found[0]["columns"])


@click.command(epilog=EXIT_CODES)
@the_server
def login(url: URL) -> None:
    """Keep a key for a server; it is asked for, or read from standard input.

    An operator of the server makes keys by 'csv-export keys create'. The key is kept
    in a file that only you can read. CSV_EXPORT_KEY counts more than that file.
    """

    async def ask(key: str) -> dict[str, Any]:
        async with Client(url, key) as client:
            return await client.me()

    with failing():
        typed = sys.stdin.isatty()
        given = click.prompt("Key", hide_input=True, err=True) if typed else input()
        key = credentials.checked(given, "standard input")
        told = asyncio.run(ask(key))
        if told["requester"] is None:
            raise Failure(f"{url} asks for no keys")
        credentials.save(url, key)
    live.say(f"logged in as {live.line(told['requester'])}")


@click.command(epilog=EXIT_CODES)
@the_server
def logout(url: URL) -> None:
    """Forget the key for a server; the key itself stays valid."""
    with failing():
        known = credentials.forget(url)
    live.say("logged out" if known else f"no key was kept for {url}")


COMMANDS = [
    export, download, list_, show, watch, cancel, retry, delete, link, activity, verify,
    sources, login, logout,
]  # fmt: skip


async def follow(client: Client, export: Export, bar: live.Bar) -> Export:
    """Show the export until it has ended; return it."""
    async for now in client.watch(export.id):
        if now is None:
            bar.show_away()
        else:
            export = now
            bar.show(export)
    return export


def raise_unless_completed(export: Export) -> None:
    if export.status == "failed":
        hint = export.error and export.error.hint
        told = f" (hint: {hint})" if hint else ""
        raise Failure(f"export {export.id} failed{live.reason(export)}{told}")
    if export.status != "completed":
        raise Failure(f"export {export.id} is {export.status}")


async def _watch_all(client: Client, as_json: bool) -> None:
    lines = output.Lines(as_json)
    with live.Screen(hidden=as_json) as screen:
        async for now in client.watch_all():
            if now is None:
                screen.show_away()
            elif isinstance(now, UUID):
                screen.forget(now)
                lines.tell_deleted(now)
            else:
                screen.show(now)
                lines.tell(now)


async def _submit(
    client: Client, wanted: dict[str, Any], key: str | None, bar: live.Bar
) -> Export:
    """Submit the export and follow it to its end; cancel it if this is cancelled."""
    submitting = asyncio.create_task(client.submit(wanted, key))
    try:
        return await follow(client, await asyncio.shield(submitting), bar)
    except asyncio.CancelledError:
        await _cancel(client, await submitting, bar)
        raise


def _result(export: Export, file: str) -> dict[str, Any]:
    """Return the export's JSON, with the place of its file if there is one."""
    return export.shown | ({"file": file} if export.sha256 else {})


async def _cancel(client: Client, export: Export, bar: live.Bar) -> None:
    """Cancel the export after Ctrl-C, and print whether that succeeded."""
    try:
        bar.show(await client.cancel(export.id))
        live.say(f"export {export.id} is cancelled at the server")
    except (Refused, Away) as error:
        live.say(f"export {export.id} could not be cancelled: {error}")


async def _download(
    client: Client, export: Export, to: str | None, bar: live.Bar
) -> str:
    show = functools.partial(bar.show_download, export)
    try:
        if to == "-":
            await downloads.send(client, export, sys.stdout.buffer, show)
            return "-"
        place = Path(to) if to is not None else None
        return str(await downloads.save(client, export, place, show))
    except asyncio.CancelledError:
        live.say(f"the export is complete: `download {export.id}` fetches its file")
        raise


async def _each(
    ids: tuple[UUID, ...],
    act: Callable[[UUID], Awaitable[Export | None]],
    become: str,
    as_json: bool,
) -> None:
    """Call *act* for all *ids*, even if some are refused; then exit with 1 if any was."""
    refused = False
    done = []
    for id in ids:
        try:
            export = await act(id)
        except Refused as error:
            refused = True
            live.say(f"Error: {id}: {error}")
            continue
        if export and as_json:
            done.append(export.shown)
        else:
            print(f"{id} {become}")
    if as_json:
        output.put_json(done)
    if refused:
        raise click.exceptions.Exit(1)


def _id_of(file: Path, id: str | None) -> UUID:
    try:
        return UUID(id or file.name[:36])
    except ValueError:
        named = f"{id} is not an id" if id else f"{file.name} does not begin with an id"
        raise Failure(f"{named}; give the export's id with --id") from None


def _read(receipt: BinaryIO) -> Export:
    try:
        return Export.model_validate_json(receipt.read())
    except ValidationError as error:
        first = error.errors()[0]
        at = "/".join(map(str, first["loc"]))
        raise Failure(f"the receipt is not an export: {at} {first['msg']}") from error
