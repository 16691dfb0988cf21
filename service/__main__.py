"""The command line."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import aiohttp
import click
import psycopg
from pydantic import ValidationError
from pythonjsonlogger.json import JsonFormatter
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
)

from . import __version__, config, db, embedded, process
from .queue import Export
from .receipt import differences

LOOK_EVERY = 0.1  # seconds

console = Console(stderr=True, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="csv-export-service")
def cli() -> None:
    """Export PostgreSQL data as large CSV files, in the background.

    Settings come from environment variables; the README lists them.  Without
    DATABASE_URL, an embedded PostgreSQL is started for the command's duration.
    """


@cli.command()
def migrate() -> None:
    """Install or update the schema and the two roles."""
    with _database() as (_, url):
        say("schema installed" if db.migrate(url) else "schema is up to date")


@cli.command()
def seed() -> None:
    """Fill the demo table users (SEED_ROWS; only what is missing)."""
    with _database() as (settings, url):
        _seed(settings, url)


@cli.command()
@click.option(
    "--slots", type=click.IntRange(0, 64), help="exports at a time; 0: API only"
)
def serve(slots: int | None) -> None:
    """Run the API, and a worker beside it."""
    with _database(slots) as (settings, url):
        db.migrate(url)
        asyncio.run(_run(settings, url, serve=True, work=slots != 0))


@cli.command()
@click.option("--slots", type=click.IntRange(1, 64), help="exports at a time")
def worker(slots: int | None) -> None:
    """Run a worker alone; any number of them may share a database."""
    with _database(slots) as (settings, url):
        db.migrate(url)
        asyncio.run(_run(settings, url, serve=False, work=True))


@cli.command()
@click.option(
    "--export", is_flag=True, help="export the default source, with a progress bar"
)
@click.option("--once", is_flag=True, help="end after that export")
def up(export: bool, once: bool) -> None:
    """Do everything: PostgreSQL, schema, seeds, API and worker."""
    with _database() as (settings, url):
        say(f"PostgreSQL is ready: psql {_quoted(url)}")
        db.migrate(url)
        _seed(settings, url)
        asyncio.run(
            _run(settings, url, serve=True, work=True, export=export or once, once=once)
        )


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", help="the export  [default: as the file is named]")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True)
@click.option(
    "--receipt",
    type=click.File("rb"),
    help="the export's JSON, instead of asking a server",
)
def verify(file: Path, id: str | None, url: str, receipt: BinaryIO | None) -> None:
    """Check a downloaded FILE against the receipt of its export."""
    told = receipt.read() if receipt else asyncio.run(_receipt(url, id or file.name))
    try:
        differs = differences(file, Export.model_validate_json(told))
    except ValidationError as error:
        raise click.ClickException(f"that is no receipt: {error}") from error
    for line in differs:
        print(line)
    if differs:
        raise click.ClickException(f"{file} is not what was exported")
    print(f"{file} is what was exported")


async def _receipt(url: str, name: str) -> bytes:
    id = name[:36]
    try:
        async with aiohttp.ClientSession(url) as http:
            async with http.get(f"/exports/{id}") as answer:
                if answer.status == 404:
                    raise click.ClickException(
                        f"{url} knows no export {id}; name it by --id"
                    )
                answer.raise_for_status()
                return await answer.read()
    except aiohttp.ClientError as error:
        raise click.ClickException(f"{url} cannot be asked: {error}") from error


async def _run(
    settings: config.Settings,
    database_url: str,
    *,
    serve: bool,
    work: bool,
    export: bool = False,
    once: bool = False,
) -> None:
    stopped = asyncio.create_task(process.until_stopped())
    async with process.running(settings, database_url, serve=serve, work=work) as url:
        say(
            f"serving on {url}"
            if serve
            else f"working, metrics on {url}" if url else "working"
        )
        if export:
            exported = asyncio.create_task(_export(settings, url))
            await asyncio.wait({exported, stopped}, return_when="FIRST_COMPLETED")
            if exported.done():
                await exported
            else:
                exported.cancel()
        if not once:
            await stopped


async def _export(settings: config.Settings, url: str) -> None:
    """Export the default source through the API, as any client would."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        DownloadColumn(),
        TextColumn("{task.fields[speed]:.1f} MB/s ETA {task.fields[eta]}"),
        console=console,
    )
    async with aiohttp.ClientSession(url, raise_for_status=True) as http:
        began = time.monotonic()
        async with http.post("/exports") as answer:
            export = await answer.json()
        with progress:
            task = progress.add_task(
                export["source"], total=None, rows=0, speed=0, eta="-"
            )
            while export["status"] in ("pending", "processing"):
                await asyncio.sleep(LOOK_EVERY)
                async with http.get(f"/exports/{export['jobId']}") as answer:
                    export = await answer.json()
                done, share = export["bytes"], export["progress"]
                total = done * 100 / share if share else None
                seconds = max(time.monotonic() - began, 0.001)
                progress.update(
                    task,
                    completed=done,
                    total=total,
                    rows=export["rows"],
                    speed=done / seconds / 1e6,
                    eta=f"{export['etaSeconds'] or 0} s",
                )
    if export["status"] != "completed":
        raise click.ClickException(f"the export {export['status']}: {export['error']}")
    path = settings.exports_dir / f"{export['jobId']}-{export['attempt']}.csv"
    print(f"file    {path}")
    print(f"rows    {export['rows']:,}")
    print(f"bytes   {export['bytes']:,}")
    print(f"speed   {export['bytes'] / seconds / 1e6:.1f} MB/s ({seconds:.2f} s)")
    print(f"sha256  {export['sha256']}", flush=True)


@contextmanager
def _database(slots: int | None = None) -> Iterator[tuple[config.Settings, str]]:
    """Yield the settings and a database: the one they name, or the embedded one."""
    try:
        settings = config.load()
        _log(settings.log_format)
        if slots:
            settings = settings.model_copy(update={"worker_slots": slots})
        if settings.database_url:
            yield settings, settings.database_url
        else:
            with embedded.Postgres(settings.embedded_dir) as url:
                yield settings, url
    except (
        config.InvalidSettings,
        db.DatabaseError,
        embedded.EmbeddedError,
        process.StartError,
    ) as error:
        raise click.ClickException(str(error)) from error
    except psycopg.OperationalError as error:
        raise click.ClickException(f"the database cannot be used: {error}") from error


def _seed(settings: config.Settings, url: str) -> None:
    began = time.monotonic()
    db.migrate(url)
    db.seed(url, settings.seed_rows)
    say(f"{settings.seed_rows:,} users are there ({time.monotonic() - began:.1f} s)")


def _quoted(conninfo: str) -> str:
    return '"' + conninfo.replace('"', '\\"') + '"'


def say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _log(how: str) -> None:
    handler = logging.StreamHandler()
    if how == "json":
        handler.setFormatter(
            JsonFormatter("{asctime}{levelname}{name}{message}", style="{")
        )
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
