"""The store's schema, in Alembic's steps."""
