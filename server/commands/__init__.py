"""The commands of gridpost, one file a noun."""
