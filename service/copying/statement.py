"""Check that a text is one SELECT, and that it means the same as when submitted.

The text is prepared by itself first, so it cannot break out of the COPY, and
PostgreSQL's own parser counts its statements, parameters and columns.  Three
things ensure that it only reads: the role that runs it, the READ ONLY transaction,
and COPY, which accepts no utility statement in its parentheses.
"""

import json
from collections.abc import Iterator

from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from ..model import Column, Type
from ..postgres import libpq
from ..postgres.libpq import Look

PATIENCE = 60.0  # seconds to analyze a text, including the wait for locks

FIRST_USER_OID = 16_384  # PostgreSQL's own types never change
_known_types: dict[tuple[int, int], Type] = {}

# Domains and arrays are described by the types that they are made of.
TYPES = """
with recursive parts (type, mod, part, next) as (
    select
        type, mod, oid,
        case when typbasetype <> 0 then typbasetype when typcategory = 'A' then typelem else 0 end
    from unnest($1::oid[], $2::int[]) as asked (type, mod)
    join pg_type on oid = type
    union all
    select
        type, mod, oid,
        case when typbasetype <> 0 then typbasetype when typcategory = 'A' then typelem else 0 end
    from parts
    join pg_type on oid = next
)
select
    type,
    mod,
    format_type(type, mod),
    whole.typcategory::text,
    whole.typcategory = 'S' and part in ('text'::regtype, 'varchar'::regtype, 'name'::regtype),
    whole.typcategory = 'N'
        and part in ('numeric'::regtype, 'float4'::regtype, 'float8'::regtype),
    part = 'json'::regtype or innermost.typtype in ('c', 'p'),
    innermost.oid >= 16384 and exists (
        select from pg_cast where castsource = part and casttarget = 'json'::regtype
    )
from parts
join pg_type as whole on whole.oid = type
join pg_type as innermost on innermost.oid = part
where next = 0
"""

CHANGED = """
select format('%I.%I', schema, name), to_regclass(quote_ident(name))::text
from json_each_text($1) as _ (name, schema)
where to_regclass(format('%I.%I', schema, name))
    is distinct from to_regclass(quote_ident(name))
"""


class NotASelect(Exception):
    """The text is not a SELECT that can be exported; the message says why."""


class MeansAnother(Exception):
    """A name in the query refers to another relation than at submit, or to none."""


def check(
    pgconn: PGconn,
    text: str,
    search_path: str | None = None,
    look: Look = lambda: None,
) -> list[Column]:
    """Check that *text* is a SELECT that may be put into a COPY; return its columns.

    Raises `psycopg.Error` or `NotASelect` if it is not.  *search_path* is the one
    of the session.  *look* is called while this waits, and may raise to give up.
    """
    described = expect(
        libpq.prepare(pgconn, text.encode(), PATIENCE, look),
        ExecStatus.COMMAND_OK,
    )
    if described.nparams:
        raise NotASelect(
            "an export takes no parameters; write the values into the query"
        )
    if not described.nfields:
        raise NotASelect("an export is a SELECT with at least one column")
    fields = range(described.nfields)
    types = [(described.ftype(n), described.fmod(n)) for n in fields]
    names = [(described.fname(n) or b"").decode() for n in fields]
    # With an explicit pg_catalog in the path, other schemas may come before it and
    # redefine what the query for types uses; such results are not cached.
    found = _described(pgconn, types, "pg_catalog" not in (search_path or ""), look)
    return [
        Column(name=name, type=type.name, known=type)
        for name, type in zip(names, found, strict=True)
    ]


def check_meaning(
    pgconn: PGconn, relations: dict[str, str], look: Look = lambda: None
) -> None:
    """Raise `MeansAnother` if a name no longer refers to the relation it did at submit.

    *relations* maps each name to the schema in which it was found at submit.
    """
    changed = libpq.query(pgconn, CHANGED, [json.dumps(relations)], PATIENCE, look)
    for before, now in _rows(changed):
        raise MeansAnother(
            f"the query used {before} when it was submitted, but"
            f" {'it is gone' if now is None else 'the name means another relation'} now:"
            " submit the export again"
        )


def expect(result: PGresult, status: ExecStatus) -> PGresult:
    """Return *result* if it has *status*; otherwise raise its error or `NotASelect`."""
    if result.status == ExecStatus.FATAL_ERROR:
        raise libpq.error_of(result)
    if result.status != status:
        raise NotASelect(
            f"an export is a SELECT, but this is {ExecStatus(result.status).name}"
        )
    return result


def _described(
    pgconn: PGconn, types: list[tuple[int, int]], remember: bool, look: Look
) -> list[Type]:
    """Return a description of each of *types*; cache those that are built in."""
    found: dict[tuple[int, int], Type] = {}
    if missing := set(types) - _known_types.keys():
        asked = [f"{{{','.join(map(str, numbers))}}}" for numbers in zip(*missing)]
        result = libpq.query(pgconn, TYPES, asked, PATIENCE, look)
        for oid, mod, name, category, *flags in _rows(result):
            key = int(oid or 0), int(mod or 0)
            found[key] = Type(name or "", category or "", *(f == "t" for f in flags))
            if key[0] < FIRST_USER_OID and remember:
                _known_types[key] = found[key]
    return [found.get(key) or _known_types[key] for key in types]


def _rows(result: PGresult) -> Iterator[list[str | None]]:
    for row in range(result.ntuples):
        values = (result.get_value(row, column) for column in range(result.nfields))
        yield [None if value is None else value.decode() for value in values]
