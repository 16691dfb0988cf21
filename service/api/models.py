"""What clients may send: validated here in form, and by PostgreSQL in substance.

A field that is not given is left to the defaults of the table `exports`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from ..model import Status

# PostgreSQL's text has no NUL.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Name = Annotated[
    str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=500)
]
IdempotencyKey = (
    Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=255)] | None
)
Value = Text | bool | int | Decimal


def _rfc_3339(given: object) -> object:
    written = isinstance(given, str) and given[4:5] == given[7:8] == "-"
    if not written:
        raise ValueError("an instant is written as 2026-01-31T12:00:00Z")
    return given


def _without_mark(given: object) -> object:
    return given.removeprefix("\ufeff") if isinstance(given, str) else given


# Some editors put a byte order mark before what they save.
Query = Annotated[Text, BeforeValidator(_without_mark)]
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc_3339)]


class _Sent(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )


class _Body(_Sent):
    model_config = ConfigDict(strict=True)  # JSON has types of its own


class Filter(_Body):
    """A condition on a column; all filters must hold.

    `in` and `notIn` take a list, `between` a list of two, `isNull` and `notNull`
    nothing.  A value is compared in its column's type.
    """

    column: Name
    op: Literal[
        "eq", "ne", "lt", "lte", "gt", "gte", "between", "in", "notIn",
        "like", "ilike", "isNull", "notNull",
    ]  # fmt: skip
    value: (
        Value | Annotated[list[Value], Field(min_length=1, max_length=10_000)] | None
    ) = None

    def shown(self) -> dict[str, Any]:
        """Return the filter as the table has it, with every digit of its numbers."""
        shown = self.model_dump(exclude_unset=True, exclude_none=True)
        match shown.get("value"):
            case list(values):
                shown["value"] = [_exact(value) for value in values]
            case Decimal() as value:
                shown["value"] = _exact(value)
        return shown


def _exact(value: object) -> object:
    """Return a decimal as the float that it is, or else as its text."""
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(repr(number)) == value else str(value)
    return value


class ExportRequest(_Body):
    """What to export: a relation and perhaps some of its rows, or a query.

    Nothing at all means the default source.
    """

    source: Name | None = Field(default=None, examples=["users"])
    columns: Annotated[list[Name], Field(min_length=1, max_length=2000)] | None = None
    filters: Annotated[list[Filter], Field(max_length=1000)] | None = None
    order_by: Annotated[list[Name], Field(max_length=2000)] | None = Field(
        default=None, examples=[["-signup_at", "id"]]
    )
    limit: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    query: Query | None = Field(default=None, examples=["select 1 as n"])
    search_path: Annotated[Name, Field(examples=["app, public"])] | None = None

    format: Literal["csv", "tsv", "jsonl"] | None = None
    compression: Literal["none", "gzip", "zstd"] | None = None
    profile: Literal["excel"] | None = None
    delimiter: (
        Annotated[str, Field(pattern=r'^[^\x00a-zA-Z0-9\r\n"\\.\x80-\U0010ffff]$')]
        | None
    ) = None
    header: bool | None = None
    null_text: (
        Annotated[str, Field(pattern=r'^[^\x00\r\n"]*$', max_length=100)] | None
    ) = None
    quote_all: bool | None = None
    force_quote: Annotated[list[Name], Field(min_length=1, max_length=2000)] | None = (
        None
    )
    line_ending: Literal["lf", "crlf"] | None = None
    bom: bool | None = None
    formula_guard: bool | None = None
    encoding: Annotated[Name, Field(max_length=40, examples=["WIN1252"])] | None = None
    decimal_comma: bool | None = None
    line_break_text: (
        Annotated[str, Field(pattern=r"^[^\x00\r\n]*$", max_length=100)] | None
    ) = None
    digits_as_text: bool | None = None
    time_zone: Annotated[Name, Field(max_length=64)] | None = None
    filename: (
        Annotated[
            str, Field(pattern=r"^[^/\\\x00-\x1f\x7f]+$", min_length=1, max_length=200)
        ]
        | None
    ) = None

    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    run_at: Instant | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None

    def values(self, default_source: str, search_path: str | None) -> dict[str, Any]:
        """Return the columns of `exports` to insert; *search_path* unless one is named."""
        values = self.model_dump(exclude_none=True)
        if self.filters is not None:
            values["filters"] = [one.shown() for one in self.filters]
        for sent, column in (("limit", "row_limit"), ("filename", "file_name")):
            if sent in values:
                values[column] = values.pop(sent)
        if self.source is None and self.query is None:
            values["source"] = default_source
        if search_path is not None:
            values.setdefault("search_path", search_path)
        return values


class _Query(_Sent):
    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        return cls.model_validate_strings(dict(query))


class PageRequest(_Query):
    """Which exports to list."""

    status: Status | None = None
    source: Name | None = None
    requested_by: Name | None = None
    created_from: Instant | None = None
    created_until: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    cursor: Annotated[str, Field(max_length=200)] | None = None

    def restrictions(self) -> dict[str, object]:
        return self.model_dump(exclude={"limit", "cursor"})


class SubmitOptions(_Query):
    """In the URL of a submit."""

    dry_run: bool = False


class Preview(BaseModel):
    """What an export would be."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    select: str
    estimated_rows: int
    columns: list[dict[str, str]]
    rows: list[dict[str, Any]]
