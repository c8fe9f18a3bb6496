"""The schema's version and Alembic, without an alembic.ini: nobody needs to know that Alembic is there.

`SCHEMA` is the newest revision in `migrations/versions/`; a store with another one is refused at open, never guessed
at. Alembic is imported only when a store is made or moved to another schema, so `serve` starts without it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from gridpost.errors import StoreUnavailable

SCHEMA = "0007"
_MIGRATIONS = Path(__file__).parent / "migrations"


def current(connection: Connection) -> str:
    """Return the schema's version on file; empty when there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or ""


def require(connection: Connection) -> None:
    """Let only a store of exactly this program's schema pass.

    Raises:
        StoreUnavailable: older, newer, or no store of ours at all; says what to do.
    """
    found = current(connection)
    if found == SCHEMA:
        return
    if not found:
        raise StoreUnavailable("this is not a Gridpost store; `gridpost init` makes one")
    if found > SCHEMA:
        raise StoreUnavailable(f"the store has schema {found}, this Gridpost knows {SCHEMA}: install the newer one")
    raise StoreUnavailable(
        f"the store has schema {found}, this Gridpost needs {SCHEMA}: stop the bus, then run `gridpost migrate up`"
    )


def move(connection: Connection, target: str) -> None:
    """Bring the store up or down to the schema `target` in the caller's transaction; killed half-way it is as it was.

    Raises:
        StoreUnavailable: the store is of a newer Gridpost than this one.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    found = current(connection)
    if found > SCHEMA:
        require(connection)
    script = ScriptDirectory(str(_MIGRATIONS))
    steps = script._downgrade_revs if target < found else script._upgrade_revs
    with EnvironmentContext(Config(), script, fn=lambda revision, _context: steps(target, revision)) as run:
        run.configure(connection=connection)
        run.run_migrations()


def revisions() -> list[tuple[str, str]]:
    """Return every schema this program knows, oldest first, with one line that says what it brought."""
    from alembic.script import ScriptDirectory

    known = ScriptDirectory(str(_MIGRATIONS)).walk_revisions()
    return sorted((one.revision, (one.doc or "").splitlines()[0]) for one in known)
