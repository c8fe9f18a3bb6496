"""Supplier tariffs: OpenEI's Utility Rate Database (URDB) JSON."""

from .urdb import parse, render

__all__ = ["parse", "render"]
