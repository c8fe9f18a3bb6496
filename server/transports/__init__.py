"""The doors of the bus; each ends in reception."""
