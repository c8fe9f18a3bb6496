"""AEMO NEM12."""
