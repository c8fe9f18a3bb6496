"""The device side: measures, spools, seals, pushes, and forgets only what is receipted."""
