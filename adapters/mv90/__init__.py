"""MV-90 MDEF."""

from .adapter import Mv90Adapter

__all__ = ["Mv90Adapter"]
