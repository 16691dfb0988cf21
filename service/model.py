"""The nouns that everybody shares: an export, its format, its receipt.

Reading a row never refuses it: whatever the table admits can be shown.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.alias_generators import to_camel

PRIORITIES = 10  # 0 to 9, the highest first


class Described(BaseModel):
    """A model whose members are described below each: for clients, and for docs/."""

    model_config = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True)
class Type:
    """What has to be known of a column's type to write its values."""

    name: str  # as SQL writes it, with its modifier
    category: str  # pg_type.typcategory
    is_plain: bool = False  # a cast to text gives what COPY writes
    is_decimal: bool = False  # written with a decimal point
    has_json: bool = False  # is, or may contain, json: the text of somebody else
    has_json_cast: bool = False  # of its own, which may refuse values

    @property
    def is_text(self) -> bool:
        """May a value be any text?  Strings, enums, XML, "char", and unknown types."""
        return self.category in "SEUXZ"

    @property
    def has_text(self) -> bool:
        """Is it a text, or may it contain some: an array, a row, a range?"""
        return self.is_text or self.category in "ACPR"

    @property
    def has_digits(self) -> bool:
        """May a value be nothing but digits?"""
        return self.is_text or self.category in "NV"


class Column(Described):
    """A column of the result, with its type as SQL writes it."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The name of the column."""

    type: str
    """Its type, as SQL writes it."""

    known: Type | None = Field(default=None, exclude=True)


class Format(Described):
    """What a file looks like; see the columns of the same names in `exports`."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    format: Literal["csv", "tsv", "jsonl"] = "csv"
    """`csv`, `tsv`, or `jsonl` (JSON Lines: one object a line)."""

    compression: Literal["none", "gzip", "zstd"] = "none"
    """`none`, `gzip` or `zstd`."""

    encoding: str = "UTF8"
    """The encoding of the file, by PostgreSQL's name."""

    delimiter: str | None = ","
    """The character between fields; null for JSON Lines, as are the other options of
    CSV."""

    header: bool | None = True
    """Does the file begin with the names of the columns?"""

    null_text: str | None = ""
    """The text that stands for NULL."""

    quote_all: bool | None = False
    """Is every value quoted, NULL excepted?"""

    force_quote: list[str] | None = None
    """Columns whose values are always quoted, NULL excepted."""

    line_ending: Literal["lf", "crlf"] = "lf"
    """`lf` or `crlf`."""

    bom: bool | None = False
    """Does the file begin with a byte order mark?"""

    formula_guard: bool | None = False
    """Is an apostrophe put before what a spreadsheet would take for a formula?"""

    decimal_comma: bool | None = False
    """Are decimal numbers written with a comma?"""

    line_break_text: str | None = None
    """What replaces line breaks within values; null: they are kept."""

    digits_as_text: bool | None = False
    """Are numbers that a spreadsheet would shorten written as `="00123"`?"""

    time_zone: str = "UTC"
    """The time zone of the values."""


@dataclass(frozen=True)
class Key:
    """What a requester has shown: who asks, and what they may do."""

    id: str
    requester: str
    scopes: frozenset[str]  # read, export, download, admin
    seconds_left: float | None  # until it expires; None: it does not
    reader: str = "csv_reader"  # the role that reads for the requester


@dataclass(frozen=True)
class Who:
    """Who asks for something, and from where; it is written into the log of activities.

    *requester* is None if nobody was asked, and empty for a stranger; *key* is the id
    of the key that was shown.
    """

    requester: str | None = None
    key: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class Link:
    """A link that downloads the file of *export*."""

    id: str
    export: UUID


class Status(StrEnum):
    PENDING = "pending"  # waiting for a worker
    PROCESSING = "processing"  # pending -> processing
    COMPLETED = "completed"  # processing -> completed
    FAILED = "failed"  # processing -> failed
    CANCELLED = "cancelled"  # pending, processing -> cancelled


class ExportError(Described):
    """Why an attempt failed: PostgreSQL's message, if the error is PostgreSQL's."""

    message: str
    """The reason: PostgreSQL's message, if the error is PostgreSQL's."""

    sqlstate: str | None = None
    """PostgreSQL's error code."""

    hint: str | None = None
    """A suggestion."""

    detail: str | None = None
    """PostgreSQL's detail."""


class Attempt(Described):
    """How an attempt ended: completed, failed, cancelled, released, or lost."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    attempt: int
    """The number of the attempt, from 1."""

    worker: str
    """Host and process that ran it."""

    started_at: datetime
    """When it was claimed."""

    ended_at: datetime
    """When it ended."""

    outcome: str
    """`completed`, `failed`, `cancelled`, `released` (its worker shut down) or `lost`
    (its lease ran out)."""

    error: ExportError | None = None
    """Why it failed."""


class Export(Format):
    """A row of `live_exports`; its JSON is what every client sees."""

    id: UUID = Field(alias="jobId")
    """The id of the export."""

    status: Status
    """`pending`, `processing`, `completed`, `failed` or `cancelled`."""

    progress: int
    """Percent done, from 0 to 100, by the estimate of rows; 100 only when completed."""

    rows: int
    """Rows written so far, or in all."""

    bytes: int
    """Bytes written so far (before compression); of a completed export, bytes of the
    file."""

    estimated_rows: int
    """How many rows PostgreSQL expects."""

    rows_per_second: int | None = None
    """Mean speed of the running attempt."""

    eta_seconds: int | None = None
    """Seconds until it is expected to end."""

    waits_for: str | None = None
    """What it waits for while pending: its `time`, a `worker`, or the end of others of
    its requester (`limit`)."""

    place: int | None = None
    """Place in the queue while it waits for a worker, from 1; of the first hundred."""

    source: str | None
    """The relation that is exported; null for a query."""

    columns: list[str] | None
    """The columns that were asked for; null: all."""

    filters: list[dict[str, Any]] | None
    """The conditions that were asked for."""

    order_by: list[str] | None
    """The order that was asked for."""

    row_limit: int | None = Field(alias="limit")
    """The most rows that were asked for."""

    query: str | None
    """The query that was given in place of a relation."""

    search_path: str | None
    """The schemas in which its names are looked up."""

    relations: dict[str, str] | None = Field(default=None, exclude=True)
    profile: str | None
    """The profile that was asked for."""

    file_name: str | None = Field(alias="filename")
    """The name that the download suggests, if one was asked for."""

    sql_text: str = Field(alias="select")
    """The SELECT that is run."""

    sha256: str | None
    """SHA-256 of the file, in hexadecimal, once completed."""

    result_columns: list[Column] | None
    """Names and types of the columns, once completed."""

    snapshot_at: datetime | None
    """The instant that the data is of, once completed."""

    file_path: str | None = Field(default=None, exclude=True)
    error: ExportError | None
    """Why it failed, or why the last attempt did."""

    history: list[Attempt]
    """How each attempt ended."""

    priority: int
    """0 to 9; higher ones are run first."""

    attempt: int
    """How many attempts have begun."""

    max_attempts: int
    """After how many failed attempts it fails for good."""

    turn: int | None = Field(default=None, exclude=True)
    max_rows: int | None = Field(default=None, exclude=True)
    max_bytes: int | None = Field(default=None, exclude=True)
    max_seconds: int | None = Field(default=None, exclude=True)
    requested_by: str
    """Who asked for it: the requester of the key, or the database role that inserted it."""

    reader: str = "csv_reader"
    """The database role that reads for them, with its rights."""

    settings: dict[str, str] | None = Field(default=None, exclude=True)
    run_at: datetime
    """It is not run before then."""

    created_at: datetime
    """When it was submitted."""

    started_at: datetime | None
    """When the last attempt began."""

    finished_at: datetime | None
    """When it ended."""

    expires_at: datetime | None
    """When its file may be deleted."""

    expired: bool = Field(default=False, exclude=True)  # by the database's clock

    @property
    def ended(self) -> bool:
        return self.status not in (Status.PENDING, Status.PROCESSING)

    @field_validator(
        "error",
        "history",
        "result_columns",
        "filters",
        "relations",
        "settings",
        mode="wrap",
    )
    @classmethod
    def _read_what_is_there(
        cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """Take what the table has, if somebody wrote it by hand: never refuse a row."""
        try:
            return read(value)
        except ValidationError:
            if info.field_name == "error":
                return ExportError(message=str(value))
            return [] if info.field_name == "history" else None


Action = Literal[
    "submitted", "started", "completed", "failed", "cancelled", "retried",
    "deleted", "forgotten", "downloaded",
    "key-made", "key-rotated", "key-revoked", "key-refused",
    "link-made", "link-revoked",
]  # fmt: skip


class Activity(Described):
    """Something that was done: a row of `activities`."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    at: datetime
    """When it was done."""

    id: int
    """Tells apart what was done at the same instant."""

    action: str
    """What was done."""

    requester: str | None
    """Whose export or key it is."""

    actor: str | None
    """Who did it: a requester, or a database role; null: a stranger, by a link or a wrong
    key."""

    key_id: str | None
    """The id of the key with which it was done."""

    address: str | None
    """The network address that it came from."""

    export: UUID | None
    """The `jobId` of the export, which may be deleted since."""

    bytes: int | None
    """Bytes that were written, or sent in a download."""

    detail: dict[str, Any] | None
    """More about it: what is exported, the attempt, rows, the key or the link. In a
    download that was broken off, `of`: the bytes that were to be sent."""


@dataclass(frozen=True)
class Limit:
    """The most of something, and what says so."""

    most: float
    name: str

    @classmethod
    def lowest(cls, *limits: tuple[float | None, str]) -> "Limit | None":
        """Return the lowest of the *limits*, of which None is no limit."""
        given = [cls(most, name) for most, name in limits if most is not None]
        return min(given, key=lambda limit: limit.most, default=None)


@dataclass(frozen=True)
class Receipt:
    """What a complete file is: its figures, its columns, and of which instant."""

    rows: int
    bytes: int
    sha256: str
    columns: list[Column]
    snapshot_at: datetime | None


@dataclass(frozen=True)
class Sliceable:
    """How to select a part of a relation: *head*, the relation, *tail*, a condition."""

    source: str
    head: str
    tail: str

    def select(self, relation: str, condition: str) -> str:
        return f"{self.head}{relation}{self.tail}{condition}"


@dataclass(frozen=True)
class Depth:
    """How many exports wait and run, and since when the first has been due."""

    pending: int
    processing: int
    oldest_seconds: float


class SourceColumn(Described):
    """A column of a relation that can be exported."""

    name: str
    """The name of the column."""

    type: str
    """Its type."""

    nullable: bool
    """May it be NULL?"""

    comment: str | None
    """Its comment in the database."""


class Source(Described):
    """A relation that can be exported; rows and bytes are the planner's estimates."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    source: str
    """The name to export it by."""

    kind: str
    """table, partitioned table, view, materialized view or foreign table."""

    comment: str | None
    """Its comment in the database."""

    estimated_rows: int
    """Rows, by the planner."""

    bytes: int
    """Size on disk, by the planner."""

    columns: list[SourceColumn]
    """Its columns that may be read."""
