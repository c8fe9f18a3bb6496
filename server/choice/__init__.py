"""What energy costs its user, and what to do about it: comparing suppliers, watching readings, reports, pictures."""
