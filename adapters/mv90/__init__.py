"""MV-90 MDEF."""
