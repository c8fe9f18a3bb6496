"""Green Button: NAESB ESPI in an Atom feed."""

from .adapter import GreenButtonAdapter

__all__ = ["GreenButtonAdapter"]
