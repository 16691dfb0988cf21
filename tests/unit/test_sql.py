"""The SQL files pass PostgreSQL's own scanner and parser; no server is needed.

Function bodies are strings to sqlfluff.  Here they are parsed too, as SQL or PL/pgSQL.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pglast import parser

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for folder in ("sql", "seeds")
    for path in (ROOT / folder).rglob("*.sql")
    if path.name != "install.sql"  # a script for psql, with its own commands
)
LONGEST = 120  # characters in a line
STEP = 4  # spaces


def bodies(text: str) -> Iterator[tuple[str, str]]:
    """Yield the language and the body of each function and DO block."""
    for statement in json.loads(parser.parse_sql_json(text)).get("stmts", []):
        ((kind, content),) = statement["stmt"].items()
        if kind not in ("CreateFunctionStmt", "DoStmt"):
            continue
        options = content["options" if kind == "CreateFunctionStmt" else "args"]
        given: dict[str, Any] = {
            option["DefElem"]["defname"]: option["DefElem"]["arg"] for option in options
        }
        match given:
            case {"as": {"List": {"items": [{"String": {"sval": body}}]}}}:
                yield given["language"]["String"]["sval"], body
            case {"as": {"String": {"sval": body}}}:
                yield "plpgsql", body
            # Else the body is an expression, and not a string.


def test_files_and_function_bodies_parse() -> None:
    errors = []
    for path in FILES:
        text = path.read_text()
        try:
            for language, body in bodies(text):
                assert language in ("sql", "plpgsql"), language
                if language == "sql":
                    parser.parse_sql_json(body)
            parser.parse_plpgsql_json(text)  # the PL/pgSQL bodies among them
        except parser.ParseError as error:
            errors.append(f"{path.relative_to(ROOT)}: {error}")
    assert not errors, "\n".join(errors)


def test_keywords_and_names_are_in_lower_case() -> None:
    found = []
    for path in FILES:
        text = path.read_text()
        for part in [text, *(body for _, body in bodies(text))]:
            for token in parser.scan(part):
                word = part[token.start : token.end + 1]
                is_word = token.name == "IDENT" or token.kind != "NO_KEYWORD"
                if is_word and word != word.lower() and '"' not in word:
                    found.append(f"{path.relative_to(ROOT)}: {word}")
    assert not found, "\n".join(found)


def test_lines_are_short_and_indented_in_steps() -> None:
    found = []
    for path in FILES:
        if path.parent.name == "migrations":  # these never change
            continue
        before = 0
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            indent = len(line) - len(line.lstrip(" "))
            if (
                len(line) > LONGEST
                or line != line.rstrip()
                or "\t" in line
                or indent % STEP
                or indent > before + STEP
            ):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line}")
            before = indent if line else before
    assert not found, "\n".join(found)
