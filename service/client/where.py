"""Parse the conditions of `--where`: one comparison each, in SQL's words.

    country = DE          id >= 10          name != 'O''Brien'
    country in DE, SE     country not in DE, SE
    id between 10 and 20
    name like A%          name ilike '%ann%'
    email is null         email is not null

A value is plain text, or 'quoted' as in SQL.  It has no type of its own: PostgreSQL
converts it to the type of the column.
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
# The name of the column ends at the first operator; one that contains an operator
# must be in "quotes".
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
    """Return the condition *text* as a filter of the HTTP interface.

    Raises `ValueError` with a message for the user.
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
        f"{text!r} is not a condition; write for example country=DE, 'id >= 10',"
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
        raise ValueError(f"the quoted value {text} does not end with its closing quote")
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
    raise ValueError(f"{text!r} is not a list of values; write DE,SE or 'a,b','c'")
