"""CMEP, the California Metering Exchange Protocol."""

from .adapter import CmepAdapter

__all__ = ["CmepAdapter"]
