"""Lets the tests of this folder import the makers of messages that stand beside them (forging, forgeries)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
