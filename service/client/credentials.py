"""The keys of this user: one for each server, in a file that nobody else may read."""

import json
import os
import tempfile
from pathlib import Path

import click
from yarl import URL

VARIABLE = "CSV_EXPORT_KEY"


class Unusable(Exception):
    """A key cannot be used; the message says why and what to do."""


def find(url: URL) -> str | None:
    """Return the key for the server at *url*: of the environment, or of `login`."""
    if given := os.environ.get(VARIABLE):
        return checked(given, VARIABLE)
    key = _read().get(_name(url))
    return checked(key, str(path())) if key else None


def save(url: URL, key: str) -> None:
    """Keep *key* for the server at *url*."""
    _write(_read() | {_name(url): key})


def forget(url: URL) -> bool:
    """Forget the key for the server at *url*; return whether there was one."""
    kept = _read()
    known = kept.pop(_name(url), None) is not None
    if known:
        _write(kept)
    return known


def checked(key: str, where: str) -> str:
    """Return *key* if it can stand in a header; it comes from *where*."""
    key = key.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise Unusable(f"{where}: this is not a key")
    return key


def path() -> Path:
    return Path(click.get_app_dir("csv-export")) / "keys.json"


def _read() -> dict[str, str]:
    try:
        with path().open(encoding="utf-8") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise Unusable(
                    f"{path()} can be read by others; make it yours: chmod 600"
                )
            kept: dict[str, str] = dict(json.load(file).items())
            return kept
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        raise Unusable(f"{path()} is damaged; delete it and log in again") from None


def _write(kept: dict[str, str]) -> None:
    path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A temporary file has mode 0600 from its beginning.
    with tempfile.NamedTemporaryFile(
        "w", dir=path().parent, encoding="utf-8", delete=False
    ) as file:
        json.dump(kept, file, indent=2)
    os.replace(file.name, path())


def _name(url: URL) -> str:
    return str(url.origin() / url.path.strip("/"))
