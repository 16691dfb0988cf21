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


LIMITS = {
    name: click.option(
        f"--{name.replace('_', '-')}", type=click.IntRange(least), help=help
    )
    for name, least, help in (
        ("weight", 1, "their share of the workers, compared with others"),
        ("max_running", 0, "exports that run at once; 0 pauses all of theirs"),
        ("max_pending", 0, "exports that wait"),
        ("max_priority", 0, "the highest priority"),
        ("max_rows", 0, "rows of a file"),
        ("max_bytes", 0, "bytes of a file"),
        ("max_bytes_a_day", 0, "bytes of all files made on a day of UTC"),
        ("max_seconds", 1, "seconds of an attempt"),
        ("max_previews_a_minute", 0, "previews a minute, in each process"),
        ("max_requests_a_minute", 1, "requests a minute, in each process"),
    )
}
OPTIONS |= LIMITS


def options(command: Any) -> Any:
    for option in reversed(OPTIONS.values()):
        command = option(command)
    return command


@click.group()
def requesters() -> None:
    """Say what requesters may have: rights, settings, and limits."""


@requesters.command("list")
def list_requesters() -> None:
    """List the requesters, and what they have."""
    heads = ("REQUESTER", "READER", "SETTINGS", "LIMITS")
    put_table(
        {head: {} for head in heads},
        [
            [one["name"], one["reader"] or "", _settings(one), _limits(one)]
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

    It holds for what they submit from now on. --max-running, and what is counted by the
    day or the minute, holds at once.
    """
    given["settings"] = dict(given["settings"]) or None
    changes = {name: value for name, value in given.items() if value is not None}
    changes |= dict.fromkeys(reset)
    [row] = ask("select * from set_requester(%s, %s)", name, Jsonb(changes))
    told = (
        f"reader {row['reader']}" if row["reader"] else "",
        f"settings {_settings(row)}" if row["settings"] else "",
        _limits(row),
    )
    live.say(f"{name}: {', '.join(filter(None, told)) or 'nothing of their own'}")


def _limits(requester: dict[str, Any]) -> str:
    """Return the limits that are not the default, as text."""
    return ", ".join(
        f"{name.replace('_', '-')} {requester[name]}"
        for name in LIMITS
        if requester[name] is not None and (name, requester[name]) != ("weight", 1)
    )


def _settings(requester: dict[str, Any]) -> str:
    return ", ".join(f"{name}={text}" for name, text in requester["settings"].items())
