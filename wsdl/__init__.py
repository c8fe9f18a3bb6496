"""The service descriptions, by hand; read through gridpost.schemas."""
