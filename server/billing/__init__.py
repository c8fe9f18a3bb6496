"""Bills: what is on file of tariffs and contracts, bills made of readings, corrected, and worked out again."""
