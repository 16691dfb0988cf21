"""The settings and the database that the environment names, for commands."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import psycopg
from psycopg import errors
from psycopg.rows import dict_row

from . import app, config, logs
from .client import live
from .postgres import embedded
from .postgres.connections import DatabaseError, primary

log = logging.getLogger(__package__)

PATIENCE = "10s"  # to wait for a lock


@contextmanager
def database(slots: int | None = None) -> Iterator[tuple[config.Settings, str]]:
    """Yield the settings and a conninfo: DATABASE_URL, or that of the embedded server."""
    try:
        logs.start(os.environ.get("LOG_FORMAT", "text").lower())
        settings = config.load()
        if slots:
            settings = settings.model_copy(update={"worker_slots": slots})
        if settings.database_url:
            yield settings, settings.database_url
        else:
            with embedded.Postgres(settings.embedded_dir) as url:
                yield settings, url
    except (
        config.InvalidSettings,
        DatabaseError,
        embedded.EmbeddedError,
        app.StartError,
    ) as error:
        raise failure(str(error)) from error
    except psycopg.OperationalError as error:
        raise failure(f"the database cannot be used: {error}") from error


def ask(statement: Any, *parameters: object) -> list[dict[str, Any]]:
    """Return the rows of *statement*; end the command if PostgreSQL refuses it."""
    with database() as (_, url), refusing():
        with psycopg.connect(primary(url), row_factory=dict_row) as conn:
            conn.execute("set search_path to public")
            conn.execute("select set_config('lock_timeout', %s, false)", [PATIENCE])
            return conn.execute(statement, parameters or None).fetchall()


@contextmanager
def refusing() -> Iterator[None]:
    """End the command, with PostgreSQL's own words, if it refuses what the block asks."""
    try:
        yield
    except errors.CheckViolation as error:
        name = (error.diag.constraint_name or "").replace("_", " ")
        raise failure(f"{name or error}") from error
    except (errors.UndefinedTable, errors.UndefinedFunction) as error:
        raise failure(
            "the schema is missing or too old; run 'csv-export migrate'"
        ) from error
    except psycopg.OperationalError:
        raise  # `database` says what it is
    except psycopg.DatabaseError as error:
        told, hint = error.diag.message_primary, error.diag.message_hint
        raise failure(f"{told or error}{f' (hint: {hint})' if hint else ''}") from error


def say(text: str) -> None:
    """Write *text* to the terminal, or to the log if that is in JSON."""
    if logs.are_json():
        log.info(text)
    else:
        live.say(text)


def failure(text: str) -> Exception | SystemExit:
    """Return an exception that ends the process with *text* and exit code 1."""
    if not logs.are_json():
        return click.ClickException(text)
    log.critical(text)
    return SystemExit(1)
