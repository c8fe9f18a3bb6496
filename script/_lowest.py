"""Installs with pip, every dependency at the lowest version pyproject.toml allows; for `tox -e lowest`.

In: pip's arguments. Out: pip's exit code. The constraints are pyproject's own lower bounds, so they cannot fall behind.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

_BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?[>=]=([0-9.]+)")


def lowest(pyproject: Path) -> list[str]:
    """Return `name==version` for each dependency of the project and of its tests."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    found = []
    for requirement in named:
        match = _BOUND.match(requirement)
        if not match:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound")
        found.append(f"{match[1]}=={match[2]}")
    return found


def main() -> int:
    """Run pip."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "lowest.txt"
        constraints.write_text("\n".join(lowest(Path(__file__).parent.parent / "pyproject.toml")) + "\n")
        command = [sys.executable, "-m", "pip", "install", "--constraint", str(constraints), *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
