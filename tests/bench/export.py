"""The pump against other ways to a CSV file, in alternating runs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import click

from .common import (
    Server,
    Spread,
    Table,
    Usage,
    alternate,
    make_table,
    measure,
    options,
    report,
    run_server,
)
from .ways import NODE_WAY, REFERENCE, WAYS, Export, Way, install_node

HEADINGS = (
    "way",
    "wall s",
    "client CPU s",
    "server CPU s",
    "wall / psql",
    "client CPU / psql",
)


@click.command()
@click.option(
    "--rows",
    "sizes",
    multiple=True,
    default=[1_000_000],
    show_default=True,
    help="may be given several times",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["narrow", "wide"]),
    default=["narrow", "wide"],
    show_default=True,
)
@click.option(
    "--way",
    "names",
    multiple=True,
    type=click.Choice(list(WAYS)),
    help="beside psql  [default: all]",
)
@click.option(
    "--runs", default=5, show_default=True, help="of each way, after one warm-up"
)
@click.option("--at-once", default=1, show_default=True, help="exports of each run")
@options
def main(
    sizes: tuple[int, ...],
    kinds: tuple[str, ...],
    names: tuple[str, ...],
    runs: int,
    at_once: int,
    version: int | None,
    to: Path | None,
) -> None:
    """Compare the pump with psql and others, in wall and CPU seconds.

    The warm-up checks that all wrote the same file: byte for byte, or, where
    another library quotes, value for value.
    """
    chosen = {
        name: way
        for name, way in WAYS.items()
        if not names or name in names or name == REFERENCE
    }
    tables = []
    with run_server(version) as server:
        if NODE_WAY in chosen and not install_node(server):
            click.echo("Node is not installed: its way is left out", err=True)
            del chosen[NODE_WAY]
        for kind in kinds:
            for rows in sizes:
                tables.append(compare(server, kind, rows, chosen, runs, at_once))
        report("export", tables, to, server)


def compare(
    server: Server, kind: str, rows: int, ways: dict[str, Way], runs: int, at_once: int
) -> Table:
    """Return the figures of all *ways* to export a table of *rows* rows, *at_once*."""
    conninfo = server.database(f"{kind}_{rows}", migrate=False)
    make_table(conninfo, kind, rows)
    folder = server.folder / "files"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)  # the server writes there as well, as another user
    reference = Export(server, conninfo, "select * from bench", folder / "reference")
    WAYS[REFERENCE].run(reference)
    size = reference.path.stat().st_size
    usages = alternate(
        {name: runner(way, reference, at_once) for name, way in ways.items()}, runs
    )
    reference.path.unlink()
    table = Table(
        f"{kind}, {rows:,} rows, {size / 1e6:,.0f} MB, {at_once} at once,"
        f" {runs} runs of each",
        HEADINGS,
        plot="wall s",
    )
    psql_wall, psql_client, _ = spreads(usages[REFERENCE])
    for name, way in ways.items():
        wall, client, backend = spreads(usages[name])
        ratios = wall.median / psql_wall.median, client.median / psql_client.median
        table.add(name, wall, client, backend, *ratios, ours=way.ours)
    return table


def runner(way: Way, reference: Export, at_once: int) -> Callable[[], Usage]:
    """Return what measures *way*; it checks the files of its first run, the warm-up."""
    unchecked = way.same
    exports = [
        replace(reference, path=reference.path.with_name(f"file{n}.csv"))
        for n in range(at_once)
    ]

    def run() -> Usage:
        nonlocal unchecked
        with ThreadPoolExecutor(at_once) as threads:
            usage = measure(
                lambda: list(threads.map(way.run, exports)), reference.server
            )
        for export in exports:
            if unchecked and not unchecked(export.path, reference.path):
                raise click.ClickException(f"{way.run.__name__} wrote another file")
            export.path.unlink(missing_ok=True)
        unchecked = None
        return usage

    return run


def spreads(usages: list[Usage]) -> tuple[Spread, Spread, Spread]:
    return (
        Spread.of([usage.wall for usage in usages]),
        Spread.of([usage.client for usage in usages]),
        Spread.of([usage.server for usage in usages]),
    )
