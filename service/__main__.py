"""The command line."""

import asyncio
import time
from typing import Any

import click
from click.shell_completion import get_completion_class
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from yarl import URL

from . import __version__, app, config
from .client import commands, credentials, live, output
from .client.http import Client
from .environment import database, say
from .keys import keys
from .postgres import schema
from .readers import readers
from .requesters import requesters


class Sections(click.Group):
    """Help lists the commands in sections: clients, the service, and the shell."""

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        asking = {str(command.name): command for command in commands.COMMANDS}
        shell = {"completion": self.commands["completion"]}
        running = {n: c for n, c in self.commands.items() if n not in asking | shell}
        for heading, section in (
            ("Use a running service (--url or CSV_EXPORT_URL)", asking),
            (
                "Run the service (settings: environment variables; see docs/reference/settings.md)",
                running,
            ),
            ("Shell", shell),
        ):
            with formatter.section(heading):
                formatter.write_dl(
                    [(n, c.get_short_help_str(64)) for n, c in section.items()]
                )


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="csv-export")
def cli() -> None:
    """Export PostgreSQL data as large CSV files, in the background."""


for command in commands.COMMANDS:
    cli.add_command(command)


@cli.command()
def migrate() -> None:
    """Install or update the schema and the two roles."""
    with database() as (settings, url):
        say("schema installed" if _migrate(settings, url) else "schema is up to date")


@cli.command()
def seed() -> None:
    """Fill the demo table users up to SEED_ROWS rows."""
    with database() as (settings, url):
        _migrate(settings, url)
        _seed(settings, url)


@cli.command()
@click.option(
    "--slots", type=click.IntRange(0, 64), help="exports at a time; 0 runs only the API"
)
def serve(slots: int | None) -> None:
    """Run the API and a worker in one process."""
    with database(slots) as (settings, url):
        _migrate(settings, url)
        asyncio.run(_run(settings, url, serve=True, work=slots != 0))


@cli.command()
@click.option("--slots", type=click.IntRange(1, 64), help="exports at a time")
def worker(slots: int | None) -> None:
    """Run only a worker; any number of workers may share a database."""
    with database(slots) as (settings, url):
        _migrate(settings, url)
        asyncio.run(_run(settings, url, serve=False, work=True))


@cli.command()
@click.option(
    "--export", is_flag=True, help="export the default source, with a progress bar"
)
@click.option("--once", is_flag=True, help="export as --export does, then exit")
def up(export: bool, once: bool) -> None:
    """Start everything: PostgreSQL, schema, demo data, API and worker."""
    with database() as (settings, url):
        say(f"PostgreSQL is ready: psql {_quoted(_without_password(url))}")
        _migrate(settings, url)
        _seed(settings, url)
        asyncio.run(
            _run(settings, url, serve=True, work=True, export=export or once, once=once)
        )


async def _run(
    settings: config.Settings,
    database_url: str,
    *,
    serve: bool,
    work: bool,
    export: bool = False,
    once: bool = False,
) -> None:
    stopped = asyncio.create_task(app.until_stopped())
    async with app.running(settings, database_url, serve=serve, work=work) as url:
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
    """Export the default source through the API, like any client."""
    with commands.failing(), live.Bar() as bar:
        async with Client(URL(url), credentials.find(URL(url))) as client:
            export = await commands.follow(client, await client.submit({}), bar)
    commands.raise_unless_completed(export)
    path = settings.exports_dir / f"{export.id}-{export.attempt}.csv"
    output.put_result(export, str(path))


for group in (keys, readers, requesters):
    cli.add_command(group)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes these commands in SHELL.

    For bash, put this into ~/.bashrc: eval "$(csv-export completion bash)"
    """
    made = get_completion_class(shell)
    assert made
    click.echo(made(cli, {}, "csv-export", "_CSV_EXPORT_COMPLETE").source())


def _migrate(settings: config.Settings, url: str) -> bool:
    own_reader = settings.source_database_url is not None
    return schema.migrate(url, reader_login=not own_reader)


def _seed(settings: config.Settings, url: str) -> None:
    began = time.monotonic()
    schema.seed(url, settings.seed_rows)
    seconds = time.monotonic() - began
    say(f"demo data is ready: {settings.seed_rows:,} users ({seconds:.1f} s)")


def _without_password(conninfo: str) -> str:
    params: dict[str, Any] = conninfo_to_dict(conninfo)
    return make_conninfo(**params | {"password": None})


def _quoted(conninfo: str) -> str:
    return '"' + conninfo.replace('"', '\\"') + '"'


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
