"""The commands for readers, the roles that run exports, over the database."""

import click

from .client import live
from .client.output import put_table
from .environment import ask, database, failure, refusing
from .postgres import schema
from .postgres.reader import Readers


@click.group()
def readers() -> None:
    """Make and end readers: the database roles that run exports.

    Each requester has one, csv_reader unless 'csv-export requesters set' gives them
    another. Their exports read what it may read, and nothing else.
    """


@readers.command()
@click.argument("name")
def add(name: str) -> None:
    """Let exports run as the role NAME, which is made if it does not exist.

    An existing role needs no right to create roles, but the service must be a member
    of it. If the server asks for passwords, and the role has none, it gets one.
    """
    with database() as (settings, url):
        with refusing():
            schema.add_reader(url, name)
        Readers(settings, url).of(name).connect()
    live.say(f"exports can run as {name}; give it rights by GRANT")


@readers.command("list")
def list_readers() -> None:
    """List the readers: whose, and how many relations they may read."""
    heads = ("READER", "RELATIONS", "REQUESTERS")
    put_table(
        {head: {} for head in heads},
        [
            [
                reader["name"],
                "no such role" if reader["found"] is None else str(reader["found"]),
                reader["requesters"] or "",
            ]
            for reader in ask(
                "select name, case when to_regrole(quote_ident(name)) is not null then"
                " (select count(*) from sources_of(name)) end as found, ("
                "     select string_agg(of.name, ', ' order by of.name)"
                "     from requesters as of where of.reader = readers.name"
                " ) as requesters from readers order by name"
            )
        ],
    )


@readers.command()
@click.argument("name")
def remove(name: str) -> None:
    """Let no export run as NAME any more; the role is kept.

    Its requesters must have another one, and its exports must have ended.
    """
    if not ask("select remove_reader(%s) as removed", name)[0]["removed"]:
        raise failure(f"there is no reader {name}; see 'csv-export readers list'")
    live.say(f"{name} is no reader any more; the role is kept")
