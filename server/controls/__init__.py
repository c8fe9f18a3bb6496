"""Controls: who may ask for what, what waits for a person, how an IED gets its command, what became of it."""
