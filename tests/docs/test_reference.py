"""docs/reference is what the code says; and what the documents name exists."""

import json
import re
from pathlib import Path

import click
import pytest

from service.api import create_app, keys
from service.api.openapi import description
from service.config import Settings

from . import reference

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "sql" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
OF_US = [path for path in DOCUMENTS if path.name != "comparison.md"]
NOT_DESCRIBED = {
    "/",
    "/docs",
    "/favicon.ico",
    "/openapi.json",
    "/web",
}  # pages, and the description


@pytest.mark.newest
def test_the_reference_is_up_to_date(database: str) -> None:
    made = reference.pages(database)
    assert {path.name for path in reference.FOLDER.iterdir()} == set(made)
    for name, text in made.items():
        there = (reference.FOLDER / name).read_text()
        assert there.splitlines() == text.splitlines(), f"{name}: run `make reference`"


def test_every_route_is_described() -> None:
    app = create_app({keys.SETTINGS: Settings()})
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    }
    described = {
        (method.upper(), path)
        for path, methods in description()["paths"].items()
        for method in methods
        if method != "parameters"
    }
    assert {
        one for one in served if one[1] not in NOT_DESCRIBED
    } == described, "describe it in service/api/openapi.py; pages: NOT_DESCRIBED"


def test_every_shape_that_is_named_is_described() -> None:
    told = description()
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told)))
    assert named <= set(told["components"]["schemas"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), f"{document.name}: {target}"
        if anchor and path.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in map(slug, heads), f"{document.name}: {target}"


@pytest.mark.parametrize("document", OF_US, ids=lambda path: path.name)
def test_settings_that_are_named_exist(document: Path) -> None:
    """Capitals in code, with an underscore or an equals sign, are settings of ours."""
    known = {name.upper() for name in Settings.model_fields} | OTHERS
    code = re.findall(r"`([^`\n]+)`", document.read_text())
    named = {name for one in code for name in re.findall(r"\b[A-Z]+_[A-Z_]+\b", one)}
    assert named <= known, f"{document.name}: {named - known}"


@pytest.mark.parametrize("document", OF_US, ids=lambda path: path.name)
def test_metrics_that_are_named_exist(document: Path) -> None:
    known = set(re.findall(r"^\| `(\w+)`", reference.metrics(), re.MULTILINE))
    for name in re.findall(
        r"\b(export_[a-z]+(?:_[a-z]+)*_(?:total|seconds|use|connected))"
        r"(?:_bucket|_sum|_count)?\b",
        document.read_text(),
    ):
        assert name in known, f"{document.name}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_that_are_named_exist(document: Path) -> None:
    known = reference.all_commands()
    groups = "|".join(n for n in known if isinstance(known[n], click.Group))
    pattern = rf"csv-export ((?:(?:{groups}) )?[a-z]+)\b([^`\n|;&]*)"
    for line in re.findall(pattern, document.read_text()):
        name, arguments = line
        if command := known.get(name):
            options = {
                option
                for parameter in command.params
                for option in (*parameter.opts, *parameter.secondary_opts)
            }
            named = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", arguments))
            assert named <= options | {"--help"}, f"{document.name}: {line}"
        else:
            assert not arguments.startswith(" --"), f"{document.name}: {line}"


# Of the client, of PostgreSQL, of Docker and of the tests.
OTHERS = {
    "CSV_EXPORT_KEY",
    "CSV_EXPORT_URL",
    "POSTGRES_PASSWORD",
    "REQUIRE_POSTGRES",
    "NO_COLOR",
    "PGOPTIONS",
}


def slug(heading: str) -> str:
    """Return the anchor of a heading, as repository hosts make it."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")
