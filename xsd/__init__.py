"""The schemas, by hand; read through gridpost.schemas."""
