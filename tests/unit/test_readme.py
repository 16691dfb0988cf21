"""The README names what there is."""

import re
from pathlib import Path

from service.__main__ import cli
from service.config import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_readme_lists_every_setting_and_no_other() -> None:
    table = README.partition("## Settings")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {field.upper() for field in Settings.model_fields}


def test_readme_lists_every_command() -> None:
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    assert set(cli.commands) <= set(re.findall(r"`(\w+)[` ]", table))
