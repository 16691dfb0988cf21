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
COLUMN = r"""(?P<column>"(?:[^"]|"")+"|[^\s"'=!<>]+)"""
NULL = re.compile(rf"{COLUMN}\s+is\s+(?P<no>not\s+)?null", re.IGNORECASE)
LIST = re.compile(
    rf"{COLUMN}\s+(?P<no>not\s+)?in\s+(?P<values>.*)", re.IGNORECASE | re.DOTALL
)
BETWEEN = re.compile(
    rf"{COLUMN}\s+between\s+(?P<low>{QUOTED}|.*?)\s+and\s+(?P<high>.*)",
    re.IGNORECASE | re.DOTALL,
)
COMPARISON = re.compile(
    rf"{COLUMN}(?:\s*(?P<sign>!=|<>|<=|>=|=|<|>)\s*|\s+(?P<word>i?like)\s+)(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
)
ELEMENT = re.compile(rf"\s*({QUOTED}|[^',]+)\s*(,|$)")


def parse(text: str) -> dict[str, Any]:
    """Return the filter, as the interface takes it, that *text* says.

    Raises `ValueError` with a line for the person who wrote it.
    """
    text = text.strip()
    if found := NULL.fullmatch(text):
        return _filter(found, "notNull" if found["no"] else "isNull")
    if found := LIST.fullmatch(text):
        op = "notIn" if found["no"] else "in"
        return _filter(found, op, _elements(found["values"]))
    if found := BETWEEN.fullmatch(text):
        return _filter(found, "between", [_value(found["low"]), _value(found["high"])])
    if found := COMPARISON.fullmatch(text):
        op = COMPARISONS[(found["sign"] or found["word"]).lower()]
        return _filter(found, op, _value(found["value"]))
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
