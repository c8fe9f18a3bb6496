"""The quality of readings: what validation finds, what is missing and asked for, estimates and edits as own entries."""
