"""Files of a customer, for what is compared and watched; lets tests import what stands beside them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from customer import hourly_csv, urdb


@pytest.fixture
def files(tmp_path):
    """January 2026 at 1 kWh an hour, and three tariffs of one price: 0.10, 0.08 with 5.00 standing, 0.50."""
    (tmp_path / "january.csv").write_text(hourly_csv(datetime(2026, 1, 1, tzinfo=UTC), [1] * 744))
    for name, rate, fixed in (("now", 0.10, 0), ("cheap", 0.08, 5), ("dear", 0.50, 0)):
        (tmp_path / f"{name}.json").write_text(urdb(name, [rate], fixed))
    return tmp_path
