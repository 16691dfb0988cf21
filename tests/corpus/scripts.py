"""PostgreSQL's regression scripts: fetch them, and split them as psql does.

The source distribution of `pglast` contains them.  pip downloads it to
`build/corpus`; nothing of it is copied into this repository.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path("build/corpus")
PGLAST = "pglast >=8,<9"  # the scripts of PostgreSQL 18
INSIDE = "/libpg_query/test/sql/postgres_regress/"

ENDS = {"g", "gx", "gset", "gexec", "crosstabview"}  # these send it, like ";"
SPOILS = {"bind", "bind_named", "gdesc", "parse", "sendpipeline", "watch"}
TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* )
    | (?P<nested> /\* )
    | (?P<dollar> \$(?:[^\W\d]\w*)?\$ )
    | (?P<escaped> [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) )
    | (?P<string> '(?:[^']|'')*(?:'|\Z) )
    | (?P<name> "(?:[^"]|"")*(?:"|\Z) )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<meta> \\(?:[a-zA-Z?!_]+|.) )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
BACKSLASHED = re.compile(r"'(?:[^'\\]|\\.|'')*(?:'|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """A statement as written, without its terminator, or a command of psql.

    *first* holds its first words, in lower case; *end* is ";" or the command
    that sent it; *argument* is the rest of the line after that command.
    """

    text: str
    first: tuple[str, ...]
    end: str = ";"
    argument: str = ""


def fetch() -> Path:
    """Return the folder with the scripts; download them unless they are there."""
    folder = CORPUS / "postgres_regress"
    if folder.exists():
        return folder
    CORPUS.mkdir(parents=True, exist_ok=True)
    # Unpacked beside it and renamed: two processes may do this at once.
    with tempfile.TemporaryDirectory(dir=CORPUS, prefix=".new-") as new:
        command = (
            "-m pip download --quiet --disable-pip-version-check --no-deps".split()
        )
        command += ["--no-binary", "pglast", "--dest", new, PGLAST]
        subprocess.run([sys.executable, *command], check=True)
        (archive,) = Path(new).glob("*.tar.gz")
        scripts = Path(new) / "scripts"
        scripts.mkdir()
        with tarfile.open(archive) as tar:
            for member in tar:
                _, inside, name = member.name.partition(INSIDE)
                if (
                    inside
                    and name.endswith(".sql")
                    and (file := tar.extractfile(member))
                ):
                    (scripts / name).write_bytes(file.read())
        try:
            scripts.rename(folder)
        except OSError:
            assert folder.exists()
    return folder


class Script:
    """Iterate over it to get the statements one by one, in order.

    If the server accepts a COPY FROM STDIN, call `copy_data`, because the following
    lines are data.  If the server refuses it, they are statements.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.backslashes = False  # standard_conforming_strings is off

    def __iter__(self) -> Iterator[Statement]:
        while (statement := self._next()) is not None:
            if statement.first[1:2] == ("standard_conforming_strings",):
                self.backslashes = statement.first[-1] == "off"
            yield statement

    def copy_data(self) -> str:
        """Return the lines up to the one that says `\\.`, and go on after it."""
        start = self._text.find("\n", self._at) + 1
        end = re.compile(r"^\\\.$", re.M).search(self._text, start)
        assert end, "the data of a COPY have no end"
        self._at = end.end()
        return self._text[start : end.start()]

    def _next(self) -> Statement | None:
        start = self._at
        words: list[str] = []
        parentheses = begins = 0
        empty, spoilt = True, False
        while token := TOKEN.match(self._text, self._at):
            kind, text = token.lastgroup, token[0]
            at, self._at = self._at, token.end()
            if kind == "comment" or text.isspace():
                continue
            if kind == "nested":
                self._skip_comment()
                continue
            if kind == "meta":
                name, argument = text[1:], ""
                if name in (";", "\\"):
                    text = ";"
                else:
                    argument = self._argument()
                    if empty:
                        return Statement("", (), name, argument)
                    spoilt |= name in SPOILS
                    if name not in ENDS and name != "sendpipeline":
                        continue
                    if not spoilt:
                        return Statement(
                            self._text[start:at], tuple(words), name, argument
                        )
                    text = ";"
            if text == ";" and not parentheses and not begins:
                if not empty and not spoilt:
                    return Statement(self._text[start:at], tuple(words))
                start, words, empty, spoilt = self._at, [], True, False
                continue
            empty = False
            if kind == "string" and self.backslashes:
                quoted = BACKSLASHED.match(self._text, at)
                assert quoted
                self._at = quoted.end()
            elif kind == "dollar":
                end = self._text.find(text, self._at)
                self._at = len(self._text) if end < 0 else end + len(text)
            elif text == "(":
                parentheses += 1
                words += ["("] if not words else []
            elif text == ")":
                parentheses = max(0, parentheses - 1)
            elif kind == "word":
                word = text.lower()
                if len(words) < 5:
                    words.append(word)
                if _makes_routine(words) and not parentheses:
                    begins += word == "begin" or bool(begins) and word == "case"
                    begins -= bool(begins) and word == "end"
        return None

    def _skip_comment(self) -> None:
        depth = 1
        for mark in re.compile(r"/\*|\*/").finditer(self._text, self._at):
            depth += 1 if mark[0] == "/*" else -1
            self._at = mark.end()
            if not depth:
                return
        self._at = len(self._text)

    def _argument(self) -> str:
        """Return the text up to the next command in the line, or to its end."""
        rest = re.compile(r"(?:'(?:[^'\\]|\\.)*'|[^\\\n])*").match(self._text, self._at)
        assert rest
        self._at = rest.end()
        return rest[0].strip()


def _makes_routine(words: list[str]) -> bool:
    made = [word for word in words[:4] if word not in ("or", "replace")]
    return made[:2] in (["create", "function"], ["create", "procedure"])
