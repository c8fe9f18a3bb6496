"""AEMO NEM12."""

from .adapter import Nem12Adapter

__all__ = ["Nem12Adapter"]
