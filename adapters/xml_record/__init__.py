"""The same record as the CSV line's, in tags that say what they are."""

from .adapter import XmlRecordAdapter

__all__ = ["XmlRecordAdapter"]
