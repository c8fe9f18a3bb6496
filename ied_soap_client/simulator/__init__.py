"""Simulated SunSpec meters to develop against."""
