"""Outward formats: pure render and parse, and thin deliveries."""
