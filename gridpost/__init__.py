"""Gridpost's core: pure functions and values; see ARCHITECTURE.md."""
