"""What the end-to-end tests of the office side share: one running bus with two tenants."""

import pytest
from office_world import OfficeWorld


@pytest.fixture(scope="session")
def office_world(tmp_path_factory, initialised):
    """An `OfficeWorld`; each test brings partners of its own, or asks only."""
    made = OfficeWorld.make(tmp_path_factory.mktemp("office-world"), initialised)
    yield made
    made.close()
