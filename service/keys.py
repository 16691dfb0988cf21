"""The commands that make and end keys, over the database."""

from datetime import timedelta
from typing import Any

import click

from .client import live
from .client.commands import duration, read_by
from .client.output import put_table
from .environment import ask, failure

SCOPES = ("read", "export", "download", "admin")


@click.group()
def keys() -> None:
    """Make and end the keys that AUTH=keys asks for.

    They are kept in the database of the service, so its environment variables name
    that. Clients give a key to 'csv-export login', or in CSV_EXPORT_KEY.
    """


@keys.command()
@click.argument("requester")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=SCOPES[:3],
    show_default=True,
    help="what it allows; may be given several times; admin allows everything, for"
    " everybody's exports",
)
@click.option(
    "--expires",
    metavar="DURATION",
    callback=read_by(duration),
    help="such as 12h, 90d or 4w; otherwise it is accepted until it is revoked",
)
@click.option("--label", help="what the key is for")
def create(
    requester: str,
    scopes: tuple[str, ...],
    expires: timedelta | None,
    label: str | None,
) -> None:
    """Make a key of REQUESTER, who is made if new, and print it.

    REQUESTER is whom the exports belong to: a person, a team, a program. The key is
    shown this once.
    """
    made = ask(
        "select * from create_key(%s, %s, %s, %s)",
        requester,
        list(scopes),
        expires,
        label,
    )
    _show_made(made[0])


@keys.command("list")
def list_keys() -> None:
    """List all keys: whose, for what, and when they were used."""
    heads = ("ID", "REQUESTER", "SCOPES", "LABEL", "LAST USED", "STATE")
    put_table(
        {head: {} for head in heads},
        [
            [
                key["id"],
                key["requester"],
                ", ".join(key["scopes"]),
                key["label"] or "",
                live.when(key["last_used_at"]) or "never",
                _state(key),
            ]
            for key in ask(
                "select k.*, live.id is not null as accepted from requester_keys as k"
                " left join live_keys as live using (id)"
                " order by k.requester, k.created_at"
            )
        ],
    )


@keys.command()
@click.argument("id")
@click.option(
    "--overlap",
    metavar="DURATION",
    default="1d",
    show_default=True,
    callback=read_by(duration),
    help="for how long the former key is accepted too",
)
def rotate(id: str, overlap: timedelta) -> None:
    """Replace the key ID by a new one, and print that."""
    made = ask("select * from rotate_key(%s, %s)", id, overlap)[0]
    if made["id"] is None:
        raise _unknown(id)
    _show_made(made)


@keys.command()
@click.argument("id")
def revoke(id: str) -> None:
    """Accept the key ID no longer; what it opened is closed at once."""
    if not ask("select revoke_key(%s) as revoked", id)[0]["revoked"]:
        raise _unknown(id)
    live.say(f"key {id} is revoked")


def _unknown(id: str) -> Exception | SystemExit:
    return failure(
        f"there is no key {id} that is accepted and not replaced;"
        " see 'csv-export keys list'"
    )


def _show_made(made: dict[str, Any]) -> None:
    live.say(f"key {made['id']}; keep it, for it cannot be shown again:")
    click.echo(made["key"])


def _state(key: dict[str, Any]) -> str:
    expires = live.when(key["expires_at"])
    if key["accepted"]:
        return f"accepted until {expires}" if expires else "accepted"
    if key["revoked_at"]:
        return f"revoked {live.when(key['revoked_at'])}"
    return f"ended with {key['made_by']}" if key["made_by"] else f"expired {expires}"
