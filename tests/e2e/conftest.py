"""What the tests of whole programs share: the demonstration, which waits for the clock while the others run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from office_world import OfficeWorld

ROOT = Path(__file__).parent.parent.parent
ASKS = "test_the_demonstration_runs_to_its_end"
LONGEST_S = 240


class Demonstration(NamedTuple):
    """`script/demo --once` in a folder of its own; `code` is there once it has ended, and holds its exit code."""

    folder: Path

    @property
    def said(self) -> Path:
        return self.folder / "said"

    @property
    def code(self) -> Path:
        return self.folder / "code"


def installed() -> dict[str, str]:
    """An environment whose PATH begins with the commands installed beside this Python."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]]), "COLUMNS": "120"}


@pytest.fixture(scope="session", autouse=True)
def demonstration(request, tmp_path_factory):
    """The demonstration, begun with the first test of this folder: a meter's first whole minute takes one to two.

    None where the test that asks for it is not to be run. One for all the processes that share the tests: the first
    that comes here begins it, and stays until it has ended.
    """
    if not any(item.name == ASKS for item in request.session.items):
        yield None
        return
    place, shared = tmp_path_factory.getbasetemp(), "PYTEST_XDIST_WORKER" in os.environ
    made = Demonstration((place.parent if shared else place) / "demonstration")
    try:
        made.folder.mkdir()
    except FileExistsError:
        yield made
        return
    with made.said.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "script/_demo.py"), "--once"],
            cwd=made.folder, env=installed(), stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    waiting = threading.Thread(target=_note_end, args=(process, made), daemon=True)
    waiting.start()
    yield made
    if not shared:
        process.terminate()  # it takes what it started along
    waiting.join(LONGEST_S)


def _note_end(process: subprocess.Popen, made: Demonstration) -> None:
    code = process.wait()
    part = made.folder / "code.part"
    part.write_text(str(code))
    part.rename(made.code)


@pytest.fixture(scope="session")
def office_world(tmp_path_factory, initialised):
    """An `OfficeWorld`; each test brings partners of its own, or asks only."""
    made = OfficeWorld.make(tmp_path_factory.mktemp("office-world"), initialised)
    yield made
    made.close()
