"""The settings and the database that the environment names, for commands."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
import psycopg

from . import app, config, logs
from .client import live
from .postgres import embedded
from .postgres.connections import DatabaseError

log = logging.getLogger(__package__)


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
