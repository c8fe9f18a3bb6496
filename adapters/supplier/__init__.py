"""Supplier tariffs: OpenEI's Utility Rate Database (URDB) JSON."""

from .urdb import UrdbOptions, parse, render

__all__ = ["UrdbOptions", "parse", "render"]
