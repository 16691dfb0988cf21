"""The conditions of `--where`: SQL's words, one comparison each.

    country = DE          id >= 10          name != 'O''Brien'
    country in DE, SE     country not in DE, SE
    id between 10 and 20
    name like A%          name ilike '%ann%'
    email is null         email is not null

A value is the text as it stands, or 'quoted' as in SQL.  It has no type of its
own: PostgreSQL compares it in the column's.
"""

import re
from typing import Any

COMPARISONS = {
    "=": "eq",
    "!=": "ne",
    "<>": "ne",
    "<": "lt",
    "<=": "lte",
    ">": "gt",
    ">=": "gte",
    "like": "like",
    "ilike": "ilike",
}
QUOTED = r"'(?:[^']|'')*'"
# The first operator ends the name; a name that has one in it stands in "quotes".
CONDITION = re.compile(
    rf"""
    (?P<column>"(?:[^"]|"")+"|[^\s"'=!<>](?:[^"'=!<>]*?[^\s"'=!<>])??)
    (?:
        \s*(?P<sign>!=|<>|<=|>=|=|<|>)\s*(?P<right>.*)
        |\s+(?P<word>i?like)\s+(?P<pattern>.*)
        |\s+is\s+(?P<not_null>not\s+)?(?P<null>null)
        |\s+(?P<not_in>not\s+)?in\s+(?P<values>.*)
        |\s+between\s+(?P<low>{QUOTED}|.*?)\s+and\s+(?P<high>.*)
    )
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
ELEMENT = re.compile(rf"\s*({QUOTED}|[^',]+)\s*(,|$)")


def parse(text: str) -> dict[str, Any]:
    """Return the filter, as the interface takes it, that *text* says.

    Raises `ValueError` with a line for the person who wrote it.
    """
    if found := CONDITION.fullmatch(text.strip()):
        if found["null"]:
            return _filter(found, "notNull" if found["not_null"] else "isNull")
        if found["values"] is not None:
            op = "notIn" if found["not_in"] else "in"
            return _filter(found, op, _elements(found["values"]))
        if found["low"] is not None:
            values = [_value(found["low"]), _value(found["high"])]
            return _filter(found, "between", values)
        op = COMPARISONS[(found["sign"] or found["word"]).lower()]
        value = found["right"] if found["sign"] else found["pattern"]
        return _filter(found, op, _value(value))
    raise ValueError(
        f"{text!r} is no condition; write for example country=DE, 'id >= 10',"
        " 'country in DE,SE' or 'email is null'"
    )


def _filter(found: re.Match[str], op: str, value: Any = None) -> dict[str, Any]:
    column = found["column"]
    if column.startswith('"'):
        column = column[1:-1].replace('""', '"')
    return {"column": column, "op": op} | ({} if value is None else {"value": value})


def _value(text: str) -> str:
    text = text.strip()
    if re.fullmatch(QUOTED, text):
        return text[1:-1].replace("''", "'")
    if text.startswith("'"):
        raise ValueError(f"the quotes of {text} do not end where it ends")
    if text.lower() == "null":
        raise ValueError("nothing equals null; write 'is null', or 'null' in quotes")
    return text


def _elements(text: str) -> list[str]:
    inner = re.fullmatch(r"\((.*)\)", text.strip(), re.DOTALL)
    rest = inner[1] if inner else text
    values = []
    while found := ELEMENT.match(rest):
        values.append(_value(found[1]))
        rest = rest[found.end() :]
        if not found[2]:
            return values
    raise ValueError(f"{text!r} is no list of values; write DE,SE or 'a,b','c'")
