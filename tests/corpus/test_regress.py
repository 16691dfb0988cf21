"""A part of PostgreSQL's regression statements; `make corpus` runs all of them."""

from pathlib import Path

import pytest

from . import regress

SCRIPTS = (
    "case", "char", "domain", "enum", "expressions", "limit", "money", "name", "rangefuncs",
    "rowtypes", "select", "strings", "subselect", "union", "uuid", "with",
)  # fmt: skip


@pytest.mark.newest
@pytest.mark.parametrize("name", SCRIPTS)
async def test_psql_and_the_service_agree(
    name: str, corpus: str, tmp_path: Path
) -> None:
    outcomes = await regress.run(name, corpus, tmp_path / name)
    faults = [
        f"{one.kind}: {one.note}\n{one.statement}" for one in outcomes if one.fault
    ]
    assert not faults, "\n\n".join([f"{len(faults)} faults", *faults[:20]])
