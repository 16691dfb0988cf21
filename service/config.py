"""Settings, read once from the environment and frozen."""

import os
from pathlib import Path
from typing import Annotated, Literal

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

POLLING_ALONE = "none"  # as LISTEN_DATABASE_URL
Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]


class InvalidSettings(Exception):
    """The environment makes no sense; the text says which variable and why."""


class Settings(BaseSettings):
    """What an operator may choose.

    Each field is the environment variable of the same name in capitals; an
    empty variable counts as unset.  Durations are seconds.
    """

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    database_url: str | None = None
    source_database_url: str | None = None
    listen_database_url: str | None = None
    embedded_dir: Path = Path(".postgres")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    log_format: Literal["text", "json"] = "text"
    exports_dir: Path = Path("exports")
    worker_slots: Annotated[int, Field(ge=1, le=64)] = 2
    lanes: Annotated[int, Field(ge=1, le=64)] = max(
        1, min(8, (os.cpu_count() or 1) // 2)
    )
    poll_interval: Seconds = 5
    lease: Annotated[float, Field(ge=1, le=86_400)] = 30
    heartbeat: Annotated[float, Field(gt=0, le=3_600)] = 2
    retention: Annotated[float, Field(ge=0, le=86_400 * 36_500)] = 7 * 86_400
    history: Annotated[float, Field(ge=0, le=86_400 * 36_500)] = 90 * 86_400
    min_free_disk: ByteSize = ByteSize(512 * 1024 * 1024)
    max_export_duration: Seconds | None = None
    max_export_bytes: Annotated[ByteSize, Field(gt=0)] | None = None
    max_query_bytes: Annotated[ByteSize, Field(gt=0)] = ByteSize(1024 * 1024)
    submit_timeout: Annotated[float, Field(gt=0, le=3600)] = 10
    max_pending: Annotated[int, Field(gt=0)] | None = None
    drain_timeout: Annotated[float, Field(ge=0, le=86_400)] = 30
    default_source: Annotated[str, Field(min_length=1)] = "users"
    seed_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000

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
