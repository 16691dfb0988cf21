"""What clients may send: validated here in form, and by PostgreSQL in substance.

A field that is not given is left to the defaults of the table `exports`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from ..model import Action, Activity, Described, Export, Source, Status
from .problems import TYPES, type_uri

# PostgreSQL's text has no NUL.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Name = Annotated[
    str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=500)
]
REQUESTER = r"^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,62}$"
RequesterName = Annotated[str, StringConstraints(pattern=REQUESTER)]
Scope = Literal["read", "export", "download", "admin"]
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


class _Sent(Described):
    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )


class _Body(_Sent):
    model_config = ConfigDict(strict=True)  # JSON has types of its own


class Filter(_Body):
    """A condition on a column; all filters must hold."""

    column: Name
    """The name of a column."""

    op: Literal[
        "eq", "ne", "lt", "lte", "gt", "gte", "between", "in", "notIn",
        "like", "ilike", "isNull", "notNull",
    ]  # fmt: skip
    """`eq` `ne` `lt` `lte` `gt` `gte` `like` `ilike`; `between` with a list of two;
    `in` `notIn` with a list; `isNull` `notNull` without a value."""

    value: (
        Value | Annotated[list[Value], Field(min_length=1, max_length=10_000)] | None
    ) = None
    """A value, or a list of values, compared in the column's type."""

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
    """A table, view, materialized view, partitioned or foreign table. With neither
    `source` nor `query` the default source is exported."""

    columns: Annotated[list[Name], Field(min_length=1, max_length=2000)] | None = None
    """Names of columns, in the order of the file. Default: all."""

    filters: Annotated[list[Filter], Field(max_length=1000)] | None = None
    """Conditions that must all hold."""

    order_by: Annotated[list[Name], Field(max_length=2000)] | None = Field(
        default=None, examples=[["-signup_at", "id"]]
    )
    """Names of columns; `-` before a name means descending."""

    limit: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """The most rows to export."""

    query: Query | None = Field(default=None, examples=["select 1 as n"])
    """One SELECT, in place of `source` and all that belongs to it."""

    search_path: Annotated[Name, Field(examples=["app, public"])] | None = None
    """The schemas in which names are looked up, as in `app, public`. Default:
    `csv_reader`'s own."""

    format: Literal["csv", "tsv", "jsonl"] | None = None
    """`csv` (RFC 4180), `tsv`, or `jsonl` (JSON Lines: one object a line). Default:
    `csv`."""

    compression: Literal["none", "gzip", "zstd"] | None = None
    """`none`, `gzip` or `zstd`. Default: `none`."""

    profile: Literal["excel"] | None = None
    """`excel`: a byte order mark, CRLF, and the formula guard, unless they are given."""

    delimiter: (
        Annotated[str, Field(pattern=r'^[^\x00a-zA-Z0-9\r\n"\\.\x80-\U0010ffff]$')]
        | None
    ) = None
    """One ASCII character between fields. Default: a comma; a tab for `tsv`; `;` with
    `decimalComma`."""

    header: bool | None = None
    """Begin with the names of the columns. Default: true."""

    null_text: (
        Annotated[str, Field(pattern=r'^[^\x00\r\n"]*$', max_length=100)] | None
    ) = None
    """The text that stands for NULL; it is never quoted. Default: empty."""

    quote_all: bool | None = None
    """Quote every value, NULL excepted. Default: false."""

    force_quote: Annotated[list[Name], Field(min_length=1, max_length=2000)] | None = (
        None
    )
    """Quote all values of these columns, NULL excepted."""

    line_ending: Literal["lf", "crlf"] | None = None
    """`lf` or `crlf`. Default: `lf`."""

    bom: bool | None = None
    """Begin with a byte order mark. Default: false; true for `UTF-16LE`."""

    formula_guard: bool | None = None
    """Put an apostrophe before text that a spreadsheet would take for a formula, in
    headers too. Default: false."""

    encoding: Annotated[Name, Field(max_length=40, examples=["WIN1252"])] | None = None
    """`UTF8`, `UTF-16LE`, `WIN1252`, `LATIN1`, or any other to which PostgreSQL
    converts. JSON Lines are always UTF-8. Default: `UTF8`."""

    decimal_comma: bool | None = None
    """Write decimal numbers with a comma, as in `1,5`. Default: false."""

    line_break_text: (
        Annotated[str, Field(pattern=r"^[^\x00\r\n]*$", max_length=100)] | None
    ) = None
    """Replace line breaks within values by this text. Default: they are kept."""

    digits_as_text: bool | None = None
    """Write `="00123"` where a spreadsheet would drop leading zeros, or all but 15
    digits. Default: false."""

    time_zone: Annotated[Name, Field(max_length=64)] | None = None
    """The time zone of the values, as in `Europe/Berlin`. Default: `UTC`."""

    filename: (
        Annotated[
            str, Field(pattern=r"^[^/\\\x00-\x1f\x7f]+$", min_length=1, max_length=200)
        ]
        | None
    ) = None
    """The name that the download suggests. Default: made of the source and the date."""

    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    """0 to 9; higher ones are run first. Default: 5."""

    run_at: Instant | None = None
    """Do not run it before this instant (RFC 3339). Default: at once."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    """After how many failed attempts it fails for good. Default: 5."""

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
    """Only exports with this status."""

    source: Name | None = None
    """Only exports of this relation."""

    requested_by: Name | None = None
    """Only exports of this requester, or inserted by this database role."""

    created_from: Instant | None = None
    """Only exports submitted at this instant or later."""

    created_until: Instant | None = None
    """Only exports submitted before this instant."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    """How many, at most."""

    cursor: Annotated[str, Field(max_length=200)] | None = None
    """Where the page begins; take it from the `Link` header of the page before."""

    def restrictions(self) -> dict[str, object]:
        return self.model_dump(exclude={"limit", "cursor"})


class ActivityPage(_Query):
    """Which part of the log to list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    """How many, at most."""

    cursor: Annotated[str, Field(max_length=200)] | None = None
    """Where the page begins; take it from the `Link` header of the page before."""


class ActivityRequest(ActivityPage):
    """What to list of the log."""

    requester: Name | None = None
    """Only what was done with exports and keys of this requester, or database role."""

    action: Action | None = None
    """Only what was done in this way."""

    export: Annotated[UUID, Field(strict=False)] | None = None
    """Only what was done with this export, which may be deleted since."""

    from_: Annotated[Instant | None, Field(alias="from")] = None
    """Only what was done at this instant or later."""

    until: Instant | None = None
    """Only what was done before this instant."""

    def restrictions(self) -> dict[str, object]:
        given = self.model_dump(exclude={"limit", "cursor", "from_"})
        return given | {"from": self.from_}


class SubmitOptions(_Query):
    """In the URL of a submit."""

    dry_run: bool = False
    """Answer with the SELECT, its columns and the first rows; store nothing."""


class Preview(Described):
    """What an export would be."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    select: str
    """The SELECT that would be run."""

    estimated_rows: int
    """How many rows PostgreSQL expects."""

    columns: list[dict[str, str]]
    """Names and types of the columns; duplicate names are numbered."""

    rows: list[dict[str, Any]]
    """The first rows; a value of over 1,000 characters is cut, and says so."""


class ActivityList(Described):
    """A page of the log, newest first."""

    activity: list[Activity]
    """What was done."""


class ExportList(Described):
    """A page of exports, newest first."""

    exports: list[Export]
    """The exports; the `Link` header leads to the next page."""


class SourceList(Described):
    """What can be exported."""

    sources: list[Source]
    """The relations that the asker's reader may read."""


class Health(Described):
    """The answer of a process that is well."""

    status: Literal["ok", "degraded"]
    """`ok`, or `degraded`: it answers, but no export can be claimed."""

    detail: str | None = None
    """Why it is degraded."""


class Limits(Described):
    """What a requester may have. Null: any number."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    weight: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Their share of the workers, compared with others; 1 if null."""

    max_running: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Exports that run at once; 0 pauses all of theirs."""

    max_pending: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """Exports that wait."""

    max_priority: Annotated[int, Field(ge=0, le=9)] | None = None
    """The highest priority."""

    max_rows: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Rows of a file."""

    max_bytes: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Bytes of a file."""

    max_bytes_a_day: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Bytes of all files made on a day of UTC. What is running when it is reached goes
    on."""

    max_seconds: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Seconds of an attempt."""

    max_previews_a_minute: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Previews a minute, in each process of the service."""

    max_requests_a_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests a minute, in each process of the service."""


class Usage(Described):
    """What of the limits is used."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    running: int
    """Exports that run now."""

    pending: int
    """Exports that wait now."""

    bytes_today: int
    """Bytes of the files made today, by UTC; counted if there is a limit."""


class Me(Described):
    """Who asks."""

    model_config = ConfigDict(alias_generator=to_camel)

    requester: str | None
    """Whom the key speaks for; null if the service asks for no keys."""

    scopes: list[str] | None
    """What the key allows: `read`, `export`, `download`; `admin`: all of it, for the
    exports of everybody. Null if the service asks for no keys."""

    by: Literal["key", "proxy"] | None
    """What has told the service who asks: a key, or the proxy before it."""

    limits: Limits | None = None
    """What the requester may have; null if the service asks for no keys."""

    usage: Usage | None = None
    """What of it is used; null if the service asks for no keys."""


class KeyRequest(_Body):
    """A key to make."""

    requester: RequesterName
    """Whom it speaks for; made if new. The exports submitted with it belong to them."""

    scopes: Annotated[list[Scope], Field(min_length=1)] = ["read", "export", "download"]
    """What it allows; `admin`: all of it, for the exports of everybody."""

    expires_in: Annotated[int, Field(ge=1, le=86_400 * 36_500)] | None = None
    """Seconds for which it is accepted. Default: until it is revoked."""

    label: Annotated[Text, Field(max_length=100)] | None = None
    """What it is for."""

    @property
    def lasts(self) -> timedelta | None:
        return None if self.expires_in is None else timedelta(seconds=self.expires_in)


class MadeKey(Described):
    """A key that was made. It is shown this once."""

    id: str
    """The part of the key that is no secret."""

    key: str
    """The key."""


class LinkRequest(_Body):
    """For how long a link downloads a file."""

    expires_in: Annotated[int, Field(ge=1, le=86_400 * 30)] = 86_400
    """Seconds until it leads nowhere; at most 30 days."""

    @property
    def lasts(self) -> timedelta:
        return timedelta(seconds=self.expires_in)


class MadeLink(Described):
    """A link that was made. It is shown this once."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str
    """The name of the link, which is no secret."""

    url: str
    """Its URL, as a path without a host."""

    expires_at: datetime
    """From when on it leads nowhere: at the latest when the file or the key expires."""


class LinkInfo(Described):
    """A link to a file, without its URL."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str
    """The name of the link, which is no secret."""

    made_by: str
    """Who made it: a requester, or a database role."""

    created_at: datetime
    """When it was made."""

    expires_at: datetime
    """From when on it leads nowhere."""

    last_used_at: datetime | None
    """When it was used last, to the minute."""

    revoked_at: datetime | None
    """Since when it leads nowhere, if it was revoked."""


class LinkList(Described):
    """The links to a file, newest first, those that have ended too."""

    links: list[LinkInfo]
    """The links."""


class KeyInfo(Described):
    """A key as administrators see it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str
    """The part of the key that is no secret."""

    requester: str
    """Whom it speaks for."""

    scopes: list[str]
    """What it allows."""

    label: str | None
    """What it is for."""

    created_at: datetime
    """When it was made."""

    expires_at: datetime | None
    """From when on it is not accepted; null: never."""

    last_used_at: datetime | None
    """When it was used last, to the minute."""

    revoked_at: datetime | None
    """Since when it is not accepted any more."""


class KeyList(Described):
    """All keys, those that are accepted no longer too."""

    keys: list[KeyInfo]
    """The keys, by requester."""


class RequesterChange(_Body, Limits):
    """What to change of a requester; what is not named stays, and null is the default."""

    model_config = ConfigDict(extra="forbid")

    reader: Name | None = None
    """The database role that reads for them; null: `csv_reader`."""

    settings: dict[Name, Text] | None = Field(
        default=None, examples=[{"app.tenant": "42"}]
    )
    """What their exports set before the `SELECT`, for policies of row-level security.
    The names have a dot."""

    def changes(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class Requester(Limits):
    """Whom exports belong to, and what they may have."""

    name: str
    """The name, as in `requestedBy`."""

    reader: str | None
    """The database role that reads for them; null: `csv_reader`."""

    settings: dict[str, str]
    """What their exports set before the `SELECT`."""

    created_at: datetime
    """When it was made."""


class RequesterList(Described):
    """All requesters that have a key, or something of their own."""

    requesters: list[Requester]
    """The requesters, by name."""


class Event(Described):
    """A Server-Sent Event."""

    id: str
    """Grows with each event; sent back as `Last-Event-ID`, it continues the stream."""

    event: Literal["status", "progress", "deleted"]
    """`deleted` says that the export is gone."""

    data: Annotated[
        str,
        Field(
            json_schema_extra={
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/Export"},
            }
        ),
    ]
    """The export, as JSON; of a deleted one, its `jobId` alone."""


class Fault(Described):
    """A member of the request that is wrong."""

    at: str
    """Its path in the request."""

    detail: str
    """What is wrong."""


class ProblemDetails(Described):
    """What every error is answered with (RFC 9457)."""

    type: Annotated[
        str,
        Field(
            json_schema_extra={
                "enum": [*map(type_uri, TYPES), "about:blank"],
                "x-titles": {type_uri(name): told for name, (_, told) in TYPES.items()},
            }
        ),
    ]
    """What went wrong, for programs; `about:blank`: what the status says."""

    title: str
    """What went wrong, in general."""

    status: int
    """The HTTP status."""

    detail: str
    """What went wrong, in particular; PostgreSQL's own message, if it refused."""

    hint: str | None = None
    """A suggestion."""

    sqlstate: str | None = None
    """PostgreSQL's error code."""

    position: int | None = None
    """Where in the query the error is: its character, from 1."""

    line: int | None = None
    """The line of that position, from 1."""

    column: int | None = None
    """The column of that position, from 1."""

    errors: list[Fault] | None = None
    """All members of the request that are wrong."""
