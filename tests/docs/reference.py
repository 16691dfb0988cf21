"""`make reference`: docs/reference, made from what the code says of itself.

Whatever has no description stops it.  A test compares the pages with the files,
so a setting, route, member, column, function, metric or command cannot be added,
renamed or removed without its documentation.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import psycopg
from prometheus_client.metrics import MetricWrapperBase

from service.__main__ import cli
from service.api.openapi import description
from service.client import commands
from service.config import Settings
from service.metrics import Metrics
from service.postgres import embedded, schema

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MADE = "<!-- Made by `make reference` from the code; do not edit. -->\n"
REF = "#/components/schemas/"

FOR_EVERYBODY = {
    "cancel_export",
    "delete_export",
    "list_exports",
    "next_export_in",
    "preview_export",
    "queue_depth",
    "retry_export",
}
FOR_ADMINISTRATORS = {
    "add_reader",
    "create_key",
    "create_link",
    "list_activities",
    "remove_reader",
    "revoke_key",
    "revoke_link",
    "rotate_key",
    "set_requester",
}
FOR_WORKERS = {
    "claim_export",
    "claim_exports",
    "compile_slices",
    "complete_export",
    "complete_exports",
    "fail_export",
    "find_debris",
    "heartbeat_export",
    "prune_activities",
    "prune_exports",
    "release_export",
    "rescue_exports",
    "watch_exports",
}


class Undocumented(Exception):
    """Something has no description; the text names it."""


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        with embedded.Postgres(Path(folder)) as database:
            schema.migrate(database)
            try:
                made = pages(database)
            except Undocumented as error:
                sys.exit(str(error))
    for path in FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)


def pages(database: str) -> dict[str, str]:
    """Return the pages; *database* has the schema installed."""
    return {
        "settings.md": settings(),
        "commands.md": shell_commands(),
        "http.md": http(),
        "sql.md": sql(database),
        "metrics.md": metrics(),
    }


def settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        where = f"{name.upper()} (in service/config.py, below it)"
        told, _, default = described(where, field.description).partition(" Default: ")
        if not default:
            default = f"`{field.default}`"
        rows.append((f"`{name.upper()}`", default.rstrip("."), told))
    return page(
        "Settings",
        "Environment variables. An empty variable counts as unset.",
        table(("variable", "default", ""), rows),
    )


def shell_commands() -> str:
    asking = [str(command.name) for command in commands.COMMANDS]
    known = all_commands()
    others = [name for name in known if name not in asking]
    parts = []
    for heading, names in (
        ("Clients of a server", asking),
        ("The service itself", others),
    ):
        parts.append(f"## {heading}\n")
        for name in names:
            command = known[name]
            context = click.Context(command, info_name=f"csv-export {name}")
            text = described(name, command.help)
            parts.append(f"### {name}\n\n```\n{command.get_usage(context)}\n```\n")
            parts.append(f"{markdown(text)}\n")
            options = [
                record
                for parameter in command.params
                if isinstance(parameter, click.Option)
                and (record := parameter.get_help_record(context))
            ]
            if options:
                rows = [
                    (f"`{names}`", described(names, text)) for names, text in options
                ]
                parts.append(table(("option", ""), rows))
    return page("Commands", "`csv-export COMMAND --help` shows the same.", *parts)


def all_commands() -> dict[str, click.Command]:
    """Return the commands by name; those of a group are called "keys create"."""
    known: dict[str, click.Command] = {}
    for name, command in cli.commands.items():
        known[name] = command
        if isinstance(command, click.Group):
            known |= {f"{name} {one}": made for one, made in command.commands.items()}
    return known


def http() -> str:
    told = description()
    parts = ["## Routes\n"]
    rows, details = [], []
    for path, methods in told["paths"].items():
        for method, one in methods.items():
            if method == "parameters":
                continue
            name = f"{method.upper()} {path}"
            answers = ", ".join(one["responses"])
            rows.append((f"`{name}`", described(name, one["summary"]), answers))
            if parameters := one.get("parameters"):
                details.append(f"### {name}\n")
                details.append(
                    table(
                        ("parameter", "in", "type", ""),
                        [
                            (
                                f"`{parameter['name']}`",
                                parameter["in"],
                                kind(parameter["schema"]),
                                described(
                                    f"{name}: {parameter['name']}",
                                    parameter.get("description"),
                                ),
                            )
                            for parameter in parameters
                        ],
                    )
                )
    parts += [table(("call", "", "answers"), rows), "## Parameters\n", *details]
    parts.append("## Shapes\n")
    for name, shape in told["components"]["schemas"].items():
        if properties := shape.get("properties"):
            parts.append(f"### {name}\n\n{described(name, shape.get('description'))}\n")
            needed = shape.get("required", ())
            parts.append(
                table(
                    ("member", "type", ""),
                    [
                        (
                            f"`{member}`" + (" *" if member in needed else ""),
                            kind(one),
                            described(f"{name}.{member}", one.get("description")),
                        )
                        for member, one in properties.items()
                    ],
                )
            )
    parts.append("An asterisk marks what is always there, or must be.\n")
    types = told["components"]["schemas"]["ProblemDetails"]["properties"]["type"]
    rows_of_types = [(f"`{uri}`", title) for uri, title in types["x-titles"].items()]
    parts += ["## Types of problems\n", table(("type", ""), rows_of_types)]
    return page(
        "HTTP interface",
        "`GET /openapi.json` is the same for programs, `/docs` in a browser.",
        *parts,
    )


def sql(database: str) -> str:
    parts = []
    with psycopg.connect(database) as conn:
        for relation in (
            "exports",
            "live_exports",
            "sources",
            "requesters",
            "requester_keys",
            "readers",
            "activities",
            "export_links",
        ):
            told = conn.execute(
                "select obj_description(%s::regclass, 'pg_class')", [relation]
            ).fetchone()
            assert told
            columns = conn.execute(
                "select attname, format_type(atttypid, atttypmod),"
                " col_description(attrelid, attnum), exists ("
                "     select from pg_attribute where attrelid = 'exports'::regclass"
                "     and attname = a.attname)"
                " from pg_attribute as a where attrelid = %s::regclass and attnum > 0"
                " and not attisdropped order by attnum",
                [relation],
            )
            rows = [
                (f"`{name}`", kind_, described(f"{relation}.{name}", text))
                for name, kind_, text, is_known in columns
                # A view's are those of the table, unless it says otherwise.
                if text or relation != "live_exports" or not is_known
            ]
            parts += [f"## {relation}\n", f"{prose(described(relation, told[0]))}\n"]
            if relation == "live_exports":
                parts.append("Its other columns are those of `exports`.\n")
            parts.append(table(("column", "type", ""), rows))
        functions = conn.execute(
            "select proname, pg_get_function_identity_arguments(oid),"
            " obj_description(oid, 'pg_proc') from pg_proc"
            " where pronamespace = 'public'::regnamespace and not exists ("
            "     select from pg_depend where objid = pg_proc.oid and deptype = 'e')"
            " order by proname, 2"
        ).fetchall()
    names = {name for name, _, _ in functions}
    for heading, wanted in (
        ("Functions for everybody", FOR_EVERYBODY),
        ("Functions for workers", FOR_WORKERS),
        ("Functions for administrators", FOR_ADMINISTRATORS),
        (
            "Functions inside",
            names - FOR_EVERYBODY - FOR_WORKERS - FOR_ADMINISTRATORS,
        ),
    ):
        if unknown := wanted - names:
            raise Undocumented(f"there is no function {unknown}")
        parts.append(f"## {heading}\n")
        for name, arguments, text in functions:
            if name in wanted:
                parts.append(f"### {name}\n\n```sql\n{name}({arguments})\n```\n")
                parts.append(f"{prose(described(name, text))}\n")
    return page(
        "SQL interface",
        "psql shows the same: `\\d+ exports`, `\\df+ cancel_export`.",
        *parts,
    )


def metrics() -> str:
    rows = []
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            assert metric._type
            total = "_total" if metric._type == "counter" else ""
            name = f"{metric._name}{total}"
            labels = " ".join(f"`{label}`" for label in metric._labelnames)
            told = described(name, metric._documentation)
            rows.append((f"`{name}`", metric._type, labels, told))
    return page(
        "Metrics",
        "`GET /metrics`, for Prometheus.",
        table(("metric", "type", "labels", ""), rows),
    )


def described(name: str, text: str | None) -> str:
    if not text or not text.strip():
        raise Undocumented(f"{name} has no description")
    return text.strip()


def kind(schema: dict[str, Any]) -> str:
    """Return the type of a JSON value, as a reader wants it."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REF)
    if "enum" in schema and len(schema["enum"]) < 8:
        return " ".join(f"`{one}`" for one in schema["enum"])
    if choices := schema.get("anyOf"):
        kinds = [kind(one) for one in choices]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "any")


def markdown(text: str) -> str:
    """Return the help of a command, whose preformatted paragraphs begin with \\b."""
    parts = []
    for part in text.split("\n\n"):
        lines = [line.strip() for line in part.strip().splitlines()]
        if part.strip("\n ").startswith("\b"):
            parts.append("\n".join(["```", *lines[1:], "```"]))
        else:
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def prose(text: str) -> str:
    """Return *text*, with angle brackets as they are only in code."""
    parts = text.split("`")
    return "`".join(
        part if n % 2 else part.replace("<", "&lt;") for n, part in enumerate(parts)
    )


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in map(one_line, line))} |\n"
        for line in lines
    )


def one_line(text: str) -> str:
    return " ".join(text.split())


def page(title: str, *parts: str) -> str:
    return f"{MADE}\n# {title}\n\n" + "\n".join(part.rstrip() + "\n" for part in parts)


if __name__ == "__main__":
    main()
