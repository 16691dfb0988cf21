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


@dataclass(frozen=True)
class Type:
    """What the forms of a file have to know of a column's type."""

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


class Column(BaseModel):
    """A column of the result, with its type as SQL writes it."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    known: Type | None = Field(default=None, exclude=True)


class Format(BaseModel):
    """What a file looks like; see the columns of the same names in `exports`."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    format: Literal["csv", "tsv", "jsonl"] = "csv"
    compression: Literal["none", "gzip", "zstd"] = "none"
    encoding: str = "UTF8"
    delimiter: str | None = ","
    header: bool | None = True
    null_text: str | None = ""
    quote_all: bool | None = False
    force_quote: list[str] | None = None
    line_ending: Literal["lf", "crlf"] = "lf"
    bom: bool | None = False
    formula_guard: bool | None = False
    decimal_comma: bool | None = False
    line_break_text: str | None = None
    digits_as_text: bool | None = False
    time_zone: str = "UTC"


class Status(StrEnum):
    PENDING = "pending"  # waiting for a worker
    PROCESSING = "processing"  # pending -> processing
    COMPLETED = "completed"  # processing -> completed
    FAILED = "failed"  # processing -> failed
    CANCELLED = "cancelled"  # pending, processing -> cancelled


class ExportError(BaseModel):
    """Why an attempt went wrong, in PostgreSQL's words where they are its."""

    message: str
    sqlstate: str | None = None
    hint: str | None = None
    detail: str | None = None


class Attempt(BaseModel):
    """How an attempt ended: completed, failed, cancelled, released, or lost."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime
    outcome: str
    error: ExportError | None = None


class Export(Format):
    """A row of `live_exports`; its JSON is what every client sees."""

    id: UUID = Field(alias="jobId")
    status: Status
    progress: int
    rows: int
    bytes: int
    estimated_rows: int
    rows_per_second: int | None = None
    eta_seconds: int | None = None
    place: int | None = None
    source: str | None
    columns: list[str] | None
    filters: list[dict[str, Any]] | None
    order_by: list[str] | None
    row_limit: int | None = Field(alias="limit")
    query: str | None
    search_path: str | None
    relations: dict[str, str] | None = Field(default=None, exclude=True)
    profile: str | None
    file_name: str | None = Field(alias="filename")
    sql_text: str = Field(alias="select")
    sha256: str | None
    result_columns: list[Column] | None
    snapshot_at: datetime | None
    file_path: str | None = Field(default=None, exclude=True)
    error: ExportError | None
    history: list[Attempt]
    priority: int
    attempt: int
    max_attempts: int
    requested_by: str
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    expired: bool = Field(default=False, exclude=True)  # by the database's clock

    @property
    def ended(self) -> bool:
        return self.status not in (Status.PENDING, Status.PROCESSING)

    @field_validator(
        "error", "history", "result_columns", "filters", "relations", mode="wrap"
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


class SourceColumn(BaseModel):
    name: str
    type: str
    nullable: bool
    comment: str | None


class Source(BaseModel):
    """A relation that can be exported; rows and bytes are the planner's estimates."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    source: str
    kind: str
    comment: str | None
    estimated_rows: int
    bytes: int
    columns: list[SourceColumn]
