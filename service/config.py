"""Settings, read once from the environment and frozen."""

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

POLLING_ALONE = "none"  # as LISTEN_DATABASE_URL
Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]


class InvalidSettings(Exception):
    """The environment makes no sense; the text says which variable and why."""


class Settings(BaseSettings):
    """What an operator may choose.

    Each field is the environment variable of the same name in capitals; an
    empty variable counts as unset.  Durations are seconds.  The texts below are
    the documentation: docs/reference/settings.md is made from them.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, use_attribute_docstrings=True
    )

    database_url: str | None = None
    """Where the queue is, as `postgresql://…` or `host=… dbname=…`; several hosts are
    possible. Default: the embedded PostgreSQL."""

    source_database_url: str | None = None
    """Where the data is, if elsewhere, perhaps on a replica. Exports run as the user
    named here: name `csv_reader`, or a role that may do no more. Default:
    `DATABASE_URL`, as `csv_reader`."""

    listen_database_url: str | None = None
    """For `LISTEN`, which does not work through transaction poolers: the server
    itself. `none`: only poll. Default: `DATABASE_URL`."""

    embedded_dir: Path = Path(".postgres")
    """Data of the embedded PostgreSQL."""

    host: str = "127.0.0.1"
    """Address on which the API listens."""

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] | None = None
    """Names, separated by commas, by which browsers and programs may call the API,
    besides `localhost` and the like; `*`: any. Behind a proxy that passes `Host` on:
    the public name. Default: no others if `HOST` is a loopback address, else any."""

    auth: Literal["none", "keys", "proxy"] | None = None
    """Who may ask: `none`: whoever reaches the port; `keys`: who shows a key of
    `csv-export keys create`; `proxy`: also whom a proxy names in `AUTH_HEADER`.
    Default: `none` if `HOST` is a loopback address; else the service does not start."""

    auth_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "X-Forwarded-User"
    """With `AUTH=proxy`: the header in which the proxy names the requester. The proxy
    must remove it from what clients send."""

    auth_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """With `AUTH=proxy`: addresses and networks of the proxies, separated by commas.
    Default: none, and then `AUTH=proxy` does not start."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """Port on which the API listens; `0`: any free one."""

    metrics_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Port on which a worker without an API serves `/health` and `/metrics`. Default:
    none."""

    log_format: Literal["text", "json"] = "text"
    """`text`, or `json`: each line is an object, with the id of the export."""

    exports_dir: Path = Path("exports")
    """Directory of finished files. All workers and the API must share it."""

    worker_slots: Annotated[int, Field(ge=1, le=64)] = 2
    """How many exports one process runs at a time."""

    lanes: Annotated[int, Field(ge=1, le=64)] = max(
        1, min(8, (os.cpu_count() or 1) // 2)
    )
    """How many processes copy one large table together; `1`: none. Default: half of
    the cores, at most 8."""

    poll_interval: Seconds = 5
    """Seconds between looks for work while nothing is announced."""

    lease: Annotated[float, Field(ge=1, le=86_400)] = 30
    """Seconds without a heartbeat after which a worker counts as lost, and its export
    is run again."""

    heartbeat: Annotated[float, Field(gt=0, le=3_600)] = 2
    """Seconds between heartbeats; at most half of `LEASE`."""

    retention: Annotated[float, Field(ge=0, le=86_400 * 36_500)] = 7 * 86_400
    """Seconds for which a finished file is kept; `0`: without limit."""

    history: Annotated[float, Field(ge=0, le=86_400 * 36_500)] = 90 * 86_400
    """Seconds for which an export that has ended is remembered; `0`: without limit. No
    export is forgotten before its file is deleted."""

    activity_retention: Annotated[float, Field(ge=0, le=86_400 * 36_500)] = 90 * 86_400
    """Seconds for which the log of activities is kept; `0`: without limit."""

    min_free_disk: ByteSize = ByteSize(512 * 1024 * 1024)
    """Bytes, or `512MiB`: with less free space no export is claimed."""

    max_export_duration: Seconds | None = None
    """Seconds after which a running export fails. Default: no limit."""

    max_export_bytes: Annotated[ByteSize, Field(gt=0)] | None = None
    """Bytes, or `10GB`: an export whose file grows larger fails. Default: no limit."""

    max_query_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(1024 * 1024)
    """Bytes of a query sent over HTTP; a longer one is refused. An `INSERT` has no
    such limit."""

    submit_timeout: Annotated[float, Field(gt=0, le=3600)] = 10
    """Seconds that PostgreSQL may take to plan a query before it is refused."""

    max_pending: Annotated[int, Field(gt=0)] | None = None
    """How many exports may wait; more are refused over HTTP. Default: what the
    database says (`exports.max_pending`), else no limit."""

    drain_timeout: Annotated[float, Field(ge=0, le=86_400)] = 30
    """Seconds that running exports may take to finish after SIGTERM or Ctrl-C."""

    default_source: Annotated[str, Field(min_length=1)] = "users"
    """The relation that is exported if a request names nothing."""

    seed_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    """How many users `seed` creates."""

    @field_validator("allowed_hosts", "auth_proxies", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        if isinstance(given, str):
            return tuple(
                name.strip().lower() for name in given.split(",") if name.strip()
            )
        return given

    def model_post_init(self, _context: object) -> None:
        for name in ("database_url", "source_database_url", "listen_database_url"):
            conninfo = getattr(self, name)
            if conninfo and (name, conninfo) != ("listen_database_url", POLLING_ALONE):
                try:
                    conninfo_to_dict(conninfo)
                except ProgrammingError:
                    # Without the value: it may hold a password.
                    raise InvalidSettings(
                        f"{name.upper()}: neither postgresql://user@host/database nor "
                        "host=… dbname=…"
                    ) from None
        if self.auth == "proxy" and not self.auth_proxies:
            raise InvalidSettings("AUTH_PROXIES: AUTH=proxy needs the proxy's address")
        if self.heartbeat * 2 > self.lease:
            raise InvalidSettings(
                f"HEARTBEAT: {self.heartbeat:g} s is too seldom for a LEASE of "
                f"{self.lease:g} s; make it half of that or less"
            )


def load() -> Settings:
    """Read the environment; raise `InvalidSettings` with one clear line."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        given = first["input"]
        raise InvalidSettings(f"{name}: {first['msg']} (it is {given!r})") from None
