"""Components 250 to 265 of the source document: pure functions of readings, events and tariffs."""
