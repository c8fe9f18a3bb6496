"""An `Office` on a real store, on SQLite."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from control_office import Office


@pytest.fixture
def office(post_office):
    return Office(post_office)
