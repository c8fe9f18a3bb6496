"""AEMO NEM12 and NEM13."""

from .adapter import Nem12Adapter, Nem13Adapter

__all__ = ["Nem12Adapter", "Nem13Adapter"]
