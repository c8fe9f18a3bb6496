"""The line of four cells: energy of the month, energy of the day, location, type of device."""

from .adapter import CsvLineAdapter

__all__ = ["CsvLineAdapter"]
