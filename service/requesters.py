"""The commands for requesters, whom exports belong to, over the database."""

from typing import Any

import click
from psycopg.types.json import Jsonb

from .client import live
from .client.commands import read_by
from .client.output import put_table
from .environment import ask


def setting(text: str) -> tuple[str, str]:
    """Read `app.tenant=42`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not a setting; write app.tenant=42")
    return name, value


# What a requester can have: an option for each column of the table requesters.
OPTIONS = {
    "reader": click.option(
        "--reader",
        metavar="ROLE",
        help="the role that runs their exports; see 'csv-export readers'",
    ),
    "settings": click.option(
        "--setting",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        callback=read_by(setting),
        help="what their exports set before the SELECT, for row-level security; may be"
        " given several times, and replaces all that they had",
    ),
}


def options(command: Any) -> Any:
    for option in reversed(OPTIONS.values()):
        command = option(command)
    return command


@click.group()
def requesters() -> None:
    """Say whose rights and settings the exports of a requester have."""


@requesters.command("list")
def list_requesters() -> None:
    """List the requesters, and what they have."""
    heads = ("REQUESTER", *(name.upper() for name in OPTIONS))
    put_table(
        {head: {} for head in heads},
        [
            [one["name"], *(_shown(one[name]) for name in OPTIONS)]
            for one in ask("select * from requesters order by name")
        ],
    )


@requesters.command("set")
@click.argument("name")
@options
@click.option(
    "--reset",
    type=click.Choice(list(OPTIONS)),
    multiple=True,
    help="what gets its default back; may be given several times",
)
def change(name: str, reset: tuple[str, ...], **given: Any) -> None:
    """Change what the requester NAME has, who is made if new.

    It holds for what they submit from now on.
    """
    if given["settings"]:
        given["settings"] = dict(given["settings"])
    changes = {column: value for column, value in given.items() if value}
    changes |= dict.fromkeys(reset)
    [row] = ask("select * from set_requester(%s, %s)", name, Jsonb(changes))
    told = ", ".join(f"{column} {_shown(row[column]) or '-'}" for column in OPTIONS)
    live.say(f"{name}: {told}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items())
    return "" if value is None else str(value)
