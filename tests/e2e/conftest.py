"""What the tests of whole programs share: the demonstration, which waits for the clock while the others run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from office_world import OfficeWorld

ROOT = Path(__file__).parent.parent.parent
ASKS = "test_the_demonstration_runs_to_its_end"


class Demonstration(NamedTuple):
    """`script/demo --once`, as it runs; what it says goes to `said`."""

    process: subprocess.Popen
    folder: Path
    said: Path


def installed() -> dict[str, str]:
    """An environment whose PATH begins with the commands installed beside this Python."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]]), "COLUMNS": "120"}


@pytest.fixture(scope="session", autouse=True)
def _early(request):
    """Begin the demonstration with the first test of this folder: a meter's first whole minute takes one to two.

    Of several test processes only the one that comes to the test knows that it does, so it begins it then.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ and any(item.name == ASKS for item in request.session.items):
        request.getfixturevalue("demonstration")


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory):
    """The demonstration, running."""
    folder = tmp_path_factory.mktemp("demonstration")
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "script/_demo.py"), "--once"],
            cwd=folder, env=installed(), stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
    yield Demonstration(process, folder, folder / "said")
    process.terminate()  # it takes what it started along
    process.wait(60)


@pytest.fixture(scope="session")
def office_world(tmp_path_factory, initialised):
    """An `OfficeWorld`; each test brings partners of its own, or asks only."""
    made = OfficeWorld.make(tmp_path_factory.mktemp("office-world"), initialised)
    yield made
    made.close()
